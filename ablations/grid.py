"""The grid of an ablation: every block and model with every combination of values on the other axes, as runs."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.base.errors import UsageError, printable, suggest

if TYPE_CHECKING:
    from benchmarks.data.dataset import Dataset
    from benchmarks.results.run_config import Recipe, RunConfig
    from benchmarks.training.plans import Plan

__all__ = [
    "Setting",
    "Variant",
    "build_settings",
    "check_interfaces",
    "check_limits",
    "check_validated",
    "parse_axes",
    "parse_configs",
    "parse_variants",
]


@dataclass(frozen=True)
class Setting:
    """A point of the grid.

    Attributes:
        name: Name of the block or model.
        values: Field and value, as the user wrote them, on each other axis.
        config: The configuration.
        given: What it is built from beside the name, as `build_config` takes it.
    """

    name: str
    values: Mapping[str, str]
    config: RunConfig
    given: Mapping[str, Any] = field(default_factory=dict)

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


def parse_configs(configs: Sequence[str], variants: Sequence[str]) -> dict[str, Path]:
    """Return the configuration file of each block and model that has one.

    Args:
        configs: "X=FILE" for the block or model X, and at most one "FILE" for all that have none of their own.
        variants: The blocks and models.

    Raises:
        UsageError: X or FILE is empty, or X is not compared or has two files.
    """
    files: dict[str, Path] = {}
    shared: list[str] = []
    for text in configs:
        name, equals, file = text.partition("=")
        if not (file if equals else text):
            raise UsageError(f"--config {printable(text)} names no file: give FILE, or X=FILE for the variant X.")
        if not name:
            raise UsageError(
                f"--config {printable(text)} names no variant: give X=FILE for the variant X, or FILE for all."
            )
        if not equals or (name not in variants and Path(text).is_file()):
            shared.append(text)
        elif name not in variants:
            raise UsageError(
                f"--config {printable(text)}: {printable(name)} is not compared. {suggest(name, variants)}"
            )
        elif name in files:
            raise UsageError(f"--config gives {name} two files: leave out one of them.")
        else:
            files[name] = Path(file)
    if len(shared) > 1:
        raise UsageError(f"--config gives all variants {len(shared)} files: name one, or X=FILE for the variant X.")
    return dict.fromkeys(variants if shared else (), Path(*shared)) | files


def parse_axes(assignments: Sequence[str]) -> tuple[list[str], dict[str, list[str]]]:
    """Separate assignments of one value from axes with several: "sen.rounds=1,3,5".

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
            raise UsageError(f"{field} is given twice: list all its values at once, such as {field}=1,2.")
        fields.add(field)
        values = _split(text)
        if len(values) == 1:
            fixed.append(assignment)
            continue
        if "" in values or len(set(values)) < len(values):
            raise UsageError(f"{assignment}: the values of an axis must all be different, and none empty.")
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
    files: Mapping[str, Path],
    flags: Mapping[str, Any],
    assignments: Sequence[str],
) -> list[Setting]:
    """Build the configuration of every point of the grid, see `benchmarks.results.run_config.build_config`.

    Args:
        task: Name of the task.
        variants: The blocks and models.
        axes: Values on the axis of each field, see `parse_axes`.
        recipe: Which recipe.
        defaults: Defaults of the task.
        files: The file of each block and model that has one, see `parse_configs`.
        flags: Fields that have options of their own.
        assignments: Assignments of one value, see `parse_axes`.

    Raises:
        UsageError: A field does not exist, perhaps only for one of the variants; a value does not fit; or two points
            are the same configuration.
    """
    from benchmarks.results.run_config import build_config

    settings: list[Setting] = []
    for name, *values in itertools.product(variants, *axes.values()):
        point = dict(zip(axes, values, strict=True))
        added = [*assignments, *(f"{field}={value}" for field, value in point.items())]
        given: dict[str, Any] = {"recipe": recipe, "file": files.get(name), "flags": flags, "assignments": added}
        try:
            config = build_config(task, name, defaults=defaults, **given)
        except UsageError as error:
            # Each block and each model has its own fields.
            raise UsageError(f"{name}: {error}" if len(variants) > 1 else str(error)) from None
        setting = Setting(name, point, config, given)
        if same := [other for other in settings if other.config == config]:
            raise UsageError(f"{same[0]} and {setting} are the same configuration: leave one of them out.")
        settings.append(setting)
    return settings


def check_limits(settings: Sequence[Setting], dataset: Dataset, folds: Sequence[int]) -> None:
    """Check that different limits on the axis leave different numbers of training rows in every fold.

    Raises:
        UsageError: Two of them drop no row of a fold; the message names them.
    """
    if "limit" not in settings[0].values:
        return
    n_rows = {fold.index: len(fold.train) + len(fold.validation) for fold in dataset.folds(numbers=folds)}
    fewest = min(n_rows, key=lambda fold: n_rows[fold])
    dropping_none = {
        setting.values["limit"]: None
        for setting in settings
        if setting.config.limit is None or setting.config.limit >= n_rows[fewest]
    }
    if len(dropping_none) > 1:
        one, other, *_ = dropping_none
        raise UsageError(
            f"limit={one} and limit={other} leave the same {n_rows[fewest]:,} rows of fold {fewest} to train on: leave "
            "one of them out."
        )


def check_validated(settings: Sequence[Setting]) -> None:
    """Check that every setting has validation rows, which are to judge it.

    Raises:
        UsageError: One of them trains on all rows, or is fitted at once; the message names it.
    """
    from benchmarks.results.run_config import is_fitted

    for setting in settings:
        if is_fitted(setting.config.variant):
            raise UsageError(
                f"{setting} is fitted to all training rows at once and has no validation error: leave it out of a "
                "comparison by validation rows."
            )
        if not setting.config.training.chooses_epoch:
            raise UsageError(
                f"{setting} trains on all rows, so that no validation rows can judge it: set training.validation=0.1 "
                f"(null on a split that names validation rows), or leave {setting} out of the comparison."
            )


def check_interfaces(names: Sequence[str]) -> None:
    """Check that blocks and models keep the contracts of the interface, before hours are spent on them.

    Raises:
        UsageError: One of them breaks a contract; the message names it.
    """
    from sen.registry import how_to_check, variant_kind
    from sen.testing import run_contracts

    for name in names:
        for result in itertools.takewhile(lambda result: result.contract.startswith("interface"), run_contracts(name)):
            if result.outcome == "failed":
                kind = variant_kind(name)
                raise UsageError(
                    f"The {kind} {name!r} breaks the contract {result.contract!r} ({printable(result.reason, 200)}). "
                    f"{how_to_check(name)} says more; leave it out of --{kind}s to continue without it."
                )
