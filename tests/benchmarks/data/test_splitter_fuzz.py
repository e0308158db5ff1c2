"""The JSON reader on documents of any shape, chunks of any size and files damaged in any way."""

from __future__ import annotations

import copy
import gzip
import itertools
import json
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.crystal_table import CrystalTable, read_matbench_json
from benchmarks.data.splitter import RowSplitter

TEXT = st.text() | st.text(alphabet='\\"[]{},:datu0\n\t é\U0001f600\ud800')
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)
ROWS = st.lists(st.lists(VALUES, max_size=3) | st.dictionaries(TEXT, VALUES, max_size=3), max_size=6)
OTHERS = st.dictionaries(TEXT.filter(lambda key: key != "data"), VALUES, max_size=3)


@st.composite
def documents(draw) -> tuple[dict, bytes]:
    """A document with "data" first, last or in the middle, and one of its spellings."""
    before, after = draw(OTHERS), draw(OTHERS)
    document = before | {"data": draw(ROWS)} | {key: value for key, value in after.items() if key not in before}
    comma, colon = draw(st.sampled_from([(",", ":"), (", ", ": "), ("\n,\t", " :\r\n" + 80 * " ")]))
    # A lone surrogate has no UTF-8: it can only be written as an escape.
    ascii_only = draw(st.booleans()) or any("\ud800" <= char <= "\udfff" for char in repr_of_strings(document))
    indent = draw(st.sampled_from([None, 0, 2]))
    text = json.dumps(document, ensure_ascii=ascii_only, indent=indent, separators=(comma, colon))
    return document, draw(st.sampled_from(["", " \n"])).join(["", text, ""]).encode()


def repr_of_strings(value: object) -> Iterator[str]:
    """Every character of every string in a value."""
    if isinstance(value, str):
        yield from value
    elif isinstance(value, dict):
        for item in itertools.chain(value, value.values()):
            yield from repr_of_strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from repr_of_strings(item)


def split(document: bytes, cuts: list[int]) -> tuple[bytes, RowSplitter]:
    splitter = RowSplitter()
    bounds = [0, *sorted(cut % (len(document) + 1) for cut in cuts), len(document)]
    return b"".join(splitter.feed(document[a:b]) for a, b in itertools.pairwise(bounds)), splitter


CUTS = st.lists(st.integers(0, 2**16), max_size=8)


@given(documents(), CUTS)
@example(({'x"data': [1], "data": [[2]]}, b'{"x\\"data": [1], "data": [[2]]}'), [])
@example(({"data": [[1]]}, b'{"data"' + b" " * 500 + b":" + b"\n" * 500 + b"[[1]]}"), [3, 600])
def test_any_document_in_any_chunks(document, cuts):
    parsed, text = document
    rows, splitter = split(text, cuts)
    assert json.loads(b"[" + rows + b"]") == parsed["data"]
    assert splitter.close() == parsed | {"data": []}
    assert splitter.n_rows == len(parsed["data"])


@given(documents(), CUTS, st.data())
def test_a_damaged_document_is_read_as_json_reads_it_or_refused(document, cuts, data):
    text = bytearray(document[1])
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 2))] = data.draw(st.sampled_from([b"", *TOKENS]))
        text = text or bytearray(b" ")
    try:
        rows, splitter = split(bytes(text), cuts)
        outline = splitter.close()
        read = json.loads(b"[" + rows + b"]")
    except (ValueError, RecursionError):
        return
    expected = json.loads(text.decode().removeprefix("\ufeff"))
    if isinstance(expected, dict) and isinstance(expected.get("data"), list):
        # Of two lists "data" the second may be empty: then the rows of the first are kept.
        assert read == expected["data"] or not expected["data"]
        expected["data"] = []
    assert repr(outline) == repr(expected)


TOKENS = [
    *(b"1e999", b"-1e999", b"-0", b"1e-400", b"NaN", b"-Infinity", b"null", b"true", b'"1.5"', b'""', b'"\\ud800"'),
    *(b"1" * 30, b"9" * 400, b"9" * 5000, b"18446744073709551616", b"1.", b".5", b"01", b"1e5", b"1e30", b"-3.75"),
    *(b"[]", b"{}", b"[[]]", b"[" * 2000 + b"]" * 2000, b'{"a":' * 990 + b"1" + b"}" * 990, b"[" * 100_000),
    *(
        b"\xff",
        b"\xef\xbb\xbf",
        b"\x00",
        b"\\",
        b'"',
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b"\n",
        b"\xc3\xa9",
        b"\xed\xa0\x80",
    ),
    *(b'"data":[', b'"data":[],', b'"index":[0],', b'"Fe\\n+"', b'"' + b"1" * 20_000 + b'"', b'"\\u001b[31m"'),
]


