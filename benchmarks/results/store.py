"""The run store: one folder per run, one folder per finished fold in it, each written whole or not at all.

A run is `runs/<task>/<block>-<hash>/` with `config.json`, `summary.json` and, for every finished training,
`seed_0/fold_0/` with `predictions.csv`, `metrics.json`, `history.csv`, `model.safetensors` and `manifest.json`, which
holds the hashes of the others. The weights may be removed, as from an archive: the result stands without them. A
training that is under way has its state in `seed_0/fold_0.state.safetensors`.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import shutil
import statistics
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, RunError, SenBenchError, UsageError
from benchmarks.base.files import check_file, file_digest, new_folder, put_in_place, write_json
from benchmarks.data.folds import N_FOLDS
from sen.registry import block_code

if TYPE_CHECKING:
    from filelock import BaseFileLock
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

_WEIGHTS = "model.safetensors"

# What everybody who reads the record of a training may count on.
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
    """The folder of one run.

    Args:
        path: The folder; `write_config` makes a new one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._told: set[tuple[Path, str]] = set()

    def training_path(self, training: Training) -> Path:
        """Folder of a finished training."""
        return self.path / f"seed_{training.seed}" / f"fold_{training.fold}"

    def state_path(self, training: Training) -> Path:
        """File that keeps the state of a training that is under way."""
        return self.training_path(training).with_name(f"fold_{training.fold}.state.safetensors")

    def lock(self, training: Training) -> BaseFileLock:
        """The lock that whoever trains a training holds; it is free as soon as its holder ends, however it ends.

        Raises:
            UsageError: The run folder cannot be written.
        """
        from filelock import FileLock

        path = self.training_path(training).with_name(f".fold_{training.fold}.lock")
        with self._writing():
            path.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(path)

    def discard(self, trainings: Sequence[Training]) -> None:
        """Remove results and states of trainings, and the summary that tells of them, to train them anew.

        Raises:
            UsageError: Another process is training one of them, and nothing was removed, or the run folder cannot be
                written.
        """
        from filelock import Timeout

        begun = [training for training in trainings if self.training_path(training).parent.is_dir()]
        with ExitStack() as stack:
            for training in begun:
                try:
                    stack.enter_context(self.lock(training).acquire(timeout=0))
                except Timeout:
                    raise UsageError(
                        f"Another process is training {training} in {self.path}: stop it before what it does is thrown "
                        "away, or leave out --overwrite always."
                    ) from None
            with self._writing():
                (self.path / "summary.json").unlink(missing_ok=True)
                for training in begun:
                    for path in (self.training_path(training), self._replaced(training)):
                        if path.exists():
                            shutil.rmtree(path)
                    self.state_path(training).unlink(missing_ok=True)

    def sweep(self, training: Training) -> None:
        """Remove what processes that were killed while they wrote left of a training; for whoever holds its lock."""
        for path in self.training_path(training).parent.glob(f".fold_{training.fold}.*"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            elif path.name != f".fold_{training.fold}.lock":
                path.unlink(missing_ok=True)

    def is_finished(self, training: Training) -> bool:
        """Whether the result of a training is there, verified by hash; a damaged one is said to be."""
        path = self.training_path(training)
        return path.is_dir() and self._is_whole(path)

    def trainings(self) -> list[Training]:
        """All finished trainings, verified by hash; a damaged one counts as missing and is said to be."""
        return [training for training, path in self._named("") if self._is_whole(path)]

    def under_way(self) -> list[Training]:
        """All trainings that were begun and have a state to go on from, and no result yet."""
        # A process that is killed between the two leaves the state beside the result.
        return [training for training, _ in self._named(".state.safetensors") if not self.is_finished(training)]

    def _replaced(self, training: Training) -> Path:
        """Where a result that counted as missing is kept when another takes its place."""
        return self.training_path(training).with_name(f"fold_{training.fold}.replaced")

    def _named(self, suffix: str) -> list[tuple[Training, Path]]:
        """What bears the name of a training and this suffix, in the order of the trainings."""
        found = []
        for path in self.path.glob(f"seed_*/fold_*{suffix}"):
            seed = path.parent.name.removeprefix("seed_")
            fold = path.name.removeprefix("fold_").removesuffix(suffix)
            if seed.isdigit() and fold.isdigit():
                found.append((Training(int(seed), int(fold)), path))
        return sorted(found)

    def read_metrics(self, training: Training) -> dict[str, Any]:
        """Read what was recorded of a finished training.

        Raises:
            DataError: It cannot be read, or is not JSON.
        """
        return _read_json(self.training_path(training) / "metrics.json")

    def has_weights(self, training: Training) -> bool:
        """Whether the weights of a finished training were kept."""
        return (self.training_path(training) / _WEIGHTS).exists()

    def read_weights(self, training: Training) -> dict[str, Tensor]:
        """Read the weights of a finished training, onto the CPU.

        Raises:
            DataError: They were removed.
        """
        from safetensors.torch import load_file

        path = self.training_path(training) / _WEIGHTS
        if not self.has_weights(training):
            raise DataError(
                f"{path} was removed: the result stands, and nothing new can be predicted by that model. "
                f"`sen-bench run --overwrite always` with --seed {training.seed} --folds {training.fold} trains it "
                "again."
            )
        return load_file(path)

    def read_predictions(self, training: Training) -> Predictions:
        """Read what was predicted of the test rows of a finished training.

        Raises:
            DataError: The file cannot be read, or is not a table of ids, targets and predictions.
        """
        path = self.training_path(training) / "predictions.csv"
        try:
            with path.open(encoding="utf-8", newline="") as file:
                rows = [(row["id"], float(row["target"]), float(row["prediction"])) for row in csv.DictReader(file)]
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
            with path.open(encoding="utf-8", newline="") as file:
                return [{name: float(value) for name, value in line.items()} for line in csv.DictReader(file)]
        except (OSError, TypeError, ValueError, csv.Error):
            raise DataError(f"{path} does not hold one line of numbers for each epoch.") from None

    def write_config(self, facts: Mapping[str, Any]) -> None:
        """Write config.json, which makes the folder a run.

        Raises:
            UsageError: The run folder cannot be written.
        """
        with self._writing():
            self.path.mkdir(parents=True, exist_ok=True)
            write_json(self.path / "config.json", {"format": FORMAT, **facts})

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

        An older one is moved to `fold_N.replaced`: it counted as missing, and may still hold what somebody looks for.

        Args:
            training: Which fold of which seed.
            predictions: (row id, target, prediction) of every test row.
            record: Metrics and how they came about.
            history: One dataclass instance per epoch.
            weights: State of the trained model.

        Raises:
            RunError: It cannot be written; the state is still there.
        """
        from safetensors.torch import save

        final = self.training_path(training)
        with self._writing(RunError), new_folder(final) as temporary:
            _write_csv(temporary / "predictions.csv", ("id", "target", "prediction"), predictions)
            epochs = [asdict(epoch) for epoch in history]
            _write_csv(temporary / "history.csv", tuple(epochs[0]), [tuple(epoch.values()) for epoch in epochs])
            write_json(temporary / "metrics.json", {"format": FORMAT, **record})
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
            (temporary / _WEIGHTS).write_bytes(save(tensors, metadata={"format": str(FORMAT)}))
            hashes = {path.name: file_digest(path) for path in sorted(temporary.iterdir())}
            sizes = {name: (temporary / name).stat().st_size for name in hashes}
            write_json(temporary / "manifest.json", {"format": FORMAT, "sha256": hashes, "size": sizes})
            if final.exists():
                shutil.rmtree(self._replaced(training), ignore_errors=True)
                final.rename(self._replaced(training))
            put_in_place(temporary, final)
            self.state_path(training).unlink(missing_ok=True)

    def read_summary(self) -> dict[str, Any]:
        """Read summary.json; empty where it is missing or damaged, as it can be made again from the results."""
        try:
            return _read_json(self.path / "summary.json")
        except DataError:
            return {}

    def write_summary(self, summarise: Callable[[], Mapping[str, Any]]) -> None:
        """Write summary.json, alone for as long as it takes to summarise.

        It can be made again from the results, so that it is no failure, and is said, where a disk refuses it or another
        process removes a result meanwhile.
        """
        from filelock import FileLock

        try:
            with FileLock(self.path / ".summary.lock"):
                for left in self.path.glob(".summary.json.*"):  # by processes that were killed while they wrote
                    left.unlink(missing_ok=True)
                write_json(self.path / "summary.json", summarise())
        except (OSError, DataError) as error:
            logging.getLogger("sen_bench").warning("%s/summary.json is not written: %s", self.path, error)

    @contextmanager
    def _writing(self, failure: type[SenBenchError] = UsageError) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise failure(
                f"The run folder {self.path} cannot be written ({error.strerror}): make room, or choose another "
                "folder with --out. What is finished there is kept."
            ) from error

    def _is_whole(self, path: Path) -> bool:
        problem = _problem(path)
        if problem is not None and (path, problem) not in self._told:
            self._told.add((path, problem))
            logging.getLogger("sen_bench").warning("The result in %s counts as missing: %s.", path, problem)
        return problem is None


def _problem(path: Path) -> str | None:
    """Return what is wrong with the folder of a finished training, if anything is."""
    try:
        manifest = _read_json(path / "manifest.json")
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
            return "manifest.json is missing"
        read = f"cannot be read ({cause.strerror})" if isinstance(cause, OSError) else "is cut or altered"
        return f"manifest.json {read}"


def fold_means(scores: Mapping[Training, float | None]) -> dict[int, float]:
    """Return the mean score of each fold over its seeds, sorted by fold; NaN where a training has no score."""
    return {
        fold: statistics.fmean(
            math.nan if score is None else score for training, score in scores.items() if training.fold == fold
        )
        for fold in sorted({training.fold for training in scores})
    }


def is_official(facts: Mapping[str, Any], trainings: Collection[Training]) -> bool:
    """Whether the mean of a run may stand on the leaderboard: official data, all of it, and all folds of every seed.

    Args:
        facts: The run's config.json.
        trainings: What is finished of it.
    """
    complete = bool(trainings) and len(trainings) == N_FOLDS * len({training.seed for training in trainings})
    unlimited = facts["config"]["limit"] is None
    return complete and unlimited and bool(facts["task"]["is_official"] and facts["data"]["is_complete"])


def other_code(run: Run, trainings: Iterable[Training], block_name: str) -> list[str]:
    """Find results that another version of sen-bench, or other code of a plug-in's block, was behind.

    Args:
        run: The run.
        trainings: Finished trainings of it.
        block_name: Its block, which is installed.

    Returns:
        For each code the beginning of a sentence: "RUN: fold 0, seed 0 was trained with ...".

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


def find_run(path: Path) -> Run:
    """Open the run in a folder.

    Raises:
        UsageError: It is none; where runs lie below it, which.
    """
    if not path.is_dir():
        raise UsageError(f"There is no folder {path}: name the folder of a run, such as runs/TASK/BLOCK-HASH.")
    runs = list(find_runs(path))
    if any(run.path == path for run in runs):
        return Run(path)
    if runs:
        below = "; ".join(str(run.path) for run in runs)
        raise UsageError(f"{path} is no run, but runs lie below it; name one of them: {below}.")
    raise UsageError(f"{path} is no run: a run is a folder with a config.json, such as runs/TASK/BLOCK-HASH.")


def find_runs(root: Path) -> Iterator[Run]:
    """Yield every run below a folder, in order of their paths.

    Raises:
        UsageError: There is no such folder.
    """
    if not root.is_dir():
        raise UsageError(f"There is no folder {root}: name the one that was given to `sen-bench run` as --out.")
    logger = logging.getLogger("sen_bench")
    for path in sorted(root.rglob("config.json")):
        run = Run(path.parent)
        try:
            facts = run.read_config()
        except DataError as error:
            logger.warning("Passed over: %s", error)
            continue
        if "config" not in facts:  # of another program
            continue
        if lacks := sorted({"task", "data"} - facts.keys()):
            logger.warning("Passed over: %s has no %s.", path, " and no ".join(lacks))
        else:
            yield run


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not valid JSON: {error}.") from None
    if not isinstance(content, dict):
        raise DataError(f"{path} does not hold a JSON object.")
    return content
