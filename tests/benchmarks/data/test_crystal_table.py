from __future__ import annotations

import copy
import gc
import gzip
import hashlib
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.cache import digest
from benchmarks.base.errors import DataError, UsageError
from benchmarks.data import splitter
from benchmarks.data.crystal_table import CrystalTable, read_matbench_json, reduced_formula
from benchmarks.data.rows import read_json_chunk
from sen.crystal import refine


def structure(a: float, *sites: tuple[str, list[float]]) -> dict:
    return {
        "@class": "Structure",
        "lattice": {"matrix": [[a, 0, 0], [0, a, 0], [0, 0, a]]},
        "sites": [{"species": [{"element": name, "occu": 1}], "abc": abc, "label": "]"} for name, abc in sites],
    }


CSCL = structure(4.12, ("Cs", [0, 0, 0]), ("Cl", [0.5, 0.5, 0.5]))
FE = structure(2.87, ("Fe", [0, 0, 0]), ("Fe", [0.5, 0.5, 0.5]))
PO = structure(3.35, ("Po", [0.2, 0.3, 0.4]))
DOCUMENT = {
    "index": [3, 8, 5],
    "columns": ["structure", "gap"],
    "data": [[CSCL, 5.5], [FE, 0], [PO, 0.25]],
}


def write(path: Path, document: object) -> Path:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


def read(path: Path, target: str = "gap", **options) -> CrystalTable:
    return read_matbench_json(path, target, row_id=lambda row: f"mb-{row:04d}", **{"jobs": 1} | options)


def edited(edit) -> dict:
    document = copy.deepcopy(DOCUMENT)
    edit(document)
    return document


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))


def test_table(tmp_path):
    table = read(write(tmp_path / "d.json.gz", DOCUMENT))
    assert len(table) == 3
    assert table.row.tolist() == [3, 8, 5]
    assert table.ids.tolist() == ["mb-0003", "mb-0008", "mb-0005"]
    assert table.target.tolist() == [5.5, 0.0, 0.25]
    assert table.space_group.tolist() == [221, 229, 221]
    assert table.crystal_system.tolist() == ["cubic"] * 3
    assert table.ptr.tolist() == [0, 2, 3, 4]
    assert table.orbit.tolist() == [0, 1, 0, 0]
    assert table.numbers[2:].tolist() == [26, 84]
    np.testing.assert_allclose(abs(np.linalg.det(table.lattice)), [4.12**3, 2.87**3 / 2, 3.35**3])
    expected = refine(2.87 * np.eye(3), [[0, 0, 0], [0.5, 0.5, 0.5]], [26, 26])
    crystal = table.crystal(1)
    assert crystal.space_group == expected.space_group
    for name in ("lattice", "positions", "numbers", "orbit"):
        np.testing.assert_array_equal(getattr(crystal, name), getattr(expected, name))


def test_formula_is_reduced():
    assert reduced_formula(np.array([8, 22, 8, 8, 56, 8, 22, 8, 8, 56])) == "BaTiO3"


def test_slice_is_a_table(tmp_path):
    table = read(write(tmp_path / "d.json", DOCUMENT))
    part = table.slice(1, 3)
    assert part.row.tolist() == [8, 5]
    assert part.ptr.tolist() == [0, 1, 2]
    assert part.digest not in {table.digest, table.slice(0, 3).digest}
    for i in range(2):
        np.testing.assert_array_equal(part.crystal(i).positions, table.crystal(i + 1).positions)


def test_layout_variants_give_the_same_table(tmp_path):
    expected = read(write(tmp_path / "a.json.gz", DOCUMENT))
    document = {
        "data": [[value, s, "x"] for s, value in DOCUMENT["data"]],
        "meta": {"data": [[1]]},
        "columns": ["gap", "structure", "note"],
        "index": DOCUMENT["index"],
    }
    table = read(write(tmp_path / "b.json", document))
    for name in ("lattice", "positions", "numbers", "orbit", "ptr", "space_group", "target", "row", "ids"):
        np.testing.assert_array_equal(getattr(table, name), getattr(expected, name))


