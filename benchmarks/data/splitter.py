"""Splitting a JSON document of any size into the rows of its "data", with only a part of it in memory."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.files import BadFile, open_unpacked, parse_json
from benchmarks.base.zip_path import MOST_IN_MEMORY

__all__ = ["DocumentSplitter", "RowSplitter", "split_file"]

_CHUNK = 1 << 20
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
# A quote after a backslash begins no key: it is part of a longer one.
_DATA = re.compile(rb'(?<!\\)"data"[ \t\r\n]*:[ \t\r\n]*\[\Z')
_STEP = np.zeros(256, dtype=np.int8)
_STEP[[ord("["), ord("{")]] = 1
_STEP[[ord("]"), ord("}")]] = -1
_SPECIAL = _STEP != 0
_SPECIAL[ord('"')] = True


class RowSplitter:
    """Splits a JSON document, fed in chunks of any size, into the rows of its "data" array and the outline around them.

    Attributes:
        n_rows: Number of complete rows so far.
    """

    def __init__(self) -> None:
        self.n_rows = 0
        self._outline = bytearray()
        self._n_bytes = 0
        self._held = b""
        self._pending = bytearray()
        self._depth = 0
        self._in_string = 0
        self._searched = 0
        self._data_from: int | None = None
        self._data_to: int | None = None

    @property
    def n_held(self) -> int:
        """Number of bytes in memory: of the outline and of a row that is not complete."""
        return len(self._outline) + len(self._pending)

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the document and return the rows that they complete, as comma-separated JSON."""
        text = self._held + chunk
        # The last of an odd number of backslashes belongs to the first character of the next chunk.
        odd = (len(text) - len(text.rstrip(b"\\"))) % 2
        body = text[: len(text) - odd]
        self._held = text[len(body) :]
        where, depth = self._brackets(body)
        start = 0
        rows = b""
        if self._data_from is None:
            start = self._find_data(body, where, depth)
        if self._data_from is not None and self._data_to is None:
            rows, start = self._take_rows(body, start, where, depth)
        self._outline += body[start:] if self._data_to is not None else b""
        self._n_bytes += len(body)
        return rows

    def close(self) -> object:
        """Return the parsed outline, in which "data" is empty, after the complete document was fed.

        Raises:
            ValueError: The document is not JSON in UTF-8, or has two lists "data"; the message gives the place.
        """
        if self._data_from is not None and self._data_to is None:
            raise ValueError(f"it ends inside its data, after {self.n_rows} complete rows")
        self._outline += self._held
        try:
            text = self._outline.decode()
            outline: object = parse_json(text.removeprefix("\ufeff"))
        except UnicodeDecodeError as error:
            raise ValueError(f"not UTF-8 at byte {self._position(error.start)}") from error
        except json.JSONDecodeError as error:
            at = len(self._outline) - len(error.doc[error.pos :].encode())
            raise ValueError(f"{error.msg} at byte {self._position(at)}") from error
        if isinstance(outline, dict) and isinstance(outline.get("data"), list) and outline["data"]:
            raise ValueError('it has a second list "data", or spells its name with escapes')
        return outline

    def _position(self, at: int) -> int:
        """Return the position in the document of a byte of the outline."""
        data_from, data_to = self._data_from or 0, self._data_to or 0
        return at if at <= data_from else at + data_to - data_from

    def _brackets(self, body: bytes) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the positions in `body` of the brackets outside strings, and the depth after each."""
        if b"\\" in body:
            body = _ESCAPE.sub(b"__", body)
        codes = np.frombuffer(body, np.uint8)
        where = np.flatnonzero(_SPECIAL[codes])
        codes = codes[where]
        in_string = (np.cumsum(codes == ord('"')) + self._in_string) & 1
        step = _STEP[codes]
        bracket = (in_string == 0) & (step != 0)
        depth = np.cumsum(step[bracket], dtype=np.int64) + self._depth
        if len(in_string):
            self._in_string = int(in_string[-1])
        if len(depth):
            self._depth = int(depth[-1])
        return where[bracket], depth

    def _find_data(self, body: bytes, where: NDArray[np.int64], depth: NDArray[np.int64]) -> int:
        """Move `body` to the outline up to the beginning of "data", else to its end, and return that position."""
        start = 0
        for after in (where[depth == 2] + 1).tolist():
            self._outline += body[start:after]
            start = int(after)
            if _DATA.search(self._outline, self._searched):
                self._data_from = self._n_bytes + start
                return start
            self._searched = len(self._outline)
        self._outline += body[start:]
        return len(body)

    def _take_rows(
        self, body: bytes, start: int, where: NDArray[np.int64], depth: NDArray[np.int64]
    ) -> tuple[bytes, int]:
        """Return the rows that `body` completes, and the position of the end of "data" in it (else its length)."""
        inside = where >= start
        ends = where[inside & (depth == 1)]
        end = int(ends[0]) if len(ends) else len(body)
        closes = where[inside & (depth == 2) & (where < end)]
        self.n_rows += len(closes)
        cut = int(closes[-1]) + 1 if len(closes) else start
        if len(ends):
            self._data_to = self._n_bytes + end
            cut = end
        rows = b""
        if cut > start or len(ends):
            rows = bytes(self._pending) + body[start:cut]
            self._pending.clear()
        self._pending += body[cut:end]
        return rows, end


class DocumentSplitter(RowSplitter):
    """Splits a JSON list of documents, as if it were the "data" of a document around it."""

    _BEFORE = b'{"data":'

    def __init__(self) -> None:
        super().__init__()
        super().feed(self._BEFORE)

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the list and return the documents that they complete, as comma-separated JSON."""
        return super().feed(chunk.removeprefix(codecs.BOM_UTF8) if self._n_bytes == len(self._BEFORE) else chunk)

    def close(self) -> object:
        """Check that the list is complete; see `RowSplitter.close`."""
        if self._data_to is not None:
            super().feed(b"}")
        return super().close()

    def _position(self, at: int) -> int:
        return super()._position(at) - len(self._BEFORE)


def split_file(path: Path, splitter: RowSplitter) -> Iterator[bytes]:
    """Feed a file, gzipped or not, to a splitter and yield the rows that it returns, some hundreds at a time.

    Raises:
        DataError: See `open_unpacked`.
    """
    with open_unpacked(path, lambda: f"row {splitter.n_rows}") as file:
        while chunk := file.read(_CHUNK):
            rows = splitter.feed(chunk)
            if splitter.n_held > MOST_IN_MEMORY:
                raise BadFile(f"has more than {MOST_IN_MEMORY / 2**20:g} MiB in one row or beside its rows")
            if rows.strip(b", \t\r\n"):
                yield rows
