"""The content of a study file: tables named after commands, whose keys are the options of these commands."""

from __future__ import annotations

import inspect
import json
import tomllib
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, create_model
from pydantic_core import ErrorDetails

from ablations.commands import ablate
from benchmarks.base.errors import UsageError, printable, suggest
from benchmarks.base.files import expanded, read_file
from benchmarks.data.tasks import TASKS, named_folder
from reports.commands import report
from sen.config import Config

__all__ = ["StudyFile", "Table", "TableOfRuns", "find_study_file", "read_study_file"]

_PROVIDED = Path(__file__).parent
# Names become those of files; a key of TOML may hold anything.
_Name = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9_.+-]*$")]
# Where the data are, where to train, and what to do with what is there: the command line says it for all tables.
_OF_STUDY = {"backend", "data_dir", "device", "dry_run", "jobs", "log", "out", "overwrite", "scheduler"}
# What spoils a result is decided where it is seen, and not once for all.
_OF_STUDY |= {"allow_overlap"}


class Table(Config):
    """A table of a study file: options of a command."""

    def options(self) -> dict[str, Any]:
        """Return the options that are given, under the names of the command's parameters."""
        return {name: value for name, value in self if name in self.model_fields_set}

    def words(self) -> list[str]:
        """Return the options that are given, as words of a command line."""
        given = self.model_dump(mode="json", by_alias=True, exclude_unset=True)
        values = {key: value if isinstance(value, list) else [value] for key, value in given.items()}
        return [word for key, several in values.items() for value in several for word in (f"--{key}", str(value))]

    def located(self, data_dir: Path | None) -> Self:
        """Return the table with the paths of the files that it names: in the data folder, else in the current one.

        Args:
            data_dir: Folder of the data; None stands for SEN_BENCH_DATA.

        Raises:
            UsageError: A file is in neither.
        """
        found = self.options()
        if (task := found.get("task")) is not None and task not in TASKS:
            found["task"] = str(_locate(task, data_dir, is_file=bool(Path(task).suffix)))
        if config := found.get("config"):
            parts = [text.rpartition("=") for text in config]
            found["config"] = [
                f"{name}{equals}{_locate(file, data_dir, is_file=False)}" for name, equals, file in parts
            ]
        if against := found.get("against"):
            found["against"] = [_locate(str(path), data_dir, is_file=True) for path in against]
        return self.model_copy(update=found)

    def source(self, names: Collection[str]) -> str | None:
        """Return the ablation, one of these, from whose runs those of this table start; None if it names none."""
        init_from = str(self.options().get("init_from", ""))
        return init_from if init_from in names else None


class TableOfRuns(Table):
    """A table of a command that reads runs.

    Attributes:
        runs: Names of the ablations whose runs it reads; empty: of all.
    """

    runs: list[str] = Field([])

    def options(self) -> dict[str, Any]:
        """Return the options that are given, without the runs."""
        return {name: value for name, value in super().options().items() if name != "runs"}


class StudyFile(Config):
    """A study file.

    Attributes:
        ablate: Options of `sen-bench ablate`, by names of ablations.
        report: Options of `sen-bench report`, by names of pages without `.html`.
        archive: Options of `sen-bench archive`, by names of archives without `.zip`.
    """

    ablate: dict[_Name, Table] = Field(min_length=1)
    report: dict[_Name, TableOfRuns] = Field({})
    archive: dict[_Name, TableOfRuns] = Field({})


