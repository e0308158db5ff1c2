"""What a report is about: the results found on one task, row by row, and its crystals where they are at hand."""

from __future__ import annotations

import itertools
import json
import logging
import math
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.errors import DataError, SenBenchError, UsageError, printable
from benchmarks.folds import check_split, n_folds
from benchmarks.store import Predictions, Run, Unit, find_runs
from benchmarks.tasks import TASKS, Kind, Task, find_data_file, named_folder
from reports.breakdown import row_loss
from reports.section import Absent, Progress
from reports.style import COLOURS, MARKERS

if TYPE_CHECKING:
    from benchmarks.crystals import CrystalTable
    from benchmarks.data import Dataset
    from reports.published import PredictionFile

__all__ = ["Result", "Rows", "Study", "collect_notes", "read_studies", "shared_rows"]

# Fields of a configuration that a label can name; with more, the hash of the run is shorter.
_NAMED_FIELDS = 2
# Fields that follow from the number of training rows unless they are given (`benchmarks.config.RunConfig.settle`).
_SETTLED = {"sen.dropout", "training.weight_decay"}


@dataclass(frozen=True, eq=False)
class Rows:
    """Test rows with their predictions, each row once, sorted by fold and then in the order of the task.

    Attributes:
        ids: Row ids, unicode [n].
        fold: In which fold a row was tested, int64 [n].
        target: True values, or 0 and 1, [n].
        prediction: Mean over the seeds; for a classification the probability of 1, [n].
        error: Mean over the seeds of the absolute error, [n]; for a classification of target minus probability.
        n_seeds: How many seeds predicted the row, int64 [n].
        loss: What a score counts: for a regression the error; for a classification the share of the seeds whose label
            is wrong, [n].
    """

    ids: NDArray[np.str_]
    fold: NDArray[np.int64]
    target: NDArray[np.float64]
    prediction: NDArray[np.float64]
    error: NDArray[np.float64]
    n_seeds: NDArray[np.int64]
    loss: NDArray[np.float64]

    def __len__(self) -> int:
        """Number of rows n."""
        return len(self.ids)

    def take(self, which: NDArray[Any]) -> Rows:
        """Return the rows at these positions, or where a mask is true."""
        return Rows(*(column[which] for column in vars(self).values()))


@dataclass(frozen=True, eq=False)
class Result:
    """The predictions of one model on one task, from a run or from a published file.

    Attributes:
        label: What to call it in tables and figures; unique in its study.
        colour: Its colour in every figure.
        marker: Its marker in every figure.
        rows: What it predicted.
        run: The run; None for a published result.
        units: Finished folds and seeds of the run.
        records: What the run recorded of each of them.
        facts: The run's config.json; for a published result, what its file says of itself.
        path: Where it was found, as the user named it.
        has_folds: Whether each row was predicted by a model that was trained on the other folds, as far as is known.
        form: Which form the file of a published result has (see `reports.published.Form`); None for a run.
    """

    label: str
    colour: str
    marker: str
    rows: Rows
    run: Run | None
    units: tuple[Unit, ...]
    records: Mapping[Unit, Mapping[str, Any]]
    facts: Mapping[str, Any]
    path: Path
    has_folds: bool = True
    form: str | None = None

    @property
    def folds(self) -> list[int]:
        """Folds that it predicted, ascending."""
        found: list[int] = np.unique(self.rows.fold).tolist()
        return found

    @property
    def seeds(self) -> list[int]:
        """Seeds of the run, ascending; none for a published result."""
        return sorted({unit.seed for unit in self.units})

    @property
    def block_name(self) -> str | None:
        """Name of the block of the run."""
        return self.facts["config"]["block_name"] if self.run else None

    @property
    def coverage(self) -> float | None:
        """Share of the official rows in the data of the run."""
        return self.facts["data"]["coverage"] if self.run else None

    @property
    def training_rows(self) -> int:
        """Training rows of the first fold of the run, without its validation rows."""
        rows: int = self.records[self.units[0]]["rows"]["train"]
        return rows

    @property
    def look(self) -> dict[str, str]:
        """Label, colour and marker: what facts hold so that `show` can draw the result like every other section."""
        return {"label": self.label, "colour": self.colour, "marker": self.marker}

    def command(self) -> str:
        """The command that made the run, or goes on with it."""
        if self.run is None:
            return ""
        config, split = self.facts["config"], self.facts["task"]["split"]
        own = not TASKS.get(config["task"])
        words = ["sen-bench", "run", self.facts["data"]["source"] if own else config["task"]]
        words += ["--block", config["block_name"], "--folds", ",".join(map(str, self.folds))]
        if own:
            task = self.facts["task"]
            words += ["--target", task["target"], "--kind", task["kind"], "--split", split]
            words += ["--unit", task["unit"]] if task["unit"] else []
            words += ["--on-bad-row", "skip"] if self.facts["data"].get("skipped") else []
        if self.seeds != [0]:
            words += ["--seed", str(self.seeds[0]), "--seeds", str(self.seeds[-1] - self.seeds[0] + 1)]
        if config["limit"] is not None:
            words += ["--limit", str(config["limit"])]
        for field, value in _changes(config, self.training_rows).items():
            words += ["--set", f"{field}={value if isinstance(value, str) else json.dumps(value)}"]
        return shlex.join(words)


