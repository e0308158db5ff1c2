"""What a report is about: the results on one task, row by row, and its crystals if they are available."""

from __future__ import annotations

import operator
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import SenBenchError, UsageError
from benchmarks.base.workers import Progress
from benchmarks.base.zip_path import AnyPath
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.dataset import AbsentDataError, Dataset, load_recorded
from benchmarks.data.folds import fold_label, n_folds
from benchmarks.data.tasks import RESAMPLE, TASKS, Kind, Task
from benchmarks.results.contrasts import MARGIN
from benchmarks.results.metrics import score
from benchmarks.results.recorded import assignment, by_field, recorded_variant, variant_kind_of, variant_option
from benchmarks.results.run_config import build_config
from benchmarks.results.store import Run, Training, fold_means

__all__ = ["Absent", "PredictedRows", "Result", "Study", "fold_scores", "shared_rows"]


class Absent(Exception):  # noqa: N818 - a state, not an error
    """There is nothing to show; the message is one sentence that says why, and what would change that."""


@dataclass(frozen=True, eq=False)
class PredictedRows:
    """Test rows with their predictions, each row once, sorted by fold and then by their order in the task.

    Attributes:
        ids: Row ids, str [n].
        fold: Fold in which a row was tested, int64 [n]; the first of several.
        target: True values, or 0 and 1, [n].
        prediction: Mean over the seeds, and over the folds where several test a row; for a classification the
            probability of 1, [n].
        error: Mean over the same of the absolute error, [n]; for a classification of target minus probability.
        n_seeds: Number of trainings that predicted the row, int64 [n].
        loss: What a score counts, [n]: for a regression the error, for a classification the share of the seeds whose
            label is wrong.
    """

    ids: NDArray[np.object_]
    fold: NDArray[np.int64]
    target: NDArray[np.float64]
    prediction: NDArray[np.float64]
    error: NDArray[np.float64]
    n_seeds: NDArray[np.int64]
    loss: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of rows n."""
        return len(self.ids)

    def take(self, which: NDArray[Any]) -> PredictedRows:
        """Return the rows at these positions, or where a mask is true."""
        return PredictedRows(*(column[which] for column in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Result:
    """The predictions of one model on one task, from a run or from a published file.

    Attributes:
        label: Its name in tables and figures; unique in its study.
        rows: What it predicted.
        run: The run; None for a published result.
        trainings: Finished folds and seeds of the run.
        records: The record of each of them.
        facts: The config.json of the run; for a published result, what its file says about itself.
        path: Where it was found, as the user named it.
        has_folds: Whether each row was predicted by a model trained on the other folds, as far as is known.
        form: Form of the file of a published result (see `reports.study.published.Form`); None for a run.
    """

    label: str
    rows: PredictedRows
    run: Run | None
    trainings: tuple[Training, ...]
    records: Mapping[Training, Mapping[str, Any]]
    facts: Mapping[str, Any]
    path: AnyPath
    has_folds: bool = True
    form: str | None = None

    @property
    def folds(self) -> list[int]:
        """Folds that it predicted, ascending."""
        if self.run is not None:
            return sorted({training.fold for training in self.trainings})
        found: list[int] = np.unique(self.rows.fold).tolist()
        return found

    @property
    def seeds(self) -> list[int]:
        """Seeds of the run, ascending; none for a published result."""
        return sorted({training.seed for training in self.trainings})

    @property
    def variant(self) -> str | None:
        """Name of the block or model of the run."""
        return recorded_variant(self.facts["config"]) if self.run else None

    @property
    def tuned(self) -> Mapping[str, Any] | None:
        """By which rows `sen-bench tune` chose the recipe of the run; None if it did not."""
        found: Mapping[str, Any] | None = self.facts["config"].get("tuned") if self.run else None
        return found

    @property
    def pretrained(self) -> Mapping[str, Any] | None:
        """The training from whose weights the run started; None if there is none."""
        found: Mapping[str, Any] | None = self.facts["config"].get("pretrained") if self.run else None
        return found

    @property
    def coverage(self) -> float | None:
        """Share of the official rows in the data of the run."""
        return self.facts["data"]["coverage"] if self.run else None

    @property
    def fold_names(self) -> list[str]:
        """Name of each fold, as the run recorded it; no names where its split has no groups."""
        names: list[str] = self.facts["data"].get("fold_names", []) if self.run else []
        return names

    def command(self) -> str:
        """Return the command that makes the run or resumes it; it also fills gaps between its folds and seeds.

        There is none of a published result, and none of a run whose block or model was given as a class.
        """
        if self.run is None or self.facts["config"].get("code"):
            return ""
        config, task, data = (self.facts[name] for name in ("config", "task", "data"))
        own = not TASKS.get(config["task"])
        words = ["sen-bench", *self._trainings_asked_for(data["source"] if own else config["task"])]
        if own:
            words += ["--target", task["target"], "--kind", task["kind"]]
            words += ["--unit", task["unit"]] if task["unit"] else []
            words += ["--on-bad-row", "skip"] if data.get("skipped") else []
        if config["limit"] is not None:
            words += ["--limit", str(config["limit"])]
        defaults = self.defaults()
        for field, value in self.fields.items():
            if (
                field != "limit"
                and not field.startswith(("pretrained.", "without."))
                and (field not in defaults or defaults[field] != value)
            ):
                words += ["--set", assignment(field, value)]
        return shlex.join(words)

    def _trainings_asked_for(self, task: str) -> list[str]:
        """Return the words of the command that say what is trained: task, variant, split, folds and seeds."""
        config, split = self.facts["config"], self.facts["task"]["split"]
        if split == RESAMPLE and all(training.seed == training.fold for training in self.trainings):
            grid = ["ablate", "--task", task, f"--{variant_kind_of(config)}s", recorded_variant(config)]
            return [*grid, "--resample", str(max(2, self.folds[-1] + 1))]
        words = ["run", task, *variant_option(config), "--folds", ",".join(map(str, self.folds))]
        # A split file has the hash of what it says at its end.
        given = split.rpartition(":")[0] if split.startswith("file:") else split
        words += ["--split", given] if split != "folds" else []
        if self.pretrained:
            words += ["--init-from", self.records[self.trainings[0]]["pretrained"]["source"]]
            words += ["--allow-overlap"] if self.pretrained["allow_overlap"] else []
        if without := config.get("without"):
            words += ["--without", without["task"]]
        if self.seeds != [0]:
            words += ["--seed", str(self.seeds[0]), "--seeds", str(self.seeds[-1] - self.seeds[0] + 1)]
        return words

    @property
    def fields(self) -> dict[str, Any]:
        """The configuration of the run by dotted fields."""
        return by_field(self.facts["config"])

    def defaults(self) -> dict[str, Any]:
        """Return the defaults of its task and variant for its training rows; empty if that is not installed."""
        config = self.facts["config"]
        task = TASKS.get(config["task"])
        try:
            default = build_config(config["task"], recorded_variant(config), defaults=task.defaults if task else {})
        except UsageError:
            return {}
        # Training rows of the first fold, without its validation rows, or as many as folds by groups have in the mean.
        n_rows = self.facts["data"].get("training_rows") or self.records[self.trainings[0]]["rows"]["train"]
        return by_field(default.settle(n_rows).model_dump(mode="json"))

    def chosen(self) -> dict[str, Any]:
        """Return the configuration of the run by dotted fields, without the defaults for its rows."""
        implied = self.defaults().items()
        return {
            key: value
            for key, value in self.fields.items()
            if (key, value) not in implied and not key.startswith(("tuned.", "pretrained.", "without."))
        }


class Study:
    """The results on one task, runs before published ones, and its crystals if they are available.

    Args:
        task: The task.
        results: At least one.
        data_dir: Folder of the MatBench files; None for SEN_BENCH_DATA.
        notes: What was left out while reading, and why, in sentences.
        title: Its title on a page with other studies; by default the name of the task.

    Attributes:
        pair: The two results that `sen-bench report --pair` names, to be compared by crystal system.
        contrasts: The results that `sen-bench report --contrast` names, to be compared; None for the default.
        margin: Share of the second result's score within which a difference does not matter.
        others: Studies of the same data on other splits.
    """

    def __init__(
        self,
        task: Task,
        results: Sequence[Result],
        data_dir: Path | None = None,
        notes: Sequence[str] = (),
        title: str = "",
    ) -> None:
        self.task = task
        self.results = tuple(results)
        self.data_dir = data_dir
        self.notes = tuple(notes)
        self.title = title or task.title
        self.pair: tuple[Result, Result] | None = None
        self.contrasts: list[tuple[Result, Result]] | None = None
        self.margin = MARGIN
        self.others: tuple[Study, ...] = ()
        self._dataset: Dataset | Absent | None = None

    @property
    def runs(self) -> tuple[Result, ...]:
        """The results that are runs."""
        return tuple(result for result in self.results if result.run is not None)

    @property
    def published(self) -> tuple[Result, ...]:
        """The published results."""
        return tuple(result for result in self.results if result.run is None)

    @property
    def n_folds(self) -> int:
        """Folds of the task's split; where these have no end, those of all results."""
        known = len(self.fold_names) or n_folds(self.task.split)
        return known or len({fold for result in self.results for fold in result.folds})

    @property
    def fold_names(self) -> list[str]:
        """Name of each fold, such as "cubic", empty where it has none; no names where the split has no groups."""
        return next((run.fold_names for run in self.runs), [])

    @property
    def tests_rows_twice(self) -> bool:
        """Whether rows are tested in several folds, as those of random splits and of elements are."""
        return any(
            len(run.rows) < sum(run.records[training]["rows"]["test"] for training in one_seed)
            for run in self.runs
            for seed in run.seeds
            if (one_seed := [training for training in run.trainings if training.seed == seed])
        )

    def fold_label(self, fold: int) -> str:
        """Return how a fold is called on the page: "3", or "3 (cubic)" if it has a name."""
        return fold_label(fold, *self.fold_names[fold : fold + 1])

    def dataset(self, progress: Progress | None = None) -> Dataset:
        """The task with its crystals, loaded once; nothing is downloaded.

        Rows of an official task are the same rows in every file of it (see `on_other_content`).

        Raises:
            Absent: The data are not available, or they are own data that differ from those of the runs.
        """
        if self._dataset is None:
            try:
                self._dataset = self._load(progress)
            except AbsentDataError as absent:
                self._dataset = Absent(str(absent))
            except SenBenchError as error:
                self._dataset = Absent(f"The crystals of {self.task.name} cannot be read: {error}")
        if isinstance(self._dataset, Absent):
            raise self._dataset
        return self._dataset

    @property
    def symprec(self) -> float:
        """Tolerance in Å to which the crystals are refined: that of the first run."""
        return float(self.runs[0].fields["graph.symprec"])

    def crystals(self, progress: Progress | None = None) -> CrystalTable:
        """The crystals of the task.

        Raises:
            Absent: See `dataset`.
        """
        return self.dataset(progress).table

    def on_other_content(self) -> list[str]:
        """Name the runs that were trained on other content than these data, in a list of at most one sentence.

        Raises:
            Absent: See `dataset`.
        """
        dataset = self.dataset()
        others = [run.label for run in self.runs if run.facts["data"]["digest"] != dataset.table.digest]
        if not others:
            return []
        sentence = (
            f"The crystals described are those of {dataset.source} ({len(dataset.table):,} rows), and "
            f"{', '.join(others)} had another file of {self.task.name}, another version of its reader, or another "
            "graph.symprec for training."
        )
        return [sentence]

    def positions(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Return the positions of these rows in the table of crystals, [n].

        Raises:
            Absent: The data are not available, or lack one of the rows.
        """
        table = self.crystals()
        place = {name: i for i, name in enumerate(table.ids.tolist())}
        try:
            return np.array([place[name] for name in ids], dtype=np.int64)
        except KeyError as error:
            raise Absent(
                f"The available data of {self.task.name} lack the row {error.args[0]}: give the file that the runs "
                "were trained on."
            ) from None

    def _load(self, progress: Progress | None) -> Dataset:
        # Rows of an official task are the same ones for all runs, and the largest data hold those of every run.
        refined = [run for run in self.runs if run.fields["graph.symprec"] == self.symprec]
        facts = max((run.facts["data"] for run in refined), key=operator.itemgetter("rows"))
        if any(run.facts["data"].get("left_out") != facts.get("left_out") for run in refined):
            facts = {**facts, "left_out": None}
        return load_recorded(self.task, facts, self.data_dir, symprec=self.symprec, progress=progress)


def fold_scores(result: Result, kind: Kind) -> dict[int, dict[str, float]]:
    """Return the scores of a result on each fold, by name: the mean over the seeds, as `sen-bench run` prints it."""
    if result.run is None:
        of_fold = {fold: result.rows.take(result.rows.fold == fold) for fold in result.folds}
        return {fold: score(kind, rows.target, rows.prediction) for fold, rows in of_fold.items()}
    metrics = {training: record["metrics"] for training, record in result.records.items()}
    names = next(iter(metrics.values()))
    means = {name: fold_means({training: found[name] for training, found in metrics.items()}) for name in names}
    return {fold: {name: means[name][fold] for name in names} for fold in result.folds}


def shared_rows(first: PredictedRows, *others: PredictedRows) -> list[NDArray[np.int64]]:
    """Return, for each of several results, the positions of the rows that all of them predicted, in the same order.

    Rows whose targets differ by more than a thousandth of their spread are not the same rows, whatever their ids.
    """
    import pandas as pd

    results = (first, *others)
    places = pd.concat([pd.Series(np.arange(len(rows)), rows.ids) for rows in results], axis=1, join="inner")
    found = places.to_numpy(dtype=np.int64).T
    targets = np.array([rows.target[at] for rows, at in zip(results, found, strict=True)])
    spread = np.ptp(first.target) if len(first) else 0.0
    return list(found[:, (np.abs(targets - targets[0]) <= 1e-3 * spread).all(axis=0)])