def structure(lattice: list[list[float]], *sites: tuple[str, list[float]]) -> dict:
    return {
        "@module": "pymatgen.core.structure",
        "lattice": {"matrix": lattice, "pbc": [True, True, True], "note": 'é "]'},
        "sites": [{"species": [{"element": name, "occu": 1}], "abc": abc, "properties": {}} for name, abc in sites],
    }


DOCUMENT = {
    "index": [4, 2, 7],
    "columns": ["structure", "gap"],
    "data": [
        [structure([[0, 2.82, 2.82], [2.82, 0, 2.82], [2.82, 2.82, 0]], ("Na", [0, 0, 0]), ("Cl", [0.5, 0.5, 0.5])), 5],
        [
            structure([[2.5, 0, 0], [-1.25, 2.17, 0], [0.0, 0.1, 6.7]], ("C", [0.3, 0.6, 0.25]), ("B3+", [0, 0.9, 1])),
            0.5,
        ],
        [structure([[3.0, 0.1, 0], [0, 3.5, 0], [1e-1, 0, 4.25]], ("Po", [0.1, 0.2, 0.3])), -1.25e-3],
    ],
}
PLAIN = json.dumps(DOCUMENT, ensure_ascii=False).encode()
ZIPPED = gzip.compress(PLAIN, mtime=0)


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


def read(path: Path) -> CrystalTable:
    return read_matbench_json(path, "gap", row_id=lambda row: f"mb-{row:04d}", jobs=1)


def check(path: Path, content: bytes) -> bool:
    """Read the content of a file: whether it makes a table, which must then be sound; else the error must be one."""
    path.write_bytes(content)
    try:
        table = read(path)
    except (DataError, UsageError) as error:
        message = str(error)
        assert message.startswith(str(path))
        assert message.isprintable()
        assert len(message) < 1500
        return False
    n_atoms = len(table.numbers)
    assert table.ptr[0] == 0
    assert table.ptr[-1] == n_atoms == len(table.positions) == len(table.orbit)
    assert (np.diff(table.ptr) > 0).all()
    assert len(table) == len(table.row) == len(set(table.ids.tolist())) == len(table.space_group) == len(table.lattice)
    for values in (table.lattice, table.positions, table.target):
        assert np.isfinite(values).all()
    assert (abs(np.linalg.det(table.lattice)) > 0.01).all()
    assert set(table.numbers.tolist()) <= set(range(1, 119))
    assert set(table.space_group.tolist()) <= set(range(231))
    assert (table.row >= 0).all()
    for i in range(len(table)):
        orbit = table.crystal(i).orbit.tolist()
        assert set(orbit) == set(range(max(orbit) + 1))
    return True


