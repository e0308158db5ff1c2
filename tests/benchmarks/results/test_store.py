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
import threading
from dataclasses import dataclass
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch

from benchmarks.base.errors import DataError, UnreadableError, UsageError
from benchmarks.base.locks import Taken
from benchmarks.results.recorded import config_digest
from benchmarks.results.store import Run, Training, find_run, find_runs, fold_means, is_older_format
from tests.benchmarks.conftest import made_record, replace_file

UNIT = Training(seed=0, fold=2)
FACTS = {
    "config": {"task": "task", "block_name": "block", "cutoff": 5.0},
    "task": {"name": "task", "target": "gap", "unit": "eV", "kind": "regression", "split": "folds"},
    "data": {"digest": "d", "coverage": 1.0},
}
NAME = f"block-{config_digest(FACTS['config'], 'd')}"


@dataclass
class Epoch:
    loss: float


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "task" / NAME)
    run.write_config(FACTS)
    for fold in (1, 2):
        store(run, Training(0, fold))
    return run


def store(run: Run, training: Training, target: float = 1.0, **fields: object) -> None:
    run.write_training(
        training,
        predictions=[("mb-1", target, 1.5)],
        record=made_record(run, training, 1, **fields),
        history=[Epoch(0.25)],
        weights={"w": torch.arange(5.0)},
    )


def test_a_file_of_rows_that_calibrate_which_the_training_did_not_write_is_damage(run, caplog):
    assert run.read_calibration(UNIT) is None
    (run.training_path(UNIT) / "calibration.csv").write_text("id,target,prediction\nmb-2,1.0,1.0\n")
    assert run.trainings() == [Training(0, 1)]
    assert "calibration.csv has 1 rows, and metrics.json says 0" in caplog.text


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


def move(source: str, target: str):
    return lambda run: (run.folder / source).rename(run.folder / target)


def copy(source: str, target: str):
    return lambda run: shutil.copytree(run.folder / source, run.folder / target)


def swap(run: Run) -> None:
    for source, target in (("fold_1", "x"), ("fold_2", "fold_1"), ("x", "fold_2")):
        (run.folder / "seed_0" / source).rename(run.folder / "seed_0" / target)


def altered(without: str = "", **fields: object):
    def alter(run: Run) -> None:
        path = run.training_path(UNIT) / "metrics.json"
        record = {**json.loads(path.read_text()), **fields}
        record.pop(without, None)
        replace_file(path.parent, path.name, json.dumps(record).encode())

    return alter


OTHER_NAME = "does not count, because it has no name such as seed_0/fold_0"

MISPLACED = {
    "moved": (move("seed_0", "seed_1"), [], ["it is of seed 0, not 1, so it was moved or copied"] * 2),
    "seed copied": (copy("seed_0", "seed_1"), [(0, 1), (0, 2)], ["it is of seed 0, not 1"] * 2),
    "fold copied": (copy("seed_0/fold_2", "seed_0/fold_3"), [(0, 1), (0, 2)], ["it is of fold 2, not 3"]),
    "swapped": (swap, [], ["it is of fold 2, not 1", "it is of fold 1, not 2"]),
    "padded fold": (copy("seed_0/fold_2", "seed_0/fold_02"), [(0, 1), (0, 2)], [OTHER_NAME]),
    "superscript seed": (copy("seed_0", "seed_²"), [(0, 1), (0, 2)], [OTHER_NAME] * 2),
    "named copy": (copy("seed_0", "seed_0 (copy)"), [(0, 1), (0, 2)], [OTHER_NAME] * 2),
    "long number": (copy("seed_0/fold_2", f"seed_0/fold_{'1' * 200}"), [(0, 1), (0, 2)], [OTHER_NAME]),
    "other task": (altered(task="gaps"), [(0, 1)], ["it is of task gaps, not task"]),
    "other block": (altered(block="tfn"), [(0, 1)], ["it is of block tfn, not block"]),
    "a model": (altered(without="block", model="cogn"), [(0, 1)], ["it is of no block, but the run is of block"]),
    "other kind": (altered(kind="classification"), [(0, 1)], ["it is of kind classification, not regression"]),
    "other data": (altered(data_digest="e"), [(0, 1)], ["it is of data_digest e, not d"]),
    "other rows": (altered(coverage=0.5), [(0, 1)], ["it is of coverage 0.5, not 1.0"]),
    "other run": (altered(run="0"), [(0, 1)], ["it is of another configuration, data set or unit"]),
    "rows missing": (altered(rows={"test": 2}), [(0, 1)], ["predictions.csv has 1 rows, and metrics.json says 2"]),
    "no rows": (altered(rows=5), [(0, 1)], ["manifest.json is cut or altered"]),
    "replaced": (copy("seed_0/fold_2", "seed_0/fold_2.replaced"), [(0, 1), (0, 2)], []),
    "being written": (copy("seed_0/fold_2", "seed_0/.fold_2.0123abcd"), [(0, 1), (0, 2)], []),
}


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize(("misplace", "left", "problems"), MISPLACED.values(), ids=MISPLACED)
def test_a_result_counts_only_where_its_record_belongs(run, tmp_path, caplog, misplace, left, problems, archived):
    misplace(run)
    if archived:
        with ZipFile(tmp_path / "results.zip", "w") as archive:
            for file in run.folder.rglob("*.*"):
                if file.is_file():
                    archive.write(file, file.relative_to(tmp_path))
        run = find_run(tmp_path / "results.zip" / "task" / NAME)
    with caplog.at_level(logging.WARNING, "sen_bench"):
        assert run.trainings() == [Training(*each) for each in left]
        assert run.under_way() == []
    assert len(caplog.messages) == len(problems)
    for message, problem in zip(caplog.messages, problems, strict=True):
        assert message.startswith(f"The result in {run.path}/seed_")
        assert problem in message


