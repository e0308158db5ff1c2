"""Finished results that are damaged count as missing, and the warning says what is wrong with them."""

from __future__ import annotations

import errno
import json
import logging
import math
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from benchmarks.base.errors import DataError
from benchmarks.results.store import Run, Training, find_runs, fold_means

UNIT = Training(seed=0, fold=2)
RECORD = {
    "metrics": {"mae": 0.5}, "rows": {}, "parameters": 5, "best_epoch": 1, "epochs": 1, "wall_seconds": 1.0,
    "peak_memory_bytes": 1, "device": "cpu", "elements": [], "provenance": {}, "sessions": [],
}  # fmt: skip


@dataclass
class Epoch:
    loss: float


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "task" / "block-0123456789")
    run.write_config({"config": {}, "task": {}, "data": {}})
    for fold in (1, 2):
        run.write_training(
            Training(0, fold),
            predictions=[("mb-1", 1.0, 1.5)],
            record=RECORD,
            history=[Epoch(0.25)],
            weights={"w": torch.arange(5.0)},
        )
    return run


def change_manifest(folder: Path, **entries: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def cut(file: str):
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:-5])


def flip(folder: Path) -> None:
    content = bytearray((folder / "model.safetensors").read_bytes())
    content[-1] ^= 4
    (folder / "model.safetensors").write_bytes(content)


def manifest(content: str):
    return lambda folder: (folder / "manifest.json").write_text(content)


def replace_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()


DAMAGES = {
    "file missing": (lambda folder: (folder / "history.csv").unlink(), "history.csv is missing"),
    "file cut": (cut("predictions.csv"), "predictions.csv is {now} bytes long, not {before}: it is cut"),
    "bit flipped": (flip, "model.safetensors is altered"),
    "other version": (
        lambda folder: change_manifest(folder, format=7),
        "written by another version (format 7, this is 1)",
    ),
    "manifest missing": (lambda folder: (folder / "manifest.json").unlink(), "manifest.json is missing"),
    "manifest cut": (cut("manifest.json"), "manifest.json is cut or altered"),
    "manifest a list": (manifest("[]"), "manifest.json is cut or altered"),
    "manifest empty": (manifest("{}"), "manifest.json is cut or altered"),
    "manifest nested": (manifest("[" * 100_000), "manifest.json is cut or altered"),
    "manifest without files": (lambda folder: change_manifest(folder, sha256=3), "manifest.json is cut or altered"),
    "manifest with a long number": (manifest('{"format": ' + "1" * 5000 + "}"), "manifest.json is cut or altered"),
    "manifest with a null": (lambda folder: change_manifest(folder, sha256={"a\0": ""}, size={"a\0": 1}), "is cut or"),
    "manifest without sizes": (lambda folder: change_manifest(folder, size={}), "manifest.json is cut or altered"),
    "manifest a folder": (replace_manifest, "manifest.json cannot be read (Is a directory)"),
}


@pytest.mark.parametrize(("damage", "problem"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_result_counts_as_missing_and_says_why(run, caplog, damage, problem):
    assert run.trainings() == [Training(0, 1), UNIT]
    assert not caplog.records
    folder = run.training_path(UNIT)
    before = (folder / "predictions.csv").stat().st_size
    damage(folder)
    with caplog.at_level(logging.WARNING, "sen_bench"):
        assert run.trainings() == [Training(0, 1)]
    (record,) = caplog.records
    assert str(folder) in record.getMessage()
    assert problem.format(before=before, now=before - 5) in record.getMessage()


def test_what_cannot_be_read_is_named_in_one_sentence(run):
    for file in ("metrics.json", "predictions.csv", "history.csv"):
        path = run.training_path(UNIT) / file
        path.unlink()
        path.mkdir()
    with pytest.raises(DataError, match=r"metrics\.json cannot be read \(Is a directory\)"):
        run.read_metrics(UNIT)
    with pytest.raises(DataError, match=r"predictions\.csv cannot be read \(Is a directory\)"):
        run.read_predictions(UNIT)
    with pytest.raises(DataError, match=r"history\.csv does not hold"):
        run.read_history(UNIT)


def test_what_is_not_a_run_is_passed_over(run, tmp_path, caplog):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "config.json").write_text("{}")
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "config.json").write_text('{"config": {}}')
    (tmp_path / "odd" / "config.json").mkdir(parents=True)
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "config.json").write_text("[" * 100_000)
    (tmp_path / "pipe").mkdir()
    os.mkfifo(tmp_path / "pipe" / "config.json")
    with caplog.at_level(logging.WARNING, "sen_bench"):
        assert [found.path for found in find_runs(tmp_path)] == [run.path]
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == 4
    assert "deep/config.json is not valid JSON" in warnings[0]
    assert "lacking/config.json has no data and no task" in warnings[1]
    assert "odd/config.json cannot be read (Is a directory)" in warnings[2]
    assert "pipe/config.json cannot be read (it is a pipe" in warnings[3]


