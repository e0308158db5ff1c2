"""Read runs and published predictions into studies, in which each result has a label that no other has."""

from __future__ import annotations

import itertools
import logging
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError, model_validator

from benchmarks.base.console import count
from benchmarks.base.errors import DataError, SenBenchError, UsageError, printable, suggest
from benchmarks.base.zip_path import AnyPath
from benchmarks.data.crystal_table import UNRECORDED_SYMPREC
from benchmarks.data.folds import check_split, depends_on_data
from benchmarks.data.tasks import TASKS, Kind, Task, recorded_task
from benchmarks.results.metrics import row_loss
from benchmarks.results.recorded import completed, labels, recorded_variant
from benchmarks.results.store import Run, find_runs, is_older_format
from reports.study.published import PredictionFile, PredictionSet, read_predictions
from reports.study.study import PredictedRows, Result, Study

__all__ = ["choose_pair", "collect_notes", "read_run_predictions", "read_studies"]

# Stands for the default of a field, which is another one for other numbers of rows; None is a value.
_DEFAULT = object()
# Where runs differ in more fields of the configuration, a label names those that are not the default.
_NAMED_FIELDS = 2
# Beyond this, the hash of the run is shorter.
_MOST_NAMED_FIELDS = 5
# What a study is of, as its runs recorded it.
_KEY = ("name", "target", "kind", "split", "unit")


@contextmanager
def collect_notes() -> Iterator[list[str]]:
    """Collect the warnings that are logged inside the `with` statement, which also go where they usually go."""
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


def read_studies(
    paths: Sequence[AnyPath], *, against: Sequence[Path] = (), data_dir: Path | None = None
) -> list[Study]:
    """Read all runs below some folders, and published results for comparison.

    Args:
        paths: Folders of runs, or above them.
        against: Published prediction files.
        data_dir: Folder of the MatBench files.

    Returns:
        One study for each task, sorted by name; runs on different contents of own data are in different studies.

    Raises:
        UsageError: There is no path, a folder does not exist, no run in them has a finished fold, or a published file
            has no predictions for their rows.
        DataError: A published file cannot be read.
    """
    with collect_notes() as notes:
        files = [read_predictions(path) for path in against]
        # The same results count once, however often they are given: by several names, copied, or archived.
        found: dict[str, Run] = {}
        for run in (run for path in paths for run in find_runs(path)):
            with _leave_out_damaged(run):
                found[run.fingerprint()] = run
        runs = list(found.values())
        groups: dict[tuple[str, ...], list[Result]] = {}
        notes_of: dict[str, list[str]] = {}
        empty = []
        for run in runs:
            before, result = len(notes), None
            with _leave_out_damaged(run):
                result = _read_run(run)
                unfinished = [f"{run.path}, {each}, failed: {why}" for each, why in run.failures().items()]
                if result is None:
                    empty.append(run)
                    unfinished.insert(0, f"{run.path} has no finished fold yet.")
                notes_of.setdefault(run.read_config()["task"]["name"], []).extend(unfinished)
            if result is None:
                continue
            task_facts = result.facts["task"]
            # Rows of an official task are the same in every file; those of own data can change, and so can groups.
            is_alike = task_facts["is_official"] and not depends_on_data(task_facts["split"])
            content = "" if is_alike else result.facts["data"]["digest"]
            key = *(task_facts[name] for name in _KEY), content
            groups.setdefault(key, []).append(result)
            notes_of.setdefault(key[0], []).extend(notes[before:])
    if not groups:
        raise UsageError(_nothing_to_read(paths, n_found=len(runs), n_empty=len(empty)))
    titles = _titles(list(groups))
    named = {name for name, *_ in groups}
    general = [note for name, each in notes_of.items() if name not in named for note in each]
    studies = []
    for key, results in sorted(groups.items()):
        task = recorded_task(results[0].facts["task"])
        with collect_notes() as remarks:
            published = [result for file in files for result in _read_published(file, task, results)]
        known = set(itertools.chain.from_iterable(notes_of.values()))
        notes_on_task = [
            *notes_of.get(task.name, []),
            *(note for note in notes if note not in known),
            *general,
            *remarks,
            *_on_other_content(key, groups),
            *_on_older_format(results),
        ]
        studies.append(Study(task, _distinguish([*_label(results), *published]), data_dir, notes_on_task, titles[key]))
    _link(dict(zip(sorted(groups), studies, strict=True)))
    used = {result.path for study in studies for result in study.published}
    for path in against:
        if path not in used:
            names = ", ".join(study.task.name for study in studies)
            raise UsageError(f"{path} has no predictions for the rows of {names}: nothing to compare with.")
    return studies


