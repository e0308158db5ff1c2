"""`sen-bench predict`: the models of a run on structures from files."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load, save

from benchmarks.cli.display import _about_bounds
from benchmarks.results.conformal import read_calibrators
from benchmarks.results.run_config import Pretrained
from benchmarks.results.store import Run, Training
from benchmarks.training.prediction import Ensemble
from sen.crystal import refine
from tests.benchmarks.conftest import SMALL, Answer, Write, change_facts, replace_file, rocksalts
from tests.reports.made_runs import PRETRAINED, make_run, official

Command = Callable[..., Answer]
ROWS = rocksalts(60)


def poscar(row: list[Any]) -> str:
    """The structure of a row as a POSCAR, in full precision."""
    crystal = row[0]
    symbols = [site["species"][0]["element"] for site in crystal["sites"]]
    lines = ["rocksalt", "1.0", *(" ".join(map(repr, vector)) for vector in crystal["lattice"]["matrix"])]
    lines += [" ".join(symbols), "1 1", "Direct", *(" ".join(map(repr, site["abc"])) for site in crystal["sites"])]
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def run(store: Path, write_data: Write, sen_bench: Command, unlearnt: None) -> Run:  # noqa: ARG001
    """Two folds of two seeds, trained once."""
    if not any(store.iterdir()):
        options = ("--folds", "0,1", "--seeds", 2, "--epochs", 1, "--set", "training.validation=0.1", "--out", store)
        answer = sen_bench("run", "matbench_jdft2d", *SMALL, *options, "--data-dir", write_data(ROWS))
        assert answer.code == 0, answer.err
    (path,) = (store / "matbench_jdft2d").iterdir()
    return Run(path)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with the first rows of the data as POSCAR files, named by their row ids."""
    folder = tmp_path / "structures"
    folder.mkdir()
    for row in range(20):
        (folder / f"mb-jdft2d-{row + 1:03d}.vasp").write_text(poscar(ROWS[row]))
    return folder


def as_json(answer: Answer) -> dict[str, Any]:
    assert answer.code == 0, answer.err
    content: dict[str, Any] = json.loads(answer.out)
    return content


def test_every_model_predicts_what_it_predicted_for_the_rows_of_its_fold(
    run: Run, files: Path, sen_bench: Command
) -> None:
    content = as_json(sen_bench("predict", run.path, files, "--format", "json"))
    models = [Training(model["seed"], model["fold"]) for model in content["models"]]
    assert models == [Training(seed, fold) for seed in (0, 1) for fold in (0, 1)]
    assert len(content["predictions"]) == 20
    by_id = {Path(entry["file"]).stem: entry for entry in content["predictions"]}
    compared = 0
    for at, training in enumerate(models):
        calibrating = run.read_calibration(training)
        assert calibrating is not None
        for stored in (run.read_predictions(training), calibrating):
            for row_id, expected in zip(stored.ids, stored.prediction, strict=True):
                if row_id in by_id:
                    assert by_id[row_id]["by_model"][at] == pytest.approx(expected, rel=1e-5)
                    compared += 1
    assert compared >= 8
    for entry in content["predictions"]:
        assert entry["prediction"] == pytest.approx(np.mean(entry["by_model"]))
        assert entry["spread"] == pytest.approx(np.std(entry["by_model"], ddof=1))
        assert entry["space_group"] == 225
        assert entry["never_seen"] == {}