def test_many_batches_in_worker_processes_keep_the_order(tmp_path, monkeypatch):
    n = 60
    document = {
        "index": list(range(n)),
        "columns": ["structure", "gap"],
        "data": [[structure(3 + i / 100, ("Po", [0, 0, 0])), i] for i in range(n)],
    }
    path = write(tmp_path / "d.json.gz", document)
    monkeypatch.setattr(splitter, "_CHUNK", 1000)
    seen = []
    table = read(path, jobs=2, progress=lambda *done: seen.append(done))
    assert table.target.tolist() == list(range(n))
    np.testing.assert_allclose(table.lattice[:, 0, 0], 3 + np.arange(n) / 100)
    assert table.ptr.tolist() == list(range(n + 1))
    assert seen[-1] == (n, n)
    assert len(seen) > 5
    # The answer is cached, and another target is another table.
    seen.clear()
    assert read(path, progress=lambda *done: seen.append(done)).digest == table.digest
    assert not seen
    with pytest.raises(DataError, match="no column 'other'"):
        read(path, "other")


def test_booleans_are_numbers(tmp_path):
    document = edited(
        lambda d: [row.__setitem__(1, value) for row, value in zip(d["data"], [True, False, True], strict=True)]
    )
    assert read(write(tmp_path / "d.json", document), kind="classification").target.tolist() == [1, 0, 1]


@pytest.mark.parametrize(
    "species",
    [
        {"element": "Fe3+", "occu": 1},
        {"element": "Fe", "oxidation_state": 3, "occu": 1.0},
        {"element": "Fe0+", "occu": 1},
        {"element": "Fe2.5-", "occu": 1},
    ],
)
def test_oxidation_states_are_ignored(tmp_path, species):
    document = edited(lambda d: d["data"][2][0]["sites"][0].update(species=[species]))
    assert read(write(tmp_path / "d.json", document)).numbers[-1] == 26


@pytest.mark.parametrize("symbol", ["D", "D+", "T"])
def test_deuterium_and_tritium_are_hydrogen_and_marked(tmp_path, symbol):
    document = edited(lambda d: d["data"][2][0]["sites"][0]["species"][0].update(element=symbol))
    table = read(write(tmp_path / "d.json", document))
    assert table.numbers[-1] == 1
    assert table.heavy_hydrogen.tolist() == [False, False, True]
    assert table.slice(1, 3).heavy_hydrogen.tolist() == [False, True]
    assert not read(write(tmp_path / "e.json", DOCUMENT)).heavy_hydrogen.any()


def test_isolated_atoms_and_large_cells_are_kept(tmp_path):
    # Displaced a little, so that no smaller cell describes it.
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(-1, 3) / 8
    large = structure(24, *(("Po", abc) for abc in (grid + rng.uniform(0, 0.01, grid.shape)).tolist()))
    alone = structure(30, ("He", [0, 0, 0]))
    document = DOCUMENT | {"data": [[large, 1.0], [alone, 2.0], [PO, 3.0]]}
    table = read(write(tmp_path / "d.json", document))
    assert np.diff(table.ptr).tolist() == [512, 1, 1]


def test_digest_of_an_official_table_is_the_one_that_names_its_runs(tmp_path):
    """Run folders are named by it: a change would separate all existing runs from their data."""
    content = hashlib.sha256(json.dumps(DOCUMENT).encode()).hexdigest()
    expected = digest(content=content, target="gap", moyopy=version("moyopy"), version=1)
    path = write(tmp_path / "d.json", DOCUMENT)
    assert read(path, symprec=0.01).digest == expected
    assert len({read(path, symprec=symprec).digest for symprec in (0.01, 0.005, 0.001)} | {read(path).digest}) == 3


def test_crystals_are_refined_to_the_tolerance_and_cached_by_it(tmp_path):
    displaced = structure(5.74, ("Fe", [0, 0, 0.005 / 5.74]), ("Fe", [0.5, 0.5, 0.5]))
    path = write(tmp_path / "d.json", DOCUMENT | {"index": [0], "data": [[displaced, 1.0]]})
    for _ in range(2):
        assert read(path, symprec=0.01).space_group.tolist() == [229]
        assert read(path).space_group.tolist() == [129]


