"""The layouts of own data: a folder of structure files, the MatBench layout in JSON, CSV, Parquet."""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from benchmarks.base.cache import digest
from benchmarks.base.errors import DataError, UsageError, printable, suggest
from benchmarks.base.files import BadFile, file_digest, open_file, open_unpacked, reading, size_problem
from benchmarks.base.workers import stream
from benchmarks.base.zip_path import MOST_IN_MEMORY
from benchmarks.data.crystal_table import read_outline
from benchmarks.data.rows import (
    Chunk,
    Fault,
    parse_json_rows,
    read_chunk,
    read_documents,
    read_json_rows,
    read_target,
)
from benchmarks.data.splitter import DocumentSplitter, RowSplitter, split_file
from benchmarks.data.structures import BadRow, Form, RawCrystal, form_of, parse_file, parse_structure
from benchmarks.data.tasks import Kind, Task

__all__ = ["LAYOUTS", "Layout", "csv_rows", "find_column", "open_layout"]

_GEMMI = f"gemmi {version('gemmi')}"
_TABLE = "id_prop.csv"
_ID_COLUMNS = ("id", "material_id", "mbid")
_ID_FIELDS = ("jid", "material_id", "id")
_STRUCTURE_FIELDS = ("structure", "atoms")
_STRUCTURE_COLUMNS: dict[str, Form | None] = {"structure": None, "cif": "cif", "poscar": "poscar"}
# Possible places of the structure of an id in a folder, each also with .gz.
_STRUCTURE_FILES = ("{}.cif", "{}.vasp", "{}.poscar", "POSCAR_{}", "POSCAR.{}", "{}/POSCAR")
_FILE_OF_ID = re.compile(r"(?:POSCAR[_.](.+)|(.+)\.(?:cif|vasp|poscar))", re.IGNORECASE)
LAYOUTS = (
    f"a folder of CIF or POSCAR files with {_TABLE}, or a file .json or .json.gz (MatBench layout, or a list of "
    "documents), .csv, .csv.gz or .parquet"
)
# A JSON file that begins so holds a list, of documents, and not the object of the MatBench layout.
_LIST = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\r\n]*\[")
_BEGINNING = 1000
# Rows that a worker process is given at a time.
_CHUNK = 64

# A row of a table: its structure and its target, or what is wrong with it.
_Row = tuple[Any, Any] | str


class Layout(Protocol):
    """Data in one layout."""

    path: Path
    """The file that messages name."""
    parser: str
    """The parser of its structures, with its version: another may read other crystals from them."""

    def targets(self) -> list[str]:
        """Return the columns that can be the target."""

    def content(self) -> str:
        """Return the hash of everything that is read."""

    def ids(self) -> list[str]:
        """Return the id of each row, empty where it has none, after checking the file as a whole."""

    def values(self, column: str) -> list[str]:
        """Return the text of each row in a column, empty where it has none, after checking that there is the column."""

    def read(self, task: Task, symprec: float, jobs: int) -> Iterator[Chunk | Fault]:
        """Read all rows, chunk by chunk in their order, and refine their crystals to a tolerance in Å."""


def open_layout(path: Path, target: str | None) -> Layout:
    """Return the data at a path, in the layout that its name says.

    Raises:
        UsageError: Nothing is there, or its layout is unknown.
        DataError: It cannot be read.
    """
    if not path.exists():
        raise UsageError(f"There is no file or folder {path}: own data are {LAYOUTS}.")
    if path.is_dir():
        return _Folder(path, target)
    name = path.name.lower()
    if name.endswith((".json", ".json.gz")):
        with open_unpacked(path, lambda: "row 0") as file:
            return _Documents(path) if _LIST.match(file.read(_BEGINNING)) else _Json(path)
    for suffixes, layout in (((".csv", ".csv.gz"), _Csv), ((".parquet",), _Parquet)):
        if name.endswith(suffixes):
            return layout(path)
    raise UsageError(f"{path} is in no layout that sen-bench reads: own data are {LAYOUTS}.")


class _Folder:
    """A folder of structure files with a table of ids and targets, as CGCNN reads it.

    The table either has no header line, and an id and a value in each row; or it has a header line, which begins with
    a usual name of an id or contains the name of the target.
    """

    parser = _GEMMI

    def __init__(self, folder: Path, target: str | None) -> None:
        self.folder = folder
        self.path = folder / _TABLE
        if not self.path.is_file():
            raise UsageError(f"There is no {_TABLE} in the folder {folder}: own data are {LAYOUTS}.")
        rows = list(csv_rows(self.path))
        header = [name.strip() for name in rows[0]] if rows else []
        _check_separator(self.path, header)
        self._width = len(header)
        if header and (header[0].lower() in _ID_COLUMNS or (target and find_column(target, header[1:]) in header[1:])):
            self._columns, rows = header[1:], rows[1:]
            _check_names(self.path, self._columns)
        elif len(header) > 2:
            raise UsageError(
                f"{self.path} has {len(header)} columns and no header line: add one (id, then a name for each "
                "column) and choose with --target."
            )
        else:
            self._columns = [target or "target"]
        self._rows = [[row[0].strip(), *row[1:]] for row in rows]

    def targets(self) -> list[str]:
        return list(filter(None, self._columns))

    def ids(self) -> list[str]:
        return _usable([row[0] for row in self._rows])

    def content(self) -> str:
        return digest(
            table=file_digest(self.path),
            files=[[[file, _file_content(self.folder / file)] for file in self._files(row[0])] for row in self._rows],
        )

    def values(self, column: str) -> list[str]:
        column = _column(self.path, column, self.targets())
        at = 1 + self._columns.index(column)
        return [_text(row[at]) if at < len(row) else "" for row in self._rows]

    def read(self, task: Task, symprec: float, jobs: int) -> Iterator[Chunk | Fault]:
        at = 1 + self._columns.index(task.target) if task.target else 0
        rows = (
            f"has {len(row)} values, but the first line has {self._width}: is the comma a decimal comma?"
            if any(row[self._width :])
            else (row[0], self._files(row[0]), row[at] if at < len(row) else "")
            for row in self._rows
        )
        arguments = ((self.folder, chunk, task.target, task.kind, symprec) for chunk in _chunks(rows))
        return stream(_read_files, arguments, jobs)

    def _files(self, name: str) -> list[str]:
        """Return the structure files of an id, relative to the folder."""
        if not name or Path(name).name != name:
            return []
        in_folder = [f"{name}/{file}" for file in ("POSCAR", "POSCAR.gz")]
        try:
            return [*self._files_by_id.get(name, ()), *(file for file in in_folder if (self.folder / file).is_file())]
        except OSError:  # a name that no file can have
            return []

    @cached_property
    def _files_by_id(self) -> dict[str, list[str]]:
        """The structure files directly in the folder by the ids that they may have, which may be their whole names."""
        files: dict[str, list[str]] = {}
        for path in sorted(self.folder.iterdir()):
            if form_of(path) is None or not path.is_file():
                continue
            unpacked = path.stem if path.suffix.lower() == ".gz" else path.name
            match = _FILE_OF_ID.fullmatch(unpacked)
            for name in {path.name, unpacked, *(filter(None, match.groups()) if match else ())}:
                files.setdefault(name, []).append(path.name)
        return files


class _Json:
    """A file in the MatBench layout whose index holds ids."""

    parser = "sen-bench"

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _outline(self) -> tuple[list[Any], list[str]]:
        outline = read_outline(self.path)
        index, columns = outline.index, list(map(str, outline.columns))
        if not all(type(name) in {int, str} for name in index):
            raise DataError(f'{self.path}: "index" must hold the ids of the rows, integers or texts.')
        if "structure" not in columns:
            raise DataError(f"{self.path} has no column 'structure'. {suggest('structure', columns)}")
        _check_names(self.path, columns)
        return index, columns

    def targets(self) -> list[str]:
        return [name for name in self._outline[1] if name != "structure"]

    def ids(self) -> list[str]:
        return _usable(map(str, self._outline[0]))

    def content(self) -> str:
        return _file_content(self.path)

    def values(self, column: str) -> list[str]:
        column = _column(self.path, column, self.targets())
        at = self._outline[1].index(column)
        return _texts(split_file(self.path, RowSplitter()), lambda row: row[at])

    def read(self, task: Task, symprec: float, jobs: int) -> Iterator[Chunk | Fault]:
        return read_json_rows(self.path, self._outline[1], task.target, task.kind, symprec, jobs, is_own=True)


class _Documents:
    """A JSON list of documents, as JARVIS and the API of the Materials Project give them."""

    parser = _GEMMI

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def _outline(self) -> tuple[list[str], list[str]]:
        """The ids, and the fields that hold a number or a truth value in some document."""
        splitter = DocumentSplitter()
        given: list[dict[str, Any]] = []
        numeric: dict[str, None] = {}
        has_structure = False
        for chunk in split_file(self.path, splitter):
            documents = parse_json_rows(chunk, check_keys=False)  # which is done where the rows are read
            if isinstance(documents, Fault):
                number = f"document {len(given) + documents.row} (counted from 0)"
                raise DataError(f"{self.path}: {number} {documents.problem}; repair the file.")
            for document in documents:
                fields = document if isinstance(document, dict) else {}
                given.append({name: fields[name] for name in _ID_FIELDS if name in fields})
                numeric |= dict.fromkeys(name for name, value in fields.items() if isinstance(value, int | float))
                has_structure |= not fields.keys().isdisjoint(_STRUCTURE_FIELDS)
        try:
            splitter.close()
        except ValueError as error:
            raise DataError(f"{self.path} is not valid JSON: {error}; download it again.") from error
        if given and not has_structure:
            raise DataError(f"{self.path} is a list of documents without a field {' or '.join(_STRUCTURE_FIELDS)}.")
        field = next((name for name in _ID_FIELDS if any(name in each for each in given)), None)
        if field is None:
            return [str(row) for row in range(len(given))], [*numeric]
        ids = (each.get(field) for each in given)
        names = _usable(str(name) if type(name) in {int, str} else "" for name in ids)
        return names, [name for name in numeric if name != field]

    def targets(self) -> list[str]:
        return self._outline[1]

    def ids(self) -> list[str]:
        return self._outline[0]

    def content(self) -> str:
        return _file_content(self.path)

    def values(self, column: str) -> list[str]:
        values = _texts(split_file(self.path, DocumentSplitter()), lambda document: document.get(column))
        if not any(values):
            _column(self.path, column, self.targets())
        return values

    def read(self, task: Task, symprec: float, jobs: int) -> Iterator[Chunk | Fault]:
        return read_documents(self.path, task.target, task.kind, symprec, jobs)


class _Table:
    """A table with a column of structures and, optionally, a column of ids."""

    parser = _GEMMI

    def __init__(self, path: Path) -> None:
        self.path = path

    @cached_property
    def columns(self) -> list[str]:
        raise NotImplementedError

    @cached_property
    def structure(self) -> str:
        """Name of the column of structures."""
        for name in _STRUCTURE_COLUMNS:
            if (column := find_column(name, self.columns)) in self.columns:
                return column
        wanted = ", ".join(map(repr, _STRUCTURE_COLUMNS))
        raise DataError(f"{self.path} has no column of structures ({wanted}). {suggest('structure', self.columns)}")

    @cached_property
    def id(self) -> str | None:
        """Name of the column of ids."""
        columns = (find_column(name, self.columns) for name in _ID_COLUMNS)
        return next((column for column in columns if column in self.columns), None)

    def targets(self) -> list[str]:
        return [name for name in self.columns if name and name not in {self.structure, self.id}]

    def content(self) -> str:
        return _file_content(self.path)

    def read(self, task: Task, symprec: float, jobs: int) -> Iterator[Chunk | Fault]:
        form = _STRUCTURE_COLUMNS[self.structure.lower()]
        arguments = ((chunk, form, task.target, task.kind, symprec) for chunk in self.chunks(task.target))
        return stream(_read_table_rows, arguments, jobs)

    def chunks(self, target: str) -> Iterator[list[_Row]]:
        """Yield the rows, some at a time."""
        raise NotImplementedError


class _Csv(_Table):
    """CSV, gzipped or not, in UTF-8 and with a header line."""

    @cached_property
    def columns(self) -> list[str]:
        columns = [name.strip() for name in next(csv_rows(self.path), [])]
        _check_separator(self.path, columns)
        _check_names(self.path, columns)
        return columns

    def ids(self) -> list[str]:
        rows = itertools.islice(csv_rows(self.path), 1, None)
        if self.id is None:
            return [str(row) for row, _ in enumerate(rows)]
        at = self.columns.index(self.id)
        return _usable(row[at] if at < len(row) else "" for row in rows)

    def values(self, column: str) -> list[str]:
        column = _column(self.path, column, self.targets())
        at, rows = self.columns.index(column), itertools.islice(csv_rows(self.path), 1, None)
        return [_text(row[at]) if at < len(row) else "" for row in rows]

    def chunks(self, target: str) -> Iterator[list[_Row]]:
        n, structure = len(self.columns), self.columns.index(self.structure)
        value = self.columns.index(target) if target else structure
        rows = itertools.islice(csv_rows(self.path), 1, None)
        return _chunks(
            (row[structure], _value(row[value]))
            if len(row) == n
            else f"has {len(row)} values, but the header line names {n} columns"
            for row in rows
        )


class _Parquet(_Table):
    """Parquet, whose column of structures holds texts, or pymatgen dictionaries as structs."""

    @cached_property
    def columns(self) -> list[str]:
        with self._reading() as file:
            names: list[str] = file.schema_arrow.names
        _check_names(self.path, names)
        return names

    def ids(self) -> list[str]:
        with self._reading() as file:
            if self.id is None:
                return [str(row) for row in range(file.metadata.num_rows)]
            batches = file.iter_batches(columns=[self.id])
            return _usable("" if name is None else str(name) for batch in batches for name in batch[0].to_pylist())

    def values(self, column: str) -> list[str]:
        column = _column(self.path, column, self.targets())
        with self._reading() as file:
            batches = file.iter_batches(columns=[column])
            return [_text(value) for batch in batches for value in batch[0].to_pylist()]

    def chunks(self, target: str) -> Iterator[list[_Row]]:
        with self._reading() as file:
            for batch in file.iter_batches(_CHUNK, columns=[self.structure, *filter(None, [target])]):
                columns = batch.to_pydict()
                given = columns[target or self.structure]
                targets = [float(value) if isinstance(value, Decimal) else value for value in given]
                yield list(zip(columns[self.structure], targets, strict=True))

    @contextmanager
    def _reading(self) -> Iterator[Any]:
        import pyarrow as pa
        from pyarrow.parquet import ParquetFile

        with reading(self.path), open_file(self.path) as opened:
            if not self.path.stat().st_size:
                raise DataError(f"{self.path} is empty.")
            try:
                with ParquetFile(opened) as file:
                    groups = map(file.metadata.row_group, range(file.metadata.num_row_groups))
                    unpacked = sum(group.total_byte_size for group in groups)
                    if problem := size_problem(unpacked, self.path.stat().st_size):
                        raise DataError(f"{self.path} {problem}.")
                    yield file
            except (pa.ArrowException, OSError) as error:
                raise DataError(f"{self.path} cannot be read as Parquet ({str(error).splitlines()[0]}).") from error


def _check_separator(path: Path, first_row: Sequence[str]) -> None:
    """Refuse a table whose first row has another separator than commas.

    Raises:
        DataError: Tabs or semicolons separate its columns.
    """
    for separator, name in (("\t", "tabs"), (";", ";")):
        if first_row and separator in first_row[0]:
            raise DataError(f"The columns of {path} are separated by {name}: write commas, and decimal points.")


def _check_names(path: Path, columns: Sequence[str]) -> None:
    """Check that no two columns have the same name.

    Raises:
        DataError: Two have.
    """
    named = list(filter(None, columns))
    if len(set(named)) < len(named):
        raise DataError(f"{path} has two columns of the same name: {', '.join(named)}.")


def find_column(column: str, columns: Sequence[str]) -> str:
    """Return the name of a column that the user may have written in another case; the given one if there is none."""
    like = [name for name in columns if name.lower() == column.lower()]
    return like[0] if len(like) == 1 and column not in columns else column


def _column(path: Path, column: str, columns: Sequence[str]) -> str:
    """Return the name of a column of data, see `find_column`.

    Raises:
        UsageError: They have not.
    """
    found = find_column(column, columns)
    if found not in columns:
        raise UsageError(f"{path} has no column {printable(column)!r}. {suggest(column, columns)}")
    return found


def _texts(chunks: Iterable[bytes], pick: Callable[[Any], Any]) -> list[str]:
    """Return the text of what is picked of each row or document, empty where that has another form."""
    found = []
    for chunk in chunks:
        rows = parse_json_rows(chunk, check_keys=False)  # which is done where the rows are read
        for row in rows if isinstance(rows, list) else ():
            try:
                found.append(_text(pick(row)))
            except (AttributeError, IndexError, KeyError, TypeError):
                found.append("")
    return found


def _text(value: object) -> str:
    """Return a value as a text without surrounding blanks, the same in every layout; empty for none."""
    if isinstance(value, str):
        value = _value(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None or value != value else str(value).strip()  # noqa: PLR0124 - NaN is no value


def _read_files(
    folder: Path, rows: list[tuple[str, list[str], str] | str], target: str, kind: Kind, symprec: float
) -> Chunk:
    """Read rows of a folder: id, structure files and target (runs in a worker process)."""

    def read(row: tuple[str, list[str], str] | str) -> tuple[RawCrystal, float]:
        if isinstance(row, str):
            raise BadRow(row)
        name, files, value = row
        if not files:
            wanted = ", ".join(pattern.format(printable(name)) for pattern in _STRUCTURE_FILES)
            raise BadRow(f"has no structure file (one of {wanted})")
        if len(files) > 1:
            raise BadRow(f"has more than one structure file ({', '.join(files)})")
        number = read_target(_value(value), target, kind)
        try:
            return parse_file(folder / files[0]), number
        except OSError as error:
            raise BadRow(f"has a structure file that cannot be read ({files[0]}: {error.strerror})") from error
        except BadRow as problem:
            raise BadRow(f"{problem} ({files[0]})") from problem

    return read_chunk(rows, read, symprec)


def _read_table_rows(rows: list[_Row], form: Form | None, target: str, kind: Kind, symprec: float) -> Chunk:
    """Read rows of a table (runs in a worker process)."""

    def read(row: _Row) -> tuple[RawCrystal, float]:
        if isinstance(row, str):
            raise BadRow(row)
        return parse_structure(row[0], form), read_target(row[1], target, kind)

    return read_chunk(rows, read, symprec)


def _value(text: str) -> object:
    """Return a value of a CSV file as None, a truth value, a number or a text."""
    text = text.strip()
    if not text or text.lower() in {"true", "false"}:
        return text.lower() == "true" if text else None
    try:
        # Python reads 1_000 as a number, but nobody writes data so.
        return text if "_" in text else float(text)
    except ValueError:
        return text


def _usable(names: Iterable[str]) -> list[str]:
    """Return ids without surrounding blanks, empty where no file could hold the id."""
    return [name.strip() if _is_text(name) else "" for name in names]


def _is_text(name: str) -> bool:
    """Return whether UTF-8 can encode a name: JSON can hold lone surrogates, which it cannot."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _chunks(rows: Iterable[Any]) -> Iterator[list[Any]]:
    rows = iter(rows)
    while chunk := list(itertools.islice(rows, _CHUNK)):
        yield chunk


def _file_content(path: Path) -> str:
    with reading(path):
        return file_digest(path)


def csv_rows(path: Path) -> Iterator[list[str]]:
    """Yield the rows of a CSV file, gzipped or not, without empty lines.

    Raises:
        UsageError: There is no regular file of this name.
        DataError: The file is not CSV in UTF-8, or cannot be read.
    """
    # The default limit is too small for the CIF of a large cell; that of whole rows is below.
    csv.field_size_limit(MOST_IN_MEMORY)
    reader = csv.reader(())
    held = 0

    def lines(text: io.TextIOWrapper) -> Iterator[str]:
        nonlocal held
        while line := text.readline(MOST_IN_MEMORY - held):
            held += len(line)
            if held == MOST_IN_MEMORY:
                raise BadFile(f"has a row of more than {MOST_IN_MEMORY / 2**20:g} MiB")
            yield line

    try:
        with (
            open_unpacked(path, lambda: f"line {reader.line_num}") as file,
            io.TextIOWrapper(file, encoding="utf-8-sig", newline="") as text,
        ):
            reader = csv.reader(lines(text), strict=True)
            for row in reader:
                held = 0
                if row:
                    yield row
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not text in UTF-8 ({error}).") from error
    except csv.Error as error:
        raise DataError(f"{path} is not valid CSV in line {reader.line_num} ({error}).") from error