def mutate(content: bytes, rng: random.Random) -> bytes:
    """Damage bytes in one to three places: flip, delete, insert, duplicate, truncate or splice."""
    text = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        at, length = rng.randrange(len(text) or 1), rng.choice([1, 1, 1, 2, 5, 30, 200])
        kind = rng.randrange(8)
        if kind == 0 and text:
            text[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and text:
            text[at] = rng.choice(b'0123456789.-+eE"[]{},: \\ntfN')
        elif kind == 2:
            del text[at : at + length]
        elif kind == 3:
            text[at:at] = rng.randbytes(length)
        elif kind == 4:
            text[at:at] = text[at : at + length]
        elif kind == 5 and rng.random() < 0.2:
            del text[at:]
        elif kind == 6:
            other = rng.randrange(len(text) or 1)
            text[at : at + length] = text[other : other + length]
        else:
            text[at : at + rng.choice([0, 0, 1, 3])] = rng.choice(TOKENS)
    return bytes(text)


def replace_value(document: object, token: bytes, rng: random.Random) -> bytes:
    """Write the document with one of its values, somewhere, replaced by the text of another."""
    document = copy.deepcopy(document)
    node: object = document
    while True:
        key = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
        if not isinstance(node[key], dict | list) or not node[key] or rng.random() < 0.15:
            node[key] = "REPLACED"
            return json.dumps(document).encode().replace(b'"REPLACED"', token)
        node = node[key]


@pytest.mark.parametrize("seed", range(4))
def test_any_damage_to_the_text(folder, seed):
    rng = random.Random(seed)
    tables = sum(check(folder / "d.json", mutate(PLAIN, rng)) for _ in range(250))
    assert 0 < tables < 250


@pytest.mark.parametrize("seed", range(2))
def test_any_damage_to_the_gzip_stream(folder, seed):
    rng = random.Random(seed)
    for _ in range(250):
        content = mutate(ZIPPED, rng)
        # Only bytes of the header that mean nothing, such as the time, or that follow the stream, may change unseen.
        assert not check(folder / "d.json.gz", content) or gzip.decompress(content) == PLAIN


@pytest.mark.parametrize("seed", range(3))
def test_any_value_in_place_of_another(folder, seed):
    rng = random.Random(seed)
    for _ in range(5):
        for token in TOKENS:
            check(folder / "d.json", replace_value(DOCUMENT, token, rng))


def edited(row: int, *path: str | int, to: object) -> dict:
    document = copy.deepcopy(DOCUMENT)
    node = document["data"][row]
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = to
    return document


def raw(row: int, *path: str | int, to: bytes) -> bytes:
    return json.dumps(edited(row, *path, to="REPLACED")).encode().replace(b'"REPLACED"', to)


BAD = {
    "target of 400 digits": (raw(1, 1, to=b"9" * 400), r"mb-0002 .* 'gap' that is too large"),
    "target of 5000 digits": (raw(1, 1, to=b"9" * 5000), r"mb-0002 .* is not valid JSON"),
    "target nested 990 deep": (raw(1, 1, to=b"[" * 990 + b"]" * 990), r"mb-0002 .* nested too deeply"),
    "target nested 9000 deep": (raw(1, 1, to=b"[" * 9000 + b"]" * 9000), r"mb-0002 .* is not valid JSON"),
    "outline nested 9000 deep": (b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}", "nested more than 100 deep"),
    "coordinate of 400 digits": (raw(1, 0, "sites", 0, "abc", 1, to=b"9" * 400), "mb-0002 .*OverflowError"),
    "occupancy NaN": (raw(1, 0, "sites", 0, "species", 0, "occu", to=b"NaN"), r"mb-0002 .* disordered \(site 0: C nan"),
    "a symbol of many digits": (raw(1, 0, "sites", 0, "species", 0, "element", to=b'"%s"' % (b"1" * 99999)), "mb-0002"),
    "a symbol on two lines": (raw(1, 0, "sites", 0, "species", 0, "element", to=b'"Fe\\n+"'), "unknown element"),
    "a huge cell": (raw(1, 0, "lattice", "matrix", 0, 0, to=b"1e200"), "mb-0002 .* longer than 500 Å"),
    "a needle": (edited(1, 0, "lattice", "matrix", to=[[100, 0, 0], [0, 1, 0], [0, 0, 0.2]]), "mb-0002 .* only 0.2 Å"),
    "a skewed cell": (
        edited(1, 0, "lattice", "matrix", to=[[3, 0, 0], [300, 3, 0], [0, 0, 3]]),
        "mb-0002 .* reduce it",
    ),
    "many sites": (edited(1, 0, "sites", to=DOCUMENT["data"][2][0]["sites"] * 100_000), "mb-0002 .* 100000 atoms"),
    "a huge index": (DOCUMENT | {"index": [4, 2, 2**63]}, "row numbers"),
    "a column on two lines": (DOCUMENT | {"columns": ["structure", "ga\np" * 50]}, "no column 'gap'"),
    "two lists data": (PLAIN[:-1] + b', "data": [[1]]}', "has the key 'data' twice"),
    "data in escapes": (PLAIN.replace(b'"data"', b'"dat\\u0061"'), "spells its name with escapes"),
    "a backslash behind": (PLAIN + b"\\", f"Extra data at byte {len(PLAIN)}"),
    "UTF-16": (PLAIN.decode().encode("utf-16"), "not UTF-8 at byte 0"),
    "Latin-1": (PLAIN.decode().replace("é", "").replace("columns", "columné").encode("latin-1"), "not UTF-8 at byte"),
    "an error behind é": (PLAIN.replace(b"{", b'{"\xc3\xa9": 1,, ', 1), "at byte 9"),
    "Latin-1 in a row": (PLAIN.replace(b"B3+", b"\xe9"), r"mb-0002 .* is not valid JSON \('utf-8'"),
    "a comma missing": (PLAIN.replace(b"5], [", b"5] ["), r"mb-0004 .* is not valid JSON"),
}


@pytest.mark.parametrize(("content", "problem"), BAD.values(), ids=BAD)
def test_what_fuzzing_found(folder, content, problem):
    path = folder / "d.json"
    assert not check(path, content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(DataError, match=problem):
        read(path)


def test_a_byte_order_mark_is_passed_over(folder):
    assert check(folder / "d.json", b"\xef\xbb\xbf" + PLAIN)
