"""Archives of results: what they hold, what is refused, and that commands read them like folders of runs."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.base.files import file_digest
from benchmarks.results.store import Run, Training, find_runs
from tests.benchmarks.conftest import Answer
from tests.reports.made_runs import make_run, official

Command = Callable[..., Answer]


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Two runs and an ablation; one training is under way."""
    dataset = official(tmp_path / "data")
    held_out = {"training.validation": 0.1}
    mlp = make_run(tmp_path / "runs", dataset, flags=held_out, folds=[0, 1], seeds=[0, 1])
    make_run(tmp_path / "runs", dataset, block="capsule", flags=held_out, folds=[0])
    mlp.write_summary(lambda: {"mean": {"mae": 0.1}})
    mlp.state_path(Training(0, 4)).write_bytes(b"state")
    with mlp.lock(Training(0, 4)):
        pass
    ablation = tmp_path / "runs" / dataset.task.name / "ablation-0123456789"
    ablation.mkdir()
    (ablation / "ablation.json").write_text(json.dumps({"task": dataset.task.facts()}))
    for name in ("table.csv", "comparisons.csv", "cells.csv", "table.tex", "notes.txt"):
        (ablation / name).write_text(name)
    tuning = tmp_path / "runs" / dataset.task.name / "tuning-mlp-0123456789"
    tuning.mkdir()
    for name in ("trials.json", "recipe.toml", ".lock"):
        (tuning / name).write_text(name)
    return tmp_path / "runs"


def run_of(root: Path, block: str) -> Run:
    (run,) = (run for run in find_runs(root) if run.path.name.startswith(block))
    return run


def test_results_go_in_and_weights_do_not(runs: Path, tmp_path: Path, sen_bench: Command) -> None:
    out = tmp_path / "results.zip"
    answer = sen_bench("archive", runs, "-o", out)
    assert answer.code == 0, answer.err
    assert "5 trainings, 2 runs, 1 tuning, 1 ablation." in answer.out
    assert file_digest(out) in answer.out
    mlp, capsule = run_of(runs, "mlp"), run_of(runs, "capsule")
    assert f"Not finished and left out: {mlp.path}: fold 4, seed 0" in answer.err
    expected = {f"matbench_jdft2d/{run.path.name}/config.json" for run in (mlp, capsule)}
    for run in (mlp, capsule):
        for training in run.trainings():
            name = f"matbench_jdft2d/{run.path.name}/seed_{training.seed}/fold_{training.fold}"
            expected |= {
                f"{name}/{file}"
                for file in ("metrics.json", "history.csv", "predictions.csv", "calibration.csv", "manifest.json")
            }
    for file in ("ablation.json", "table.csv", "comparisons.csv", "cells.csv", "table.tex"):
        expected.add(f"matbench_jdft2d/ablation-0123456789/{file}")
    expected |= {f"matbench_jdft2d/tuning-mlp-0123456789/{file}" for file in ("trials.json", "recipe.toml")}
    with zipfile.ZipFile(out) as archive:
        assert archive.namelist() == sorted(expected)
        for name in expected:
            assert archive.read(name) == (runs / name).read_bytes()


def test_the_same_results_give_the_same_bytes(runs: Path, tmp_path: Path, sen_bench: Command) -> None:
    first, again, copied, single = (tmp_path / f"{name}.zip" for name in ("first", "again", "copied", "single"))
    assert sen_bench("archive", runs, "-o", first).code == 0
    assert sen_bench("archive", first, "-o", again).code == 0
    for file in runs.rglob("*"):
        os.utime(file, (1e9, 1e9))
    copy = shutil.copytree(runs, tmp_path / "elsewhere" / "deep")
    assert sen_bench("archive", copy, runs, "-o", copied).code == 0, "the same results twice are the same results"
    folders = [run.path for run in find_runs(runs)]
    folders += [runs / "matbench_jdft2d" / name for name in ("ablation-0123456789", "tuning-mlp-0123456789")]
    assert sen_bench("archive", *folders, "-o", single).code == 0
    assert len({path.read_bytes() for path in (first, again, copied, single)}) == 1