def site(**change):
    return lambda d: d["data"][1][0]["sites"][1].update(change)


def row(*values):
    return lambda d: d["data"].__setitem__(1, list(values))


def lattice(matrix):
    return lambda d: d["data"][1][0]["lattice"].update(matrix=matrix)


NAN = float("nan")
BAD_ROWS = {
    "no structure": (row(None, 1.0), "no structure"),
    "too short": (row(FE), "not a list of 2 values"),
    "an object": (lambda d: d["data"].__setitem__(1, {"structure": FE}), "not a list of 2 values"),
    "target missing": (row(FE, None), "no number as its 'gap' but null"),
    "target NaN": (row(FE, NAN), "no number as its 'gap' but NaN"),
    "target text": (row(FE, "1.5"), "no number as its 'gap' but \"1.5\""),
    "lattice NaN": (lattice([[NAN, 0, 0], [0, 1, 0], [0, 0, 1]]), "lattice that is not 3 x 3 finite"),
    "lattice shape": (lattice([[1, 0], [0, 1]]), "lattice that is not 3 x 3 finite"),
    "lattice text": (lattice("cubic"), "not a pymatgen dictionary"),
    "flat lattice": (lattice([[3, 0, 0], [0, 3, 0], [3, 3, 0]]), "without volume"),
    "short vector": (lattice([[0.05, 0, 0], [0, 30, 0], [0, 0, 30]]), "lattice vector shorter"),
    "no lattice": (lambda d: d["data"][1][0].pop("lattice"), "not a pymatgen dictionary"),
    "no volume": (lattice([[0, 0, 0], [0, 0, 0], [0, 0, 0]]), "without volume"),
    "target infinite": (row(FE, float("inf")), "no number as its 'gap' but Infinity"),
    "target boolean": (row(FE, True), "no number as its 'gap' but true"),
    "close atoms": (site(abc=[0.99, 0.01, 0.0]), r"closer than 0.1 Å \(sites 0 and 1\)"),
    "coordinates": (site(abc=[0.5, 0.5]), "not a pymatgen dictionary"),
    "coordinates NaN": (site(abc=[0.5, 0.5, NAN]), "3 finite numbers"),
    "empty": (lambda d: d["data"][1][0].update(sites=[]), "without atoms"),
    "two species": (
        site(species=[{"element": "Fe", "occu": 0.5}, {"element": "Ni", "occu": 0.5}]),
        r"disordered \(site 1: Fe 0.5, Ni 0.5\)",
    ),
    "vacancy": (site(species=[{"element": "Fe", "occu": 0.9}]), r"disordered \(site 1: Fe 0.9\)"),
    "unknown element": (site(species=[{"element": "Xx", "occu": 1}]), "unknown element 'Xx'"),
    "species text": (site(species=["Fe"]), "not a pymatgen dictionary"),
}


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("edit", "problem"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_bad_row_is_named(tmp_path, edit, problem, jobs):
    path = write(tmp_path / "d.json.gz", edited(edit))
    with pytest.raises(DataError, match=problem) as caught:
        read(path, jobs=jobs)
    assert str(path) in str(caught.value)
    assert "mb-0008 (index 8)" in str(caught.value)


@pytest.mark.parametrize("enabled", [True, False])
@pytest.mark.parametrize("rows", [b"[1, 2]", b"[1, "])
def test_collector_of_cycles_is_left_as_it_was(enabled, rows):
    was_enabled = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        read_json_chunk(rows, ["structure", "gap"], "gap", "regression", 0.001, False)
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if was_enabled else gc.disable)()


def test_bad_row_deep_in_a_file_ends_quietly(tmp_path, monkeypatch, capfd, recwarn):
    n = 200
    document = DOCUMENT | {"index": list(range(n)), "data": [[PO, 1.0]] * 30 + [[PO, "x"]] + [[PO, 1.0]] * (n - 31)}
    path = write(tmp_path / "d.json.gz", document)
    monkeypatch.setattr(splitter, "_CHUNK", 500)
    with pytest.raises(DataError, match="mb-0030"):
        read(path, jobs=2)
    assert not recwarn.list
    assert capfd.readouterr() == ("", "")
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".lock"]


