"""The grid of an ablation: every block and model with every combination of values on the other axes, as runs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.base.errors import UsageError, printable

if TYPE_CHECKING:
    from benchmarks.results.run_config import Recipe, RunConfig
    from benchmarks.training.plans import Plan

__all__ = [
    "Setting",
    "Variant",
    "build_settings",
    "check_seams",
    "check_validation",
    "parse_axes",
    "parse_variants",
]


@dataclass(frozen=True)
class Setting:
    """A point of the grid.

    Attributes:
        name: Name of the block or model.
        values: Field and value, as the user wrote them, on each other axis.
        config: The configuration.
    """

    name: str
    values: Mapping[str, str]
    config: RunConfig

    def __str__(self) -> str:
        """Name in tables and messages: "capsule, sen.rounds=3"."""
        return ", ".join([self.name, *(f"{field}={value}" for field, value in self.values.items())])


@dataclass(frozen=True, eq=False)
class Variant:
    """A setting with the plan of its run."""

    setting: Setting
    plan: Plan

    def __str__(self) -> str:
        """Name of the setting."""
        return str(self.setting)


def parse_variants(blocks: str | None, models: str | None) -> list[str]:
    """Return the blocks, and then the models, in lists such as "mlp,egnn,capsule".

    Args:
        blocks: The blocks; "all" stands for all that are installed, and so does None where no models are named.
        models: The models; "all" stands for all that are installed but SEN, which its blocks stand for.

    Raises:
        UsageError: A list is empty, names something twice, or something that is not installed.
    """
    from sen.registry import block_names, model_names

    found = []
    if blocks is not None or models is None:
        found += _parse_names("blocks", "all" if blocks is None else blocks, block_names())
    if models is not None:
        found += _parse_names("models", models, [name for name in model_names() if name != "sen"])
    return found


def _parse_names(option: Literal["blocks", "models"], text: str, installed: list[str]) -> list[str]:
    from benchmarks.results.run_config import check_variant

    kind: Literal["block", "model"] = "block" if option == "blocks" else "model"
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return installed
    if not names:
        some = ", ".join(installed[:2])
        raise UsageError(f"--{option} names no {kind}: give some, such as {some}, or all.")
    if "all" in names:
        raise UsageError(f"--{option} all stands by itself: it means every installed {kind}.")
    if "sen" in names:
        raise UsageError("SEN is compared by its blocks: name them with --blocks.")
    for name, count in Counter(names).items():
        check_variant(name, kind)
        if count > 1:
            raise UsageError(f"--{option} names {name} {count} times: name each {kind} once.")
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
    variants: Sequence[str],
    axes: Mapping[str, Sequence[str]],
    *,
    recipe: Recipe,
    defaults: Mapping[str, Any],
    file: Path | None,
    flags: Mapping[str, Any],
    assignments: Sequence[str],
) -> list[Setting]:
    """Build the configuration of every point of the grid, see `benchmarks.results.run_config.build_config`.

    Raises:
        UsageError: A field does not exist, perhaps only for one of the variants; a value does not fit; or two points
            are the same configuration.
    """
    from benchmarks.results.run_config import build_config

    settings: list[Setting] = []
    for name, *values in itertools.product(variants, *axes.values()):
        point = dict(zip(axes, values, strict=True))
        added = [*assignments, *(f"{field}={value}" for field, value in point.items())]
        try:
            config = build_config(
                task, name, recipe=recipe, defaults=defaults, file=file, flags=flags, assignments=added
            )
        except UsageError as error:
            # Each block and each model has its own fields.
            raise UsageError(f"{name}: {error}" if len(variants) > 1 else str(error)) from None
        setting = Setting(name, point, config)
        if same := [other for other in settings if other.config == config]:
            raise UsageError(f"{same[0]} and {setting} are the same configuration: leave one of them out.")
        settings.append(setting)
    return settings


def check_validation(settings: Sequence[Setting]) -> None:
    """Check that all settings have validation rows, by which they shall be judged.

    Raises:
        UsageError: Some train on all training rows, as the recipes of many models say.
    """
    if without := [str(setting) for setting in settings if setting.config.training.validation == 0]:
        raise UsageError(
            f"--judge validation: without validation rows there is no score of {', '.join(without)}; give them some, "
            "such as --set training.validation=0.1."
        )


def check_seams(names: Sequence[str]) -> None:
    """Check that blocks and models keep the contracts of the seam, before hours are spent on them.

    Raises:
        UsageError: One of them breaks a contract; the message names it.
    """
    from sen.registry import variant_kind
    from sen.testing import run_contracts

    for name in names:
        for result in itertools.takewhile(lambda result: result.contract.startswith("seam"), run_contracts(name)):
            if result.outcome == "failed":
                kind = variant_kind(name)
                raise UsageError(
                    f"The {kind} {name!r} breaks the contract {result.contract!r} ({printable(result.reason, 200)}). "
                    f"`sen-bench check-{kind} {name}` says more; leave it out of --{kind}s to continue without it."
                )
