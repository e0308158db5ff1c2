"""The run store: a folder for each run, with a folder for each finished training, written whole or not at all.

A run is `runs/<task>/<name>-<hash>/` with `config.json`, `summary.json` and, for every finished training,
`seed_0/fold_0/` with `predictions.csv`, `metrics.json`, `history.csv`, `model.safetensors` and `manifest.json`, which
holds the hashes of the others; where rows calibrate intervals there is `calibration.csv`, too. The weights may be
removed, and an archive has none: the result is complete without them. A training that is under way has its state in
`seed_0/fold_0.state.safetensors`. With --log its curves are in `seed_0/fold_0.tensorboard`.

What is read is what it says it is. The hash in the folder's name is that of the configuration and the data in
config.json, and `digests` in config.json ends with the hash of all that the file says. The record of a training,
metrics.json, says which training it is and which hash its config.json had. Records of sen-bench 0.1 lack that hash.

Runs are read from a folder or from an archive that `benchmarks.results.archive` wrote. Only folders are written.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import logging
import math
import os
import re
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

from benchmarks.base.cache import digest
from benchmarks.base.errors import DataError, RunError, SenBenchError, UnreadableError, UsageError, printable
from benchmarks.base.files import (
    check_file,
    file_digest,
    new_folder,
    parse_json,
    plain,
    put_in_place,
    read_again,
    read_file,
    remedy,
    write_bytes,
    write_json,
)
from benchmarks.base.locks import Taken, lock
from benchmarks.base.zip_path import AnyPath, ZipPath, find_files, open_path
from benchmarks.data.folds import N_FOLDS, data_digest
from benchmarks.results.recorded import config_digest, labels, recorded_variant, variant_kind_of
from sen.registry import variant_code, variant_kind

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "FORMAT",
    "Predictions",
    "Run",
    "Training",
    "facts_digest",
    "find_run",
    "find_runs",
    "find_training",
    "fold_means",
    "is_official",
    "is_older_format",
    "other_code",
]

FORMAT = 1

_MANIFEST = "manifest.json"
_WEIGHTS = "model.safetensors"
_CALIBRATION = "calibration.csv"
_RESULT_FILES = ("predictions.csv", _CALIBRATION, "history.csv", "metrics.json", _MANIFEST)

# Names that the store gives; others, such as "fold_00" or "seed_1 (copy)", would be second names of one training.
_SEED = re.compile("seed_(0|[1-9][0-9]{0,18})")
_FOLD = re.compile("fold_(0|[1-9][0-9]{0,18})(.*)")
_FAILURE = re.compile(r"\.fold_(0|[1-9][0-9]{0,18})\.failure")
_REPLACED = "replaced"
_REPLACED_SUFFIX = rf"\.{_REPLACED}(-[0-9]+)?"
# The end of a name while its file or folder is being written.
_PART = r"\.[0-9a-f]{8}"
# What sen-bench writes in a run, by the path below its folder: what lies beside the result of a training, results
# whole, replaced or cut short, and curves. Other names, such as that of a copy, "fold_0.good", are the user's.
_WRITTEN = re.compile(
    rf"(config|summary)\.json|\.(config|summary)\.(json{_PART}|lock)|seed_[0-9]+/("
    rf"fold_[0-9]+\.state\.safetensors|\.fold_[0-9]+\.(lock|failure|state\.safetensors{_PART})"
    rf"|\.\.fold_[0-9]+\.failure{_PART}"
    rf"|(fold_[0-9]+({_REPLACED_SUFFIX})?|\.fold_[0-9]+{_PART}(\.old)?)/("
    rf"{'|'.join(map(re.escape, (*_RESULT_FILES, _WEIGHTS)))}|\.(metrics|manifest)\.json{_PART})"
    r"|fold_[0-9]+\.tensorboard/(.+/)?events\.out\.tfevents[^/]*)"
)
_BEGUN = re.compile(r"\.?fold_(0|[1-9][0-9]{0,18})(\..+)?")

# Every record of a training has these fields.
_FIELDS = {
    *("task", "kind", "seed", "fold", "coverage", "data_digest"),
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
    """Rows of a training in the official order, those that test or calibrate: ids, targets [n] and predictions [n]."""

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

    def log_path(self, training: Training) -> Path:
        """Folder of the curves of a training (--log), which are no part of its result."""
        return self._sibling(training, "tensorboard")

    def lock(self, training: Training) -> AbstractContextManager[bool]:
        """Hold the lock of a training in a block; yields whether it is held, as `benchmarks.base.locks.lock` does.

        Raises:
            Taken: Another process runs the training.
            UsageError: The run folder cannot be written.
        """
        path = self._lock_path(training)
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
        return lock(path)

    def discard(self, trainings: Sequence[Training]) -> None:
        """Remove the results, states and curves of trainings, and the summary that includes them, to train again.

        Raises:
            UsageError: Another process is training one of them, and nothing was removed, or the run folder cannot be
                written.
        """
        begun = [training for training in trainings if (self.folder / _subfolder(training)).parent.is_dir()]
        with self.held(begun, "or leave out --overwrite always"), self._writing():
            (self.folder / "summary.json").unlink(missing_ok=True)
            for training in begun:
                final = self.folder / _subfolder(training)
                own = re.compile(rf"{final.name}(\.tensorboard|{_REPLACED_SUFFIX})?")
                for path in (path for path in final.parent.iterdir() if own.fullmatch(path.name)):
                    shutil.rmtree(path)
                self.state_path(training).unlink(missing_ok=True)

    @contextmanager
    def held(self, trainings: Iterable[Training], otherwise: str) -> Iterator[None]:
        """Hold the locks of trainings in a block.

        Raises:
            UsageError: Another process is training one of them; the message says to stop it `otherwise`.
        """
        with ExitStack() as stack:
            for training in trainings:
                try:
                    stack.enter_context(self.lock(training))
                except Taken:
                    raise UsageError(
                        f"Another process is training {training} in {self.path}: stop it first, {otherwise}."
                    ) from None
            yield

    def begun(self) -> list[Training]:
        """All trainings that were ever begun, finished or not."""
        found = set()
        for folder in _children(self.path):
            for path in _children(folder):
                seed, fold = _SEED.fullmatch(folder.name), _BEGUN.fullmatch(path.name)
                if seed and fold:
                    found.add(Training(int(seed[1]), int(fold[1])))
        return sorted(found)

    @contextmanager
    def deletable(self) -> Iterator[list[Path]]:
        """Let no training of the run go on or begin in a block; yields the files that `delete` may delete in it.

        They are those that sen-bench wrote; whatever else lies in its folder is not among them. The files of locks come
        last, and only those whose lock is held.

        Raises:
            UsageError: Another process uses the run, or the run folder cannot be written.
        """
        locks = [self.folder / ".summary.lock", self._config_lock]
        with ExitStack() as stack:
            for path in reversed(locks):
                try:
                    stack.enter_context(lock(path))
                except Taken:
                    raise UsageError(f"Another process is using {self.path}: repeat this when it has ended.") from None
            begun = self.begun()
            stack.enter_context(self.held(begun, "and then delete the run"))
            files = (Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names)
            written = {path for path in files if _WRITTEN.fullmatch(path.relative_to(self.folder).as_posix())}
            locks = [*map(self._lock_path, begun), *locks]
            yield [*sorted(path for path in written if path.suffix != ".lock"), *(p for p in locks if p in written)]

    def delete(self, files: Iterable[Path]) -> None:
        """Delete files of the run, and each folder that this leaves empty; only in a block of `deletable`."""
        for path in files:
            path.unlink()
        for folder, _, _ in os.walk(self.folder, topdown=False):
            with suppress(OSError):  # something else is in it
                Path(folder).rmdir()

    def sweep(self, training: Training) -> None:
        """Remove what earlier processes left: temporary files when they were killed, and why they failed.

        Only the holder of the lock may call it.
        """
        lock = self._lock_path(training)
        for path in lock.parent.glob(f".fold_{training.fold}.*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path != lock:
                path.unlink(missing_ok=True)

    def note_failure(self, training: Training, reason: str) -> None:
        """Leave the reason why a training failed to the processes that wait for its lock; `sweep` removes it."""
        with suppress(OSError):  # they then try it themselves
            write_bytes(self._sibling(training, "failure", hidden=True), reason.encode())

    def read_failure(self, training: Training) -> str | None:
        """Return the reason why a training failed the last time; None if it did not, or was begun again."""
        with suppress(OSError):
            return read_file(self._sibling(training, "failure", hidden=True)).decode()
        return None

    def failures(self) -> dict[Training, str]:
        """The reason of each training that failed the last time, and has no result."""
        found = {}
        for folder in () if self.is_archived else _children(self.path):
            for path in _children(folder):
                seed, fold = _SEED.fullmatch(folder.name), _FAILURE.fullmatch(path.name)
                if seed and fold:
                    training = Training(int(seed[1]), int(fold[1]))
                    reason = self.read_failure(training)
                    if reason is not None and not self.is_finished(training):
                        found[training] = reason
        return dict(sorted(found.items()))

    def is_finished(self, training: Training) -> bool:
        """Whether there is a result of a training, verified by hash; a damaged one is reported as a warning."""
        return any(found == training and self._is_whole(found, path) for found, path in self._named(""))

    def seeds(self) -> list[int]:
        """The seeds of which a training was begun, sorted.

        Raises:
            UnreadableError: The system refuses to list the run folder.
        """
        return sorted(int(named[1]) for path in _children(self.path) if (named := _SEED.fullmatch(path.name)))

    def trainings(self) -> list[Training]:
        """All finished trainings, verified; a damaged or misplaced one counts as missing, with a warning.

        Raises:
            UnreadableError: The system refuses to read a result, which may be whole.
            DataError: There are results, and config.json is missing, damaged or altered.
        """
        return [training for training, path in self._named("") if self._is_whole(training, path)]

    def under_way(self) -> list[Training]:
        """All trainings that have a saved state to continue from, and no result yet."""
        # A process that is killed between writing the result and removing the state leaves both.
        return [training for training, _ in self._named(".state.safetensors") if not self.is_finished(training)]

    def check_results(self) -> dict[Training, str | None]:
        """What is wrong with the result of each training that has one; None if nothing is.

        Raises:
            DataError: See `trainings`.
        """
        return {training: self._problem(training, path) for training, path in self._named("")}

    def fingerprint(self) -> str:
        """Return a hash of the name, the configuration and the results of the run, wherever it lies."""
        files = [self.path / "config.json", *(path / "manifest.json" for _, path in self._named(""))]
        content = hashlib.sha256(self.path.resolve().name.encode())
        for file in files:
            with suppress(OSError):  # what is missing or damaged is reported where results are read
                name = "/".join(file.parts[len(self.path.parts) :])
                content.update(name.encode() + read_again(file, read_file))
        return content.hexdigest()

    def result_files(self, training: Training) -> list[AnyPath]:
        """The files that a finished training may have, without the weights."""
        return [self.training_path(training) / name for name in _RESULT_FILES]

    def _sibling(self, training: Training, suffix: str, *, hidden: bool = False) -> Path:
        """Where a training keeps what is not its result: "seed_0/fold_0.suffix"."""
        name = f"{'.' if hidden else ''}fold_{training.fold}.{suffix}"
        return (self.folder / _subfolder(training)).with_name(name)

    def _lock_path(self, training: Training) -> Path:
        return self._sibling(training, "lock", hidden=True)

    @property
    def _config_lock(self) -> Path:
        """The file of the lock under which config.json is written, and no training begins."""
        return self.folder / ".config.lock"

    def _named(self, suffix: str) -> list[tuple[Training, AnyPath]]:
        """Files and folders with the name of a training and this suffix, in the order of the trainings."""
        found: list[tuple[Training, AnyPath]] = []
        for path in (path for folder in _children(self.path) for path in _children(folder)):
            seed, fold = _SEED.fullmatch(path.parent.name), _FOLD.fullmatch(path.name)
            if seed and fold and fold[2] == suffix:
                found.append((Training(int(seed[1]), int(fold[1])), path))
                continue
            has_name = seed and fold and (not fold[2] or fold[2].startswith(f".{_REPLACED}"))
            if not has_name and not path.name.startswith(".") and (path / _MANIFEST).exists():
                self._warn(path, "does not count, because it has no name such as seed_0/fold_0: rename or remove it")
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
        from safetensors.torch import load

        return load(self._weights(training))

    def weights_digest(self, training: Training) -> str:
        """Return the sha256 of the weights of a finished training, in hexadecimal.

        Raises:
            DataError: See `read_weights`.
        """
        return hashlib.sha256(self._weights(training)).hexdigest()

    def _weights(self, training: Training) -> bytes:
        if self.is_archived:
            raise DataError(
                f"{self.path} is in an archive, which holds no weights: name the folder of runs that it was made from, "
                "or train again with `sen-bench run`."
            )
        path = self.folder / _subfolder(training) / _WEIGHTS
        try:
            return read_again(path, Path.read_bytes)
        except FileNotFoundError:
            raise DataError(
                f"{path} was removed: the result is still valid, but this model cannot predict anything new. "
                f"`sen-bench run --overwrite always` with --seed {training.seed} --folds {training.fold} trains it "
                "again."
            ) from None

    def read_predictions(self, training: Training) -> Predictions:
        """Read the predictions of a finished training for its test rows.

        Raises:
            DataError: The file cannot be read, or is not a table of ids, targets and predictions.
        """
        return _read_predictions(self.training_path(training) / "predictions.csv")

    def read_calibration(self, training: Training) -> Predictions | None:
        """Read the predictions of a finished training for the rows that calibrate intervals; None if it has none.

        Raises:
            DataError: See `read_predictions`.
        """
        path = self.training_path(training) / _CALIBRATION
        return _read_predictions(path) if path.exists() else None

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

        Some facts, such as the unit, may change from one command to the next. Results written before stay valid,
        because the file keeps the hashes of what it said then.

        Args:
            facts: The configuration ("config"), the task ("task") and the data ("data").

        Raises:
            UsageError: The run folder cannot be written.
            UnreadableError: The system refuses to read the config.json that it has.
        """
        with self._writing(), self._config_held():
            self._put_config(facts)

    def keep_config(self, facts: Mapping[str, Any]) -> None:
        """Write config.json if it is gone because the run was deleted after a training was planned.

        Only the holder of the lock of a training may call it: from then on the run cannot be deleted.

        Args:
            facts: See `write_config`.

        Raises:
            UsageError: The run folder cannot be written.
        """
        with self._writing(), self._config_held():
            if not (self.folder / "config.json").exists():
                self._put_config(facts)

    def _config_held(self) -> AbstractContextManager[bool]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return lock(self._config_lock, f"planning or deleting {self.path}")

    def _put_config(self, facts: Mapping[str, Any]) -> None:
        current = facts_digest(facts)
        try:
            known = _read_json(self.path / "config.json").get("digests", [])
        except UnreadableError:
            raise
        except DataError:  # a new run, or a damaged file, which is written again
            known = []
        earlier = [digest for digest in known if digest != current] if isinstance(known, list) else []
        write_json(self.folder / "config.json", {"format": FORMAT, **facts, "digests": [*earlier, current]})

    def read_config(self) -> dict[str, Any]:
        """Read config.json, and check that it is as a command wrote it for this folder.

        Raises:
            UnreadableError: The system refuses to read it.
            DataError: It is missing, damaged, altered, or that of another run.
        """
        path = self.path / "config.json"
        facts = _read_json(path)
        if lacks := sorted({"config", "task", "data"} - facts.keys()):
            raise DataError(f"{path} has no {' and no '.join(lacks)}.")
        if facts.get("format") != FORMAT:
            raise DataError(f"{path} was written by another version (format {facts.get('format')}, this is {FORMAT}).")
        try:
            config, of_task, split = facts["config"], _of_run(facts)["task"], facts["task"]["split"]
            name = f"{recorded_variant(config)}-{config_digest(config, data_digest(facts['data']['digest'], split))}"
            altered = facts["task"]["name"] != of_task or facts.get("digests", [None])[-1] not in {
                None,
                facts_digest(facts),
            }
        except (AttributeError, IndexError, KeyError, TypeError) as error:
            raise DataError(f"{path} lacks what a run records ({error!r}).") from None
        repair = "put it back as it was, or repeat the `sen-bench run` that wrote it, which keeps the results"
        if self.path.resolve().name != name:
            raise DataError(
                f"{path} is that of a run called {name}: if the folder was renamed, give it that name; if the file was "
                f"altered, {repair}."
            )
        if altered:
            raise DataError(f"{path} was altered after it was written: {repair}.")
        return facts

    def write_training(
        self,
        training: Training,
        *,
        predictions: Sequence[tuple[str, float, float]],
        calibration: Sequence[tuple[str, float, float]] = (),
        record: Mapping[str, Any],
        history: Sequence[Any],
        weights: Mapping[str, Tensor],
    ) -> None:
        """Write a finished training, and remove its state.

        A damaged result is moved to `fold_N.replaced`, or `fold_N.replaced-2` and so on, where what is left of it can
        be looked up.

        Args:
            training: Which fold of which seed.
            predictions: (row id, target, prediction) of every test row.
            calibration: The same of every row that calibrates intervals.
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
            if calibration:
                _write_csv(temporary / _CALIBRATION, ("id", "target", "prediction"), calibration)
            epochs = [asdict(epoch) for epoch in history]
            _write_csv(temporary / "history.csv", tuple(epochs[0]), [tuple(epoch.values()) for epoch in epochs])
            write_json(temporary / "metrics.json", {"format": FORMAT, **record})
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            (temporary / _WEIGHTS).write_bytes(save(tensors, metadata={"format": str(FORMAT)}))
            hashes = {path.name: file_digest(path) for path in sorted(temporary.iterdir())}
            sizes = {name: (temporary / name).stat().st_size for name in hashes}
            write_json(temporary / _MANIFEST, {"format": FORMAT, "sha256": hashes, "size": sizes})
            if final.exists():
                names = (f"{_REPLACED}-{n}" if n > 1 else _REPLACED for n in itertools.count(1))
                siblings = (self._sibling(training, name) for name in names)
                final.rename(next(path for path in siblings if not path.exists()))
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
                f"The run folder {self.path} cannot be written ({error.strerror}): {remedy(error)}, or choose another "
                "folder with --out. Finished results in it are kept."
            ) from error

    def _is_whole(self, training: Training, path: AnyPath) -> bool:
        problem = self._problem(training, path)
        if problem is not None:
            self._warn(path, f"counts as missing: {problem}")
        return problem is None

    def _warn(self, path: AnyPath, problem: str) -> None:
        if (path, problem) not in self._warned:
            self._warned.add((path, problem))
            logging.getLogger("sen_bench").warning("The result in %s %s.", path, problem)

    def _problem(self, training: Training, path: AnyPath) -> str | None:
        """Return what is wrong with the folder of a finished training, if anything is.

        Raises:
            DataError: See `trainings`.
        """
        return _damage(path) or _misplacement(self.read_config(), training, path)


def facts_digest(facts: Mapping[str, Any]) -> str:
    """Return the hash of what config.json of a run says of its configuration, task and data."""
    return digest(**{name: plain(facts[name]) for name in ("config", "task", "data")})


def _of_run(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what every record of a training has in common with config.json, under the names in the record."""
    config, task, data = facts["config"], facts["task"], facts["data"]
    return {
        "task": config["task"],
        variant_kind_of(config): recorded_variant(config),
        "kind": task["kind"],
        "data_digest": data["digest"],
        "coverage": data["coverage"],
    }