def test_what_cannot_be_read_of_a_store_is_reported(run, tmp_path, caplog, monkeypatch):
    lost = tmp_path / "lost"
    shutil.copytree(run.path, lost)
    (lost / "config.json").unlink()
    closed = tmp_path / "closed"
    shutil.copytree(run.path, closed)
    scandir = os.scandir

    def refuse(path):
        if Path(path) == closed:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "sen_bench"):
        patch.setattr("os.scandir", refuse)
        assert [found.path for found in find_runs(tmp_path)] == [run.path]
        with pytest.raises(DataError, match="closed cannot be read"):
            list(find_runs(tmp_path, strict=True))
    messages = sorted(record.getMessage() for record in caplog.records)
    assert messages[0] == f"Skipped: {closed} cannot be read (Permission denied)."
    assert messages[1].startswith(f"Skipped: {lost} has results, but no config.json")
    with pytest.raises(DataError, match="lost has results"):
        list(find_runs(tmp_path, strict=True))
    with pytest.raises(DataError, match=rf"seed_0 is a part of a run: name the whole run, {run.path}"):
        list(find_runs(run.training_path(UNIT).parent, strict=True))


def test_links_lead_to_runs_and_loops_end(run, tmp_path):
    elsewhere = tmp_path / "links"
    elsewhere.mkdir()
    (elsewhere / "task").symlink_to(run.path.parent)
    (elsewhere / "loop").symlink_to(elsewhere)
    assert [found.path for found in find_runs(elsewhere)] == [elsewhere / "task" / run.path.name]


def test_a_copy_of_a_run_has_its_fingerprint(run, tmp_path):
    copy = Run(shutil.copytree(run.path, tmp_path / "elsewhere" / run.path.name))
    assert copy.fingerprint() == run.fingerprint()
    shutil.rmtree(copy.training_path(UNIT))
    assert copy.fingerprint() != run.fingerprint()


def test_scores_are_averaged_over_the_seeds_of_each_fold():
    scores = {Training(1, 3): 5.0, Training(0, 0): 1.0, Training(0, 3): 2.0, Training(1, 0): None}
    means = fold_means(scores)
    assert list(means) == [0, 3]
    assert math.isnan(means[0])
    assert means[3] == 3.5


def test_a_result_stands_without_its_weights(run, caplog):
    path = run.training_path(UNIT) / "model.safetensors"
    path.unlink()
    assert run.trainings() == [Training(0, 1), UNIT]
    assert run.is_finished(UNIT)
    assert not caplog.records
    assert run.read_predictions(UNIT).ids == ["mb-1"]
    with pytest.raises(DataError, match=r"model\.safetensors was removed: .* --seed 0 --folds 2 trains it again"):
        run.read_weights(UNIT)


def test_a_state_counts_only_without_an_intact_result(run: Run) -> None:
    run.state_path(UNIT).touch()
    assert run.under_way() == []
    (run.training_path(UNIT) / "metrics.json").unlink()
    assert run.under_way() == [UNIT]


def test_tables_are_in_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from benchmarks.results.store import _write_csv; "
        "_write_csv(Path(sys.argv[1]), ('id',), [('Fe\\u2082O\\u2083',)])"
    )
    ascii_locale = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "table.csv")], env=ascii_locale, check=True)
    assert (tmp_path / "table.csv").read_text("utf-8") == "id\nFe₂O₃\n"


def test_summary_removes_what_a_killed_process_left_of_another(run: Run) -> None:
    (run.path / ".summary.json.01234567").write_text("{")
    run.write_summary(lambda: {"mean": math.nan})
    assert json.loads((run.path / "summary.json").read_text()) == {"mean": None}
    assert not list(run.path.glob(".summary.json.*"))


def test_a_damaged_result_is_kept_when_it_is_replaced(run: Run) -> None:
    path = run.training_path(UNIT)
    for number in (1.0, 2.0):
        (path / "history.csv").unlink()
        assert not run.is_finished(UNIT)
        before = (path / "predictions.csv").read_bytes()
        run.write_training(
            UNIT,
            predictions=[("mb-1", number, 0.0)],
            record=RECORD,
            history=[Epoch(0.25)],
            weights={"w": torch.ones(1)},
        )
        assert run.is_finished(UNIT)
        assert run.read_predictions(UNIT).target.tolist() == [number]
        assert (path.with_name("fold_2.replaced") / "predictions.csv").read_bytes() == before
        assert run.trainings() == [Training(0, 1), UNIT]
    run.discard([UNIT])
    assert not list(path.parent.glob("fold_2*"))
