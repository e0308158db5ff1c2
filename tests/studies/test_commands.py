"""`sen-bench study`, from the file to the report and the archive."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest

from ablations.display import GridDisplay
from benchmarks.training.plans import PlannedTraining
from tests.benchmarks.conftest import SMALL, Answer, Write, rocksalts

Command = Callable[..., Answer]

#: Small runs of the mlp block.
SET = [value for option, value in zip(SMALL[::2], SMALL[1::2], strict=True) if option == "--set"]
OPTIONS = f"blocks = 'mlp'\nepochs = 1\nset = {json.dumps(SET)}\n"
REPORT = "[report.page]\nsections = 'overview'\n"

pytestmark = pytest.mark.usefixtures("unlearnt", "_here")


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def write_study(*tables: str) -> str:
    Path("study.toml").write_text("".join(tables))
    return "study.toml"


def on_rocksalts(name: str, folds: str, more: str = "") -> str:
    return f"[ablate.{name}]\ntask = 'matbench_jdft2d'\nfolds = '{folds}'\n{OPTIONS}{more}"


def test_a_study_from_its_plan_to_the_archive(sen_bench: Command) -> None:
    task = f"task = 'prototypes'\nlimit = 60\n{OPTIONS}"
    file = write_study(f"[ablate.one]\n{task}", f"[ablate.two]\nseeds = 2\n{task}", REPORT, "[archive.results]\n")
    planned = sen_bench("study", file, "--dry-run")
    assert planned.code == 0, planned.err
    assert planned.out.index("[ablate.one]") < planned.out.index("[ablate.two]")
    assert "study.toml, each training counted once: 2 trainings to do, 1 at a time, about " in planned.out
    state = sen_bench("study", file, "--status")
    assert "0 of 2 trainings finished, each counted once." in state.out
    assert "page.html: not written" in state.out
    assert [path.name for path in Path().iterdir()] == ["study.toml"]

    made = sen_bench("study", file)
    assert made.code == 0, made.err
    assert "[ablate.one] 1 of 1 training to do" in made.out
    assert "[ablate.two] 1 of 2 trainings to do" in made.out
    assert {path.name for path in Path().iterdir()} == {"page.html", "page.json", "results.zip", "runs", "study.toml"}
    assert len(json.loads(Path("page.json").read_text())["tasks"][0]["results"]) == 1
    archived = {name.split("/")[1].partition("-")[0] for name in ZipFile("results.zip").namelist()}
    assert archived == {"mlp", "ablation"}
    assert "2 of 2 trainings finished" in sen_bench("study", file, "--status").out

    # What it trained is what the recorded commands train.
    commands = [json.loads(path.read_text())["command"] for path in Path().rglob("ablation.json")]
    assert all(command.startswith("sen-bench ablate ") for command in commands)
    for command in commands:
        assert "Everything is finished" in sen_bench(*shlex.split(command)[1:], "--dry-run").out

    again = sen_bench("study", file)
    assert again.code == 0, again.err
    assert " trainings ended" not in again.out
    assert "results.zip holds these results already." in again.out

    from_archive = sen_bench("study", file, "--out", "results.zip")
    assert from_archive.code == 0, from_archive.err
    assert "Files: none, because an archive is never changed" in from_archive.out
    longer = write_study(f"[ablate.three]\nseeds = 3\n{task}")
    assert "2 of 3 trainings finished" in sen_bench("study", longer, "--out", "results.zip", "--status").out


def test_a_study_that_is_stopped_goes_on(
    write_data: Write, sen_bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, end = write_data(rocksalts(60)), GridDisplay.end
    file = write_study(on_rocksalts("one", "0"), on_rocksalts("two", "1,2"), REPORT, "[archive.results]\n")

    def interrupt(display: GridDisplay, planned: PlannedTraining, outcome: Any) -> None:
        end(display, planned, outcome)
        if planned.training.fold == 1:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(GridDisplay, "end", interrupt)
        stopped = sen_bench("study", file, "--data-dir", data)
    assert stopped.code == 130
    assert f"To continue:\n  sen-bench study study.toml --data-dir {data}" in stopped.err
    assert not Path("page.html").exists()
    state = sen_bench("study", file, "--data-dir", data, "--status")
    assert "2 of 3 trainings finished" in state.out
    again = sen_bench("study", file, "--data-dir", data)
    assert again.code == 0, again.err
    assert "1 of 1 training ended" in again.out
    assert Path("results.zip").exists()


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ("matbench_dielectric", "matbench_dielectric.json.gz"),
        ("gaps.csv", "study.toml, ablate.two: gaps.csv is neither in"),
    ],
)
def test_missing_data_are_found_before_anything_is_trained(
    task: str, problem: str, write_data: Write, sen_bench: Command
) -> None:
    data = write_data(rocksalts(60))
    file = write_study(on_rocksalts("one", "0"), f"[ablate.two]\ntask = '{task}'\n{OPTIONS}")
    refused = sen_bench("study", file, "--data-dir", data)
    assert refused.code in {1, 2}
    assert problem in refused.err
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("tables", "problem"),
    [
        (["[ablate.one]\nblocks = []\n"], "study.toml, ablate.one: --blocks names no block: give some, such as"),
        (["[ablate.one]\nblocks = 'mlq'\n"], "study.toml, ablate.one: "),
        (["[ablate.one]\nset = ['sen.round=1']\n"], "study.toml, ablate.one: capsule: There is no configuration field"),
        (["[ablate.one]\nfolds = []\n"], "study.toml, ablate.one: --folds takes numbers"),
        (["[ablate.one]\n[report.a]\nsections = 'overvew'\n"], "study.toml, report.a: There is no section called"),
        (["[ablate.one]\n[report.a]\nmargin = '2'\n"], "study.toml, report.a: --margin takes a share"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_read(tables: list[str], problem: str, sen_bench: Command) -> None:
    refused = sen_bench("study", write_study(*tables))
    assert refused.code == 2
    assert problem in refused.err
    assert not Path("runs").exists()


def test_two_ways_to_show_are_one_too_many(sen_bench: Command) -> None:
    refused = sen_bench("study", "quick", "--dry-run", "--status")
    assert (refused.code, refused.err) == (
        2,
        "Error: --dry-run and --status both only show something: leave out one of them.\n",
    )


def test_an_archive_is_never_replaced(write_data: Write, sen_bench: Command) -> None:
    data = write_data(rocksalts(60))
    made = sen_bench("study", write_study(on_rocksalts("one", "0"), "[archive.results]\n"), "--data-dir", data)
    assert made.code == 0, made.err
    before = Path("results.zip").read_bytes()
    longer = write_study(on_rocksalts("one", "0,1"), "[archive.results]\n")
    refused = sen_bench("study", longer, "--data-dir", data)
    assert refused.code == 2
    assert "study.toml, archive.results: results.zip exists, 1 training for it would be new" in refused.err
    assert " ended" not in refused.out

    # What is trained in another way is found when it is to be written.
    (ablation,) = Path().rglob("ablation.json")
    command = shlex.split(json.loads(ablation.read_text())["command"])
    command[command.index("--folds") + 1] = "1"
    assert sen_bench(*command[1:]).code == 0
    refused = sen_bench("study", longer, "--data-dir", data)
    assert refused.code == 2
    assert "study.toml, archive.results: results.zip exists with other results" in refused.err
    assert Path("results.zip").read_bytes() == before


def test_what_fails_stops_only_the_archive(write_data: Write, sen_bench: Command) -> None:
    data = write_data(rocksalts(60))
    failing = on_rocksalts("bad", "0").replace("training.learning_rate=0.002", "training.learning_rate=1e30")
    file = write_study(failing, on_rocksalts("good", "0"), REPORT, "[archive.results]\n")
    answer = sen_bench("study", file, "--data-dir", data)
    assert answer.code == 1
    assert "study.toml: ablate.bad: 1 training failed, and those that did not learn would fail again" in answer.err
    assert "results.zip is not written, because trainings failed" in answer.err
    assert Path("page.html").exists()
    assert not Path("results.zip").exists()
    assert "failed" in sen_bench("study", file, "--data-dir", data, "--status").out


@pytest.mark.deep
@pytest.mark.parametrize(
    ("name", "archive", "n"), [("phonons", "phonons-blocks", 50), ("log_kvrh", "log_kvrh-blocks", 10)]
)
def test_study_files_are_those_of_the_archived_results(
    name: str, archive: str, n: int, data_dir: Path, sen_bench: Command
) -> None:
    results = Path(__file__).parents[2] / "docs" / "results" / f"{archive}.zip"
    answer = sen_bench("study", name, "--data-dir", data_dir, "--out", results, "--status")
    assert f"{n} of {n} trainings finished" in answer.out, answer.err


def test_runs_start_from_those_of_an_ablation_above(sen_bench: Command, write_data: Write) -> None:
    data = write_data(rocksalts(40))
    pretraining = f"[ablate.pretraining]\ntask = 'prototypes'\nlimit = 60\nwithout = 'matbench_jdft2d'\n{OPTIONS}"
    tables = (pretraining, on_rocksalts("tuned", "0", "init-from = 'pretraining'\n"), on_rocksalts("drawn", "0"))
    file = write_study(*tables, "[report.page]\nruns = ['tuned', 'drawn']\nsections = 'overview'\n")
    state = sen_bench("study", file, "--data-dir", data, "--status")
    assert state.code == 0, state.err
    assert "tuned: starts when pretraining is finished; its runs get their names then." in state.out
    assert "0 of 3 trainings finished" in state.out
    planned = sen_bench("study", file, "--data-dir", data, "--dry-run")
    assert "3 trainings to do" in planned.out
    made = sen_bench("study", file, "--data-dir", data)
    assert made.code == 0, made.err
    assert "100.0% of the parameters in" in made.out
    assert "of the data, and of no test row." in made.out
    assert "with formulas of matbench_jdft2d neither train nor validate." in made.out
    assert "3 of 3 trainings finished" in sen_bench("study", file, "--data-dir", data, "--status").out
    results = json.loads(Path("page.json").read_text())["tasks"][0]["results"]
    assert len(results) == 2
    command = next(
        content["command"]
        for content in (json.loads(path.read_text()) for path in Path("runs/matbench_jdft2d").rglob("ablation.json"))
        if content["command"].startswith("sen-bench study")
    )
    assert sen_bench(*shlex.split(command)[1:], "--status").code == 0

    below = write_study(on_rocksalts("tuned", "0", "init-from = 'pretraining'\n"), pretraining)
    refused = sen_bench("study", below, "--data-dir", data, "--status")
    assert (refused.code, "init-from names pretraining, which must stand above it" in refused.err) == (2, True)
    several = write_study(pretraining.replace("sen.dropout=0", "sen.dropout=0,0.1"), tables[1])
    refused = sen_bench("study", several, "--data-dir", data, "--status")
    assert (refused.code, "an ablation with 2 runs of mlp: it needs one" in refused.err) == (2, True)


@pytest.mark.deep
def test_a_study_on_a_cluster(sen_bench: Command, write_data: Write) -> None:
    from distributed import LocalCluster

    data = write_data(rocksalts(60))
    table = f"task = 'matbench_jdft2d'\nfolds = '0'\n{OPTIONS.replace('epochs = 1', 'epochs = 10')}"
    file = write_study(f"[ablate.first]\n{table}", f"[ablate.second]\n{table}init-from = 'first'\n", REPORT)
    with LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", dashboard_address=None) as cluster:
        place = ("--backend", "dask", "--scheduler", cluster.scheduler_address)
        answer = sen_bench("study", file, "--data-dir", data, *place)
    assert answer.code == 0, answer.err
    assert len(list(Path("runs").rglob("predictions.csv"))) == 2
    assert Path("page.html").exists()
