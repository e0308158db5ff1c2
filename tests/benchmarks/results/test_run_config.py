"""Configurations from arbitrary text: one that is sound, or one sentence about what is wrong."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import benchmarks.results
from benchmarks.base.cache import digest
from benchmarks.base.errors import UsageError
from benchmarks.results import run_config
from benchmarks.results.run_config import (
    Pretrained,
    RunConfig,
    TrainingConfig,
    build_config,
    build_graph_settings,
    given_fields,
    restore_config,
)
from benchmarks.results.store import find_runs
from sen.registry import load_model

ARCHIVES = Path(__file__).parents[3] / "docs" / "results"
PROVIDED = Path(benchmarks.results.__file__).parent / "configs"
FIELDS = [
    *("training.epochs", "training.learning_rate", "training.precision", "graph.cutoff", "graph.max_neighbors"),
    "graph.symprec",
    *("graph.cells", "sen.heads", "sen.dropout", "block.width", "limit", "training", "block.", ".epochs", ""),
]
VALUES = st.text() | st.sampled_from(
    [
        "1",
        "-1",
        "0.5",
        "1e999",
        "NaN",
        "-Infinity",
        "null",
        "true",
        "full",
        "[1]",
        "{}",
        '"x"',
        "9" * 5000,
        "[" * 100_000,
    ]
)


def check(**options) -> None:
    """Build a configuration: it can be recorded and hashed, or the error is one line."""
    for build in (lambda: build_config("prototypes", "mlp", **options), lambda: build_graph_settings(**options)):
        try:
            config = build()
        except UsageError as error:
            message = str(error)
            assert message.isprintable()
        else:
            assert json.loads(config.model_dump_json())
            if isinstance(config, RunConfig):
                assert len(config.digest("data")) == 10


@given(st.lists(st.text() | st.builds("{}={}".format, st.sampled_from(FIELDS) | st.text(), VALUES), max_size=3))
@example(["graph.cutoff=" + "9" * 5000])
@example(["graph.cutoff=" + "9" * 400])
@example(["training.epochs=" + "9" * 400])
@example(["graph.cells=" + "[" * 100_000])
@example(["graph.cells=\n\n"])
@example(["graph.cells=" + "[" * 990 + "]" * 990])
@example(["sen.heads=3", "block.hidden={}"])
@example(['graph.cells="\\ud800"'])
def test_any_assignment(assignments):
    check(assignments=assignments)


TOML = b"""
limit = 50
[training]
epochs = 3
learning_rate = 1e-3
[graph]
cells = "full"
max_neighbors = 12
"""


@st.composite
def damaged(draw) -> bytes:
    """The file above with some of its bytes replaced."""
    text = bytearray(TOML)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(text)))
        text[at : at + draw(st.integers(0, 9))] = draw(
            st.binary(max_size=4) | st.sampled_from([b"nan", b"[", b"'", b"="])
        )
    return bytes(text)


@given(st.binary() | damaged())
@example(b"graph.cutoff = " + b"9" * 5000)
@example(b"graph.cells = 1979-05-27T07:32:00Z")
@example(b"graph = " + b"[" * 5000)
@example(b"[graph.cutoff]\nx = nan")
@example(b'"\\u000a" = 1')
@example(b'[graph]\n"a\\nb" = 1')
def test_any_file(content):
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "recipe.toml"
        file.write_bytes(content)
        check(file=file)


def test_without_validation_rows_none_calibrates():
    assert build_config("prototypes", "mlp", assignments=["training.validation=0.1"]).training.calibration == 0.5
    for variant in ("mlp", "megnet"):
        assert build_config("prototypes", variant).training.calibration == 0
    with pytest.raises(UsageError, match=r"validation=0 leaves none: give training\.validation=0\.1 as well"):
        build_config("prototypes", "megnet", assignments=["training.calibration=0.5"])
    all_of_them = ["training.validation=0.1", "training.calibration=1"]
    assert not build_config("prototypes", "megnet", assignments=all_of_them).training.chooses_epoch


def test_a_sound_file_is_taken(tmp_path):
    (tmp_path / "recipe.toml").write_bytes(TOML)
    config = build_config("prototypes", "mlp", file=tmp_path / "recipe.toml")
    assert (config.limit, config.training.epochs, config.graph.cells) == (50, 3, "full")
    with pytest.raises(UsageError, match=r"cutof'.*graph.cutoff"):
        build_config("prototypes", "mlp", assignments=["graph.cutof=3"])


@pytest.mark.parametrize(
    ("rows", "share"), [(2, 1), (911, 1), (1000, 1), (3526, 1 / 2), (7355, 1 / 3), (65_793, 1 / 10)]
)
def test_regularisation_falls_with_the_training_rows(rows, share):
    config = build_config("matbench_mp_gap", "mlp")
    settled = config.settle(rows)
    assert (settled.training.weight_decay, settled.model.dropout) == pytest.approx((3.0 * share, 0.3 * share), rel=0.01)
    # Nothing else, and once and for all.
    assert settled.settle(7) == settled
    sections = {
        "training": config.training.model_copy(update={"weight_decay": settled.training.weight_decay}),
        "model": config.model.model_copy(update={"dropout": settled.model.dropout}),
    }
    assert settled == config.model_copy(update=sections)


@pytest.mark.parametrize("field", ["training.weight_decay", "sen.dropout"])
def test_regularisation_that_was_given_is_kept(field):
    for config in (
        build_config("mine", "mlp", assignments=[f"{field}=0.25"]),
        build_config("mine", "mlp", defaults={field: 0.25}),
        restore_config(build_config("mine", "mlp", flags={field: 0.25}).model_dump(mode="json")),
    ):
        table, _, name = field.partition(".")
        settled = config.settle(100_000)
        assert getattr(settled.model if table == "sen" else settled.training, name) == 0.25
    paper = build_config("mine", "mlp", file=Path("paper"))
    assert paper.settle(100_000) == paper


def test_archived_runs_which_recorded_no_tolerance_keep_their_names():
    all_runs = [run for archive in ARCHIVES.glob("*.zip") for run in find_runs(archive)]
    runs = [run for run in all_runs if "symprec" not in run.read_config()["config"]["graph"]]
    assert len(runs) > 30
    for run in runs:
        facts = run.read_config()
        config, table, split = restore_config(facts["config"]), facts["data"]["digest"], facts["task"]["split"]
        assert (config.graph.symprec, config.training.optimizer, config.training.validation) == (0.01, "adamw", None)
        name = config.digest(table if split == "folds" else digest(table=table, split=split))
        assert run.path.name == f"{config.variant}-{name}"


@pytest.mark.parametrize("symprec", [1e-5, 0.001, 0.01, 0.1])
def test_a_tolerance_is_restored_from_what_a_run_records(symprec):
    config = build_config("mine", "mlp", flags={"graph.symprec": symprec})
    recorded = json.loads(config.model_dump_json())
    assert restore_config(recorded) == config
    assert recorded["graph"]["symprec"] == symprec
    assert "symprec" not in config.graph.edges
    assert (config.digest("data") == build_config("mine", "mlp").digest("data")) == (symprec == 0.001)


@pytest.mark.parametrize("value", ["0", "0.2", "-0.01", "null", "fine"])
def test_a_tolerance_that_is_none_is_refused(value):
    with pytest.raises(UsageError, match=r"^graph\.symprec: "):
        build_config("mine", "mlp", assignments=[f"graph.symprec={value}"])


def test_the_papers_settings_have_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = build_config("prototypes", "capsule", file=Path("paper"))
    assert (config.model.dropout, config.training.weight_decay, config.graph.max_neighbors) == (0, 0, 12)
    assert config.training.learning_rate == TrainingConfig().learning_rate
    quick = build_config("mine", "capsule", file=Path("quick"))
    assert quick.training == build_config("mine", "capsule").training.model_copy(update={"epochs": 60})
    # The user's file comes first, and a name that is neither gives an error with the names that exist.
    (tmp_path / "paper").mkdir()
    assert build_config("prototypes", "capsule", file=Path("paper")) == config
    (tmp_path / "paper").rmdir()
    (tmp_path / "paper").write_text("[sen]\nrounds = 1")
    assert build_config("prototypes", "capsule", file=Path("paper")).model.rounds == 1
    with pytest.raises(UsageError, match=r"file papr cannot be read.*sen-bench are called .*paper"):
        build_config("prototypes", "capsule", file=Path("papr"))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="file pipe cannot be read: it is a pipe"):
        build_config("prototypes", "capsule", file=Path("pipe"))


@pytest.mark.parametrize("path", sorted(PROVIDED.glob("*.toml")), ids=lambda path: path.stem)
def test_configurations_that_come_along_fit_the_default_block(path):
    assert build_config("prototypes", "capsule", file=Path(path.stem)).training.epochs >= 1


@pytest.mark.parametrize("field", ["training", "limit", "block_name"])
def test_a_configuration_of_another_version_is_said_to_be(field: str) -> None:
    content = build_config("mine", "mlp").model_dump(mode="json")
    del content[field]
    with pytest.raises(UsageError, match=f"has no '{field}': it was written by another version"):
        restore_config(content)


@pytest.mark.parametrize(
    ("field", "value"), [("block_name", 5), ("block_name", None), ("limit", "lots"), ("task", None)]
)
def test_an_altered_configuration_is_said_to_be(field: str, value: object) -> None:
    content = build_config("mine", "mlp").model_dump(mode="json") | {field: value}
    with pytest.raises(UsageError, match="is altered or from another version"):
        restore_config(content)


def test_graphs_have_no_limit() -> None:
    with pytest.raises(UsageError, match="no configuration field 'limit'"):
        build_graph_settings(assignments=["limit=50"])


@pytest.fixture
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """MEGNet under further names."""
    names = ["graph", "limit", "my.net", "sen"]
    monkeypatch.setattr(run_config, "model_names", lambda: names)
    monkeypatch.setattr(run_config, "load_model", lambda _: load_model("megnet"))


@pytest.mark.usefixtures("models")
def test_a_model_whose_name_has_dots_has_fields():
    config = build_config("mine", "my.net", defaults={"my.net.blocks": 2}, assignments=["my.net.width=8"])
    assert (config.model.blocks, config.model.width) == (2, 8)
    assert restore_config(json.loads(config.model_dump_json())) == config


@pytest.mark.usefixtures("models")
@pytest.mark.parametrize("name", ["graph", "limit"])
def test_a_model_with_the_name_of_another_part_of_a_configuration_is_refused(name):
    with pytest.raises(UsageError, match=f"A part of every configuration is called '{name}', too"):
        build_config("mine", name)


def test_a_task_shortens_a_published_recipe_and_changes_nothing_else_of_it():
    defaults = {"training.epochs": 30, "training.weight_decay": 0.01, "sen.dropout": 0.0}
    megnet = build_config("prototypes", "megnet", defaults=defaults).training
    assert (megnet.epochs, megnet.weight_decay, megnet.optimizer) == (30, 0.0, "adam")
    sen = build_config("prototypes", "mlp", defaults=defaults)
    assert (sen.training.epochs, sen.training.weight_decay, sen.model.dropout) == (30, 0.01, 0.0)


TUNED = """
[tuned]
variant = "mlp"
recipe = "own"
task = "prototypes"
data = "x"
folds = [0, 2]
trials = 3

