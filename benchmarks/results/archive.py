"""Results in one file: a zip archive of runs, tunings and ablations without weights, read like a folder of runs.

The layout is that of the run store, `TASK/NAME-HASH/...`, `TASK/tuning-NAME-HASH/...` and `TASK/ablation-HASH/...`. The
same results give the same bytes on every machine that has the same version of zlib: names are sorted, and times,
permissions and the level of compression are fixed.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from benchmarks.base.errors import DataError, UsageError
from benchmarks.base.files import parse_json, read_again, read_file, write_bytes
from benchmarks.base.zip_path import MOST_BYTES, MOST_FILES, AnyPath, find_files, open_path
from benchmarks.results.store import Run, Training, find_runs

__all__ = ["ArchiveContents", "check_new", "check_same", "collect", "write_archive"]

_ABLATION_FILES = ("ablation.json", "table.csv", "comparisons.csv", "cells.csv", "table.tex")
_TUNING_FILES = ("trials.json", "recipe.toml")
_FIRST_TIME = (1980, 1, 1, 0, 0, 0)  # of a zip file


@dataclass(frozen=True, eq=False)
class ArchiveContents:
    """Results to be archived.

    Attributes:
        files: The files, by their names in the archive.
        n_runs: Number of runs.
        n_trainings: Number of finished trainings.
        n_tunings: Number of searches for a recipe.
        n_ablations: Number of ablations.
        left_out: Runs with trainings that are not finished: "runs/TASK/NAME-HASH: fold 1, seed 0".
    """

    files: Mapping[str, AnyPath]
    n_runs: int
    n_trainings: int
    n_tunings: int
    n_ablations: int
    left_out: Sequence[str]


def collect(paths: Sequence[Path]) -> ArchiveContents:
    """Find the finished results in runs, folders of runs and archives.

    Raises:
        UsageError: A folder does not exist, no training in it is finished, or two results of one name differ.
        DataError: A result or an archive is damaged.
    """
    files: dict[str, AnyPath] = {}
    trainings: set[tuple[str, Training]] = set()
    tunings: set[str] = set()
    ablations: set[str] = set()
    left_out = []
    for root in map(open_path, paths):
        for run in find_runs(root, strict=True):
            finished = _finished(run)
            unfinished = [str(training) for training in run.under_way()]
            if unfinished or not finished:
                left_out.append(f"{run.path}: {'; '.join(unfinished) or 'no training'}")
            if finished:
                name = _name(run.path, run.read_config())
                trainings |= {(name, training) for training in finished}
                results = [file for training in finished for file in run.result_files(training)]
                _add(files, name, run.path, [run.path / "config.json", *results])
        for file in find_files(root, {"trials.json"}, _refuse):
            folder = file.parent.resolve()
            if folder.name.startswith("tuning-"):
                tunings.add(name := f"{folder.parent.name}/{folder.name}")
                _add(files, name, file.parent, [file.parent / each for each in _TUNING_FILES])
        for file in find_files(root, {"ablation.json"}, _refuse):
            if file.parent.resolve().name.startswith("ablation-"):
                name = _name(file.parent, _read_ablation(file))
                ablations.add(name)
                _add(files, name, file.parent, [file.parent / each for each in _ABLATION_FILES])
    if not files:
        raise UsageError(
            f"No training is finished in {', '.join(map(str, paths))}: name runs, folders of runs, or archives."
        )
    n_runs = len({name for name, _ in trainings})
    return ArchiveContents(files, n_runs, len(trainings), len(tunings), len(ablations), left_out)


def _refuse(problem: str) -> None:
    raise DataError(problem)


def _finished(run: Run) -> list[Training]:
    """Return the finished trainings of a run.

    Raises:
        DataError: A result is damaged.
    """
    checked = run.check_results()
    for training, problem in checked.items():
        if problem is not None:
            raise DataError(
                f"The result in {run.training_path(training)} is damaged, so no archive is written: {problem}. "
                "`sen-bench run` trains it again in a folder of runs; or leave it out."
            )
    return list(checked)


def _read_ablation(file: AnyPath) -> dict[str, Any]:
    try:
        content = parse_json(read_again(file, read_file))
    except (OSError, ValueError):
        content = None
    if not isinstance(content, dict):
        raise DataError(f"{file} is damaged, so no archive is written: repeat the command that wrote it.")
    return content


def _name(path: AnyPath, facts: Mapping[str, Any]) -> str:
    """Return the name in an archive of the folder of a run or ablation, given what it records."""
    try:
        task = facts["task"]["name"]
    except (KeyError, TypeError):
        task = None
    if not isinstance(task, str) or "/" in task or not task.strip("."):
        raise DataError(f"{path} does not record the name of its task, so no archive is written.")
    return f"{task}/{path.resolve().name}"


def _add(files: dict[str, AnyPath], name: str, folder: AnyPath, found: Iterable[AnyPath]) -> None:
    """Add those files in a folder that exist, under the folder's name in the archive.

    Raises:
        UsageError: There is another file of the same name with other content.
    """
    for file in found:
        if file.exists():
            key = "/".join([name, *file.parts[len(folder.parts) :]])
            other = files.setdefault(key, file)
            if read_file(other) != read_file(file):
                raise UsageError(f"{other} and {file} have the same name but differ: write one archive for each.")


def check_new(path: Path) -> None:
    """Check that an archive can be written under this name.

    Raises:
        UsageError: It has another ending than .zip, exists, or its folder does not.
    """
    if path.suffix != ".zip":
        raise UsageError(f"{path} must end in .zip, such as results.zip.")
    if path.exists():
        raise UsageError(f"{path} exists, and an archive is never replaced: name another file with --out.")
    if not path.parent.is_dir():
        raise UsageError(f"There is no folder {path.parent} to write {path.name} into.")


def check_same(path: Path, contents: ArchiveContents) -> None:
    """Check that an archive holds these trainings and tunings, and no others; tables of ablations follow from them.

    Raises:
        UsageError: It does not.
        DataError: The archive is damaged.
    """
    there, here = (
        {n: f for n, f in each.items() if "/ablation-" not in n} for each in (collect([path]).files, contents.files)
    )
    if there.keys() != here.keys() or any(read_file(there[name]) != read_file(here[name]) for name in here):
        raise UsageError(
            f"{path} exists with other results, and an archive is never replaced: move it, or choose another name."
        )


def write_archive(path: Path, files: Mapping[str, AnyPath]) -> None:
    """Write an archive, whole or not at all.

    Args:
        path: The archive.
        files: Its files, by their names in it.

    Raises:
        UsageError: See `check_new`; or the archive would be larger than can be read, or cannot be written.
    """
    content, size = io.BytesIO(), 0
    with ZipFile(content, "w") as archive:
        for name, file in sorted(files.items()):
            entry = ZipInfo(name, _FIRST_TIME)
            entry.create_system, entry.external_attr = 3, 0o100644 << 16  # Unix, a file that its owner may write
            raw = read_file(file)
            size += len(raw)
            if len(files) > MOST_FILES or size > MOST_BYTES:
                raise UsageError(
                    f"These results take more than {MOST_FILES:,} files or {MOST_BYTES / 2**30:g} GiB: write several "
                    "archives, such as one for each task."
                )
            archive.writestr(entry, raw, ZIP_DEFLATED, 9)
    check_new(path)
    try:
        write_bytes(path, content.getvalue())
    except OSError as error:
        raise UsageError(f"{path} cannot be written ({error.strerror}).") from error