def _nothing_to_read(paths: Sequence[AnyPath], *, n_found: int, n_empty: int) -> str:
    where = ", ".join(map(str, paths))
    if not paths:
        return "No run is named: give runs, folders of runs, or archives of them."
    if n_empty:
        return f"No fold is finished yet of the {count(n_empty, 'run')} below {where}."
    left_out = " that could be read" if n_found else ""
    return f"There is no run{left_out} below {where}: name a folder that `sen-bench run` wrote (--out)."


def _titles(keys: Sequence[tuple[str, ...]]) -> dict[tuple[str, ...], str]:
    """Title studies by task and target, and those that would have the same title also by what differs."""
    titles = {}
    for key in keys:
        name, target, *own = key
        same = [others for other, other_target, *others in keys if (other, other_target) == (name, target)]
        apart = [value for i, value in enumerate(own[:-1]) if any(others[i] != value for others in same)]
        # The content tells only those apart that are alike otherwise.
        if any(others[:-1] == own[:-1] and others != own for others in same):
            apart.append(f"digest {own[-1][:10]}")
        title = name if name in TASKS or name == target else f"{name}: {target}"
        apart += [split] if (split := key[_KEY.index("split")]) not in {"folds", *apart} else []
        titles[key] = title + (f" ({', '.join(value or 'no unit' for value in apart)})" if apart else "")
    return titles


def _link(studies: Mapping[tuple[str, ...], Study]) -> None:
    """Let each study know those of the same data on other splits."""
    for key, study in studies.items():
        study.others = tuple(other for its, other in studies.items() if _is_other_split(key, its))


def _is_other_split(key: tuple[str, ...], other: tuple[str, ...]) -> bool:
    """Whether two keys of studies are of different splits of the same data."""
    split = _KEY.index("split")
    same = all(mine == theirs for i, (mine, theirs) in enumerate(zip(key[:-1], other[:-1], strict=True)) if i != split)
    # Those of an official task without a digest are of rows that are the same in every file.
    return same and key[split] != other[split] and (key[-1] == other[-1] or not (key[-1] and other[-1]))


def _on_other_content(key: tuple[str, ...], groups: Mapping[tuple[str, ...], Sequence[Result]]) -> Iterator[str]:
    """Name the runs on the same own data that were trained on another content of it."""
    others = [
        result for other, results in groups.items() if other != key and other[:-1] == key[:-1] for result in results
    ]
    if others:
        data, elsewhere = groups[key][0].facts["data"], ", ".join(str(result.path) for result in others)
        yield (
            f"Not all runs on {data['source']} used the same version of the file, read by the same code and refined to "
            f"the same graph.symprec. This part is about the {data['rows']:,} rows with the digest {key[-1][:10]}, and "
            f"leaves out {elsewhere}."
        )


def _on_older_format(results: Sequence[Result]) -> Iterator[str]:
    """Name the runs with records of sen-bench 0.1."""
    if older := [str(result.path) for result in results if is_older_format(result.records.values())]:
        yield (
            f"Results in the older format of sen-bench 0.1, which do not record which configuration and unit they are "
            f"of: {', '.join(older)}."
        )


@contextmanager
def _leave_out_damaged(run: Run) -> Iterator[None]:
    """End the `with` statement with a warning if the run, which is read in it, is damaged."""
    try:
        yield
    except (SenBenchError, KeyError, TypeError, ValueError, AttributeError) as error:
        reason = error if isinstance(error, SenBenchError) else f"it lacks what a run records ({error!r})."
        logging.getLogger("sen_bench").warning("The run %s is left out: %s", run.path, reason)


def _read_run(run: Run) -> Result | None:
    """Read the finished trainings of a run; None if there are none."""
    facts = run.read_config()
    trainings = run.trainings()
    if not trainings:
        return None
    records = {training: run.read_metrics(training) for training in trainings}
    _check_facts(facts)
    facts["config"] = completed(facts["config"])
    parts = [run.read_predictions(training) for training in trainings]
    fold = np.repeat([training.fold for training in trainings], [len(part.ids) for part in parts])
    ids = np.array([name for part in parts for name in part.ids], dtype=object)
    target, prediction = (np.concatenate(values) for values in zip(*(part[1:] for part in parts), strict=True))
    rows = _average(facts["task"]["kind"], fold, ids, target, prediction)
    return Result(recorded_variant(facts["config"]), rows, run, tuple(trainings), records, facts, run.path)


class _Task(BaseModel):
    name: str
    target: str
    kind: Kind
    split: str
    unit: str
    description: str
    licence: str
    is_official: bool
    n_rows: int | None


