from __future__ import annotations

import copy
import csv
import errno
import gzip
import json
import re
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from pymatgen.core import Structure

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data import layouts, splitter
from benchmarks.data.dataset import Dataset, load_dataset
from benchmarks.data.own_data import find_own_data, find_task, own_task
from benchmarks.data.tasks import TASKS
from sen.crystal import refine
from tests.benchmarks.conftest import SMALL, Answer, rocksalts, structure, write_packed

Rows = list[tuple[str, Any, Any]]
Write = Callable[[Path, Rows], Path]

NAN = float("nan")
CUBE = np.eye(3)
GOOD = structure(4.12 * CUBE, ["Cs", "Cl"], np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


def edited(crystal: dict[str, Any], edit: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    crystal = copy.deepcopy(crystal)
    edit(crystal)
    return crystal


def cif(crystal: dict[str, Any]) -> str:
    """A CIF as simple as possible, with any values."""
    lattice = np.array(crystal["lattice"]["matrix"])
    a, b, c = np.linalg.norm(lattice, axis=1)
    with np.errstate(invalid="ignore"):
        alpha, beta, gamma = (
            np.degrees(np.arccos(np.clip(x @ y / np.linalg.norm(x) / np.linalg.norm(y), -1, 1)))
            for x, y in ((lattice[1], lattice[2]), (lattice[0], lattice[2]), (lattice[0], lattice[1]))
        )
    lines = ["data_x"]
    lines += [f"_cell_length_{name} {value}" for name, value in zip("abc", (a, b, c), strict=True)]
    lines += [f"_cell_angle_{n} {v}" for n, v in zip(("alpha", "beta", "gamma"), (alpha, beta, gamma), strict=True)]
    lines += ["loop_", *(f"_atom_site_{name}" for name in ("label", "fract_x", "fract_y", "fract_z", "occupancy"))]
    for site in crystal["sites"]:
        for species in site["species"]:
            lines.append(f"{species['element']} {' '.join(map(str, site['abc']))} {species['occu']}")
    return "\n".join(lines) + "\n"


def write_folder(path: Path, rows: Rows) -> Path:
    path.mkdir()
    with (path / "id_prop.csv").open("w") as file:
        for name, crystal, value in rows:
            file.write(f"{name},{value}\n")
            (path / f"{name}.cif").write_text(crystal if isinstance(crystal, str) else cif(crystal))
    return path


def write_csv(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "cif", "id", "gap"])
        writer.writerows(("x,\ny", c if isinstance(c, str) else cif(c), name, value) for name, c, value in rows)
    return path


def write_json(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".json.gz")
    content = {
        "index": [name for name, _, _ in rows],
        "columns": ["structure", "gap"],
        "data": [[crystal, value] for _, crystal, value in rows],
    }
    write_packed(path, content)
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".parquet")
    columns = {
        "material_id": [name for name, _, _ in rows],
        "structure": [crystal if isinstance(crystal, str) else json.dumps(crystal) for _, crystal, _ in rows],
        "gap": [value for _, _, value in rows],
    }
    pd.DataFrame(columns).to_parquet(path)
    return path


LAYOUTS = {"folder": write_folder, "csv": write_csv, "json": write_json, "parquet": write_parquet}


@pytest.fixture(autouse=True)
def _fresh_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture(params=LAYOUTS.values(), ids=LAYOUTS)
def write(request: pytest.FixtureRequest) -> Write:
    return request.param


def load(path: Path, *, on_bad_row: str = "fail", jobs: int = 1, progress: Any = None, **options: Any) -> Dataset:
    task = own_task(path, **{"target": "gap"} | options)
    return load_dataset(task, on_bad_row=on_bad_row, jobs=jobs, progress=progress)


def rows_of(n: int) -> Rows:
    return [(f"mp-{i}", crystal, round(a, 6)) for i, (crystal, a) in enumerate(rocksalts(n))]


@pytest.mark.parametrize("jobs", [1, 2])
def test_every_layout_gives_the_same_crystals(tmp_path, write, jobs, monkeypatch):
    rows = rows_of(9)
    monkeypatch.setattr(layouts, "_CHUNK", 4)
    monkeypatch.setattr(splitter, "_CHUNK", 1000)
    seen: list[tuple[int, int]] = []
    dataset = load(write(tmp_path / "mine", rows), jobs=jobs, progress=lambda *done: seen.append(done))
    table = dataset.table
    assert table.ids.tolist() == [name for name, _, _ in rows]
    assert table.row.tolist() == list(range(9))
    assert table.target.tolist() == [value for _, _, value in rows]
    assert seen[-1] == (9, 9)
    for i, (_, crystal, _) in enumerate(rows):
        sites = Structure.from_dict(crystal)
        expected = refine(sites.lattice.matrix, sites.frac_coords, sites.atomic_numbers)
        assert sorted(table.crystal(i).numbers) == sorted(expected.numbers)
        assert table.crystal(i).space_group == expected.space_group == 225
        assert np.linalg.det(table.lattice[i]) == pytest.approx(np.linalg.det(expected.lattice))
    assert dataset.is_complete
    assert dataset.coverage == 1
    assert dataset.skipped == ()
    assert dataset.task.name == "mine"
    assert not dataset.task.is_official


