"""What the config.json of a run records of its configuration, read without the block or model that it names."""

from __future__ import annotations

import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

from benchmarks.base.cache import digest
from benchmarks.data.crystal_table import UNRECORDED_SYMPREC
from benchmarks.data.folds import data_digest

__all__ = [
    "TUNED_HERE",
    "assignment",
    "by_field",
    "completed",
    "config_digest",
    "earlier_defaults",
    "is_tuned_here",
    "labels",
    "recorded_variant",
    "variant_kind_of",
    "variant_label",
    "variant_option",
]

TUNED_HERE = "recipe tuned on this dataset"
"""Label of a result whose test rows may have taken part in the choice of its recipe."""

# Fields that configurations of earlier versions lack, with the values that these computed with.
_IMPLIED: dict[str, dict[str, Any]] = {
    "graph": {"symprec": UNRECORDED_SYMPREC},
    "training": {
        "loss": "mae",
        "optimizer": "adamw",
        "schedule": "cosine",
        "hold": 0.0,
        "final_learning_rate": 0.0,
        "validation": None,
        "frozen_epochs": 0,
        "calibration": 0.0,
    },
    "sen": {
        "readout": "block",
        "head_input": None,
        "message_layers": 1,
        "aggregation": "softmax",
        "bond_map": False,
    },
}
_IMPLIED_OF_BLOCK: dict[str, dict[str, Any]] = {
    "capsule": {"normalise": False},
    "egnn": {"aggregation": "mean", "tanh": True, "distances": "squared"},
}


# Fields that every configuration records: their default in version 0.1, and now.
_OTHER_DEFAULT = {"training.epochs": (60, 200)}


def _implied(content: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the fields that a recorded configuration may lack, for each of its tables that has such fields."""
    tables = {**_IMPLIED, "block": _IMPLIED_OF_BLOCK.get(content.get("block_name", ""), {})}
    return {table: fields for table, fields in tables.items() if table in content}


def completed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recorded configuration with the fields that its version did not know, and what that computed with."""
    added = {table: {**fields, **content[table]} for table, fields in _implied(content).items()}
    return {**content, **added}


def by_field(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of a recorded configuration by dotted fields, such as "training.epochs"."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{field}": inner for field, inner in value.items()}
        elif key not in {"task", "block_name", "model_name"}:
            flat[key] = value
    return flat


def earlier_defaults(
    earlier: Mapping[str, Any], config: Mapping[str, Any], by_rows: Container[str] = ()
) -> dict[str, Any]:
    """Return the values that make a configuration that of a run of an earlier version.

    Args:
        earlier: The configuration as the run recorded it.
        config: The other configuration, with all its fields.
        by_rows: Fields that follow from the number of training rows, which the others decide.

    Returns:
        By dotted field, the defaults of the earlier version, recorded or not, that the other configuration does not
        have; empty if there are none, or if another field differs as well.
    """
    then, now, recorded = by_field(completed(earlier)), by_field(config), by_field(earlier)
    fields = sorted(field for field in then.keys() | now.keys() if field not in by_rows)
    differing = [field for field in fields if then.get(field) != now.get(field)]
    for field in differing:
        is_given = field in recorded or field not in then
        if is_given and (then.get(field), now.get(field)) != _OTHER_DEFAULT.get(field):
            return {}
    if "training.validation" in differing:  # on which the default of the other depends
        differing = sorted({*differing, "training.calibration"})
    return {field: then[field] for field in differing}


def assignment(field: str, value: Any) -> str:
    """Return what `--set` takes for a recorded value: "training.epochs=50"."""
    return f"{field}={value if isinstance(value, str) else json.dumps(value)}"


def config_digest(config: Mapping[str, Any], data_digest: str) -> str:
    """Return the hash in the name of a run, of its configuration and data: 10 hexadecimal digits.

    Runs of earlier versions keep their names: fields that these lacked are left out where they say what was computed.

    Args:
        config: The configuration as config.json has it.
        data_digest: Hash of the crystals, their targets and their split.
    """
    identity = dict(config)
    for table, implied in _implied(config).items():
        if isinstance(fields := config[table], Mapping):
            identity[table] = {name: v for name, v in fields.items() if name not in implied or implied[name] != v}
    return digest(format=1, data=data_digest, config=identity)[:10]


def recorded_variant(content: Mapping[str, Any]) -> str:
    """Return the variant of a configuration as a run recorded it; its block or model need not be installed.

    Raises:
        KeyError: It names none.
        TypeError: Its name is not text.
    """
    name = content["model_name"] if "model_name" in content else content["block_name"]
    if not isinstance(name, str):
        raise TypeError(f"a variant is called {name!r}")
    return name


def variant_kind_of(content: Mapping[str, Any]) -> str:
    """Return what the variant of a recorded configuration is: a "block" of SEN, or a "model"."""
    return "model" if "model_name" in content else "block"


def variant_option(content: Mapping[str, Any]) -> list[str]:
    """Return the option of `sen-bench run` that chooses the variant of a recorded configuration, and its value."""
    return [f"--{variant_kind_of(content)}", recorded_variant(content)]


def variant_label(content: Mapping[str, Any]) -> str:
    """Return what a model is called in tables, such as "SEN (mlp)" or "megnet", from a recorded configuration."""
    name = recorded_variant(content)
    return f"SEN ({name})" if variant_kind_of(content) == "block" else name


def is_tuned_here(facts: Mapping[str, Any], folds: Iterable[int]) -> bool:
    """Whether test rows of these folds may have taken part in the choice of the recipe of a run.

    That is so if `sen-bench tune` chose it on the same task or the same data, unless it left out the test rows of all
    these folds. Other crystals of a task, and another split, have folds of their own.

    Args:
        facts: What config.json of the run records ("config", "task" and "data").
        folds: Folds whose results are shown.
    """
    tuned = facts["config"].get("tuned")
    if tuned is None:
        return False
    is_same = tuned["data"] == data_digest(facts["data"]["digest"], facts["task"]["split"])
    if is_same and set(folds) <= set(tuned["folds"]):
        return False
    return is_same or bool(tuned["task"] == facts["config"]["task"])


def labels(facts: Mapping[str, Any], folds: Iterable[int]) -> list[str]:
    """Return what must be said of a run wherever its results are shown, and why it has no rank.

    A recipe may have been chosen by its test rows, its weights trained on other data, or on its test rows, before, and
    training rows left out.

    Args:
        facts: What config.json of the run records ("config", "task" and "data").
        folds: Folds whose results are shown.
    """
    found = [TUNED_HERE] if is_tuned_here(facts, folds) else []
    if pretrained := facts["config"].get("pretrained"):
        where = ", perhaps on test rows" if pretrained["allow_overlap"] else ""
        found.append(f"pretrained on {pretrained['task']}{where}")
    if without := facts["config"].get("without"):
        found.append(f"trained without the formulas of {without['task']}")
    return found