class _Data(BaseModel):
    source: str
    digest: str
    rows: int
    coverage: float
    is_complete: bool
    skipped: list[Any] = []
    read_as_hydrogen: list[Any] = []
    fold_names: list[str] = []
    training_rows: int | None = None


class _Recipe(BaseModel):
    epochs: int
    batch_size: int
    edge_budget: int
    learning_rate: float
    weight_decay: float
    warmup: float
    clip_norm: float | None
    ema_decay: float
    patience: int
    precision: str


class _Graph(BaseModel):
    symprec: float = UNRECORDED_SYMPREC


class _Tuned(BaseModel):
    task: str
    data: str
    folds: list[int]
    trials: int


class _Pretrained(BaseModel):
    run: str
    task: str
    seed: int
    fold: int
    allow_overlap: bool


class _Config(BaseModel):
    task: str
    block_name: str | None = None
    model_name: str | None = None
    limit: int | None
    graph: _Graph
    training: _Recipe
    tuned: _Tuned | None = None
    pretrained: _Pretrained | None = None

    @model_validator(mode="after")
    def _has_variant(self) -> _Config:
        if self.block_name is None and self.model_name is None:
            raise ValueError("it has no block_name or model_name")
        return self


class _Facts(BaseModel):
    """What a report reads of the config.json of a run, which may hold more."""

    config: _Config
    task: _Task
    data: _Data