def test_the_second_time_the_cache_answers_with_the_same(tmp_path, write):
    path = write(tmp_path / "mine", [*rows_of(5), ("bad", GOOD, "x") if write is not write_parquet else ("b", "", 1)])
    seen: list[tuple[int, int]] = []
    first, again = (load(path, on_bad_row="skip", progress=lambda *done: seen.append(done) or None) for _ in range(2))
    assert len(seen) >= 1
    assert seen[-1] == (6, 6)
    assert first.digest == again.digest
    assert first.skipped == again.skipped
    assert len(first.skipped) == 1
    assert first.table.ids.tolist() == again.table.ids.tolist()


def test_what_decides_a_result_changes_the_digest(tmp_path, write):
    rows = [(name, crystal, i % 2) for i, (name, crystal, _) in enumerate(rows_of(8))]
    path = write(tmp_path / "mine", rows)
    datasets = {
        "regression": load(path),
        "classification": load(path, kind="classification"),
        "holdout": load(path, split="holdout:0.5/0.25/0.25"),
        "another holdout": load(path, split="holdout:0.25/0.5/0.25"),
    }
    assert len({dataset.digest for dataset in datasets.values()}) == 4
    # The graphs do not depend on the split and are kept by the digest of the table.
    assert datasets["holdout"].table.digest == datasets["regression"].table.digest
    same = load(path, split="holdout:0.50/0.250/0.25", unit="eV", on_bad_row="skip")
    assert same.digest == datasets["holdout"].digest
    other = write(tmp_path / "other", rows[:-1])
    assert load(other).digest != datasets["regression"].digest


def test_a_changed_structure_file_is_read_anew(tmp_path):
    path = write_folder(tmp_path / "mine", rows_of(5))
    before = load(path)
    (path / "mp-2.cif").write_text(cif(GOOD))
    after = load(path)
    assert after.digest != before.digest
    assert sorted(after.table.crystal(2).numbers) == [17, 55]


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", rows_of(5))
    table = folder / "id_prop.csv"
    before = load(folder)
    table.write_text("\n".join(["id,gap,,", *(f"{line},," for line in table.read_text().splitlines())]))
    after = load(folder, target=None)
    assert after.table.target.tolist() == before.table.target.tolist()


