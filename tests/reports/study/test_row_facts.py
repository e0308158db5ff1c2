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
from benchmarks.data.dataset import load_dataset
from benchmarks.data.tasks import TASKS
from reports.study.row_facts import RowFacts, crystal_systems, find_rows, read_content, read_rows_file, rows_of

PHONONS = TASKS["matbench_phonons"]
IS_METAL = TASKS["matbench_mp_is_metal"]
Write = Callable[..., Path]


def content(n: int = 3, **other: Any) -> dict[str, dict[str, Any]]:
    """A rows file of the first n rows of phonons, whose columns may be others; None leaves one out."""
    columns: dict[str, Any] = {
        "mbid": [PHONONS.row_id(row) for row in range(n)],
        "last phdos peak": [100.0 + row for row in range(n)],
        "composition": ["K4 Mn4 O8", "Na1 Cl1", "Si2"][:n],
        "spg_num": [119, 225, 227][:n],
        "crys_sys": ["tetragonal", "cubic", "cubic"][:n],
        **other,
    }
    return {name: dict(enumerate(values)) for name, values in columns.items() if values is not None}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(value: Any, name: str = "rows.json") -> Path:
        path = tmp_path / name
        path.write_bytes(value if isinstance(value, bytes) else json.dumps(value).encode())
        return path

    return write


def test_a_rows_file_is_read(write: Write) -> None:
    rows = read_rows_file(write(content()), PHONONS)
    assert rows.ids.tolist() == ["mb-phonons-0001", "mb-phonons-0002", "mb-phonons-0003"]
    assert rows.row.tolist() == [0, 1, 2]
    assert rows.target.tolist() == [100, 101, 102]
    assert rows.space_group.tolist() == [119, 225, 227]
    assert rows.crystal_system.tolist() == ["tetragonal", "cubic", "cubic"]
    assert [rows.formula(i) for i in range(3)] == ["KMnO2", "NaCl", "Si"]
    assert rows.positions(["mb-phonons-0003", "mb-phonons-0009"]).tolist() == [2, -1]
    assert (len(rows), rows.is_complete, rows.is_verified, rows.source) == (3, False, False, "rows.json")


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, bytes])
def test_the_content_and_not_the_name_says_how_a_file_is_compressed(
    write: Write, compress: Callable[[bytes], bytes]
) -> None:
    path = write(compress(json.dumps(content()).encode()), "rows.json.bz2")
    assert len(read_rows_file(path, PHONONS)) == 3


def test_layouts_of_pandas_and_other_names_of_columns(write: Write) -> None:
    expected = vars(read_rows_file(write(content()), PHONONS))
    lists = {name: list(column.values()) for name, column in content().items()}
    for old, new in (
        ("mbid", "id"),
        ("last phdos peak", "target"),
        ("spg_num", "space_group"),
        ("composition", "formula"),
    ):
        lists[new] = lists.pop(old)
    records = [dict(zip(lists, values, strict=True)) for values in zip(*lists.values(), strict=True)]
    shuffled = content()
    shuffled["spg_num"] = dict(reversed(shuffled["spg_num"].items()))
    for other in (lists, records, shuffled):
        found = vars(read_rows_file(write(other), PHONONS))
        assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_composition_and_space_groups_may_be_unknown(write: Write) -> None:
    rows = read_rows_file(write(content(composition=None, crys_sys=None, spg_num=[None, 225, 1])), PHONONS)
    assert rows.formula(0) == ""
    assert rows.crystal_system.tolist() == ["unknown", "cubic", "triclinic"]


def test_a_hostile_formula_stays_text(write: Write) -> None:
    rows = read_rows_file(write(content(composition=["<script>alert(1)</script>", "0", "("])), PHONONS)
    assert [rows.formula(i) for i in range(3)] == ["<script>alert(1)</script>", "0", "("]