def _subfolder(training: Training) -> str:
    return f"seed_{training.seed}/fold_{training.fold}"


def _misplacement(facts: Mapping[str, Any], training: Training, path: AnyPath) -> str | None:
    """Return how an undamaged result differs from what its place in a run says, if it does.

    Args:
        facts: The config.json of the run.
        training: The training that has this place.
        path: Folder of the result.
    """
    record = _read_json(path / "metrics.json")
    for name, expected in {**_of_run(facts), **asdict(training)}.items():
        if name not in record:
            return f"it is of no {name}, but the run is of {printable(expected)}, so it was moved or copied"
        if record[name] != expected:
            return f"it is of {name} {printable(record[name])}, not {printable(expected)}, so it was moved or copied"
    if "run" in record and record["run"] not in facts.get("digests", ()):
        return "it is of another configuration, data set or unit than config.json says, so it was moved or copied"
    return None


def _damage(path: AnyPath) -> str | None:
    """Return what is wrong with the files of a finished training, if anything is.

    Raises:
        UnreadableError: The system refuses to read one of them.
    """
    try:
        return next(_damages(path), None)
    except UnreadableError:
        raise
    except (DataError, KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        cause = error.__cause__
        if isinstance(cause, FileNotFoundError):
            return f"{_MANIFEST} is missing"
        read = f"cannot be read ({cause.strerror})" if isinstance(cause, OSError) else "is cut or altered"
        return f"{_MANIFEST} {read}"


def _damages(path: AnyPath) -> Iterator[str]:
    manifest = _read_json(path / _MANIFEST)
    if manifest["format"] != FORMAT:
        yield f"it was written by another version (format {manifest['format']}, this is {FORMAT})"
    hashes = {name: sha for name, sha in manifest["sha256"].items() if name != _WEIGHTS or (path / name).exists()}
    for name, sha in hashes.items():
        if problem := check_file(path / name, sha, manifest["size"][name]):
            yield problem
    record = _read_json(path / "metrics.json")
    if lacks := sorted(_FIELDS - record.keys()):
        yield f"it was written by another version (metrics.json lacks {', '.join(lacks)})"
    for name, part in (("predictions.csv", "test"), (_CALIBRATION, "calibration")):
        n_rows = sum(1 for _ in _read_csv(path / name)) if (path / name).exists() else 0
        if n_rows != record["rows"].get(part, 0):
            yield f"{name} has {n_rows} rows, and metrics.json says {record['rows'].get(part, 0)}"


def fold_means(scores: Mapping[Training, float | None]) -> dict[int, float]:
    """Return the mean score of each fold over its seeds, sorted by fold; NaN if a training has no score."""
    return {
        fold: statistics.fmean(
            math.nan if score is None else score for training, score in scores.items() if training.fold == fold
        )
        for fold in sorted({training.fold for training in scores})
    }


def is_official(facts: Mapping[str, Any], trainings: Collection[Training]) -> bool:
    """Whether the mean of a run may be ranked on the leaderboard: complete official data, all official folds of a seed.

    The recipe must not have been chosen by rows of the task, and the weights must be drawn and not pretrained, because
    the published models have learnt from the training rows alone.

    Args:
        facts: The run's config.json.
        trainings: Its finished trainings.
    """
    task = facts["task"]
    complete = bool(trainings) and len(trainings) == N_FOLDS * len({training.seed for training in trainings})
    by_protocol = facts["config"]["limit"] is None and not labels(facts, range(N_FOLDS))
    on_official_folds = task["is_official"] and task["split"] == "folds"
    return complete and by_protocol and bool(on_official_folds and facts["data"]["is_complete"])


def is_older_format(records: Iterable[Mapping[str, Any]]) -> bool:
    """Whether a training among these records is of sen-bench 0.1, which did not record what its config.json said."""
    return any("run" not in record for record in records)


def other_code(run: Run, trainings: Iterable[Training], variant: str) -> list[str]:
    """Find results of another version of sen-bench, or of other code of a plug-in's block or model.

    Args:
        run: The run.
        trainings: Some of its finished trainings.
        variant: Its block or model, which must be installed.

    Returns:
        For each version the beginning of a sentence: "RUN: fold 0, seed 0 was trained with ...".

    Raises:
        DataError: A record cannot be read.
    """
    others: dict[str, list[Training]] = {}
    kind, code = variant_kind(variant), variant_code(variant)
    for training in trainings:
        record = run.read_metrics(training)
        if (release := record["provenance"].get("sen-bench")) != version("sen-bench"):
            others.setdefault(f"sen-bench {release} (this is {version('sen-bench')})", []).append(training)
        elif record.get(f"{kind}_code") != code:
            others.setdefault(f"other code of the {kind} {variant!r} than is installed now", []).append(training)
    return [f"{run.path}: {'; '.join(map(str, found))} was trained with {other}" for other, found in others.items()]


def find_run(path: AnyPath) -> Run:
    """Open the run in a folder, or in a folder of an archive such as results.zip/TASK/NAME-HASH.

    Raises:
        UsageError: It is no run; the message lists the runs below it.
        DataError: The archive or the config.json of the run cannot be read, or is damaged or altered.
    """
    place = open_path(path)
    if not place.is_dir():
        raise UsageError(f"There is no folder {path}: name the folder of a run, such as runs/TASK/NAME-HASH.")
    if (place / "config.json").exists() and _is_run(place):
        return Run(place)
    runs = list(find_runs(place))
    if runs:
        below = "; ".join(str(run.path) for run in runs)
        raise UsageError(f"{path} is not a run, but there are runs below it; name one of them: {below}.")
    raise UsageError(f"{path} is not a run: a run is a folder with a config.json, such as runs/TASK/NAME-HASH.")


def find_training(path: AnyPath) -> tuple[Run, Training]:
    """Open a run and choose one of its finished trainings: RUN/seed_1/fold_2 names it, RUN means the first one.

    The first one has the lowest seed and of that the lowest fold.

    Raises:
        UsageError: There is no such run, or the training is not finished.
        DataError: See `find_run`.
    """
    seed, fold = _SEED.fullmatch(path.parent.name), _FOLD.fullmatch(path.name)
    is_training = seed is not None and fold is not None and not fold[2]
    run = find_run(path.parent.parent if is_training else path)
    finished, under_way = run.trainings(), run.under_way()
    if seed is not None and fold is not None and is_training:
        chosen = Training(int(seed[1]), int(fold[1]))
    else:
        chosen = min([*finished, *under_way], default=Training(0, 0))
    if chosen not in finished:
        others = "; ".join(map(str, finished)) or "none"
        state = "is under way" if chosen in under_way else "has no result"
        raise UsageError(
            f"{chosen} of {run.path} {state}: let `sen-bench run` finish it, or name a finished one, such as "
            f"{run.path}/seed_0/fold_0. Finished: {others}."
        )
    return run, chosen


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
            is_run = _is_run(folder)
        except DataError as error:
            skip(error)
        else:
            if is_run:
                yield Run(folder)


def _is_run(folder: AnyPath) -> bool:
    """Whether the config.json in a folder is that of a run, and not of another program.

    Raises:
        DataError: See `Run.read_config`.
    """
    if "config" not in _read_json(folder / "config.json"):
        return False
    Run(folder).read_config()
    return True


def _children(folder: AnyPath) -> list[AnyPath]:
    """Return what a folder holds, sorted by name; nothing if it is no folder.

    Raises:
        UnreadableError: The system refuses to list it.
    """
    try:
        return read_again(folder, lambda path: sorted(path.iterdir(), key=lambda child: child.name))
    except OSError:
        return []


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        # Until Python 3.13 a carriage return is not quoted by itself, and the reader takes it for the end of a row.
        writer, quoting = (
            csv.writer(file, lineterminator="\n", quoting=how) for how in (csv.QUOTE_MINIMAL, csv.QUOTE_ALL)
        )
        for row in (header, *rows):
            (quoting if any("\r" in cell for cell in row if isinstance(cell, str)) else writer).writerow(row)


def _read_predictions(path: AnyPath) -> Predictions:
    try:
        rows = [(row["id"], float(row["target"]), float(row["prediction"])) for row in _read_csv(path)]
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except (KeyError, TypeError, ValueError, csv.Error):
        raise DataError(f"{path} does not hold the columns id,target,prediction with numbers.") from None
    ids, target, prediction = zip(*rows, strict=True) if rows else ((), (), ())
    return Predictions(list(ids), np.array(target), np.array(prediction))


def _read_csv(path: AnyPath) -> csv.DictReader[str]:
    return csv.DictReader(io.StringIO(read_again(path, read_file).decode("utf-8"), newline=""))


def _read_json(path: AnyPath) -> dict[str, Any]:
    try:
        content = parse_json(read_again(path, read_file))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold a JSON object.")
    return content
