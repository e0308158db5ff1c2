from __future__ import annotations

import json

import pytest

from benchmarks.data.splitter import RowSplitter

ROWS = [
    [{"a": [1, [2, 3]], "s": 'quote " and ] } [ {'}, 1.5],
    [{"s": "ends with a backslash \\"}, None],
    [{"s": '\\" \\\\" é', "": {"data": [1, 2]}}, True],
    [],
]
OUTLINES = {
    "usual": {"index": [1, 2, 3, 4], "columns": ["structure", "y"], "data": ROWS},
    "data first": {"data": ROWS, "index": [1, 2], "columns": ["a"]},
    "with others": {"note": '"data": [', "more": {"data": [[1], [2]]}, "xdata": [[5]], "data": ROWS, "z": [{}, [[]]]},
}


def split(document: bytes, size: int) -> tuple[list, RowSplitter]:
    splitter = RowSplitter()
    pieces = [splitter.feed(document[start : start + size]) for start in range(0, len(document), size)]
    return json.loads(b"[" + b"".join(pieces) + b"]"), splitter


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("document", OUTLINES.values(), ids=OUTLINES)
def test_rows_come_out_whole_whatever_the_chunks(document, indent):
    text = json.dumps(document, indent=indent).encode()
    for size in range(1, len(text) + 2):
        rows, splitter = split(text, size)
        assert rows == ROWS
        assert splitter.n_rows == len(ROWS)
        assert splitter.close() == document | {"data": []}


def test_each_batch_ends_with_a_row():
    text = json.dumps(OUTLINES["usual"]).encode()
    splitter = RowSplitter()
    counted = 0
    for start in range(0, len(text), 16):
        before = splitter.n_rows
        rows = splitter.feed(text[start : start + 16]).strip(b", ")
        assert len(json.loads(b"[" + rows + b"]")) == splitter.n_rows - before
        counted += bool(rows)
    assert counted > 2


def test_non_ascii_and_empty_data():
    rows, splitter = split('{"é": "ü", "data": [ ]}'.encode(), 3)
    assert rows == []
    assert splitter.close() == {"é": "ü", "data": []}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"index": [1], "data": [[1], [2], [3', "ends inside its data, after 2 complete rows"),
        (b'{"data": [[1, 2]], "index" [1]}', "at byte 27"),
        (b'{"index" [1], "data": [[1, 2]]}', "at byte 9"),
        (b"<html>", "at byte 0"),
        (b"", "at byte 0"),
    ],
)
def test_what_is_not_json_is_located(text, message):
    splitter = RowSplitter()
    splitter.feed(text)
    with pytest.raises(ValueError, match=message):
        splitter.close()