def test_table_and_csv_show_the_same(run: Run, files: Path, sen_bench: Command) -> None:
    file = files / "mb-jdft2d-001.vasp"
    table = sen_bench("predict", run.path, file)
    assert table.code == 0
    answer = sen_bench("predict", run.path, file, "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(answer.out))
    assert row["file"] == str(file)
    for text in (row["formula"], f"{float(row['prediction']):.3f}", "4 models", "exfoliation_en (meV/atom)"):
        assert text in table.out
    assert "fold 0, seed 0; fold 1, seed 0; fold 0, seed 1; fold 1, seed 1" in table.out


def test_csv_holds_no_formula_and_no_control(
    run: Run, files: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    Path("mb-jdft2d-001.vasp").rename("=1\x1b[2J.vasp")
    answer = sen_bench("predict", run.path, "=1\x1b[2J.vasp", "--format", "csv")
    (row,) = csv.DictReader(io.StringIO(answer.out))
    assert row["file"] == r"'=1\x1b[2J.vasp"


def test_a_file_whose_name_is_no_utf_8_is_predicted(run: Run, files: Path, sen_bench: Command) -> None:
    (file, *_) = files.iterdir()
    odd = file.rename(files / os.fsdecode(b"Si\xff.vasp"))
    (entry,) = as_json(sen_bench("predict", run.path, odd, "--format", "json"))["predictions"]
    assert entry["file"] == f"{files}/Si\\udcff.vasp"


def test_elements_that_training_never_saw_are_named(run: Run, tmp_path: Path, sen_bench: Command) -> None:
    path = tmp_path / "POSCAR"
    path.write_text("caesium iodide\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs I\n1 1\nDirect\n0 0 0\n0.5 0.5 0.5\n")
    (entry,) = as_json(sen_bench("predict", run.path, path, "--format", "json"))["predictions"]
    assert entry["never_seen"] == {"Cs": 4}
    answer = sen_bench("predict", run.path, path)
    assert "Cs" in answer.out
    assert "never seen in training is a guess" in answer.out

    unit = Training(0, 0)
    metrics = json.loads((run.training_path(unit) / "metrics.json").read_text())
    replace_file(run.training_path(unit), "metrics.json", json.dumps(metrics | {"elements": ["Na"]}).encode())
    try:
        (entry,) = as_json(sen_bench("predict", run.path, path, "--format", "json"))["predictions"]
        assert entry["never_seen"] == {"I": 1, "Cs": 4}
        assert "I (1 of 4 models), Cs" in sen_bench("predict", run.path, path).out
    finally:
        replace_file(run.training_path(unit), "metrics.json", json.dumps(metrics).encode())


@pytest.mark.usefixtures("no_graph_of_polonium")
def test_a_crystal_without_a_graph_stops_no_other(run: Run, files: Path, sen_bench: Command) -> None:
    (files / "po.vasp").write_text("polonium\n1.0\n3.35 0 0\n0 3.35 0\n0 0 3.35\nPo\n1\nDirect\n0 0 0\n")
    answer = sen_bench("predict", run.path, files, "--format", "json")
    assert answer.code == 1
    assert len(json.loads(answer.out)["predictions"]) == 20
    assert f"{files / 'po.vasp'} cannot be used (IndexError: cell list is full)." in answer.err
    assert "1 of 21 structures cannot be predicted" in answer.err


def test_isolated_atom_and_deuterium_are_predicted(run: Run, tmp_path: Path, sen_bench: Command) -> None:
    path = tmp_path / "POSCAR"
    path.write_text("isolated\n1.0\n20 0 0\n0 20 0\n0 0 20\nD\n1\nDirect\n0 0 0\n")
    answer = sen_bench("predict", run.path, path)
    assert answer.code == 0
    assert f"Deuterium or tritium is read as hydrogen: {path}." in answer.out


@pytest.mark.parametrize(("symprec", "space_group"), [(0.01, 221), (0.001, 99)])
def test_a_structure_is_refined_as_the_crystals_of_the_run(
    run: Run, tmp_path: Path, sen_bench: Command, symprec: float, space_group: int
) -> None:
    copy = Run(shutil.copytree(run.path, tmp_path / run.path.name))
    facts = copy.read_config()
    del facts["config"]["graph"]["symprec"]  # as version 0.1, which refined to 0.01 Å, wrote it
    if symprec != 0.01:
        facts["config"]["graph"]["symprec"] = symprec
    folder = change_facts(copy, facts).path
    path = tmp_path / "POSCAR"
    path.write_text("CsCl\n1.0\n4 0 0\n0 4 0\n0 0 4\nNe O\n1 1\nDirect\n0 0 0.00125\n0.5 0.5 0.5\n")
    (predicted,) = as_json(sen_bench("predict", folder, path, "--format", "json"))["predictions"]
    assert predicted["space_group"] == space_group


@pytest.mark.parametrize(
    ("name", "prediction"), [("mlp-c82ce5750e", -4.741775989532471), ("egnn-e9cf1f2b1b", -3.455354690551758)]
)
def test_a_run_of_0_1_predicts_as_it_did(
    runs_of_0_1: Path, tmp_path: Path, sen_bench: Command, name: str, prediction: float
) -> None:
    path = tmp_path / "POSCAR"
    path.write_text("CsCl\n1.0\n4 0 0\n0 4 0\n0 0 4\nCs Cl\n1 1\nDirect\n0 0 0.00125\n0.5 0.5 0.5\n")
    answer = sen_bench("predict", runs_of_0_1 / "prototypes" / name, path, "--format", "json")
    (predicted,) = as_json(answer)["predictions"]
    assert predicted["prediction"] == pytest.approx(prediction, rel=1e-5)
    low, high = predicted["interval"]
    assert (predicted["space_group"], low < prediction < high) == (221, True)


def fail_on(length: float) -> Callable[..., Any]:
    """Return `refine` with an error on cubes of this length."""

    def fail(lattice: Any, *rest: Any) -> Any:
        if lattice[0][0] == length:
            raise ZeroDivisionError("a library is wrong")
        return refine(lattice, *rest)

    return fail


def test_structures_that_cannot_be_used_are_named_and_the_others_predicted(
    run: Run, files: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files / "broken.cif").write_text("data_x\n_cell_length_a 0\n")
    (files / "POSCAR.odd").write_text("odd\n1\n7 0 0\n0 7 0\n0 0 7\nNa\n1\nDirect\n0 0 0\n")
    monkeypatch.setattr("benchmarks.training.prediction.refine", fail_on(7.0))
    answer = sen_bench("predict", run.path, files, "--format", "csv")
    assert answer.code == 1
    assert len(list(csv.DictReader(io.StringIO(answer.out)))) == 20
    assert f"{files / 'broken.cif'} has a CIF without atoms" in answer.err
    assert f"{files / 'POSCAR.odd'} cannot be used (ZeroDivisionError: a library is wrong)." in answer.err
    assert "2 of 22 structures cannot be predicted" in answer.err


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("absent.cif", "There is no file or folder"),
        ("empty", "There is no structure file (*.cif, POSCAR, CONTCAR, *.vasp and *.poscar, also with .gz) in"),
        ("notes.txt", "is not a structure file by its name"),
    ],
)
def test_wrong_files_are_refused(run: Run, tmp_path: Path, sen_bench: Command, name: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("nothing")
    answer = sen_bench("predict", run.path, tmp_path / name)
    assert answer.code == 2
    assert sentence in answer.err
    assert name in answer.err


def test_run_that_cannot_predict_is_refused(
    run: Run, files: Path, tmp_path: Path, sen_bench: Command, caplog: pytest.LogCaptureFixture
) -> None:
    answer = sen_bench("predict", run.path.parent, files)
    assert answer.code == 2
    assert f"there are runs below it; name one of them: {run.path}" in answer.err

    copy = Run(shutil.copytree(run.path, tmp_path / "copy" / run.path.name))
    (copy.training_path(Training(0, 1)) / "model.safetensors").write_bytes(b"")
    content = as_json(sen_bench("predict", copy.path, files, "--format", "json"))
    assert len(content["models"]) == 3
    assert str(copy.training_path(Training(0, 1))) in caplog.text

    weights = load(copy.training_path(Training(0, 0)).joinpath("model.safetensors").read_bytes())
    weights.popitem()
    replace_file(copy.training_path(Training(0, 0)), "model.safetensors", save(weights))
    answer = sen_bench("predict", copy.path, files)
    assert answer.code == 1
    assert "do not fit this version of sen-bench and its block 'mlp'" in answer.err

    for training in copy.trainings():
        shutil.rmtree(copy.training_path(training))
    answer = sen_bench("predict", copy.path, files)
    assert answer.code == 2
    assert "has no finished fold yet" in answer.err


def test_classification_gives_probabilities(files: Path, sen_bench: Command, tmp_path: Path) -> None:
    rows = [[structure, lattice_constant > 5.5] for structure, lattice_constant in ROWS]
    data = tmp_path / "wide.json"
    data.write_text(json.dumps({"index": list(range(60)), "columns": ["structure", "is_wide"], "data": rows}))
    answer = sen_bench(
        "run", data, "--kind", "classification", *SMALL, "--folds", "0", "--epochs", 15, "--out", tmp_path / "runs"
    )
    assert answer.code == 0, answer.err
    (run,) = (tmp_path / "runs" / "wide").iterdir()
    content = as_json(sen_bench("predict", run, files, "--format", "json"))
    probability = np.array([entry["prediction"] for entry in content["predictions"]])
    assert ((probability >= 0) & (probability <= 1)).all()
    assert ((probability > 0.5) == [row[1] for row in rows[:20]]).mean() > 0.8
    answer = sen_bench("predict", run, files / "mb-jdft2d-001.vasp", "--interval", 60)
    assert "probability" in answer.out
    assert "Set: covers 60 %" in answer.out
    sets = as_json(sen_bench("predict", run, files, "--format", "json", "--interval", 60))["predictions"]
    assert {label for entry in sets for label in entry["labels"]} <= {"false", "true"}


def test_a_model_that_is_fitted_predicts_from_its_run(
    write_data: Write, sen_bench: Command, files: Path, tmp_path: Path
) -> None:
    out = tmp_path / "runs"
    answer = sen_bench(
        *("run", "matbench_jdft2d", "--model", "trees", "--folds", 0, "--out", out, "--data-dir", write_data(ROWS))
    )
    assert answer.code == 0, answer.err
    (path,) = (out / "matbench_jdft2d").iterdir()
    stored = Run(path).read_predictions(Training(0, 0))
    tested = dict(zip(stored.ids, stored.prediction.tolist(), strict=True))
    predicted = as_json(sen_bench("predict", path, files, "--format", "json", "--interval", 80))["predictions"]
    found = {Path(entry["file"]).stem: entry["prediction"] for entry in predicted}
    assert (both := found.keys() & tested.keys())
    assert {row: found[row] for row in both} == pytest.approx({row: tested[row] for row in both}, rel=1e-5)
    residual = np.sort(np.abs(stored.target - stored.prediction))
    half = [(entry["interval"][1] - entry["interval"][0]) / 2 for entry in predicted]
    # All rows train; the eight test rows calibrate.
    assert half == pytest.approx([residual[math.ceil(9 * 0.8) - 1]] * len(half))

    folder = path / "seed_0" / "fold_0"
    content = load((folder / "model.safetensors").read_bytes())
    content["model.child"].zero_()  # a walk that never ends
    replace_file(folder, "model.safetensors", save(content))
    answer = sen_bench("predict", path, files)
    assert answer.code == 1
    assert "do not fit this version of sen-bench and its model 'trees'" in answer.err


def test_intervals_are_the_medians_of_those_of_the_folds(run: Run, files: Path, sen_bench: Command) -> None:
    content = as_json(sen_bench("predict", run.path, files, "--format", "json", "--interval", 60))
    calibrators = read_calibrators(run, run.trainings(), "test")
    assert [len(calibration) for calibration in calibrators.values()] == [8, 12]
    for entry in content["predictions"]:
        predicted = np.array(entry["by_model"]).reshape(2, 2, 1)  # seeds, folds
        for name, by_spread in (("interval", False), ("interval_by_spread", True)):
            ends = [calibrators[fold].interval(predicted[:, fold], 0.6, by_spread=by_spread) for fold in (0, 1)]
            assert entry[name] == pytest.approx(np.mean(ends, axis=0).ravel().tolist())
    file = files / "mb-jdft2d-001.vasp"
    (row,) = csv.DictReader(io.StringIO(sen_bench("predict", run.path, file, "--format", "csv", "--interval", 60).out))
    (entry,) = (each for each in content["predictions"] if each["file"] == str(file))
    assert [float(row["interval_low"]), float(row["interval_high"])] == pytest.approx(entry["interval"], rel=1e-5)
    table = sen_bench("predict", run.path, file, "--interval", 60).out
    assert "60 % interval by spread" in table
    assert "Interval: made to cover 60 % and guaranteed to cover 20 % of structures like those of the task" in table
    assert "Calibrated by the 8 to 12 test rows of each fold; medians of the folds." in table


def test_a_prediction_that_one_fold_pulls_away_lies_in_its_interval(
    write_data: Write, sen_bench: Command, files: Path, tmp_path: Path
) -> None:
    command = ("run", "matbench_jdft2d", "--model", "trees", "--out", tmp_path / "runs", "--data-dir", write_data(ROWS))
    assert sen_bench(*command).code == 0
    (path,) = (tmp_path / "runs" / "matbench_jdft2d").iterdir()
    folder = path / "seed_0" / "fold_1"
    content = load((folder / "model.safetensors").read_bytes())
    content["shift"] += 1e6
    replace_file(folder, "model.safetensors", save(content))
    predicted = as_json(sen_bench("predict", path, files, "--format", "json", "--interval", 60))["predictions"]
    assert all(entry["interval"][0] < 1000 < entry["prediction"] <= entry["interval"][1] for entry in predicted)


def test_intervals_of_folds_of_groups_guarantee_nothing(
    write_data: Write, sen_bench: Command, files: Path, tmp_path: Path
) -> None:
    command = ("run", "matbench_jdft2d", "--model", "trees", "--split", "chemical-system", "--out", tmp_path / "runs")
    assert sen_bench(*command, "--data-dir", write_data(ROWS)).code == 0
    (path,) = (tmp_path / "runs" / "matbench_jdft2d").iterdir()
    shown = sen_bench("predict", path, files, "--interval", 60).out
    assert "made for 60 % of structures like those that each fold tests, and guarantees nothing for others" in shown
    assert "guaranteed to cover" not in shown


@pytest.mark.parametrize("pretrained", [PRETRAINED, PRETRAINED.model_copy(update={"allow_overlap": False})])
def test_test_rows_that_the_weights_may_know_guarantee_nothing(tmp_path: Path, pretrained: Pretrained) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), pretrained=pretrained)
    told = _about_bounds(Ensemble(run), 0.9)
    assert ("guaranteed to cover 80 %" in told) == (not pretrained.allow_overlap)
    assert ("guarantees nothing: test rows may have chosen the recipe" in told) == pretrained.allow_overlap


def test_a_level_that_needs_more_rows_gives_no_interval_and_says_so(run: Run, files: Path, sen_bench: Command) -> None:
    file = files / "mb-jdft2d-001.vasp"
    reason = "the test rows of a fold are 8, and 95 % needs 19: ask for 88 % or less"
    answer = sen_bench("predict", run.path, file, "--interval", 95)
    assert reason in answer.out
    assert "95 % interval" not in answer.out
    answer = sen_bench("predict", run.path, file, "--format", "json", "--interval", 95)
    assert reason in answer.err
    assert as_json(answer)["predictions"][0]["interval"] is None


@pytest.mark.parametrize("level", ["0", "100", "100%", "-5", "nan", "0.9", "many"])
def test_what_is_no_level_is_refused(run: Run, files: Path, sen_bench: Command, level: str) -> None:
    answer = sen_bench("predict", run.path, files, "--interval", level)
    assert (answer.code, answer.out) == (2, "")
    assert f"--interval takes a share above 0 and below 100 per cent, such as 5%, not '{level}" in answer.err
    assert ("Did you mean 90%?" in answer.err) == (level == "0.9")