ALTERATIONS = {
    "configuration": ("config", "cutoff", 4.0, "is that of a run called block-"),
    "block": ("config", "block_name", "tfn", "is that of a run called tfn-"),
    "data": ("data", "digest", "e", "is that of a run called block-"),
    "split": ("task", "split", "holdout:0.6/0.2/0.2", "is that of a run called block-"),
    "name": ("task", "name", "gaps", "was altered after it was written: put it back as it was"),
    "unit": ("task", "unit", "meV", "was altered after it was written"),
    "kind": ("task", "kind", "classification", "was altered after it was written"),
    "target": ("task", "target", "energy", "was altered after it was written"),
    "rows": ("data", "coverage", 0.5, "was altered after it was written"),
    "digests": ("config", "cutoff", 5.0, "was altered after it was written"),
    "task missing": ("task", None, 5, r"lacks what a run records \(TypeError"),
    "digest missing": ("data", None, {}, r"lacks what a run records \(KeyError"),
}


@pytest.mark.parametrize(("part", "field", "value", "problem"), ALTERATIONS.values(), ids=ALTERATIONS)
def test_a_config_that_was_altered_is_refused_by_every_reader(run, tmp_path, caplog, part, field, value, problem):
    path = run.folder / "config.json"
    facts = json.loads(path.read_text())
    facts[part] = value if field is None else facts[part] | {field: value}
    if field == "cutoff" and value == FACTS["config"]["cutoff"]:
        facts["digests"] = ["0"]
    path.write_text(json.dumps(facts))
    for read in (run.read_config, run.trainings, run.check_results, lambda: find_run(run.path)):
        with pytest.raises(DataError, match=problem):
            read()
    assert list(find_runs(tmp_path)) == []
    (message,) = caplog.messages
    assert message.startswith(f"Skipped: {path} ")


def test_facts_that_change_by_command_leave_earlier_results_valid(run):
    store(run, Training(1, 0))
    run.write_config({**FACTS, "task": {**FACTS["task"], "unit": "meV"}})
    store(run, Training(0, 3))
    run.write_config(FACTS)
    assert run.trainings() == [Training(0, 1), UNIT, Training(0, 3), Training(1, 0)]
    assert len(run.read_config()["digests"]) == 2


def test_a_config_of_the_older_format_is_read(run):
    facts = json.loads((run.folder / "config.json").read_text())
    del facts["digests"]
    (run.folder / "config.json").write_text(json.dumps(facts))
    for training in run.check_results():
        path = run.training_path(training)
        record = json.loads((path / "metrics.json").read_text())
        del record["run"]
        replace_file(path, "metrics.json", json.dumps(record).encode())
        assert is_older_format([run.read_metrics(training)])
    assert run.trainings() == [Training(0, 1), UNIT]


@pytest.mark.parametrize("number", [errno.EIO, errno.EMFILE, errno.EACCES])
def test_a_result_that_the_system_refuses_to_read_is_not_damaged(run, monkeypatch, number):
    monkeypatch.setattr("benchmarks.base.files._PAUSES", (0, 0))
    for name, method in (("predictions.csv", "open"), ("manifest.json", "open"), ("seed_0", "iterdir")):
        with monkeypatch.context() as patch:
            original = getattr(Path, method)

            def refuse(path, *arguments, name=name, original=original, **options):
                if path.name == name:
                    raise OSError(number, os.strerror(number))
                return original(path, *arguments, **options)

            patch.setattr(Path, method, refuse)
            for read in (run.trainings, run.check_results, lambda: run.is_finished(UNIT)):
                with pytest.raises(UnreadableError, match=f"{name} cannot be read"):
                    read()
    assert run.trainings() == [Training(0, 1), UNIT]


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
    shutil.copytree(run.path, closed / run.path.name)
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