def cut(name):
    return lambda d: d.pop(name)


BAD_LAYOUTS = {
    "no index": (cut("index"), 'no list "index"'),
    "no columns": (cut("columns"), 'no list "columns"'),
    "no data": (cut("data"), 'no list "data"'),
    "data object": (lambda d: d.update(data={}), 'no list "data"'),
    "no structure": (
        lambda d: d.update(columns=["composition", "gap"]),
        "no column 'structure'.*Available: composition, gap",
    ),
    "no target": (
        lambda d: d.update(columns=["structure", "gap pbe"]),
        "no column 'gap'.*Available: gap pbe, structure",
    ),
    "short index": (lambda d: d["index"].pop(), 'names 2 rows, but "data" has 3'),
    "long index": (lambda d: d["index"].append(9), 'names 4 rows, but "data" has 3'),
    "text index": (lambda d: d.update(index=["a", "b", "c"]), "integers"),
    "double index": (lambda d: d.update(index=[1, 2, 1]), r"row mb-0001 \(index 1\) twice"),
    "empty": (lambda d: d.update(index=[], data=[]), "empty"),
}


@pytest.mark.parametrize(("edit", "problem"), BAD_LAYOUTS.values(), ids=BAD_LAYOUTS)
def test_bad_layout_is_refused(tmp_path, edit, problem):
    path = write(tmp_path / "d.json", edited(edit))
    with pytest.raises(DataError, match=problem) as caught:
        read(path)
    assert str(path) in str(caught.value)


TEXT = json.dumps(DOCUMENT).encode()
BAD_FILES = {
    "truncated gzip": ("d.json.gz", gzip.compress(TEXT)[:-20], "cut or damaged .* read to row"),
    "corrupt gzip": ("d.json.gz", gzip.compress(TEXT)[:50] + b"\0" * 50, "cut or damaged .* read to row 0"),
    "not gzip": ("d.json.gz", TEXT, "not gzipped"),
    "a web page": ("d.json", b"<html>", "not valid JSON: Expecting value at byte 0"),
    "empty file": ("d.json", b"", "is empty"),
    "truncated": ("d.json", TEXT[: TEXT.index(b"Po")], "ends inside its data, after 2 complete rows"),
    "a list": ("d.json", b"[[1, 2]]", 'no list "index"'),
    "error in a row": ("d.json", TEXT.replace(b'"Po"', b"Po"), r"mb-0005 \(index 5\) is not valid JSON"),
    "bad encoding": ("d.json", TEXT.replace(b"Po", b"\xff"), "is not valid JSON"),
    "a number among rows": ("d.json", TEXT.replace(b"0.25]]", b"0.25], 7]"), "not a list of 2 values"),
}


@pytest.mark.parametrize(("name", "content", "problem"), BAD_FILES.values(), ids=BAD_FILES)
def test_bad_file_is_refused(tmp_path, name, content, problem):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=problem) as caught:
        read(path)
    assert str(path) in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(UsageError, match=r"no\.json"):
        read(tmp_path / "no.json")


def test_damaged_cache_is_rebuilt(tmp_path, caplog):
    path = write(tmp_path / "d.json", DOCUMENT)
    expected = read(path).target.tolist()
    (array,) = (tmp_path / "cache").glob("*/target.npy")
    array.write_bytes(array.read_bytes()[:-1])
    assert read(path).target.tolist() == expected
    assert "rebuilt" in caplog.text


def test_phonons(data_dir):
    table = read(data_dir / "matbench_phonons.json.gz", "last phdos peak", jobs=-1)
    assert len(table) == 1265
    assert table.row.tolist() == list(range(1265))
    assert table.target[0] == pytest.approx(98.58577122703691)
    assert table.ids[0] == "mb-0000"
    assert table.crystal(0).numbers.tolist() in ([52, 56], [56, 52])
    assert (table.space_group > 0).all()
    assert len(table.numbers) == table.ptr[-1] == 9434