[training]
learning_rate = 1e-3
"""


def test_a_tuned_recipe_is_recorded_and_is_for_its_own_variant(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text(TUNED)
    config = build_config("prototypes", "mlp", file=file)
    content = config.model_dump(mode="json")
    assert content["tuned"] == {
        "variant": "mlp", "recipe": "own", "task": "prototypes", "data": "x", "folds": [0, 2], "trials": 3
    }  # fmt: skip
    assert restore_config(content) == config
    by_hand = build_config("prototypes", "mlp", flags={"training.learning_rate": 1e-3})
    assert "tuned" not in by_hand.model_dump()
    assert by_hand.digest("data") != config.digest("data")
    assert build_graph_settings(file=file) == by_hand.graph
    with pytest.raises(UsageError, match=r"recipe\.toml is a recipe that was tuned for mlp, not for capsule\.$"):
        build_config("prototypes", "capsule", file=file)
    with pytest.raises(UsageError, match="is a recipe that was tuned with --recipe own: give that option here, too"):
        build_config("prototypes", "mlp", recipe="common", file=file)
    file.write_text(TUNED.replace("trials = 3", 'trials = 3\nwithout = "digest"'))
    without = build_config("prototypes", "mlp", file=file)
    assert without.model_dump(mode="json")["tuned"] == content["tuned"] | {"without": "digest"}
    file.write_text(TUNED)
    by_set = [f"tuned.{field}={json.dumps(value)}" for field, value in content["tuned"].items()]
    again = build_config("prototypes", "mlp", assignments=["training.learning_rate=1e-3", *by_set])
    assert again == config  # as the command of a report repeats it
    with pytest.raises(UsageError, match=r"^tuned\.trials: Field required"):
        build_config("prototypes", "mlp", assignments=by_set[:-1])
    for assigned in by_set:
        with pytest.raises(UsageError, match=r"recipe\.toml says how its recipe was chosen: leave out --set tuned\."):
            build_config("prototypes", "mlp", file=file, assignments=[assigned])
    file.write_text(TUNED.replace("trials = 3", "trials = 0"))
    with pytest.raises(UsageError, match=r"^tuned\.trials: "):
        build_config("prototypes", "mlp", file=file)


def test_given_fields_are_those_of_all_sources_and_later_ones_win(tmp_path: Path) -> None:
    file = tmp_path / "file.toml"
    file.write_text("limit = 9\n[training]\nepochs = 1\nwarmup = 0.2")
    flags = {"training.epochs": 2, "training.precision": None}
    assert given_fields(file=file, flags=flags, assignments=["training.warmup=0.3"]) == {
        "limit": 9, "training.epochs": 2, "training.warmup": 0.3
    }  # fmt: skip


def test_weights_to_start_from_are_a_part_of_the_identity_and_are_restored() -> None:
    config = build_config("prototypes", "mlp")
    start = Pretrained(run="mlp-1", task="gaps", seed=0, fold=0, weights="w", allow_overlap=False)
    configs = [config, *(config.model_copy(update={"pretrained": each}) for each in (start, other_weights(start)))]
    assert len({each.digest("d") for each in configs}) == 3
    for each in configs:
        assert restore_config(each.model_dump(mode="json")) == each
    assert "pretrained" not in config.model_dump()


def other_weights(start: Pretrained) -> Pretrained:
    return start.model_copy(update={"weights": "v"})