def test_labels_are_true_or_false(write: Write) -> None:
    ids = [IS_METAL.row_id(row) for row in range(3)]
    table = content(mbid=ids, is_metal=[True, False, 1])
    assert read_rows_file(write(table), IS_METAL).target.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="row mb-mp-is-metal-000002 has neither true nor false"):
        read_rows_file(write(content(mbid=ids, is_metal=[True, 0.5, 1])), IS_METAL)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mbid": None}, "has no column 'mbid' or 'id'. Available: "),
        ({"last phdos peak": None}, "has no column 'last phdos peak' or 'target'"),
        ({"spg_num": None}, "has no column 'spg_num' or 'space_group'"),
        ({"mbid": ["mb-phonons-0001", 7, "mb-phonons-0003"]}, r"the id of row 1 \(counted from 0\) is not text but 7"),
        ({"mbid": ["mb-phonons-0001"] * 3}, "has row mb-phonons-0001 more than once"),
        (
            {"mbid": ["mb-mp-gap-000001", "a", "b"]},
            "has the row 'mb-mp-gap-000001', which matbench_phonons does not have",
        ),
        ({"mbid": ["mb-phonons-0001", "", "b"]}, "has the row '', which matbench_phonons does not have"),
        ({"last phdos peak": [1, None, 2]}, "row mb-phonons-0002 has no number as its 'last phdos peak' but null"),
        ({"last phdos peak": [1, 2, float("nan")]}, "row mb-phonons-0003 has no number"),
        ({"last phdos peak": [1, 2, 10**400]}, "row mb-phonons-0003 has a 'last phdos peak' that is too large"),
        ({"last phdos peak": [1, 2, True]}, "row mb-phonons-0003 has no number"),
        ({"spg_num": [119, 231, 1]}, "row mb-phonons-0002 has no space group number from 1 to 230 but 231"),
        ({"spg_num": [119, "225", 1]}, "row mb-phonons-0002 has no space group number"),
        ({"spg_num": [119, [225], 1]}, "row mb-phonons-0002 has no space group number"),
        ({"spg_num": [119, True, 1]}, "row mb-phonons-0002 has no space group number"),
        (
            {"crys_sys": ["tetragonal", "hexagonal", "cubic"]},
            "mb-phonons-0002 is called hexagonal, but .* 225 is cubic",
        ),
        ({"composition": ["A", "B"]}, "the columns 'mbid' and 'composition' have different rows"),
    ],
)
def test_what_is_wrong_with_a_rows_file_is_said(write: Write, change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"rows.json.*{message}"):
        read_rows_file(write(content(**change)), PHONONS)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (b"", "is empty"),
        (gzip.compress(b"{}", mtime=0)[:15], "is cut or damaged"),
        (bz2.compress(b"{}")[:20], "is cut or damaged"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        ({}, "has no table of rows"),
        ([1, 2], "has no table of rows"),
        ({"mbid": "x"}, "has no table of rows"),
        ([{"a": 1}, {"b": 1}], "row 1 .* has other columns"),
        ({"mbid": [], "target": [], "spg_num": []}, "has no rows"),
    ],
)
def test_a_file_that_is_no_rows_file(write: Write, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_rows_file(write(value), PHONONS)


def test_no_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_content(tmp_path / "none.json")
    with pytest.raises(UsageError, match="cannot be read"):
        read_content(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(column=st.sampled_from(["mbid", "last phdos peak", "spg_num", "crys_sys", "composition"]), values=json_values)
def test_whatever_a_column_holds_the_answer_is_rows_or_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, column: str, values: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_text(json.dumps({**content(), column: values}))
    answer = "any.json"
    try:
        assert len(read_rows_file(path, PHONONS)) == 3
    except SenBenchError as error:
        answer = str(error)
    assert "any.json" in answer


def test_crystal_systems_of_all_space_groups() -> None:
    from pymatgen.symmetry.groups import SpaceGroup

    numbers = np.array([1, 2, 3, 15, 16, 74, 75, 142, 143, 167, 168, 194, 195, 230])  # the first and last of each
    expected = [SpaceGroup.from_int_number(number).crystal_system for number in numbers.tolist()]
    assert crystal_systems(numbers).tolist() == expected
    assert crystal_systems(np.array([0])).tolist() == ["unknown"]


def test_rows_of_the_data_at_hand_are_those_of_the_rows_file(data_dir: Path, leaderboard: Path) -> None:
    ours = find_rows(PHONONS, data_dir=data_dir)
    theirs = read_rows_file(leaderboard / "matbench_phonons.rows.json.bz2", PHONONS)
    assert ours.is_complete
    assert ours.is_verified
    assert theirs.is_complete
    assert ours.ids.tolist() == theirs.ids.tolist()
    np.testing.assert_allclose(ours.target, theirs.target, atol=1e-6)
    assert [ours.formula(i) for i in range(0, 1265, 100)] == [theirs.formula(i) for i in range(0, 1265, 100)]
    # Two programs with tolerances of their own decide on the symmetry; on phonons they differ about 73 rows.
    assert np.mean(ours.space_group == theirs.space_group) > 0.94


def test_compositions_of_crystals() -> None:
    rows = rows_of(load_dataset(TASKS["prototypes"], jobs=1))
    assert isinstance(rows, RowFacts)
    assert rows.is_complete
    assert len(rows.composition) == len(rows)
    assert all(rows.composition)


def test_data_that_are_not_at_hand_are_told_and_not_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path))
    monkeypatch.delenv("SEN_BENCH_DATA", raising=False)
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UsageError, match=r"neither in the cache nor in a folder of data: .*--data-dir.*prepare"):
        find_rows(TASKS["matbench_jdft2d"])