def test_archives_of_parts_merge_into_one_of_the_whole(tmp_path: Path, sen_bench: Command) -> None:
    dataset = official(tmp_path / "data")
    for seed in (0, 1):
        run = make_run(tmp_path / f"runs{seed}", dataset, seeds=[seed])
        run.write_summary(lambda seed=seed: {"seeds": [seed]})
        assert sen_bench("archive", tmp_path / f"runs{seed}", "-o", tmp_path / f"{seed}.zip").code == 0
    whole = tmp_path / "whole.zip"
    assert sen_bench("archive", tmp_path / "0.zip", tmp_path / "1.zip", "-o", whole).code == 0
    merged = run_of(whole, "mlp")
    assert merged.trainings() == [Training(seed, fold) for seed in (0, 1) for fold in range(5)]
    assert merged.read_summary() == {}, "it is made again from the results"


def test_what_cannot_be_archived_is_refused_in_a_sentence(
    runs: Path, tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "results.zip"

    def refused(code: int, sentence: str, *sources: Path, to: Path = out) -> None:
        answer = sen_bench("archive", *sources, "-o", to)
        assert answer.code == code, answer.err
        assert sentence in answer.err
        assert len(answer.err.strip().splitlines()) == 1
        assert not out.exists()

    empty = tmp_path / "empty"
    empty.mkdir()
    refused(2, "results.tar must end in .zip", runs, to=tmp_path / "results.tar")
    refused(
        2, f"There is no folder {empty / 'none'} to write results.zip into", runs, to=empty / "none" / "results.zip"
    )
    refused(2, f"There is no folder or archive {tmp_path / 'none'}", runs, tmp_path / "none")
    refused(2, f"No training is finished in {empty}", empty)
    capsule = run_of(runs, "capsule")
    other = Run(shutil.copytree(capsule.path, tmp_path / "other" / capsule.path.name))
    (other.path / "config.json").write_text((other.path / "config.json").read_text() + " ")
    refused(2, "have the same name but differ", runs, other.path)
    monkeypatch.setattr("benchmarks.results.archive.MOST_FILES", 10)
    refused(2, "These results take more than 10 files", runs)
    monkeypatch.undo()

    damaged = capsule.training_path(Training(0, 0))
    whole = (damaged / "metrics.json").read_bytes()
    (damaged / "metrics.json").write_bytes(whole[:-1])
    refused(1, f"The result in {damaged} is damaged, so no archive is written: metrics.json is", runs)
    (damaged / "metrics.json").write_bytes(whole)
    config = capsule.path / "config.json"
    facts = json.loads(config.read_text())
    for content, sentence in (
        ("{", "config.json is not valid JSON"),
        (json.dumps(facts | {"task": facts["task"] | {"unit": "J"}}), "config.json was altered after it was written"),
        (json.dumps(facts | {"task": 5}), "config.json lacks what a run records"),
    ):
        config.write_text(content)
        refused(1, sentence, runs)
    config.unlink()
    refused(1, f"{capsule.path} has results, but no config.json", runs)
    config.write_text(json.dumps(facts))
    refused(1, f"{damaged} is a part of a run: name the whole run, {capsule.path}", damaged)
    ablation = runs / "matbench_jdft2d" / "ablation-0123456789" / "ablation.json"
    ablation.write_text("[]")
    refused(1, f"{ablation} is damaged", runs)
    ablation.write_text('{"task": {"name": "../.."}}')
    refused(1, f"{ablation.parent} does not record the name of its task", runs)


def test_an_archive_is_written_whole_or_not_at_all_and_never_replaced(
    runs: Path, tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "to" / "results.zip"
    out.parent.mkdir()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    answer = sen_bench("archive", runs, "-o", out)
    assert (answer.code, "cannot be written (No space left on device)" in answer.err) == (2, True)
    assert list(out.parent.iterdir()) == []
    monkeypatch.undo()
    assert sen_bench("archive", runs, "-o", out).code == 0
    before = out.read_bytes()
    answer = sen_bench("archive", runs, "-o", out)
    assert (answer.code, f"{out} exists, and an archive is never replaced" in answer.err) == (2, True)
    assert out.read_bytes() == before


def test_status_reads_an_archive_and_names_what_is_damaged(runs: Path, tmp_path: Path, sen_bench: Command) -> None:
    archive = tmp_path / "results.zip"
    assert sen_bench("archive", runs, "-o", archive).code == 0
    run_of(runs, "mlp").state_path(Training(0, 4)).unlink()
    of_folder, of_archive = sen_bench("status", runs), sen_bench("status", archive)
    assert (of_archive.code, of_archive.err) == (0, "")
    assert of_archive.out == of_folder.out.replace(str(runs), str(archive))
    mlp = run_of(archive, "mlp")
    of_run = sen_bench("status", mlp.path)
    assert (of_run.code, mlp.path.name in of_run.out, "capsule" in of_run.out) == (0, True, False)

    changed = tmp_path / "changed.zip"
    name = f"{mlp.path.at}/seed_1/fold_0/predictions.csv"  # type: ignore[union-attr]
    with zipfile.ZipFile(archive) as source, zipfile.ZipFile(changed, "w") as target:
        for entry in source.namelist():
            content = source.read(entry)
            target.writestr(entry, content.replace(b"1", b"2") if entry == name else content)
    problems = run_of(changed, "mlp").check_results()
    assert {str(training) for training, problem in problems.items() if problem} == {"fold 0, seed 1"}
    assert "predictions.csv is altered" in str(problems[Training(1, 0)])
    answer = sen_bench("archive", changed, "-o", tmp_path / "no.zip")
    assert (answer.code, f"{changed}/{mlp.path.at}/seed_1/fold_0 is damaged" in answer.err) == (1, True)  # type: ignore[union-attr]


def test_what_needs_weights_or_writes_says_that_an_archive_does_not_do(
    runs: Path, tmp_path: Path, sen_bench: Command
) -> None:
    archive, data = tmp_path / "results.zip", tmp_path / "data"
    assert sen_bench("archive", runs, "-o", archive).code == 0
    run = run_of(archive, "mlp")
    cell = tmp_path / "POSCAR"
    cell.write_text("NaCl\n1.0\n4 0 0\n0 4 0\n0 0 4\nNa Cl\n1 1\ndirect\n0 0 0\n0.5 0.5 0.5\n")
    training = ("run", "matbench_jdft2d", "--block", "mlp", "--folds", 0, "--data-dir", data, "--out", archive)
    for arguments, code, sentence in (
        (("predict", run.path, cell), 1, f"{run.path} is in an archive, which holds no weights"),
        (("explain", run.path, "--crystals", cell, "-o", tmp_path / "e.html"), 1, "or it is in an archive"),
        ((*training, "--seed", 3), 2, "is in an archive, which is never changed, and lacks fold 0, seed 3"),
        ((*training, "--overwrite", "always"), 2, "is in an archive, which is never changed"),
        (
            ("export", archive, "-o", tmp_path / "x.json.gz"),
            2,
            f"there are runs below it; name one of them: {archive}/",
        ),
        (("export", run.path, "-o", tmp_path / "x.json.gz"), 2, "is a run on partial data"),
        (("status", archive / "none"), 2, f"There is no folder or archive {archive / 'none'}"),
    ):
        before = archive.read_bytes()
        answer = sen_bench(*arguments)
        assert (answer.code, sentence in answer.err) == (code, True), answer.err
        assert archive.read_bytes() == before
