from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet
from pymatgen.core import Structure

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data import layouts, splitter
from benchmarks.data.layouts import open_layout
from sen.crystal import refine
from tests.benchmarks.data.made_own_data import (
    GOOD,
    LAYOUTS,
    Write,
    atoms,
    cif,
    load,
    rows_of,
    write_csv,
    write_folder,
    write_json,
    write_parquet,
)

pytestmark = pytest.mark.usefixtures("fresh_cache")


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


@pytest.mark.parametrize("cartesian", [False, True])
def test_a_list_as_jarvis_gives_it(tmp_path: Path, cartesian: bool) -> None:
    rows = rows_of(6)
    content = [
        {"jid": f"JVASP-{i}", "id": "x", "formula": "?", "atoms": atoms(crystal, cartesian=cartesian), "gap": value}
        for i, (_, crystal, value) in enumerate(rows)
    ]
    (tmp_path / "dft.json.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf \n" + json.dumps(content).encode()))
    table = load(tmp_path / "dft.json.gz", target=None).table  # the only field with numbers
    expected = load(write_csv(tmp_path / "mine", rows)).table
    assert table.ids.tolist() == [f"JVASP-{i}" for i in range(6)]
    assert table.target.tolist() == expected.target.tolist()
    assert table.space_group.tolist() == [225] * 6
    assert table.numbers.tolist() == expected.numbers.tolist()
    assert np.linalg.det(table.lattice) == pytest.approx(np.linalg.det(expected.lattice))


def test_what_is_wrong_with_documents(tmp_path: Path) -> None:
    good = [{"atoms": atoms(crystal), "gap": value} for _, crystal, value in rows_of(5)]
    salt, flat = atoms(GOOD), atoms(GOOD, cartesian=True) | {"lattice_mat": [[1, 0, 0]] * 3}
    bad = {
        "has no field 'gap'": {"atoms": salt},
        "has no 'gap' but 'na', a missing value in the layout of JARVIS": {"atoms": salt, "gap": "na"},
        "has no number as its 'gap' but null": {"atoms": salt, "gap": None},
        "has neither a structure nor atoms": {"gap": 1},
        "has no structure": {"gap": 1, "structure": None},
        "is not a document {...}": ["gap"],
        "has atoms that are not a JARVIS dictionary (KeyError: 'coords')": {"gap": 1, "atoms": {"lattice_mat": []}},
        "has atoms whose 'cartesian' is neither true nor false but 'false'": {
            "gap": 1,
            "atoms": salt | {"cartesian": "false"},
        },
        "has a cell without volume": {"gap": 1, "atoms": flat},
        "has coordinates that are not 3 finite numbers for each atom": {"gap": 1, "atoms": salt | {"elements": ["Cs"]}},
    }
    path = tmp_path / "mine.json"
    path.write_text(json.dumps([*good, *bad.values()]))
    dataset = load(path, on_bad_row="skip")
    assert dataset.table.ids.tolist() == list("01234")  # rows are counted where no document has an id
    assert dataset.skipped == tuple((str(row), problem) for row, problem in enumerate(bad, start=5))


def test_keys_that_occur_twice_in_json_make_a_bad_row(tmp_path: Path) -> None:
    path, row = tmp_path / "mine.json", tmp_path / "rows.json"
    documents = [json.dumps({"jid": f"J{i}", "atoms": atoms(c), "gap": v}) for i, (_, c, v) in enumerate(rows_of(6))]
    documents[2] = documents[2].replace('"gap"', '"gap": 5.0, "gap"')
    path.write_text(f"[{', '.join(documents)}]")
    problem = "cannot be used: an object in it has the key 'gap' twice"
    assert load(path, on_bad_row="skip").skipped == (("J2", problem),)
    row.write_text('{"index": [0], "columns": ["structure", "gap"], "columns": ["structure", "e"], "data": [[{}, 1]]}')
    with pytest.raises(DataError, match="an object in it has the key 'columns' twice"):
        load(row)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "has no rows"),
        ("[1, 2]", "is a list of documents without a field structure or atoms"),
        ('[{"gap": 1}]', "is a list of documents without a field structure or atoms"),
        ('[{"gap": 1}, {"gap": x}]', r"document 1 \(counted from 0\) is not valid JSON"),
        ('[{"gap": 1}, {"gap"', "is not valid JSON: it ends inside its data, after 1 complete rows"),
        ('[{"gap": 1}] x', "is not valid JSON: .* at byte 13"),
    ],
)
def test_a_list_that_is_not_one_of_documents(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "mine.json").write_text(content)
    with pytest.raises(DataError, match=message):
        load(tmp_path / "mine.json")


def test_columns_without_a_name_are_passed_over(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "mine", rows_of(5))
    table = folder / "id_prop.csv"
    before = load(folder)
    table.write_text("\n".join(["id,gap,,", *(f"{line},," for line in table.read_text().splitlines())]))
    after = load(folder, target=None)
    assert after.table.target.tolist() == before.table.target.tolist()


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
    for separator, name in (("\t", "tabs"), (";", ";")):
        table.write_text(f"mp-0{separator}0,5\nmp-1{separator}0,6\n")
        with pytest.raises(DataError, match=f"are separated by {name}: write commas"):
            load(folder)
        (tmp_path / "mine.csv").write_text(f"id{separator}structure{separator}gap\n")
        with pytest.raises(DataError, match=f"are separated by {name}: write commas"):
            load(tmp_path / "mine.csv")