class Study:
    """Everything known of one task: the results, runs before published ones, and the crystals where they are at hand.

    Args:
        task: The task.
        results: At least one.
        data_dir: Folder of the MatBench files; None for SEN_BENCH_DATA.
        notes: What was passed over while reading, and why, in sentences.

    Attributes:
        device: Where sections that need models compute.
    """

    def __init__(
        self, task: Task, results: Sequence[Result], data_dir: Path | None = None, notes: Sequence[str] = ()
    ) -> None:
        self.task = task
        self.results = tuple(results)
        self.data_dir = data_dir
        self.notes = tuple(notes)
        self.device = "cpu"
        self._dataset: Dataset | Absent | None = None

    @property
    def runs(self) -> tuple[Result, ...]:
        """The results that are runs."""
        return tuple(result for result in self.results if result.run is not None)

    @property
    def published(self) -> tuple[Result, ...]:
        """The results that are published ones."""
        return tuple(result for result in self.results if result.run is None)

    @property
    def n_folds(self) -> int:
        """Folds of the task's split."""
        return n_folds(self.task.split)

    def dataset(self, progress: Progress | None = None) -> Dataset:
        """The task with its crystals, loaded once; nothing is downloaded.

        Raises:
            Absent: The data are not at hand, or are others than those of the runs.
        """
        if self._dataset is None:
            try:
                self._dataset = self._load(progress)
            except Absent as absent:
                self._dataset = absent
            except SenBenchError as error:
                self._dataset = Absent(f"The crystals of {self.task.name} cannot be read: {error}")
        if isinstance(self._dataset, Absent):
            raise self._dataset
        return self._dataset

    def crystals(self, progress: Progress | None = None) -> CrystalTable:
        """The crystals of the task.

        Raises:
            Absent: See `dataset`.
        """
        return self.dataset(progress).table

    def positions(self, ids: Iterable[str]) -> NDArray[np.int64]:
        """Return where these rows stand in the table of crystals, [n].

        Raises:
            Absent: The data are not at hand, or lack one of them.
        """
        table = self.crystals()
        place = {name: i for i, name in enumerate(table.ids.tolist())}
        try:
            return np.array([place[name] for name in ids], dtype=np.int64)
        except KeyError as error:
            raise Absent(
                f"The data of {self.task.name} at hand lack the row {error.args[0]}: give the file that the runs were "
                "trained on."
            ) from None

    def _load(self, progress: Progress | None) -> Dataset:
        from benchmarks.data import load_dataset

        task = self.task
        if task.name == "prototypes":
            return load_dataset(task, progress=progress)
        if task.is_official:
            if find_data_file(task, self.data_dir) is None:
                raise Absent(
                    f"The crystals of {task.name} are not at hand: name the folder of {task.file_name} with --data-dir "
                    "or SEN_BENCH_DATA."
                )
            return load_dataset(task, self.data_dir, progress=progress)
        return self._load_own(progress)

    def _load_own(self, progress: Progress | None) -> Dataset:
        from benchmarks.own_data import OwnData

        task, facts = self.task, self.runs[0].facts["data"]
        folders = [folder for folder in (named_folder(self.data_dir), Path()) if folder is not None]
        paths = [path for folder in folders if (path := folder / facts["source"]).exists()]
        if not paths:
            raise Absent(
                f"The crystals of {task.name} are not at hand: give the folder that holds {facts['source']} with "
                "--data-dir, or start the command there."
            )
        own = OwnData(path=paths[0], target=task.target, kind=task.kind, split=task.split, unit=task.unit)
        dataset = own.load(on_bad_row="skip" if facts.get("skipped") else "fail", progress=progress)
        if dataset.table.digest != facts["digest"]:
            raise Absent(f"{paths[0]} is not what the runs were trained on: its content has changed since.")
        return dataset


