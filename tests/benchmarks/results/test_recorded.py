"""What a config.json says of a run whose block or model need not be installed."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.results.recorded import (
    assignment,
    completed,
    config_digest,
    earlier_defaults,
    is_tuned_here,
    labels,
    recorded_variant,
    variant_kind_of,
    variant_label,
    variant_option,
)
from sen.network import SEN

OF_BLOCK: dict[str, Any] = {"task": "t", "block_name": "gone", "graph": {"cutoff": 5.0}, "training": {"epochs": 60}}
OF_MODEL: dict[str, Any] = {"task": "t", "model_name": "lost", "graph": {"cutoff": 5.0}, "training": {"epochs": 60}}


@pytest.mark.parametrize(
    ("content", "kind", "name", "label"),
    [(OF_BLOCK, "block", "gone", "SEN (gone)"), (OF_MODEL, "model", "lost", "lost")],
)
def test_a_variant_is_named_as_it_was_recorded(content: dict[str, Any], kind: str, name: str, label: str) -> None:
    assert (variant_kind_of(content), recorded_variant(content), variant_label(content)) == (kind, name, label)
    assert variant_option(content) == [f"--{kind}", name]


def test_a_configuration_without_a_variant_is_refused() -> None:
    with pytest.raises(KeyError):
        recorded_variant({})
    with pytest.raises(TypeError, match="a variant is called 5"):
        recorded_variant({"block_name": 5})


def test_what_version_0_1_did_not_record_changes_no_name() -> None:
    whole = completed(OF_BLOCK)
    assert whole["graph"] == {"cutoff": 5.0, "symprec": 0.01}
    assert whole["training"]["optimizer"] == "adamw"
    assert config_digest(whole, "data") == config_digest(OF_BLOCK, "data")
    for table, field, value in (
        *(("graph", "symprec", 0.001), ("training", "loss", "mse"), ("graph", "cutoff", 4.0)),
        ("training", "calibration", 0.5),
    ):
        other = {**whole, table: {**whole[table], field: value}}
        assert config_digest(other, "data") != config_digest(whole, "data")
        assert completed(other)[table][field] == value
    assert config_digest(whole, "other data") != config_digest(whole, "data")


def test_earlier_defaults_are_what_continues_a_run() -> None:
    now = {**completed(OF_BLOCK), "graph": {"cutoff": 5.0, "symprec": 0.001}}
    assert earlier_defaults(OF_BLOCK, now) == {"graph.symprec": 0.01}
    assert earlier_defaults(OF_BLOCK, completed(OF_BLOCK)) == {}
    assert earlier_defaults(OF_BLOCK, {**now, "limit": 100}) == {}
    of_0_1, longer = ({**each, "training": {"epochs": n}} for each, n in ((OF_BLOCK, 60), (now, SEN.recipe["epochs"])))
    assert earlier_defaults(of_0_1, longer)["training.epochs"] == 60
    less = {**longer, "training": {**longer["training"], "weight_decay": 1.0}}
    assert earlier_defaults(of_0_1, less) == {}
    assert earlier_defaults(of_0_1, less, {"training.weight_decay"}) == earlier_defaults(of_0_1, longer)
    held_out = {**now, "training": {**now["training"], "validation": 0.0}}
    chosen = {"training.calibration": 0.0, "training.validation": None}
    assert earlier_defaults(OF_BLOCK, held_out) == {"graph.symprec": 0.01, **chosen}
    assert earlier_defaults(of_0_1, {**now, "training": {"epochs": 7}}) == {}
    assert earlier_defaults(OF_BLOCK, {**now, "graph": {"cutoff": 4.0, "symprec": 0.001}}) == {}
    assert [assignment("a.b", value) for value in ("mean", 0.01, None)] == ["a.b=mean", "a.b=0.01", "a.b=null"]


def test_what_version_0_1_did_not_record_of_a_block_changes_no_name() -> None:
    of_capsule = {**OF_BLOCK, "block_name": "capsule", "block": {"heads": 4}}
    whole = completed(of_capsule)
    assert whole["block"] == {"heads": 4, "normalise": False}
    assert config_digest(whole, "data") == config_digest(of_capsule, "data")
    changed = {**of_capsule, "block": {"heads": 4, "normalise": True}}
    assert config_digest(changed, "data") != config_digest(whole, "data")
    # Another block may have a field of that name, which says what it has said from the first.
    for field in ({}, {"normalise": False}):
        other = {**OF_BLOCK, "block": field}
        assert completed(other)["block"] == field
    assert config_digest(other, "data") != config_digest({**OF_BLOCK, "block": {}}, "data")


def test_what_a_block_has_learnt_since_changes_no_name() -> None:
    of_egnn = {**OF_BLOCK, "block_name": "egnn", "sen": {"rounds": 3}, "block": {"layers": 4}}
    whole = completed(of_egnn)
    assert whole["sen"] == {
        "rounds": 3,
        "readout": "block",
        "head_input": None,
        "message_layers": 1,
        "aggregation": "softmax",
        "bond_map": False,
    }
    assert whole["block"] == {"layers": 4, "aggregation": "mean", "tanh": True, "distances": "squared"}
    assert config_digest(whole, "data") == config_digest(of_egnn, "data")
    for table, field, value in (("sen", "readout", "mean"), ("block", "tanh", False), ("block", "distances", "x")):
        other = {**whole, table: {**whole[table], field: value}}
        assert config_digest(other, "data") != config_digest(whole, "data")
    # A field of that name may mean something else in another block.
    summed = {**of_egnn, "block_name": "gone", "block": {"aggregation": "mean"}}
    assert completed(summed)["block"] == {"aggregation": "mean"}
    assert config_digest(summed, "data") != config_digest({**summed, "block": {}}, "data")


@pytest.mark.parametrize(
    ("task", "data", "split", "folds", "label"),
    [
        ("t", "rows", "folds", [0], False),
        ("t", "rows", "folds", [0, 1], True),
        ("t", "rows", "folds", [], False),
        ("t", "other rows", "folds", [0], True),  # other crystals have folds of their own
        ("copy", "rows", "folds", [1], True),
        ("other", "other rows", "folds", [1], False),
        ("t", "rows", "holdout:0.8/0.1/0.1", [0], True),
    ],
)
def test_a_recipe_that_test_rows_may_have_chosen_has_a_label(
    task: str, data: str, split: str, folds: list[int], *, label: bool
) -> None:
    tuned = {"variant": "gone", "task": "t", "data": "rows", "folds": [0], "trials": 3}
    facts = {"config": {**OF_BLOCK, "task": task, "tuned": tuned}, "data": {"digest": data}, "task": {"split": split}}
    assert is_tuned_here(facts, folds) is label
    assert not is_tuned_here({**facts, "config": OF_BLOCK}, [0, 1])


@pytest.mark.parametrize(
    ("allow_overlap", "label"), [(False, "pretrained on gaps"), (True, "pretrained on gaps, perhaps on test rows")]
)
def test_what_a_run_started_from_is_a_label_of_its_result(*, allow_overlap: bool, label: str) -> None:
    pretrained = {"task": "gaps", "allow_overlap": allow_overlap}
    facts = {"config": {**OF_BLOCK, "pretrained": pretrained}, "data": {"digest": "d"}, "task": {"split": "folds"}}
    assert labels(facts, [0]) == [label]
    assert labels({**facts, "config": OF_BLOCK}, [0]) == []
