from __future__ import annotations

import bz2
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.base.errors import DataError, SenBenchError, UsageError
from benchmarks.data.tasks import TASKS
from benchmarks.results.submission import read_submission
from reports.study.published import read_predictions, task_of_ids

Write = Callable[..., Path]
PHONONS = TASKS["matbench_phonons"]
SEN = {
    "@modules": "CGCNN, SchNet, SEN",
    "matbench_test": {
        "bandgap_test": {"mb-mp-gap-000002": 0.5, "mb-mp-gap-000009": 1, "mb-mp-gap-000004": None},
        "formation_energy_test": {"mb-mp-e-form-000001": -1.5},
        "Loss of bandgap": "0.181eV",
        "Loss of formation energy": "1.61e-2eV/atom",
    },
    "amdnet_data_test": {"bandgap_test": {"mp-1": 0.5}, "Loss of bandgap": "unknown", "empty_test": {}},
    "Date": "2023.03.20",
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(value: Any, name: str = "file.json") -> Path:
        path = tmp_path / name
        content = value if isinstance(value, bytes) else value.encode() if isinstance(value, str) else None
        path.write_bytes(json.dumps(value).encode() if content is None else content)
        return path

    return write


def test_csv(write: Write) -> None:
    text = '\ufeffid, Prediction ,target,fold,note\n"mb-phonons-0001",1.5,2,fold_0,x\n\nmb-phonons-0002,,nan,4,\n'
    file = read_predictions(write(text, "mine.v2.csv"))
    (entry,) = file.sets
    assert (file.form, file.model, entry.name, entry.task) == ("csv", "mine", "mine", PHONONS)
    assert entry.ids == ("mb-phonons-0001", "mb-phonons-0002")
    np.testing.assert_array_equal(entry.prediction, [1.5, np.nan])
    assert entry.target is not None
    np.testing.assert_array_equal(entry.target, [2, np.nan])
    assert entry.fold is not None
    assert entry.fold.tolist() == [0, 4]
    assert entry.claimed is entry.claim is None
    assert file.find(None) == file.find(PHONONS) == (PHONONS, entry)


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress])
def test_compressed_csv_with_labels_and_an_id_twice(write: Write, compress: Callable[[bytes], bytes]) -> None:
    file = read_predictions(write(compress(b"prediction,id\nTrue,a\nfalse,a\n0.5,b\n"), "x.csv"))
    (entry,) = file.sets
    assert entry.ids == ("a", "a", "b")
    assert entry.prediction.tolist() == [1, 0, 0.5]
    assert entry.target is entry.fold is entry.task is None
    with pytest.raises(UsageError, match="such as 'a', belong to no task that sen-bench knows"):
        file.find(None)
    with pytest.raises(UsageError, match="no predictions for matbench_phonons, but ids such as 'a'"):
        file.find(PHONONS)


def test_the_file_of_the_sen_authors(write: Write) -> None:
    file = read_predictions(write(gzip.compress(json.dumps(SEN).encode())))
    assert (file.form, file.model) == ("sen", "SEN")
    gap, energy, other, empty = file.sets
    assert (gap.name, gap.claimed, gap.claim) == ("matbench_test/bandgap_test", 0.181, "0.181eV")
    np.testing.assert_array_equal(gap.prediction, [0.5, 1, np.nan])
    assert (energy.claimed, energy.task) == (0.0161, TASKS["matbench_mp_e_form"])
    assert (other.task, other.claimed, other.claim) == (None, None, "unknown")
    assert len(empty) == 0
    assert file.find(TASKS["matbench_mp_gap"])[1] is gap
    with pytest.raises(UsageError, match="several tasks; choose one with --task: matbench_mp_e_form, matbench_mp_gap"):
        file.find(None)
    with pytest.raises(UsageError, match="no predictions for matbench_phonons, but those of matbench_mp_e_form"):
        file.find(PHONONS)


def test_an_id_that_json_holds_twice_is_not_lost(write: Write) -> None:
    file = read_predictions(write('{"h": {"gap_test": {"mb-mp-gap-000001": 1, "mb-mp-gap-000001": 2}}}'))
    assert file.sets[0].ids == ("mb-mp-gap-000001",) * 2
    assert file.sets[0].prediction.tolist() == [1, 2]