def at_site(**change: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda crystal: crystal["sites"][1].update(change)


def lattice(matrix: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda crystal: crystal["lattice"].update(matrix=matrix)


BAD = {
    "target NaN": (GOOD, NAN, "no number as its 'gap' but (NaN|null)"),
    "lattice NaN": (edited(GOOD, lattice([[NAN, 0, 0], [0, 4, 0], [0, 0, 4]])), 1, "finite|NaN"),
    "no volume": (edited(GOOD, lattice([[4, 0, 0], [4, 0, 0], [0, 0, 4]])), 1, "without volume|below threshold"),
    "close atoms": (edited(GOOD, at_site(abc=[0.01, 0, 0])), 1, r"closer than 0.1 Å \(sites 0 and 1\)"),
    "disordered": (
        edited(GOOD, at_site(species=[{"element": "Cl", "occu": 0.5}, {"element": "Br", "occu": 0.5}])),
        1,
        r"disordered \(site 1: Cl 0.5",
    ),
    "unknown element": (
        edited(GOOD, at_site(species=[{"element": "Xx", "occu": 1}])), 1, r"unknown element 'Xx' \(site 1\)",
    ),
    "empty": (edited(GOOD, lambda crystal: crystal.update(sites=[])), 1, "without atoms|cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("crystal", "value", "problem"), BAD.values(), ids=BAD)
def test_bad_crystal_is_named_or_left_out(tmp_path, write, crystal, value, problem, jobs):
    rows = rows_of(6)
    rows[3] = ("odd one", crystal, value)
    path = write(tmp_path / "mine", rows)
    with pytest.raises(DataError, match=problem) as caught:
        load(path, jobs=jobs)
    assert str(path) in str(caught.value)
    assert "row odd one" in str(caught.value)
    assert "--on-bad-row skip" in str(caught.value)
    dataset = load(path, on_bad_row="skip", jobs=jobs)
    assert dataset.table.ids.tolist() == ["mp-0", "mp-1", "mp-2", "mp-4", "mp-5"]
    assert [row.id for row in dataset.skipped] == ["odd one"]
    assert dataset.table.row.tolist() == list(range(5))
    expected = load(write(tmp_path / "without", rows[:3] + rows[4:])).table
    for name in ("lattice", "positions", "numbers", "orbit", "ptr", "target"):
        np.testing.assert_array_equal(getattr(dataset.table, name), getattr(expected, name))


@pytest.mark.parametrize("write", [write_folder, write_csv, write_json])
@pytest.mark.parametrize("value", ["1.5 eV", "high", "1_0", "inf"])
def test_text_is_no_number(tmp_path, write, value):
    path = write(tmp_path / "mine", [*rows_of(4), ("t", GOOD, value)])
    with pytest.raises(DataError, match="row t has no number as its 'gap' but "):
        load(path)


@pytest.mark.parametrize("write", [write_folder, write_csv, write_json])
@pytest.mark.parametrize("value", [1e302, -1e31])
def test_a_number_beyond_single_precision_is_called_too_large(tmp_path, write, value):
    path = write(tmp_path / "mine", [*rows_of(4), ("t", GOOD, value)])
    with pytest.raises(DataError, match=r"row t has a 'gap' that is too large to compute with: -?1e\+30?[12]"):
        load(path)


def test_the_later_row_of_an_id_is_bad(tmp_path, write):
    rows = rows_of(6)
    rows[4] = ("mp-1", *rows[4][1:])
    path = write(tmp_path / "mine", rows)
    with pytest.raises(DataError, match=r"row mp-1 has the id of an earlier row \(rows 1 and 4, counted from 0\)"):
        load(path)
    table = load(path, on_bad_row="skip").table
    assert table.ids.tolist() == ["mp-0", "mp-1", "mp-2", "mp-3", "mp-5"]
    assert table.target[1] == rows[1][2]


def test_deuterium_is_read_as_hydrogen_and_listed(tmp_path, write):
    rows = rows_of(5)
    heavy = edited(GOOD, at_site(species=[{"element": "D", "occu": 1}]))
    rows[1] = ("heavy", heavy, 1)
    rows[2] = ("lost", edited(heavy, lattice(np.zeros((3, 3)).tolist())), 1)
    dataset = load(write(tmp_path / "mine", rows), on_bad_row="skip")
    assert dataset.read_as_hydrogen == ["heavy"]
    assert sorted(dataset.table.crystal(1).numbers) == [1, 55]


def test_isolated_atoms_and_large_cells_are_kept(tmp_path, write):
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(-1, 3) / 8
    large = structure(24 * CUBE, ["Po"] * 512, grid + np.random.default_rng(0).uniform(0, 0.01, (512, 3)))
    alone = structure(30 * CUBE, ["He"], np.zeros((1, 3)))
    table = load(write(tmp_path / "mine", [*rows_of(4), ("alone", alone, 1), ("large", large, 2)])).table
    assert table.ids[-2:].tolist() == ["alone", "large"]
    assert np.diff(table.ptr)[-2:].tolist() == [1, 512]


def test_several_bad_rows_are_counted_and_the_first_ones_listed(tmp_path, write):
    rows = [(f"r{i}", edited(GOOD, lambda crystal: crystal.update(sites=[])), i) for i in range(8)] + rows_of(5)
    with pytest.raises(DataError) as caught:
        load(write(tmp_path / "mine", rows))
    message = str(caught.value)
    assert "8 rows cannot be used: row r0 has " in message
    assert "row r4" in message
    assert "row r5" not in message
    assert "and 3 more" in message


def test_nothing_but_bad_rows(tmp_path, write):
    rows = [(f"r{i}", edited(GOOD, lambda crystal: crystal.update(sites=[])), i) for i in range(3)]
    path = write(tmp_path / "mine", rows)
    with pytest.raises(DataError, match="No row can be used"):
        load(path, on_bad_row="skip")
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("kind", "values", "problem"),
    [
        ("regression", [2, 2, 2, 2, 2], "all 5 rows have the gap 2: nothing to learn"),
        (
            "regression",
            [-1e6, -1e6 + 1, -1e6, -1e6 - 1, -1e6],
            r"the gap of the rows is -1e\+06 with a standard deviation of 0\.6",
        ),
        ("classification", [1, 1, 1, 1, 1], "all 5 rows have the gap true: nothing to learn"),
        ("classification", [0, 1, 0, 2, 1], "row mp-3 has neither true nor false"),
    ],
)
def test_targets_that_teach_nothing(tmp_path, write, kind, values, problem):
    rows = [(name, crystal, value) for (name, crystal, _), value in zip(rows_of(5), values, strict=True)]
    with pytest.raises(DataError, match=problem):
        load(write(tmp_path / "mine", rows), kind=kind)


@pytest.mark.parametrize("values", [[True, False, True], ["TRUE", "false", "True"], [1, 0, 1], ["1", "0.0", "1.0"]])
def test_classes_may_be_written_in_several_ways(tmp_path, values):
    rows = [(name, crystal, value) for (name, crystal, _), value in zip(rows_of(3), values, strict=True)]
    for write in (write_folder, write_csv):
        path = write(tmp_path / "mine", rows)
        assert load(path, kind="classification").table.target.tolist() == [1, 0, 1]


def test_booleans_are_no_numbers(tmp_path, write):
    rows = [(name, crystal, i % 2 == 0) for i, (name, crystal, _) in enumerate(rows_of(3))]
    path = write(tmp_path / "mine", rows)
    assert load(path, kind="classification").table.target.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="but true: is this a classification"):
        load(path)


def test_folder_with_every_name_of_a_structure_file(tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    names = ["a.cif", "b.vasp", "c.poscar", "POSCAR_d", "POSCAR.e", "f/POSCAR"]
    poscar = Structure.from_dict(GOOD).to(fmt="poscar")
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(cif(GOOD) if name.endswith(".cif") else poscar)
    (folder / "id_prop.csv").write_text("".join(f"{name},{i}\n" for i, name in enumerate("abcdef")))
    assert load(folder).table.ids.tolist() == list("abcdef")
    (folder / "a.vasp").write_text(poscar)
    with pytest.raises(DataError, match=r"row a has more than one structure file \(a\.cif, a\.vasp\)"):
        load(folder)
    (folder / "a.cif").unlink()
    (folder / "b.vasp").unlink()
    with pytest.raises(DataError, match=r"row b has no structure file \(one of b\.cif, b\.vasp"):
        load(folder)


def test_folder_with_packed_files_and_extensions_in_any_case(tmp_path):
    folder = tmp_path / "mine"
    names = ["a.CIF", "b.Vasp", "c.cif.gz", "POSCAR.d.gz", "e/POSCAR.gz", "f.cif", "g.cif.GZ"]
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True, parents=True)
        text = cif(GOOD) if "cif" in name.lower() else Structure.from_dict(GOOD).to(fmt="poscar")
        packed = name.lower().endswith(".gz")
        (folder / name).write_bytes(gzip.compress(text.encode(), mtime=0) if packed else text.encode())
    ids = ["a", "b", "c", "d", "e", "f.cif", "g.cif.GZ"]
    (folder / "id_prop.csv").write_text("".join(f"{name},{i}\n" for i, name in enumerate(ids)))
    assert load(folder).table.ids.tolist() == ids
    (folder / "f.CIF").write_text(cif(GOOD))
    (folder / "id_prop.csv").write_text("a,1\nb,2\nf,3\n")
    with pytest.raises(DataError, match=r"row f has more than one structure file \(f\.CIF, f\.cif\)"):
        load(folder)


def test_decimal_commas_and_other_separators_are_named(tmp_path):
    folder = write_folder(tmp_path / "mine", rows_of(3))
    table = folder / "id_prop.csv"
    table.write_text("mp-0,1\nmp-1,0,514\nmp-2,3,,\n")
    with pytest.raises(
        DataError, match="row mp-1 has 3 values, but the first line has 2: is the comma a decimal comma"
    ):
        load(folder)
    assert load(folder, on_bad_row="skip").table.ids.tolist() == ["mp-0", "mp-2"]
    for separator, name in (("\t", "tabs"), (";", "semicolons")):
        table.write_text(f"mp-0{separator}0,5\nmp-1{separator}0,6\n")
        with pytest.raises(DataError, match=f"has {name} between its columns"):
            load(folder)
        (tmp_path / "mine.csv").write_text(f"id{separator}structure{separator}gap\n")
        with pytest.raises(DataError, match=f"has {name} between its columns"):
            load(tmp_path / "mine.csv")


def test_decimals_of_parquet_are_numbers(tmp_path):
    path = write_parquet(tmp_path / "mine", rows_of(4))
    table = parquet.read_table(path)
    values = pa.array([Decimal("0.41800"), Decimal("1.5"), None, Decimal(2)], pa.decimal128(8, 5))
    parquet.write_table(table.set_column(2, "gap", values), path)
    dataset = load(path, on_bad_row="skip")
    assert dataset.table.target.tolist() == [0.418, 1.5, 2]
    assert [row.problem for row in dataset.skipped] == ["has no number as its 'gap' but null"]


def test_any_error_of_a_library_on_a_crystal_is_its_bad_row(tmp_path, write, monkeypatch):
    def fail(lattice: np.ndarray, *rest: Any) -> Any:
        if abs(np.linalg.det(lattice) - 4.12**3) < 0.01:
            raise ZeroDivisionError("a library is wrong")
        return refine(lattice, *rest)

    monkeypatch.setattr("benchmarks.data.rows.refine", fail)
    rows = rows_of(4)
    rows[2] = ("odd one", GOOD, 1)
    dataset = load(write(tmp_path / "mine", rows), on_bad_row="skip")
    assert dataset.table.ids.tolist() == ["mp-0", "mp-1", "mp-3"]
    (skipped,) = dataset.skipped
    assert (skipped.id, skipped.problem) == ("odd one", "cannot be used (ZeroDivisionError: a library is wrong)")


def test_targets_far_from_the_others_are_named_in_a_warning(tmp_path, write, caplog):
    rows = [(name, crystal, value) for name, crystal, value in rows_of(20)]
    load(write(tmp_path / "usual", rows))
    assert not caplog.records
    rows[3] = (*rows[3][:2], -2e5)
    load(write(tmp_path / "mine", rows))
    (record,) = caplog.records
    assert re.search(
        r"1 of 20 rows have a gap more than 1000 interquartile .* median, 5\.\d+: mp-3 \(-200000\)", record.message
    )


def test_own_data_have_no_atoms_too_close_to_be_right(tmp_path, write):
    rows = rows_of(4)
    rows[1] = ("close", edited(GOOD, at_site(abc=[0.3, 0, 0])), 2)
    with pytest.raises(
        DataError, match=r"row close has atoms too close to be right \(sites 0 and 1\): Cs and Cl are 1.24"
    ):
        load(write(tmp_path / "mine", rows))


def test_columns_of_id_prop(tmp_path):
    folder = write_folder(tmp_path / "mine", rows_of(3))
    text = "ID,gap,is metal\nmp-0,1,true\nmp-1,2,false\n\nmp-2,4,true\n"
    (folder / "id_prop.csv").write_text(text)
    assert load(folder).table.target.tolist() == [1, 2, 4]
    assert load(folder, target="is metal", kind="classification").table.target.tolist() == [1, 0, 1]
    with pytest.raises(UsageError, match=r"--target\. Available: gap, is metal"):
        load(folder, target=None)
    with pytest.raises(UsageError, match=r"no column 'gapp' to predict\. Did you mean gap"):
        load(folder, target="gapp")
    # A header line is known by the name of the target, too.
    (folder / "id_prop.csv").write_text(text.replace("ID", "compound"))
    assert load(folder).table.target.tolist() == [1, 2, 4]
    with pytest.raises(UsageError, match="has 3 columns and no header line"):
        load(folder, target="energy")
    # Without a header line the target only gets a name.
    (folder / "id_prop.csv").write_text("mp-0,1\nmp-1,2\nmp-2,4\n")
    assert load(folder, target="energy").task.target == "energy"
    assert load(folder, target=None).task.target == "target"
    (folder / "id_prop.csv").write_text("mp-0,1\nmp-1\n,3\nmp-2,x\n")
    with pytest.raises(DataError, match="3 rows cannot be used: row mp-1 has no number as its 'gap' but null"):
        load(folder)


def test_tables_with_texts_of_every_form_and_row_numbers_as_ids(tmp_path):
    crystals = [crystal for _, crystal, _ in rows_of(3)]
    forms = [Structure.from_dict(crystals[0]).to(fmt="cif"), Structure.from_dict(crystals[1]).to(fmt="poscar")]
    frame = pd.DataFrame({"structure": [*forms, json.dumps(crystals[2])], "gap": [1.0, 2.0, 3.0]})
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "b.csv.gz", index=False)
    frame.to_parquet(tmp_path / "c.parquet")
    frame.assign(structure=[text.encode() for text in frame["structure"]]).to_parquet(tmp_path / "d.parquet")
    for name in ("a.csv", "b.csv.gz", "c.parquet", "d.parquet"):
        dataset = load(tmp_path / name, target=None)
        assert dataset.task.target == "gap"
        assert dataset.task.name == name[0]
        assert dataset.table.ids.tolist() == ["0", "1", "2"]
        assert dataset.table.space_group.tolist() == [225] * 3


def test_parquet_with_structs(tmp_path):
    crystals = [crystal for _, crystal, _ in rows_of(3)]
    for crystal in crystals:
        for site in crystal["sites"]:
            del site["properties"]  # a struct without fields is none in Parquet
    frame = pd.DataFrame({"mbid": [7, 8, 9], "structure": crystals, "gap": [1, 2, 3]})
    frame.to_parquet(tmp_path / "a.parquet")
    assert load(tmp_path / "a.parquet").table.ids.tolist() == ["7", "8", "9"]


def test_blanks_around_ids_and_names_of_columns_do_not_count(tmp_path):
    folder = write_folder(tmp_path / "mine", rows_of(3))
    (folder / "id_prop.csv").write_text("compound, gap\nmp-0 ,1\n mp-1, 2\nmp-2\t,4\n")
    dataset = load(folder)
    assert dataset.table.ids.tolist() == ["mp-0", "mp-1", "mp-2"]
    assert dataset.table.target.tolist() == [1, 2, 4]


def test_columns_of_integers_and_ids_that_are_no_text(tmp_path):
    data = [[crystal, value] for (_, crystal, _), value in zip(rows_of(3), (1.0, 2.0, 4.0), strict=True)]
    content = {"index": ["a", "\ud800", "c"], "columns": ["structure", 0], "data": data}
    (tmp_path / "mine.json").write_text(json.dumps(content))
    dataset = load(tmp_path / "mine.json", target=None, on_bad_row="skip")
    assert dataset.task.target == "0"
    assert dataset.table.target.tolist() == [1, 4]
    assert dataset.table.ids.tolist() == ["a", "c"]
    assert dataset.skipped == (("(number 1, counted from 0)", "has no id"),)


@pytest.mark.parametrize("write", LAYOUTS.values(), ids=LAYOUTS)
def test_rows_without_an_id_are_bad(tmp_path, write):
    rows = [(" " if row in {1, 3} else name, crystal, value) for row, (name, crystal, value) in enumerate(rows_of(5))]
    message = r"row \(number 1, counted from 0\) has no id; row \(number 3, counted from 0\) has no id"
    with pytest.raises(DataError, match=message):
        load(write(tmp_path / "mine", rows))


def test_index_of_integers(tmp_path):
    rows = [(i, crystal, value) for i, (_, crystal, value) in enumerate(rows_of(3), start=5)]
    assert load(write_json(tmp_path / "mine", rows)).table.ids.tolist() == ["5", "6", "7"]


def text_file(name: str, text: str | bytes) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def folder_with(text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / "crystals"
        path.mkdir()
        return text_file("id_prop.csv", text)(path).parent

    return write


def empty_folder(folder: Path) -> Path:
    (folder / "crystals").mkdir()
    return folder / "crystals"


def cut(name: str, write: Write, keep: float) -> Callable[[Path], Path]:
    def write_cut(folder: Path) -> Path:
        path = write(folder / name, rows_of(200))
        content = path.read_bytes()
        path.write_bytes(content[: int(keep * len(content))])
        return path

    return write_cut


def spoilt_parquet(folder: Path) -> Path:
    path = write_parquet(folder / "spoilt", rows_of(3000))
    content = bytearray(path.read_bytes())
    # Well behind the column of ids, so that only the structures are spoilt.
    spoilt = slice(len(content) // 2, len(content) * 3 // 4)
    content[spoilt] = b"\xff" * len(content[spoilt])
    path.write_bytes(content)
    return path


def parquet_with_names_twice(folder: Path) -> Path:
    path = folder / "mine.parquet"
    parquet.write_table(pa.Table.from_arrays([pa.array(["x"])] * 3, names=["structure", "gap", "gap"]), path)
    return path


def gzipped_csv_cut(folder: Path) -> Path:
    path = write_csv(folder / "a", rows_of(300))
    target = folder / "a.csv.gz"
    target.write_bytes(gzip.compress(path.read_bytes())[:-500])
    return target


UNREADABLE = {
    "absent": (lambda folder: folder / "mine.csv", UsageError, "There is no file or folder"),
    "empty folder": (empty_folder, UsageError, "no id_prop.csv in the folder"),
    "empty table": (folder_with(""), DataError, "has no rows"),
    "header alone": (folder_with("id,gap\n"), DataError, "has no rows"),
    "other suffix": (text_file("mine.xlsx", "?"), UsageError, "in no layout that sen-bench reads"),
    "empty csv": (text_file("mine.csv", ""), DataError, "has no rows"),
    "no rows": (text_file("mine.csv", "structure,gap\n"), DataError, "has no rows"),
    "no structures": (
        text_file("mine.csv", "id,structures,gap\n1,2,3\n"),
        DataError,
        "Did you mean structure|column of",
    ),
    "no target": (text_file("mine.csv", "id,structure,gaps\n1,2,3\n"), UsageError, "Did you mean gaps"),
    "names twice": (text_file("mine.csv", "structure,gap,gap\n1,2,3\n"), DataError, "two columns of the same name"),
    "binary": (text_file("mine.csv", b"structure,gap\n\xff\xfe\n"), DataError, "not text in UTF-8"),
    "open quotes": (text_file("mine.csv", 'structure,gap\n"abc,1\n'), DataError, "not valid CSV"),
    "not gzipped": (text_file("mine.csv.gz", "structure,gap\n"), DataError, "not gzipped"),
    "cut csv.gz": (gzipped_csv_cut, DataError, "damaged after line"),
    "cut json.gz": (cut("a", write_json, 0.9), DataError, "damaged after row"),
    "cut parquet": (cut("a", write_parquet, 0.9), DataError, "cannot be read as Parquet"),
    "spoilt parquet": (spoilt_parquet, DataError, "cannot be read as Parquet"),
    "no parquet": (text_file("mine.parquet", "structure,gap"), DataError, "cannot be read as Parquet"),
    "no layout": (text_file("mine.json", "[1]"), DataError, 'no list "index"'),
    "no json": (text_file("mine.json", "{"), DataError, "not valid JSON"),
    "index of lists": (
        text_file("mine.json", '{"index": [[1]], "columns": ["structure", "gap"], "data": [[1, 2]]}'),
        DataError,
        "must hold the ids",
    ),
    "names twice in parquet": (parquet_with_names_twice, DataError, "two columns of the same name"),
    "names twice in a folder": (folder_with("id,gap,gap\na,1,2\n"), DataError, "two columns of the same name"),
    "names twice in json": (
        text_file("mine.json", '{"index": ["r"], "columns": ["structure", "gap", "gap"], "data": [[{}, 1, 2]]}'),
        DataError,
        "two columns of the same name",
    ),
    "broken row": (
        text_file("mine.json", '{"index": ["r"], "columns": ["structure", "gap"], "data": [[tru, 2]]}'),
        DataError,
        "row r is not valid JSON",
    ),
}


@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize(("make", "error", "problem"), UNREADABLE.values(), ids=UNREADABLE)
def test_unreadable_data_are_refused(tmp_path, make, error, problem, jobs, capfd):
    path = make(tmp_path)
    with pytest.raises(error, match=problem) as caught:
        load(path, on_bad_row="skip", jobs=jobs)
    assert path.name in str(caught.value)
    assert "Traceback" not in capfd.readouterr().err


def test_row_of_another_length_is_bad(tmp_path):
    path = tmp_path / "mine.csv"
    text = json.dumps(GOOD).replace('"', '""')
    path.write_text(f'id,structure,gap\na,"{text}",1\nb,"{text}"\nc,"{text}",3,4\nd,"{text}",5\n')
    dataset = load(path, on_bad_row="skip")
    assert dataset.table.ids.tolist() == ["a", "d"]
    assert [(row.id, row.problem) for row in dataset.skipped] == [
        ("b", "has 2 values, but the header line names 3 columns"),
        ("c", "has 4 values, but the header line names 3 columns"),
    ]


@pytest.mark.parametrize("name", ["matbench_phonons.json.gz", "matbench_mp_gap.partial.json.gz", "prototypes.csv"])
def test_the_name_of_a_task_is_taken(tmp_path, name):
    with pytest.raises(UsageError, match=f"sen-bench run {name.partition('.')[0]}.*rename"):
        own_task(tmp_path / name, target="gap")


def test_a_task_is_found_by_its_name_or_made_of_own_data(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_csv(tmp_path / "mine", rows_of(12))
    assert find_task("prototypes") is TASKS["prototypes"]
    task = find_task("mine.csv", target="gap", split="holdout:0.50/0.25/0.25", unit="eV")
    assert (task.name, task.target, task.kind, task.unit) == ("mine", "gap", "regression", "eV")
    assert (task.split, task.default_folds, task.path) == ("holdout:0.5/0.25/0.25", (0,), Path("mine.csv"))
    assert len(load_dataset(task, jobs=1).table) == 12
    with pytest.raises(UsageError, match=r"^target and unit are only for your own data; prototypes is a built-in task"):
        find_task("prototypes", target="gap", unit="eV")
    with pytest.raises(UsageError, match=r"^on_bad_row is only for your own data; prototypes is a built-in task"):
        load_dataset(find_task("prototypes"), on_bad_row="skip")
    with pytest.raises(UsageError, match=r"^data_dir is for the files of built-in tasks; .*mine.csv is read from"):
        load_dataset(own_task(path, target="gap"), tmp_path)


@pytest.mark.parametrize(
    ("name", "task"),
    [("gaps.json.gz", "gaps"), ("a.b.csv.gz", "a.b"), ("my data (2).csv", "my_data_2"), ("..csv", "data")],
)
def test_name_of_a_run(tmp_path, name, task):
    assert own_task(tmp_path / name, target="gap").name == task


def test_task_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("prototypes", "matbench_glass", "crystals"):
        (tmp_path / name).mkdir()
    assert find_own_data("prototypes") is None
    assert find_own_data("matbench_glass") is None
    assert find_own_data("crystals") == Path("crystals")
    assert find_own_data(".") == tmp_path
    assert find_own_data("crystals/..") == tmp_path
    assert find_own_data("matbench_phonon") is None
    for name in ("mine.csv", "./mine", "a/b"):
        with pytest.raises(UsageError, match="There is no file or folder"):
            find_own_data(name)


# --- whole runs


Command = Callable[..., Answer]


def only_run(out: Path) -> Path:
    (config,) = out.rglob("config.json")
    return config.parent


def predictions(run: Path, fold: int = 0, seed: int = 0) -> dict[str, tuple[float, float]]:
    with (run / f"seed_{seed}/fold_{fold}/predictions.csv").open() as file:
        return {row["id"]: (float(row["target"]), float(row["prediction"])) for row in csv.DictReader(file)}


@pytest.mark.usefixtures("unlearnt")
def test_run_of_a_folder_on_folds(tmp_path: Path, sen_bench: Command) -> None:
    rows = rows_of(50)
    rows[7] = ("mp-7", edited(GOOD, at_site(abc=[0, 0, 0.01])), 5.0)
    rows[8] = ("mp-8", edited(rows[8][1], at_site(species=[{"element": "D", "occu": 1}])), rows[8][2])
    folder, out = write_folder(tmp_path / "crystals", rows), tmp_path / "runs"
    arguments = ("run", folder, "--target", "length", "--unit", "Å", "--out", out, "--epochs", 1, *SMALL)
    refused = sen_bench(*arguments)
    assert refused.code == 1
    assert "row mp-7 has atoms closer than 0.1 Å (sites 0 and 1) (mp-7.cif)" in refused.err
    assert not out.exists()
    answer = sen_bench(*arguments, "--on-bad-row", "skip")
    assert answer.code == 0, answer.err
    assert "1 row left out" in answer.out
    assert "row mp-7 has atoms closer" in answer.out
    assert "1 row holds deuterium or tritium, read as hydrogen (mp-8)" in answer.out
    assert "ExtraTrees on composition" in answer.out
    assert "MAE (Å)" in answer.out
    assert "leaderboard" not in answer.out
    run = only_run(out)
    assert run.parent.name == "crystals"
    tested = [name for fold in range(5) for name in predictions(run, fold)]
    assert sorted(tested) == sorted(name for name, _, _ in rows if name != "mp-7")
    config = json.loads((run / "config.json").read_text())
    assert [row["id"] for row in config["data"]["skipped"]] == ["mp-7"]
    assert config["data"]["read_as_hydrogen"] == ["mp-8"]
    assert config["task"]["target"] == "length"
    assert config["task"]["split"] == "folds"
    assert not json.loads((run / "summary.json").read_text())["is_official"]
    status = sen_bench("status", out)
    assert "5 of 5" in status.out
    assert "MAE (Å)" in status.out
    prepared = sen_bench("prepare", folder, "--target", "length", "--on-bad-row", "skip")
    assert prepared.code == 0
    assert "49 crystals" in prepared.out
    assert "1 row left out" in prepared.out


@pytest.mark.usefixtures("unlearnt")
def test_run_of_a_table_on_a_holdout_split(tmp_path: Path, sen_bench: Command) -> None:
    path, out = write_csv(tmp_path / "mine", rows_of(60)), tmp_path / "runs"
    arguments = ("run", path, "--target", "gap", "--split", "holdout:0.6/0.2/0.2", "--out", out, "--epochs", 1, *SMALL)
    answer = sen_bench(*arguments, "--seeds", 2)
    assert answer.code == 0, answer.err
    run = only_run(out)
    assert len(predictions(run)) == 12
    assert predictions(run, seed=1).keys() == predictions(run).keys()
    rows = json.loads((run / "seed_0/fold_0/metrics.json").read_text())["rows"]
    assert rows == {"train": 36, "validation": 12, "test": 12}
    assert "1 of 1" in sen_bench("status", out).out
    refused = sen_bench(*arguments, "--folds", "0,1")
    assert refused.code == 2
    assert "has only fold 0" in refused.err
    few = sen_bench(*arguments, "--limit", 20, "--seed", 0)
    assert few.code == 0, few.err
    limited = next(path for path in out.rglob("seed_0/fold_0/metrics.json") if run not in path.parents)
    assert json.loads(limited.read_text())["rows"] == {"train": 15, "validation": 5, "test": 12}


def test_run_of_a_classification(tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(name, crystal, value > 5.5) for name, crystal, value in rows_of(60)]
    path, out = write_json(tmp_path / "mine", rows), tmp_path / "runs"
    arguments = ("run", path, "--kind", "classification", "--split", "holdout:0.6/0.2/0.2", "--out", out)
    answer = sen_bench(*arguments, "--epochs", 25, *SMALL)
    assert answer.code == 0, answer.err
    assert "ROC-AUC" in answer.out
    (trees,) = re.findall("ExtraTrees on composition.*", answer.out)
    # Nothing is trained again, the trees neither.
    monkeypatch.delattr("benchmarks.training.summary.extra_trees_on_composition")
    assert trees in sen_bench(*arguments, "--epochs", 25, *SMALL).out
    # A score that is not defined, as of test rows of one class, is null in JSON.
    summary = only_run(out) / "summary.json"
    content = json.loads(summary.read_text())
    summary.write_text(json.dumps(content | {"references": dict.fromkeys(content["references"])}))
    undefined = sen_bench(*arguments, "--epochs", 25, *SMALL)
    assert undefined.code == 0
    assert re.search("ExtraTrees on composition .*–", undefined.out)
    found = np.array(list(predictions(only_run(out)).values()))
    assert set(found[:, 0]) == {0, 1}
    assert ((found[:, 1] > 0.5) == found[:, 0]).mean() > 0.7


def test_isolated_atoms_and_a_large_cell_are_trained_on_and_predicted(tmp_path: Path, sen_bench: Command) -> None:
    grid = np.stack(np.meshgrid(*[np.arange(8)] * 3), axis=-1).reshape(-1, 3) / 8
    noise = np.random.default_rng(0)
    rows = rows_of(30)
    for i in range(5):
        rows.append((f"alone-{i}", structure((30 + i) * CUBE, ["He"], np.zeros((1, 3))), 5.0 + i / 100))
        positions = grid + noise.uniform(0, 0.01, grid.shape)
        rows.append((f"large-{i}", structure((25 + i / 10) * CUBE, ["Po"] * 512, positions), 6.0 + i / 100))
    path, out = write_json(tmp_path / "mine", rows), tmp_path / "runs"
    answer = sen_bench(
        *("run", path, "--target", "gap", "--split", "holdout:0.5/0.1/0.4", "--out", out, "--epochs", 12, *SMALL),
        *("--set", "sen.rounds=1", "--set", "sen.lstm_rounds=1"),
    )
    assert answer.code == 0, answer.err
    run = only_run(out)
    tested = predictions(run)
    assert all(np.isfinite(prediction) for _, prediction in tested.values())
    for kind in ("alone", "large"):
        assert any(name.startswith(kind) for name in tested), "one is predicted"
        assert sum(name.startswith(kind) for name in tested) < 5, "one is trained on"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["mine.csv", "--target", "gap", "--split", "holdout:0.8/0.2"], "--split takes folds or holdout:TRAIN"),
        (["mine.csv", "--target", "gap", "--split", "holdout:0.8/0.1/0.2"], "must be positive and sum to 1"),
        (["mine.csv", "--target", "gap", "--split", "holdout:1/0/0"], "must be positive and sum to 1"),
        (["mine.csv", "--target", "gap", "--split", "holdout:nan/0.5/0.5"], "must be positive and sum to 1"),
        (["mine.csv", "--target", "gap", "--split", "thirds"], "--split takes folds or holdout"),
        (["mine.csv", "--target", "gap", "--kind", "ranking"], "classification"),
        (["mine.csv", "--data-dir", "."], "--data-dir is for the files of built-in tasks; mine.csv is read"),
        (["mine.csv"], "--target. Available: note, gap"),
        (["mine.csv", "--target", "gap"], "mine.csv: 4 rows cannot be split into 5 folds"),
        (["mine.csv", "--target", "gap", "--split", "holdout:0.01/0.01/0.98"], "too few for this holdout split"),
        (["prototypes", "--target", "gap"], "--target is only for your own data; prototypes is a built-in task"),
        (["prototypes", "--on-bad-row", "skip"], "--on-bad-row is only for your own data"),
        (["prototypes", "--target", "gap", "--on-bad-row", "skip"], "--target and --on-bad-row are only for your own"),
        (["matbench_phonons", "--kind", "regression", "--split", "folds"], "--kind and --split are only for your own"),
        (["other.csv"], "There is no file or folder other.csv"),
        (["mines"], "There is no task 'mines'"),
    ],
)
def test_wrong_use_is_answered_in_one_sentence(
    tmp_path: Path,
    sen_bench: Command,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    expected: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_csv(tmp_path / "mine", rows_of(4))
    answer = sen_bench("run", *arguments)
    assert answer.code == 2
    assert expected.lower() in answer.err.lower()
    assert not list(tmp_path.rglob("fold_*"))


def test_a_path_that_the_system_refuses_is_named(
    tmp_path: Path, sen_bench: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    path = write_csv(tmp_path / "mine", rows_of(4))
    monkeypatch.setattr(Path, "exists", refuse)  # root may enter every folder
    answer = sen_bench("run", path)
    assert (answer.code, answer.err.strip()) == (2, f"Error: {path} cannot be used (Permission denied).")
    monkeypatch.undo()
    answer = sen_bench("run", tmp_path / ("x" * 300 + ".csv"))
    assert answer.code == 2
    assert "cannot be used (File name too long)" in answer.err