def shared_rows(first: Rows, *others: Rows) -> list[NDArray[np.int64]]:
    """Return, for each of several results, the positions of the rows that all of them predicted, in the same order.

    Rows whose targets differ by more than a thousandth of their spread are not the same rows, whatever their ids.
    """
    places = [{name: i for i, name in enumerate(rows.ids.tolist())} for rows in others]
    spread = float(np.ptp(first.target)) if len(first) else 0.0
    found = []
    for i, name in enumerate(first.ids.tolist()):
        at = [place.get(name) for place in places]
        if any(j is None for j in at):
            continue
        targets = [rows.target[j] for rows, j in zip(others, at, strict=True)]
        if all(abs(target - first.target[i]) <= 1e-3 * spread for target in targets):
            found.append((i, *at))
    return list(np.array(found, dtype=np.int64).reshape(len(found), 1 + len(others)).T)


@contextmanager
def collect_notes() -> Iterator[list[str]]:
    """Collect what is logged as a warning inside the block, as sentences, beside where it goes otherwise."""
    notes: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            notes.append(record.getMessage())

    logger, handler = logging.getLogger("sen_bench"), Collector(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield notes
    finally:
        logger.removeHandler(handler)


def read_studies(paths: Sequence[Path], *, against: Sequence[Path] = (), data_dir: Path | None = None) -> list[Study]:
    """Read all runs below some folders, and published results beside them.

    Args:
        paths: Folders of runs, or above them.
        against: Published prediction files.
        data_dir: Folder of the MatBench files.

    Returns:
        One study for each task, sorted by name; runs on data of one's own whose content changed are studied apart.

    Raises:
        UsageError: A folder does not exist, nothing in them is finished, or a published file has none of their tasks.
        DataError: A published file cannot be read.
    """
    from reports.published import read_predictions

    with collect_notes() as notes:
        files = [read_predictions(path) for path in against]
        runs = _distinct(run for path in paths for run in find_runs(path))
        groups: dict[tuple[str, ...], list[Result]] = {}
        notes_of: dict[str, list[str]] = {}
        empty = []
        for run in runs:
            before = len(notes)
            try:
                result = _read_run(run)
            except (SenBenchError, KeyError, TypeError, ValueError, AttributeError) as error:
                told = error if isinstance(error, SenBenchError) else f"it lacks what a run records ({error!r})."
                logging.getLogger("sen_bench").warning("The run %s is left out: %s", run.path, told)
                continue
            if result is None:
                empty.append(run)
                continue
            task_facts = result.facts["task"]
            # Rows of an official task are the same rows in every file; those of a file of one's own can change.
            content = "" if task_facts["is_official"] else result.facts["data"]["digest"]
            key = *(task_facts[name] for name in ("name", "target", "kind", "split", "unit")), content
            groups.setdefault(key, []).append(result)
            notes_of.setdefault(key[0], []).extend(notes[before:])
    where = ", ".join(map(str, paths))
    if not groups:
        if empty:
            raise UsageError(f"No fold is finished yet in the {len(empty)} runs below {where}.")
        left_out = " that could be read" if runs else ""
        raise UsageError(f"There is no run{left_out} below {where}: name a folder that `sen-bench run` wrote (--out).")
    general = [f"{run.path} has no finished fold yet." for run in empty]
    studies = []
    for key, results in sorted(groups.items()):
        task = _task(results[0].facts["task"])
        with collect_notes() as remarks:
            published = [result for file in files for result in _read_published(file, task, results)]
        known = set(itertools.chain.from_iterable(notes_of.values()))
        told_of_task = [
            *notes_of.get(task.name, []),
            *(note for note in notes if note not in known),
            *general,
            *remarks,
            *_on_other_content(key, groups),
        ]
        studies.append(Study(task, _decorate([*_label(results), *published]), data_dir, told_of_task))
    used = {result.path for study in studies for result in study.published}
    for path in against:
        if path not in used:
            names = ", ".join(study.task.name for study in studies)
            raise UsageError(f"{path} holds no predictions for the rows of {names}: nothing to compare with.")
    return studies


def _on_other_content(key: tuple[str, ...], groups: Mapping[tuple[str, ...], Sequence[Result]]) -> Iterator[str]:
    """Name the runs on the same data of one's own that were trained on another content of it."""
    others = [
        result for other, results in groups.items() if other != key and other[:-1] == key[:-1] for result in results
    ]
    if others:
        yield (
            f"Not all runs on {groups[key][0].facts['data']['source']} had the same content of it. Of those that had "
            f"another, this part tells nothing: {', '.join(str(result.path) for result in others)}."
        )


def _distinct(runs: Iterable[Run]) -> list[Run]:
    """Return each run once, however often and by whichever name its folder is given."""
    return list({run.path.resolve(): run for run in runs}.values())


def _task(facts: Mapping[str, Any]) -> Task:
    """Return the task that a run recorded."""
    name = facts["name"]
    if facts["is_official"] and name in TASKS:
        return TASKS[name]
    names = ("name", "target", "unit", "kind", "description", "n_rows", "licence", "split")
    return Task(**{key: facts[key] for key in names})


def _read_run(run: Run) -> Result | None:
    """Read what is finished of a run; None where nothing is."""
    facts = run.read_config()
    units = run.units()
    if not units:
        return None
    records = {unit: run.read_metrics(unit) for unit in units}
    _check_facts(facts, records.values())
    rows = _average(facts["task"]["kind"], [(unit.fold, run.read_predictions(unit)) for unit in units])
    return Result(facts["config"]["block_name"], "", "", rows, run, tuple(units), records, facts, run.path)


#: What a run records that is read here and by the sections of this room.
_TEXT = {
    "config": ("task", "block_name"),
    "task": ("name", "target", "kind", "split", "unit", "description", "licence"),
    "data": ("source", "digest"),
}
_PRESENT = {
    "config": ("limit",),
    "task": ("n_rows", "is_official"),
    "data": ("rows", "coverage", "is_complete"),
    "training": (
        *("epochs", "batch_size", "edge_budget", "learning_rate", "weight_decay"),
        *("warmup", "clip_norm", "ema_decay", "patience", "precision"),
    ),
    "sen": ("dropout",),
}
_RECORDED = ("metrics", "rows", "epochs", "wall_seconds", "parameters", "peak_memory_bytes", "device", "provenance")


def _check_facts(facts: Mapping[str, Any], records: Iterable[Mapping[str, Any]]) -> None:
    """Find out whether a run recorded what a report reads.

    Raises:
        DataError: It did not; the message is the tail of a sentence about the run.
    """
    lacking = next(_lacking(facts), None)
    if lacking is not None:
        raise DataError(f"its config.json has no {lacking}.")
    if (limit := facts["config"]["limit"]) is not None and type(limit) is not int:
        raise DataError(f"its config.json has the limit {printable(limit)}, which is no number of rows.")
    if (kind := facts["task"]["kind"]) not in {"regression", "classification"}:
        raise DataError(f"its config.json has the kind {printable(kind)!r}, which is none that is known.")
    check_split(facts["task"]["split"])
    for record in records:
        if (name := next((name for name in _RECORDED if name not in record), None)) is not None:
            raise DataError(f"a metrics.json of it has no {name!r}.")


def _lacking(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a config.json lacks: "'limit' of the config"."""
    for key in ("config", "task", "data"):
        if not isinstance(facts.get(key), dict):
            yield key
            return
        yield from (f"{name!r} of the {key}" for name in _TEXT[key] if not isinstance(facts[key].get(name), str))
    tables = {key: facts["config"].get(key) for key in ("training", "sen")}
    for key, table in tables.items():
        if not isinstance(table, dict):
            yield f"{key!r} of the config"
            return
    for key, names in _PRESENT.items():
        part = tables.get(key) or facts[key]
        yield from (f"{name!r} of the {key}" for name in names if name not in part)


def _average(kind: Kind, parts: Sequence[tuple[int, Predictions]]) -> Rows:
    """Join the predictions of all folds and seeds; a row that several seeds predicted becomes one."""
    parts = sorted(parts, key=lambda part: part[0])
    ids = np.array([name for _, part in parts for name in part.ids])
    fold = np.concatenate([np.full(len(part.ids), number) for number, part in parts])
    target = np.concatenate([part.target for _, part in parts])
    prediction = np.concatenate([part.prediction for _, part in parts])
    _, first, place, count = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
    mean = np.bincount(place, prediction) / count
    error, loss = (
        np.bincount(place, values) / count
        for values in (np.abs(prediction - target), row_loss(kind, target, prediction))
    )
    order = np.argsort(first)
    first = first[order]
    return Rows(ids[first], fold[first], target[first], mean[order], error[order], count[order], loss[order])


def _read_published(file: PredictionFile, task: Task, results: Sequence[Result]) -> list[Result]:
    """Return the predictions of a published file for the rows that the runs predicted."""
    known = {
        name: (target, fold)
        for result in results
        for name, target, fold in zip(
            result.rows.ids.tolist(), result.rows.target.tolist(), result.rows.fold.tolist(), strict=True
        )
    }
    metadata = _metadata(file)
    published = []
    for entry in file.sets:
        if entry.task is not None and entry.task.name != task.name:
            continue
        values = dict(zip(reversed(entry.ids), reversed(entry.prediction.tolist()), strict=True))
        found = [(name, *known[name], values[name]) for name in known if math.isfinite(values.get(name, math.nan))]
        if not found:
            continue
        names, target, fold, prediction = map(np.array, zip(*found, strict=True))
        if task.kind == "classification" and (prediction.min() < 0 or prediction.max() > 1):
            raise DataError(f"{file.path} holds values that are no probabilities, and {task.name} is a classification.")
        error = np.abs(prediction - target)
        loss = row_loss(task.kind, target, prediction)
        rows = Rows(names, fold, target, prediction, error, np.ones(len(names), dtype=np.int64), loss)
        label = file.model if len(file.sets) == 1 or file.form == "submission" else f"{file.model}, {entry.name}"
        if file.form != "submission":
            logging.getLogger("sen_bench").warning(
                "%s is no submission to MatBench: `sen-bench audit %s` says whether %s was tested by its protocol.",
                *(file.path, shlex.quote(str(file.path)), label),
            )
        order = np.argsort(fold, kind="stable")
        has_folds = file.form == "submission"
        if not has_folds and entry.fold is not None:
            stated = dict(zip(reversed(entry.ids), reversed(entry.fold.tolist()), strict=True))
            n_other = int(np.count_nonzero(fold != np.array([stated[name] for name in names.tolist()])))
            has_folds = n_other == 0
            if n_other:
                logging.getLogger("sen_bench").warning(
                    "%s states another fold than that of the runs for %s of %s rows: %s gets no spread and no test "
                    "over folds.",
                    *(file.path, f"{n_other:,}", f"{len(names):,}", label),
                )
        published.append(
            Result(label, "", "", rows.take(order), None, (), {}, metadata, file.path, has_folds, file.form)
        )
    return published


def _metadata(file: PredictionFile) -> dict[str, Any]:
    """Return what a submission says of itself, such as what to cite."""
    from reports.row_facts import read_content

    return dict(read_content(file.path)["user_metadata"]) if file.form == "submission" else {}


def _label(results: Sequence[Result]) -> list[Result]:
    """Name runs by their block, and by what they were told where several have the same."""
    named = []
    for result in results:
        config = result.facts["config"]
        same = [_chosen(other) for other in results if other.block_name == result.block_name]
        mine, values = _chosen(result), _flat(config)
        differing = [key for key in mine if any(other.get(key) != mine[key] for other in same)]
        limited = ["limit"] if config["limit"] is not None and "limit" not in differing else []
        words = [f"{key.rpartition('.')[2]} {_plain(values[key])}" for key in [*differing, *limited]]
        if len(same) > 1 and not 0 < len(differing) <= _NAMED_FIELDS:
            words = [result.path.name.rpartition("-")[2]]
        label = config["block_name"] + (f" ({', '.join(words)})" if words else "")
        named.append(replace(result, label=label))
    return named


def _chosen(result: Result) -> dict[str, Any]:
    """Return the configuration of a run by dotted fields, without the values of those that follow from its rows."""
    settled = _default(result.facts["config"], result.training_rows)
    return {
        key: None if key in _SETTLED and value == settled.get(key) else value
        for key, value in _flat(result.facts["config"]).items()
    }


def _plain(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _decorate(results: Sequence[Result]) -> list[Result]:
    """Give every result a label of its own, a colour and a marker."""
    done: list[Result] = []
    for i, result in enumerate(results):
        taken, label = {other.label for other in done}, result.label
        for number in itertools.count(2):
            if label not in taken:
                break
            label = f"{result.label} [{number}]"
        done.append(replace(result, label=label, colour=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)]))
    return done


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration by dotted fields."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= {f"{key}.{field}": inner for field, inner in value.items()}
        elif key not in {"task", "block_name"}:
            flat[key] = value
    return flat


def _changes(config: Mapping[str, Any], training_rows: int) -> dict[str, Any]:
    """Return the fields of a configuration that are not the defaults of its task and block for so many rows."""
    if not (default := _default(config, training_rows)):
        return {}
    return {key: value for key, value in _flat(config).items() if key != "limit" and default.get(key) != value}


def _default(config: Mapping[str, Any], training_rows: int) -> dict[str, Any]:
    """Return the defaults of a task and block for so many rows by dotted fields; none where the block is not here."""
    from benchmarks.config import build_config

    task = TASKS.get(config["task"])
    try:
        default = build_config(config["task"], config["block_name"], defaults=task.defaults if task else {})
    except UsageError:
        return {}
    return _flat(default.settle(training_rows).model_dump(mode="json"))
