"""The run store: a folder for each run, with a folder for each finished training, written whole or not at all.

A run is `runs/<task>/<block>-<hash>/` with `config.json`, `summary.json` and, for every finished training,
`seed_0/fold_0/` with `predictions.csv`, `metrics.json`, `history.csv`, `model.safetensors` and `manifest.json`, which
holds the hashes of the others. The weights may be removed, and an archive has none: the result is complete without
them. A training that is under way has its state in `seed_0/fold_0.state.safetensors`.

Runs are read from a folder or from an archive that `benchmarks.results.archive` wrote. Only folders are written.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
import math
import shutil
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, RunError, SenBenchError, UsageError
from benchmarks.base.files import check_file, file_digest, new_folder, put_in_place, write_json
from benchmarks.base.locks import Taken, lock
from benchmarks.base.zip_path import AnyPath, ZipPath, find_files, open_path
from benchmarks.data.folds import N_FOLDS
from sen.registry import block_code

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMAT",
    "Predictions",
    "Run",
    "Training",
    "find_run",
    "find_runs",
    "fold_means",
    "is_official",
    "other_code",
]

FORMAT = 1

_MANIFEST = "manifest.json"
_WEIGHTS = "model.safetensors"
_RESULT_FILES = ("predictions.csv", "history.csv", "metrics.json", _MANIFEST)

# Every record of a training has these fields.
_FIELDS = {
    *("metrics", "rows", "parameters", "best_epoch", "epochs", "wall_seconds", "peak_memory_bytes", "device"),
    *("elements", "provenance", "sessions"),
}


@dataclass(frozen=True, order=True)
class Training:
    """One fold of one seed: what is trained, stored and resumed as one."""

    seed: int
    fold: int

    def __str__(self) -> str:
        """How messages name the training."""
        return f"fold {self.fold}, seed {self.seed}"


class Predictions(NamedTuple):
    """Test rows of a training in the official order: ids, targets [n] and predictions [n]."""

    ids: list[str]
    target: NDArray[np.float64]
    prediction: NDArray[np.float64]


class Run:
    """The results of one configuration on one data set.

    Args:
        path: Their folder, which `write_config` creates, or a folder in an archive, which is only read.
    """

    def __init__(self, path: AnyPath) -> None:
        self.path = path
        self._warned: set[tuple[AnyPath, str]] = set()

    @property
    def is_archived(self) -> bool:
        """Whether the run is in an archive."""
        return isinstance(self.path, ZipPath)

    @property
    def folder(self) -> Path:
        """The folder of the run, to write to.

        Raises:
            UsageError: The run is in an archive.
        """
        if isinstance(self.path, ZipPath):
            raise UsageError(f"{self.path} is in an archive, which is never changed: name a folder of runs with --out.")
        return self.path

    def training_path(self, training: Training) -> AnyPath:
        """Folder of a finished training."""
        return self.path / _subfolder(training)

    def state_path(self, training: Training) -> Path:
        """File that keeps the state of a training that is under way."""
        return self._sibling(training, "state.safetensors")

    def lock(self, training: Training) -> AbstractContextManager[bool]:
        """Hold the lock of a training in a block; yields whether it is held, as `benchmarks.base.locks.lock` does.

        Raises:
            Taken: Another process runs the training.
            UsageError: The run folder cannot be written.
        """
        path = self._sibling(training, "lock", hidden=True)
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
        return lock(path)

    def discard(self, trainings: Sequence[Training]) -> None:
        """Remove the results and states of trainings, and the summary that includes them, to train again.

        Raises:
            UsageError: Another process is training one of them, and nothing was removed, or the run folder cannot be
                written.
        """
        begun = [training for training in trainings if (self.folder / _subfolder(training)).parent.is_dir()]
        with ExitStack() as stack:
            for training in begun:
                try:
                    stack.enter_context(self.lock(training))
                except Taken:
                    raise UsageError(
                        f"Another process is training {training} in {self.path}: stop it first, or leave out "
                        "--overwrite always."
                    ) from None
            with self._writing():
                (self.folder / "summary.json").unlink(missing_ok=True)
                for training in begun:
                    for path in (self.folder / _subfolder(training), self._sibling(training, "replaced")):
                        if path.exists():
                            shutil.rmtree(path)
                    self.state_path(training).unlink(missing_ok=True)

    def sweep(self, training: Training) -> None:
        """Remove the temporary files of processes that were killed; only the holder of the lock may call it."""
        lock = self._sibling(training, "lock", hidden=True)
        for path in lock.parent.glob(f".fold_{training.fold}.*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != lock:
                path.unlink(missing_ok=True)

    def is_finished(self, training: Training) -> bool:
        """Whether there is a result of a training, verified by hash; a damaged one is reported as a warning."""
        path = self.training_path(training)
        return path.is_dir() and self._is_whole(path)

    def trainings(self) -> list[Training]:
        """All finished trainings, verified by hash; a damaged one counts as missing, with a warning."""
        return [training for training, path in self._named("") if self._is_whole(path)]

    def under_way(self) -> list[Training]:
        """All trainings that have a saved state to continue from, and no result yet."""
        # A process that is killed between writing the result and removing the state leaves both.
        return [training for training, _ in self._named(".state.safetensors") if not self.is_finished(training)]

    def check_results(self) -> dict[Training, str | None]:
        """What is wrong with the result of each training that has one; None if nothing is."""
        return {training: _problem(path) for training, path in self._named("")}

    def fingerprint(self) -> str:
        """Return a hash of the name, the configuration and the results of the run, wherever it lies."""
        files = [self.path / "config.json", *(path / "manifest.json" for _, path in self._named(""))]
        content = hashlib.sha256(self.path.resolve().name.encode())
        for file in files:
            with suppress(OSError):  # what is missing or damaged is reported where results are read
                name = "/".join(file.parts[len(self.path.parts) :])
                content.update(name.encode() + file.read_bytes())
        return content.hexdigest()

    def result_files(self, training: Training) -> list[AnyPath]:
        """The files of a finished training, without the weights."""
        return [self.training_path(training) / name for name in _RESULT_FILES]

    def _sibling(self, training: Training, suffix: str, *, hidden: bool = False) -> Path:
        """Where a training keeps what is not its result: "seed_0/fold_0.suffix"."""
        name = f"{'.' if hidden else ''}fold_{training.fold}.{suffix}"
        return (self.folder / _subfolder(training)).with_name(name)

    def _named(self, suffix: str) -> list[tuple[Training, AnyPath]]:
        """Files and folders with the name of a training and this suffix, in the order of the trainings."""
        found: list[tuple[Training, AnyPath]] = []
        for path in self.path.glob(f"seed_*/fold_*{suffix}"):
            seed = path.parent.name.removeprefix("seed_")
            fold = path.name.removeprefix("fold_").removesuffix(suffix)
            if seed.isdigit() and fold.isdigit():
                found.append((Training(int(seed), int(fold)), path))
        return sorted(found, key=lambda pair: pair[0])

    def read_metrics(self, training: Training) -> dict[str, Any]:
        """Read the record of a finished training.

        Raises:
            DataError: It cannot be read, or is not JSON.
        """
        return _read_json(self.training_path(training) / "metrics.json")

    def has_weights(self, training: Training) -> bool:
        """Whether the weights of a finished training are available."""
        return (self.training_path(training) / _WEIGHTS).exists()

    def read_weights(self, training: Training) -> dict[str, Tensor]:
        """Read the weights of a finished training, onto the CPU.

        Raises:
            DataError: They were removed, or the run is in an archive.
        """
        from safetensors.torch import load_file

        if self.is_archived:
            raise DataError(
                f"{self.path} is in an archive, which holds no weights: name the folder of runs that it was made from, "
                "or train again with `sen-bench run`."
            )
        path = self.folder / _subfolder(training) / _WEIGHTS
        if not path.exists():
            raise DataError(
                f"{path} was removed: the result is still valid, but this model cannot predict anything new. "
                f"`sen-bench run --overwrite always` with --seed {training.seed} --folds {training.fold} trains it "
                "again."
            )
        return load_file(path)

    def read_predictions(self, training: Training) -> Predictions:
        """Read the predictions of a finished training for its test rows.

        Raises:
            DataError: The file cannot be read, or is not a table of ids, targets and predictions.
        """
        path = self.training_path(training) / "predictions.csv"
        try:
            rows = [(row["id"], float(row["target"]), float(row["prediction"])) for row in _read_csv(path)]
        except OSError as error:
            raise DataError(f"{path} cannot be read ({error.strerror}).") from error
        except (KeyError, TypeError, ValueError, csv.Error):
            raise DataError(f"{path} does not hold the columns id,target,prediction with numbers.") from None
        ids, target, prediction = zip(*rows, strict=True) if rows else ((), (), ())
        return Predictions(list(ids), np.array(target), np.array(prediction))

    def read_history(self, training: Training) -> list[dict[str, float]]:
        """Read the epochs of a finished training: the fields of an `Epoch`, one entry per epoch.

        Raises:
            DataError: The file is not a table of epochs.
        """
        path = self.training_path(training) / "history.csv"
        try:
            return [{name: float(value) for name, value in line.items()} for line in _read_csv(path)]
        except (OSError, TypeError, ValueError, csv.Error):
            raise DataError(f"{path} does not hold one line of numbers for each epoch.") from None

    def write_config(self, facts: Mapping[str, Any]) -> None:
        """Write config.json, which makes the folder a run.

        Raises:
            UsageError: The run folder cannot be written.
        """
        with self._writing():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.folder / "config.json", {"format": FORMAT, **facts})

    def read_config(self) -> dict[str, Any]:
        """Read config.json.

        Raises:
            DataError: It cannot be read, or is not JSON.
        """
        return _read_json(self.path / "config.json")

    def write_training(
        self,
        training: Training,
        *,
        predictions: Sequence[tuple[str, float, float]],
        record: Mapping[str, Any],
        history: Sequence[Any],
        weights: Mapping[str, Tensor],
    ) -> None:
        """Write a finished training, and remove its state.

        A damaged result is moved to `fold_N.replaced`, where what is left of it can be looked up.

        Args:
            training: Which fold of which seed.
            predictions: (row id, target, prediction) of every test row.
            record: Metrics, and how they were obtained.
            history: One dataclass instance per epoch.
            weights: State of the trained model.

        Raises:
            RunError: It cannot be written; the state is still there.
        """
        from safetensors.torch import save

        final = self.folder / _subfolder(training)
        with self._writing(RunError), new_folder(final) as temporary:
            _write_csv(temporary / "predictions.csv", ("id", "target", "prediction"), predictions)
            epochs = [asdict(epoch) for epoch in history]
            _write_csv(temporary / "history.csv", tuple(epochs[0]), [tuple(epoch.values()) for epoch in epochs])
            write_json(temporary / "metrics.json", {"format": FORMAT, **record})
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            (temporary / _WEIGHTS).write_bytes(save(tensors, metadata={"format": str(FORMAT)}))
            hashes = {path.name: file_digest(path) for path in sorted(temporary.iterdir())}
            sizes = {name: (temporary / name).stat().st_size for name in hashes}
            write_json(temporary / _MANIFEST, {"format": FORMAT, "sha256": hashes, "size": sizes})
            if final.exists():
                replaced = self._sibling(training, "replaced")
                shutil.rmtree(replaced, ignore_errors=True)
                final.rename(replaced)
            put_in_place(temporary, final)
            self.state_path(training).unlink(missing_ok=True)

    def read_summary(self) -> dict[str, Any]:
        """Read summary.json; empty if it is missing or damaged, because it can be made again from the results."""
        try:
            return _read_json(self.path / "summary.json")
        except DataError:
            return {}

    def write_summary(self, summarise: Callable[[], Mapping[str, Any]]) -> None:
        """Write summary.json under a lock; an archive has none.

        The summary can be made again from the results. So if the disk refuses it, or another process removes a result
        meanwhile, that is a warning and no error.
        """
        if self.is_archived:
            return
        try:
            with lock(self.folder / ".summary.lock", f"writing {self.path}/summary.json") as is_held:
                # By processes that were killed while they wrote.
                for left in self.folder.glob(".summary.json.*") if is_held else ():
                    left.unlink(missing_ok=True)
                write_json(self.folder / "summary.json", summarise())
        except (OSError, DataError) as error:
            logging.getLogger("sen_bench").warning("%s/summary.json is not written: %s", self.path, error)

    @contextmanager
    def _writing(self, failure: type[SenBenchError] = UsageError) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise failure(
                f"The run folder {self.path} cannot be written ({error.strerror}): free disk space, or choose another "
                "folder with --out. Finished results in it are kept."
            ) from error

    def _is_whole(self, path: AnyPath) -> bool:
        problem = _problem(path)
        if problem is not None and (path, problem) not in self._warned:
            self._warned.add((path, problem))
            logging.getLogger("sen_bench").warning("The result in %s counts as missing: %s.", path, problem)
        return problem is None


def _subfolder(training: Training) -> str:
    return f"seed_{training.seed}/fold_{training.fold}"


def _problem(path: AnyPath) -> str | None:
    """Return what is wrong with the folder of a finished training, if anything is."""
    try:
        manifest = _read_json(path / _MANIFEST)
        if manifest["format"] != FORMAT:
            return f"it was written by another version (format {manifest['format']}, this is {FORMAT})"
        hashes = {name: sha for name, sha in manifest["sha256"].items() if name != _WEIGHTS or (path / name).exists()}
        problems = (check_file(path / name, sha, manifest["size"][name]) for name, sha in hashes.items())
        if problem := next((problem for problem in problems if problem), None):
            return problem
        lacks = sorted(_FIELDS - _read_json(path / "metrics.json").keys())
        return f"it was written by another version (metrics.json lacks {', '.join(lacks)})" if lacks else None
    except (DataError, KeyError, TypeError, ValueError, AttributeError) as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError):
            return f"{_MANIFEST} is missing"
        read = f"cannot be read ({cause.strerror})" if isinstance(cause, OSError) else "is cut or altered"
        return f"{_MANIFEST} {read}"


def fold_means(scores: Mapping[Training, float | None]) -> dict[int, float]:
    """Return the mean score of each fold over its seeds, sorted by fold; NaN if a training has no score."""
    return {
        fold: statistics.fmean(
            math.nan if score is None else score for training, score in scores.items() if training.fold == fold
        )
        for fold in sorted({training.fold for training in scores})
    }


def is_official(facts: Mapping[str, Any], trainings: Collection[Training]) -> bool:
    """Whether the mean of a run may be ranked on the leaderboard: complete official data, and all folds of every seed.

    Args:
        facts: The run's config.json.
        trainings: Its finished trainings.
    """
    complete = bool(trainings) and len(trainings) == N_FOLDS * len({training.seed for training in trainings})
    unlimited = facts["config"]["limit"] is None
    return complete and unlimited and bool(facts["task"]["is_official"] and facts["data"]["is_complete"])


def other_code(run: Run, trainings: Iterable[Training], block_name: str) -> list[str]:
    """Find results of another version of sen-bench, or of other code of a plug-in's block.

    Args:
        run: The run.
        trainings: Some of its finished trainings.
        block_name: Its block, which must be installed.

    Returns:
        For each version the beginning of a sentence: "RUN: fold 0, seed 0 was trained with ...".

    Raises:
        DataError: A record cannot be read.
    """
    others: dict[str, list[Training]] = {}
    for training in trainings:
        record = run.read_metrics(training)
        if (release := record["provenance"].get("sen-bench")) != version("sen-bench"):
            others.setdefault(f"sen-bench {release} (this is {version('sen-bench')})", []).append(training)
        elif record.get("block_code") != block_code(block_name):
            others.setdefault(f"other code of the block {block_name!r} than is installed now", []).append(training)
    return [f"{run.path}: {'; '.join(map(str, found))} was trained with {code}" for code, found in others.items()]


def find_run(path: AnyPath) -> Run:
    """Open the run in a folder, or in a folder of an archive such as results.zip/TASK/BLOCK-HASH.

    Raises:
        UsageError: It is no run; the message lists the runs below it.
        DataError: The archive cannot be read.
    """
    place = open_path(path)
    if not place.is_dir():
        raise UsageError(f"There is no folder {path}: name the folder of a run, such as runs/TASK/BLOCK-HASH.")
    runs = list(find_runs(place))
    if any(run.path == place for run in runs):
        return Run(place)
    if runs:
        below = "; ".join(str(run.path) for run in runs)
        raise UsageError(f"{path} is not a run, but there are runs below it; name one of them: {below}.")
    raise UsageError(f"{path} is not a run: a run is a folder with a config.json, such as runs/TASK/BLOCK-HASH.")


def find_runs(root: AnyPath, *, strict: bool = False) -> Iterator[Run]:
    """Yield every run in a folder or an archive, sorted by path.

    A run whose config.json is missing or cannot be used, and a folder that cannot be read, are skipped with a warning.

    Args:
        root: The folder, the archive, or a folder in an archive.
        strict: Raise an error for such a run or folder instead.

    Raises:
        UsageError: There is no such folder.
        DataError: The archive cannot be read, or with `strict` a folder or the config.json of a run.
    """
    root = open_path(root)
    if not root.is_dir():
        raise UsageError(
            f"There is no folder or archive {root}: name the one that was given to `sen-bench run` as --out."
        )

    def skip(problem: Exception | str) -> None:
        if strict:
            raise DataError(str(problem))
        logging.getLogger("sen_bench").warning("Skipped: %s", problem)

    found = list(find_files(root, {"config.json", "manifest.json"}, skip))
    runs = {path.parent for path in found if path.name == "config.json"}
    results = [path.parent for path in found if path.name == "manifest.json" and path.parent.name.startswith("fold_")]
    for folder in sorted(runs | {path.parent.parent for path in results}, key=lambda folder: folder.parts):
        if folder not in runs:
            if (folder / "config.json").exists():
                skip(f"{root} is a part of a run: name the whole run, {folder}.")
            else:
                skip(f"{folder} has results, but no config.json: put it back, or remove that folder.")
            continue
        try:
            is_run = _is_run(folder / "config.json")
        except DataError as error:
            skip(error)
        else:
            if is_run:
                yield Run(folder)


def _is_run(path: AnyPath) -> bool:
    """Whether a config.json is that of a run, and not of another program.

    Raises:
        DataError: It cannot be read, or lacks what a run records.
    """
    facts = _read_json(path)
    if lacks := sorted({"task", "data"} - facts.keys()) if "config" in facts else []:
        raise DataError(f"{path} has no {' and no '.join(lacks)}.")
    return "config" in facts


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _read_csv(path: AnyPath) -> csv.DictReader[str]:
    return csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8"), newline=""))


def _read_json(path: AnyPath) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold a JSON object.")
    return content