@pytest.mark.deep
def test_submissions_are_read_by_their_own_reader(leaderboard: Path, tmp_path: Path) -> None:
    path = leaderboard / "alignn.results.json.gz"
    file = read_predictions(path)
    submission = read_submission(path)
    assert (file.form, file.model) == ("submission", "ALIGNN")
    assert {entry.name for entry in file.sets} == set(submission.tasks)
    _, entry = file.find(PHONONS)
    folds = submission.tasks["matbench_phonons"].folds
    assert entry.ids == tuple(name for fold in folds for name in fold.ids)
    assert entry.claimed == pytest.approx(29.54, abs=5e-3)
    assert entry.fold is not None
    assert entry.fold.tolist() == np.repeat(range(5), 253).tolist()
    packed = tmp_path / "alignn.json.bz2"
    packed.write_bytes(bz2.compress(gzip.decompress(path.read_bytes())))
    assert read_predictions(packed).sets[0].ids == file.sets[0].ids
    assert file.metadata == submission.user_metadata
    # Edited files, and those whose keys come in another order, are still known as submissions.
    content = json.loads(gzip.decompress(path.read_bytes()))
    content["user_metadata"] = {"algorithm": "better"}
    edited = tmp_path / "edited.json"
    edited.write_text(json.dumps(dict(sorted(content.items(), reverse=True))))
    with pytest.raises(DataError, match="does not match the hash in it"):
        read_predictions(edited)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(b"id,prediction", mtime=0)[:12], "is cut or damaged"),
        (b"{", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b"\xff\xfe\x00", "is not a file .* neither JSON nor text"),
        (
            "hello world",
            "is not a file .* CSV with the columns id,prediction.*: it is text whose first line is 'hello",
        ),
        (",,,\n", "two columns|is not a file"),
        ({}, "JSON with no keys"),
        ({"a": 1, "b": {"c": {}}}, "JSON with the keys a, b"),
        ([1, 2], "JSON with a list of 2 values"),
        ({"h": {"gap_test": {"x": "1.5"}}}, "h/gap_test has no number for x but 1.5"),
        ({"h": {"gap_test": {"x": True}}}, "h/gap_test has no number for x but True"),
        ('{"h": {"gap_test": {"x": ' + "[" * 900 + "]" * 900 + "}}}", "h/gap_test has no number for x but a list|JSON"),
        ({"h": {"gap_test": {"x": {"y": 1}}}}, "h/gap_test has no number for x but an object"),
        ({"h": {"gap_test": {"x": 10**400}}}, "h/gap_test has no number for x but "),
        ("id,value\na,1\n", "has no column 'prediction'. Available: id, value"),
        ("predicton,id\n1,a\n", "has no column 'prediction'. Did you mean predicton"),
        ("id,prediction\n", "has a header and no rows"),
        ("id,prediction,id\na,1,b\n", "has two columns 'id'"),
        ("id,prediction\na,1\nb\n", "line 3 has 1 values, but the header names 2 columns"),
        ("id,prediction\na,1\n,2\n", "line 3 has no id"),
        ("id,prediction\na,1\nb,about 2\n", "line 3 has no number as its prediction but 'about 2'"),
        ("id,prediction,target\na,1,?\n", "line 2 has no number as its target"),
        ("id,prediction,fold\na,1,5\n", "line 2 has no fold from 0 to 4 but '5'"),
        ("id,prediction,fold\na,1,²\n", "line 2 has no fold from 0 to 4 but '²'"),
        (f"id,prediction,fold\na,1,{'1' * 5000}\n", "line 2 has no fold from 0 to 4 but"),
        ("id,prediction,fold\na,1,\n", "line 2 has no fold from 0 to 4 but ''"),
        ({"tasks": {}, "benchmark_name": "x"}, "is not a submission of matbench 0.6"),
    ],
)
def test_what_is_wrong_with_a_file_is_said(write: Write, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_predictions(write(value))


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_predictions(tmp_path / "none.csv")


def test_text_from_a_file_is_made_printable(write: Write) -> None:
    hostile = {"h\x1b[2J\n": {"gap_test": {"a": 1}, "Loss of gap": "1\x1b[2J eV"}}
    (entry,) = read_predictions(write(hostile)).sets
    assert entry.name.isprintable()
    assert entry.claim is not None
    assert entry.claim.isprintable()
    with pytest.raises(DataError) as problem:
        read_predictions(write("id,prediction\na,\x1b[2J\n"))
    assert str(problem.value).isprintable()


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.is_official], ids=lambda task: task.name)
def test_ids_tell_their_task(task: Any) -> None:
    assert task_of_ids([task.row_id(0), task.row_id(task.n_rows - 1), "mp-1"]) is task
    assert task_of_ids([task.row_id(0), "mp-1"]) is None
    assert task_of_ids([]) is None


@given(
    content=st.binary(max_size=200)
    | st.text(max_size=200).map(str.encode)
    | st.lists(
        st.lists(st.sampled_from(["id", "prediction", "fold", "1", "nan", "", "a"]), max_size=4), max_size=5
    ).map(lambda rows: "\n".join(",".join(row) for row in rows).encode())
)
def test_any_file_is_read_or_answered_with_a_sentence(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(content)
    answer = "any.csv"
    try:
        assert read_predictions(path).sets
    except SenBenchError as error:
        answer = str(error)
    assert "any.csv" in answer
    assert answer.isprintable()


@pytest.mark.parametrize("claim", ["nan", "inf eV", "-0.2eV", "0", "1e999"])
def test_a_file_that_claims_what_no_loss_is_is_refused(write: Write, claim: str) -> None:
    path = write({"h": {"gap_test": {"mb-mp-gap-000001": 1.0}, "Loss of gap": claim}})
    with pytest.raises(DataError, match=r"h/gap_test claims a loss of .*, which is not a finite number above 0"):
        read_predictions(path)


def test_words_that_begin_like_numbers_are_no_claims(write: Write) -> None:
    path = write({"h": {"gap_test": {"mb-mp-gap-000001": 1.0}, "Loss of gap": "information is in the paper"}})
    assert read_predictions(path).sets[0].claimed is None