def test_ids_are_read_as_they_were_written(run: Run) -> None:
    ids = ["=1+1", "-2", "'=1", "@a", "\ta", "a\rb", "a\nb", "\r\n", '"a,b"', "\x1b[31m", " a ", "電"]
    rows = [(name, 1.0, 1.5) for name in ids]
    weights = {"w": torch.arange(5.0)}
    run.write_training(
        Training(0, 0),
        predictions=rows,
        record=made_record(run, Training(0, 0), len(rows)),
        history=[Epoch(0.25)],
        weights=weights,
    )
    assert list(run.read_predictions(Training(0, 0)).ids) == ids


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
    kept = []
    for number in (1.0, 2.0, 3.0):
        (path / "history.csv").unlink()
        assert not run.is_finished(UNIT)
        before = (path / "predictions.csv").read_bytes()
        store(run, UNIT, number)
        assert run.is_finished(UNIT)
        assert run.read_predictions(UNIT).target.tolist() == [number]
        kept.append(before)
        names = ["fold_2.replaced", "fold_2.replaced-2", "fold_2.replaced-3"][: len(kept)]
        assert [(path.with_name(name) / "predictions.csv").read_bytes() for name in names] == kept
        assert run.trainings() == [Training(0, 1), UNIT]
    run.discard([UNIT])
    assert not list(path.parent.glob("fold_2*"))


def test_what_sen_bench_wrote_is_deleted_and_what_others_named_stays(run: Run) -> None:
    seed, whole = run.folder / "seed_0", run.folder / "seed_0" / "fold_1"
    curves = seed / "fold_1.tensorboard" / "events.out.tfevents.1"
    users = [seed / "fold_1.good", seed / "fold_2.replaced.good", seed / ".fold_1.backup", run.folder / "seed_0.good"]
    for name in ("fold_1.replaced", "fold_1.replaced-2", ".fold_1.01234567", ".fold_1.01234567.old"):
        shutil.copytree(whole, seed / name)
    for copy in users[:3]:
        shutil.copytree(whole, copy)
    shutil.copytree(seed, users[3])
    curves.parent.mkdir()
    names = (
        "fold_1.state.safetensors",
        ".fold_3.failure",
        "..fold_3.failure.01234567",
        "fold_1/.metrics.json.01234567",
    )
    for path in (curves, *map(seed.joinpath, names), seed / "fold_1.mine.csv", whole / "note.txt"):
        path.write_text("")
    run.write_summary(dict)
    kept = {path for user in users for path in user.rglob("*") if path.is_file()}
    with run.deletable() as files:
        run.delete(files)
    left = {path for path in run.folder.rglob("*") if path.is_file()}
    assert left == {*kept, seed / "fold_1.mine.csv", whole / "note.txt"}
    run.discard([UNIT])
    assert users[1].exists()


def test_no_training_begins_while_its_run_is_deleted_and_then_config_is_written_again(run: Run) -> None:
    new, begins = Training(1, 0), threading.Event()

    def begin() -> None:
        with run.lock(new):
            begins.set()
            run.keep_config(FACTS)
            store(run, new)

    with run.deletable() as files, pytest.raises(Taken), run.lock(UNIT):
        pass
    with run.deletable() as files:
        thread = threading.Thread(target=begin)
        thread.start()
        assert begins.wait(60)
        thread.join(0.3)
        assert thread.is_alive()
        assert not run.training_path(new).exists()
        run.delete(files)
        assert (run.folder / "seed_1" / ".fold_0.lock").exists()  # it is held by the thread
        assert not (run.folder / "seed_0").exists()
    thread.join(60)
    assert run.trainings() == [new]
    message = r"is training fold 0, seed 1 in .*: stop it first, and then delete the run\.$"
    with run.lock(new), pytest.raises(UsageError, match=message), run.deletable():
        pass
    with run.deletable(), pytest.raises(UsageError, match="Another process is using"), run.deletable():
        pass
    with run.deletable() as files:
        run.delete(files)
    assert not run.folder.exists()


@pytest.mark.parametrize("number", [99, None, [1]])
def test_a_configuration_of_another_format_is_refused(run: Run, number: object) -> None:
    path = run.path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": number}))
    with pytest.raises(DataError, match=r"was written by another version \(format .*, this is 1\)\.$"):
        run.read_config()
