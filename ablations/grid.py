"""The grid of an ablation: every block with every combination of values on the other axes, each an ordinary run."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.base.errors import UsageError, printable

if TYPE_CHECKING:
    from benchmarks.results.run_config import RunConfig
    from benchmarks.training.plans import Plan

__all__ = ["Setting", "Variant", "build_settings", "check_seams", "parse_axes", "parse_blocks"]


@dataclass(frozen=True)
class Setting:
    """A point of the grid.

    Attributes:
        block: Name of the block.
        values: Field and value, as the user wrote them, on each other axis.
        config: The configuration.
    """

    block: str
    values: Mapping[str, str]
    config: RunConfig

    def __str__(self) -> str:
        """Name in tables and messages: "capsule, sen.rounds=3"."""
        return ", ".join([self.block, *(f"{field}={value}" for field, value in self.values.items())])


@dataclass(frozen=True, eq=False)
class Variant:
    """A setting with the plan of its run."""

    setting: Setting
    plan: Plan

    def __str__(self) -> str:
        """Name of the setting."""
        return str(self.setting)


def parse_blocks(text: str) -> list[str]:
    """Return the blocks in a list such as "mlp,egnn,capsule"; "all" stands for all that are installed.

    Raises:
        UsageError: The list is empty, names a block twice, or one that is not installed.
    """
    from benchmarks.results.run_config import check_block_name
    from sen.registry import block_names

    if text.strip() == "all":
        return block_names()
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise UsageError("--blocks names no block: give some, such as mlp,egnn,capsule, or all.")
    if "all" in names:
        raise UsageError("--blocks all stands by itself: it means every installed block.")
    for name, count in Counter(names).items():
        check_block_name(name)
        if count > 1:
            raise UsageError(f"--blocks names {name} {count} times: name each block once.")
    return names


def parse_axes(assignments: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Separate `--set` into assignments of one value and axes with several: "sen.rounds=1,3,5".

    Returns:
        The assignments of one value, and the values on the axis of each other field.

    Raises:
        UsageError: A field is given twice, or a value of an axis is empty or repeated.
    """
    fixed: list[str] = []
    axes: dict[str, list[str]] = {}
    fields: set[str] = set()
    for assignment in assignments:
        field, _, text = assignment.partition("=")
        field = field.strip()
        if field in fields:
            raise UsageError(f"--set gives {field} twice: list all its values at once, such as {field}=1,2.")
        fields.add(field)
        values = _split(text)
        if len(values) == 1:
            fixed.append(assignment)
            continue
        if "" in values or len(set(values)) < len(values):
            raise UsageError(f"--set {assignment}: the values of an axis must all be different, and none empty.")
        axes[field] = values
    return fixed, axes


def _split(text: str) -> list[str]:
    """Split at the commas outside the arrays, objects and strings of JSON."""
    values, depth, quoted = [""], 0, False
    for char in text:
        quoted ^= char == '"'
        depth += (not quoted) * ((char in "[{") - (char in "]}"))
        if char == "," and not depth and not quoted:
            values.append("")
        else:
            values[-1] += char
    return [value.strip() for value in values]


def build_settings(
    task: str,
    blocks: Sequence[str],
    axes: Mapping[str, Sequence[str]],
    *,
    defaults: Mapping[str, Any],
    file: Path | None,
    flags: Mapping[str, Any],
    assignments: Sequence[str],
) -> list[Setting]:
    """Build the configuration of every point of the grid, see `benchmarks.results.run_config.build_config`.

    Raises:
        UsageError: A field does not exist, perhaps only for one of the blocks; a value does not fit; or two points are
            the same configuration.
    """
    from benchmarks.results.run_config import build_config

    settings: list[Setting] = []
    for block, *values in itertools.product(blocks, *axes.values()):
        point = dict(zip(axes, values, strict=True))
        added = [*assignments, *(f"{field}={value}" for field, value in point.items())]
        try:
            config = build_config(task, block, defaults=defaults, file=file, flags=flags, assignments=added)
        except UsageError as error:
            # Each block has its own fields.
            raise UsageError(f"Block {block}: {error}" if "block." in str(error) else str(error)) from None
        setting = Setting(block, point, config)
        if same := [other for other in settings if other.config == config]:
            raise UsageError(f"{same[0]} and {setting} are the same configuration: leave one of them out.")
        settings.append(setting)
    return settings


def check_seams(blocks: Sequence[str]) -> None:
    """Check that blocks keep the contracts of the seam, before hours are spent on them.

    Raises:
        UsageError: A block breaks a contract; the message names it.
    """
    from sen.testing import run_contracts

    for block in blocks:
        for result in itertools.takewhile(lambda result: result.contract.startswith("seam"), run_contracts(block)):
            if result.outcome == "failed":
                raise UsageError(
                    f"The block {block!r} breaks the contract {result.contract!r} ({printable(result.reason, 200)}). "
                    f"`sen-bench check-block {block}` says more; leave it out of --blocks to continue without it."
                )