def test_decimals_of_parquet_are_numbers(tmp_path):
    path = write_parquet(tmp_path / "mine", rows_of(4))
    table = parquet.read_table(path)
    values = pa.array([Decimal("0.41800"), Decimal("1.5"), None, Decimal(2)], pa.decimal128(8, 5))
    parquet.write_table(table.set_column(2, "gap", values), path)
    dataset = load(path, on_bad_row="skip")
    assert dataset.table.target.tolist() == [0.418, 1.5, 2]
    assert [row.problem for row in dataset.skipped] == ["has no number as its 'gap' but null"]


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
    "empty table": (folder_with(""), DataError, "is empty"),
    "header alone": (folder_with("id,gap\n"), DataError, "has no rows"),
    "other suffix": (text_file("mine.xlsx", "?"), UsageError, "in no layout that sen-bench reads"),
    "empty csv": (text_file("mine.csv", ""), DataError, "is empty"),
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
    "cut csv.gz": (gzipped_csv_cut, DataError, "cut or damaged .* read to line"),
    "cut json.gz": (cut("a", write_json, 0.9), DataError, "cut or damaged .* read to row"),
    "cut parquet": (cut("a", write_parquet, 0.9), DataError, "cannot be read as Parquet"),
    "spoilt parquet": (spoilt_parquet, DataError, "cannot be read as Parquet"),
    "no parquet": (text_file("mine.parquet", "structure,gap"), DataError, "cannot be read as Parquet"),
    "no layout": (text_file("mine.json", "[1]"), DataError, "is a list of documents without"),
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


@pytest.mark.parametrize("name", ["mine.csv", "mine.json", "mine.parquet", "mine.json.gz", "mine/id_prop.csv"])
def test_a_pipe_is_no_file(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    os.mkfifo(path)
    is_folder = path.parent != tmp_path
    with pytest.raises(UsageError, match="There is no id_prop" if is_folder else "it is a pipe"):
        load(path.parent if is_folder else path)


def long_row_of_csv(folder: Path) -> Path:
    return text_file("mine.csv", 'structure,gap\n"' + "x" * 3000 + '",1\n')(folder)


def long_row_of_many_lines(folder: Path) -> Path:
    return text_file("mine.csv", "structure,gap\n" + '"a\nb",' * 800)(folder)


def long_row_of_json(folder: Path) -> Path:
    row = json.dumps(["x" * 3000, 1])
    return text_file("mine.json", f'{{"index": [0], "columns": ["structure", "gap"], "data": [{row}]}}')(folder)


def long_outline_of_json(folder: Path) -> Path:
    long = "x" * 3000
    return text_file("mine.json", f'{{"index": ["{long}"], "columns": ["structure", "gap"], "data": []}}')(folder)


LONG = [long_row_of_csv, long_row_of_many_lines, long_row_of_json, long_outline_of_json]


@pytest.mark.parametrize("make", LONG, ids=lambda make: make.__name__)
def test_rows_are_held_in_memory_up_to_a_size(tmp_path, monkeypatch, make):
    monkeypatch.setattr(layouts, "MOST_IN_MEMORY", 2000)
    monkeypatch.setattr(splitter, "MOST_IN_MEMORY", 2000)
    monkeypatch.setattr(splitter, "_CHUNK", 100)
    with pytest.raises(DataError, match=r"mine\.\w+ has (a row of )?more than .* MiB.*read to (row 0|line \d+)"):
        load(make(tmp_path))
    # The whole file may have any size.
    rows = rows_of(20)
    assert len(json.dumps(rows)) > 3 * 2000
    for write in (write_csv, write_json):
        assert len(load(write(tmp_path / "many", rows)).table) == 20


def test_parquet_that_unpacks_to_many_times_its_size_is_refused(tmp_path):
    path = tmp_path / "mine.parquet"
    table = pa.table({"structure": ["x" * 2**20 + str(i) for i in range(20)], "gap": range(20)})
    parquet.write_table(table, path, compression="zstd", use_dictionary=False)
    with pytest.raises(DataError, match=r"mine\.parquet unpacks to more than 50 times its size"):
        load(path)


def test_a_long_id_costs_its_own_row_alone(tmp_path):
    rows = [(f"r{i}" if i else "x" * 200_000, crystal, value) for i, (_, crystal, value) in enumerate(rows_of(20))]
    ids = load(write_csv(tmp_path / "mine", rows)).table.ids
    assert len(ids[0]) == 200_000
    assert ids.nbytes < 10_000


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


@pytest.mark.parametrize("name", ["a.csv", "a.json", "a.csv.gz", "a.json.gz", "a.parquet", "id_prop.csv"])
def test_an_empty_file_is_called_empty(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    files = {tmp_path / name}
    if name.endswith("csv.gz"):
        files.add(tmp_path / "nothing.csv.gz")
        (tmp_path / "nothing.csv.gz").write_bytes(gzip.compress(b""))
    for file in files:
        with pytest.raises(DataError, match=rf"{file.name} is empty\.$"):
            load(tmp_path if name == "id_prop.csv" else file, target=None)


def test_columns_are_found_in_another_case(tmp_path: Path, write: Write) -> None:
    rows = rows_of(3)
    path = write(tmp_path / "mine", rows)
    table = load(path, target="GAP").table
    assert table.target.tolist() == [value for *_, value in rows]
    if path.suffix == ".csv":
        path.write_text(path.read_text().replace("note,cif,id,gap", "note,CIF,Material_ID,gap"))
        assert load(path).table.ids.tolist() == [name for name, *_ in rows]
        assert open_layout(path, None).values("NOTE") == ["x,\ny"] * 3


def test_the_name_of_a_file_is_no_structure(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"row a has the name of a file \(cifs/a\.cif\) in place of a structure"):
        load(write_csv(tmp_path / "mine", [("a", "cifs/a.cif", 1.0)]))