def _text(value: object) -> object:
    """Return a list or a number as the option takes it on a command line: "0,1" for [0, 1]."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if type(value) is int else value


def _options(command: Callable[..., None]) -> dict[str, Any]:
    """Return a field for each option of a command that is said in a study file, as `create_model` takes it."""
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        if name in _OF_STUDY | set(TableOfRuns.model_fields):
            continue
        kind, info = get_args(parameter.annotation)
        field = Field(parameter.default, alias=name.strip("_").replace("_", "-"), ge=info.min, le=info.max)
        fields[name] = (Annotated[kind, BeforeValidator(_text)] if str in (kind, *get_args(kind)) else kind, field)
    return fields


_TABLES: dict[str, type[Table]] = {
    "ablate": create_model("Ablate", __base__=Table, **_options(ablate)),
    "report": create_model("Report", __base__=TableOfRuns, **_options(report)),
    "archive": TableOfRuns,
}
_TYPES: dict[str, Any] = {
    name: (dict[_Name, table], StudyFile.model_fields[name])  # type: ignore[valid-type]
    for name, table in _TABLES.items()
}
_Checked = create_model("StudyFile", __base__=StudyFile, **_TYPES)


def find_study_file(name: str) -> Path:
    """Return the study file of this path, or the one of this name that comes with sen-bench.

    Raises:
        UsageError: There is neither.
    """
    provided = {path.stem: path for path in sorted(_PROVIDED.glob("*.toml"))}
    path = expanded(name)
    if path.is_file():
        return path
    if name in provided:
        return provided[name]
    if path.exists():
        raise UsageError(
            f"{path} is no file: name a study file, or one that comes with sen-bench: {', '.join(provided)}."
        )
    raise UsageError(
        f"There is no file {path}, and no study file of that name comes with sen-bench. {suggest(name, provided)}"
    )


def read_study_file(path: Path) -> StudyFile:
    """Read a study file and check what needs neither data nor models.

    Raises:
        UsageError: It cannot be read, is not valid, or has an unknown key; the message names the nearest one.
    """
    try:
        content = tomllib.loads(read_file(path).decode())
    except OSError as error:
        raise UsageError(f"The study file {path} cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"The study file {path} is not valid TOML: {error}.") from None
    try:
        # As JSON, because a strict field then takes a path as text.
        found = _Checked.model_validate_json(json.dumps(content, default=str))
    except ValidationError as error:
        raise UsageError(f"{path}: {_problem(_first(error.errors()))}") from None
    above: list[str] = []
    for name, table in found.ablate.items():
        source = table.source(found.ablate)
        if source is not None and source not in above:
            raise UsageError(
                f"{path}, ablate.{name}: init-from names {source}, which must stand above it, because its runs are "
                "trained before."
            )
        above.append(name)
    for command, tables in (("report", found.report), ("archive", found.archive)):
        for name, table in tables.items():
            for each in table.runs:
                if each not in found.ablate:
                    raise UsageError(
                        f"{path}, {command}.{name}: runs names no ablation {printable(each)!r} of this file. "
                        f"{suggest(each, found.ablate)}"
                    )
    return found


def _first(errors: list[ErrorDetails]) -> ErrorDetails:
    """Return the error to tell: a wrong key may be why another one is missing."""
    return min(errors, key=lambda error: error["type"] != "extra_forbidden")


def _problem(error: ErrorDetails) -> str:
    """Return what is wrong with a study file, in a sentence."""
    place = [str(part) for part in error["loc"] if part != "[key]"]
    where = ".".join(map(printable, place))
    known = [*StudyFile.model_fields] if len(place) == 1 else _keys(place[0])
    if error["type"] == "extra_forbidden":
        return f"there is no key {where}. {suggest(place[-1], known)}"
    if place[0] in _TABLES and len(place) <= 2 and error["type"] in {"dict_type", "model_type"}:
        return f"{where} is no table: give each one a name, such as [{place[0]}.first], and the options below it."
    if place == ["ablate"]:
        return "it holds no ablation: add a table such as [ablate.first], with options of `sen-bench ablate`."
    if error["type"] == "string_pattern_mismatch":
        return f"{where}: a name has letters, digits and _.+- and begins with a letter or digit."
    return f"{where}: {error['msg']} (given: {printable(repr(error['input']))})."


def _keys(command: str) -> list[str]:
    return [field.alias or name for name, field in _TABLES[command].model_fields.items()]


def _locate(name: str, data_dir: Path | None, *, is_file: bool) -> Path:
    """Return where a file is, or a name that is known not to be one as it is.

    Args:
        name: The name.
        data_dir: Folder of the data; None stands for SEN_BENCH_DATA.
        is_file: Whether it must be a file or folder, and not for instance the name of a task.
    """
    folders = [folder for folder in (named_folder(data_dir), Path()) if folder is not None]
    paths = [path for folder in folders if (path := folder / expanded(name)).exists()]
    if not paths and is_file:
        places = " nor in ".join("the current folder" if folder == Path() else str(folder) for folder in folders)
        verb = "is neither in" if len(folders) > 1 else "is not in"
        raise UsageError(f"{name} {verb} {places}: name the folder that holds it with --data-dir.")
    return paths[0] if paths and name else Path(name)