def _check_facts(facts: Mapping[str, Any]) -> None:
    """Check that a run recorded what a report reads.

    Raises:
        DataError: It did not; the message is the end of a sentence about the run.
        UsageError: Its split is unknown.
    """
    try:
        _Facts.model_validate(facts, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise DataError(f"its config.json is not as a run writes it ({field}: {first['msg']}).") from None
    check_split(facts["task"]["split"])


def _average(
    kind: Kind,
    fold: NDArray[np.int64],
    ids: NDArray[np.object_],
    target: NDArray[np.float64],
    prediction: NDArray[np.float64],
) -> PredictedRows:
    """Sort predictions [n] of all folds and seeds; a row that several seeds predicted becomes one."""
    _, first, place, n_seeds = np.unique(ids, return_index=True, return_inverse=True, return_counts=True)
    mean = np.bincount(place, prediction) / n_seeds
    error, loss = (
        np.bincount(place, values) / n_seeds
        for values in (np.abs(prediction - target), row_loss(kind, target, prediction))
    )
    order = np.lexsort((first, fold[first]))
    first = first[order]
    return PredictedRows(ids[first], fold[first], target[first], mean[order], error[order], n_seeds[order], loss[order])


def _read_published(file: PredictionFile, task: Task, results: Sequence[Result]) -> list[Result]:
    """Return the predictions of a published file for the rows that the runs predicted.

    There are none where the runs are known to have other folds: what the file predicts was trained on other rows.
    """
    if task.is_resampled or depends_on_data(task.split) or (task.is_official and not task.has_leaderboard):
        return []
    known = {
        name: (target, fold)
        for result in results
        for name, target, fold in zip(
            result.rows.ids.tolist(), result.rows.target.tolist(), result.rows.fold.tolist(), strict=True
        )
    }
    published = []
    for entry in file.sets:
        if entry.task is not None and entry.task.name != task.name:
            continue
        first = {name: i for name, i in entry.first.items() if math.isfinite(entry.prediction[i])}
        found = [(name, *known[name], first[name]) for name in known if name in first]
        if not found:
            continue
        names, *columns = zip(*found, strict=True)
        target, fold, at = map(np.array, columns)
        prediction = entry.prediction[at]
        if task.kind == "classification" and (prediction.min() < 0 or prediction.max() > 1):
            raise DataError(f"{file.path} has values that are not probabilities, and {task.name} is a classification.")
        label = file.model if len(file.sets) == 1 or file.form == "submission" else f"{file.model}, {entry.name}"
        if file.form != "submission":
            logging.getLogger("sen_bench").warning(
                "%s is not a submission to MatBench: `sen-bench audit %s` says whether %s was tested by its protocol.",
                *(file.path, shlex.quote(str(file.path)), label),
            )
        has_folds = file.form == "submission"
        if not has_folds and entry.fold is not None:
            n_other = int(np.count_nonzero(fold != entry.fold[at]))
            has_folds = n_other == 0
            if n_other:
                logging.getLogger("sen_bench").warning(
                    "%s states another fold than that of the runs for %s of %s rows: %s gets no spread and no test "
                    "over folds.",
                    *(file.path, f"{n_other:,}", f"{len(names):,}", label),
                )
        rows = _average(task.kind, fold, np.array(names, dtype=object), target, prediction)
        published.append(Result(label, rows, None, (), {}, file.metadata, file.path, has_folds, file.form))
    return published


def read_run_predictions(path: Path, task: Task) -> list[PredictionFile]:
    """Read the predictions of every run on the official folds of a task as those of a published file.

    They are averaged over the seeds. Runs are found in a folder or in an archive. A damaged run is left out with a
    warning.

    Raises:
        UsageError: No run on this task that can be read has a finished training.
        DataError: The archive cannot be read.
    """
    found = []
    for run in find_runs(path):
        with _leave_out_damaged(run):
            recorded = run.read_config()["task"]
            is_of_task = recorded["is_official"] and recorded["name"] == task.name and recorded["split"] == "folds"
            if not is_of_task or (result := _read_run(run)) is None:
                continue
            rows = result.rows
            entry = PredictionSet(
                run.path.name, task, tuple(rows.ids.tolist()), rows.prediction, rows.target, rows.fold
            )
            found.append(PredictionFile(run.path, "run", run.path.name, (entry,)))
    if not found:
        raise UsageError(f"No training on the official folds of {task.name} is finished in {path}.")
    return found


def choose_pair(studies: Sequence[Study], text: str) -> None:
    """Choose the two results that studies compare by crystal system: their `pair`, unless one of the two is not theirs.

    Args:
        studies: The studies.
        text: Two labels, or names of blocks, models and published files, separated by a comma.

    Raises:
        UsageError: No study has a result of one of the names, or none has both; a name stands for several results; or
            both are the same.
    """
    parts = text.split(",")
    # A label may hold commas.
    splits = [(",".join(parts[:i]).strip(), ",".join(parts[i:]).strip()) for i in range(1, len(parts))]
    if not splits:
        raise UsageError(f"--pair takes two names separated by a comma, such as capsule,megnet, not {printable(text)}.")
    known = [[name for name in split if any(_called(name, study) for study in studies)] for split in splits]
    names, found = max(zip(splits, known, strict=True), key=lambda split: len(split[1]))
    labels = dict.fromkeys(result.label for study in studies for result in study.results)
    for name in names:
        if name not in found:
            raise UsageError(f"--pair: there is no result called {printable(name)!r}. {suggest(name, labels)}")
    for study in studies:
        one, other = (_called(name, study) for name in names)
        for name, results in zip(names, (one, other), strict=True):
            if len(results) > 1:
                several = ", ".join(result.label for result in results)
                raise UsageError(f"--pair: {name!r} may be any of {several}: give the label of one.")
        if one and one == other:
            raise UsageError(f"--pair takes two different results, and both names are of {one[0].label}.")
        study.pair = (one[0], other[0]) if one and other else None
        if study.pair is None:
            lacking = " and ".join(name for name, results in zip(names, (one, other), strict=True) if not results)
            study.notes += (
                f"Crystal systems are not compared between {' and '.join(names)}: no result here is of {lacking}.",
            )
    if not any(study.pair for study in studies):
        raise UsageError(f"--pair: no task has results of both {' and '.join(names)}, so there is nothing to compare.")


def _called(name: str, study: Study) -> list[Result]:
    """Return the result of this label, or else those of this variant."""
    labelled = [result for result in study.results if result.label == name]
    return labelled or [result for result in study.runs if result.variant == name]


def _label(results: Sequence[Result]) -> list[Result]:
    """Name runs by their variant, and those of one variant also by how their configurations differ."""
    named = []
    for result in results:
        config = result.facts["config"]
        same = [other.chosen() for other in results if other.variant == result.variant]
        mine, values = result.chosen(), result.fields
        differing = [key for key in values if any(mine.get(key, _DEFAULT) != each.get(key, _DEFAULT) for each in same)]
        changed = differing if len(differing) <= _NAMED_FIELDS else [key for key in differing if key in mine]
        limited = ["limit"] if config["limit"] is not None and "limit" not in changed else []
        words = [f"{key.rpartition('.')[2]} {_plain(values[key])}" for key in [*changed, *limited]]
        if len(same) > 1 and (not differing or len(changed) > _MOST_NAMED_FIELDS):
            words = [result.path.name.rpartition("-")[2]]
        elif differing and not changed:
            words.insert(0, "defaults")
        words += labels(result.facts, result.folds)
        label = recorded_variant(config) + (f" ({', '.join(words)})" if words else "")
        named.append(replace(result, label=label))
    return named


def _plain(value: object) -> str:
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _distinguish(results: Sequence[Result]) -> list[Result]:
    """Give every result a label that no other has."""
    done: list[Result] = []
    for result in results:
        taken, label = {other.label for other in done}, result.label
        for number in itertools.count(2):
            if label not in taken:
                break
            label = f"{result.label} [{number}]"
        done.append(replace(result, label=label))
    return done
