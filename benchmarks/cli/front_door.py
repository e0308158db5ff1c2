"""Train and predict from Python: `from benchmarks import load_task, load_dataset, train, predict, load_runs`."""

from __future__ import annotations

import logging
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from benchmarks.base.errors import DataError, RunError, SenBenchError, UsageError, printable
from benchmarks.base.interrupts import Interrupted, note_signals
from benchmarks.base.machine import pick_device
from benchmarks.base.zip_path import AnyPath, ZipPath
from benchmarks.cli.options import (
    TrainingOptions,
    check_folds,
    check_jobs,
    choose_folds,
    choose_variant,
    load_with_bars,
)
from benchmarks.cli.progress import RunDisplay
from benchmarks.data.dataset import Dataset
from benchmarks.data.tasks import Task
from benchmarks.results.recorded import completed, recorded_variant
from benchmarks.results.run_config import Recipe, build_config
from benchmarks.results.store import Run, find_run, find_runs
from benchmarks.training.execution import execute
from benchmarks.training.plans import Plan, PlannedTraining, make_plan
from benchmarks.training.prediction import Ensemble, find_files, prediction_facts, read_samples
from benchmarks.training.summary import references, summarise
from benchmarks.training.tracking import Log, tracked
from sen.registry import register

if TYPE_CHECKING:
    from pandas import DataFrame

    from sen.blocks import SymmetryBlock
    from sen.models import CrystalModel

__all__ = [
    "as_path",
    "carry_out",
    "check_literal",
    "chosen_options",
    "each_of",
    "given_data",
    "joined",
    "load_runs",
    "name_of",
    "parse_share",
    "predict",
    "stopped_error",
    "train",
]

# Structures named in a message.
_SHOWN = 5


def train(
    data: Dataset | Task | Path | str,
    *,
    block: str | type[SymmetryBlock] | None = None,
    model: str | type[CrystalModel] | None = None,
    folds: int | str | Sequence[int | str] | None = None,
    seed: int = 0,
    seeds: int = 1,
    settings: Mapping[str, Any] | None = None,
    recipe: Recipe = "own",
    out: Path | str = "runs",
    device: str = "auto",
    jobs: int = 1,
) -> Run:
    """Train SEN with a block, or another model, as `sen-bench run` does, and store what is trained.

    Finished trainings are kept, and those that were stopped go on: after Ctrl-C the same call continues.

    Args:
        data: What `load_dataset` or `load_task` returned, the name of a task, or the path of own data.
        block: Symmetry block of SEN, by its name or as a class; by default capsule.
        model: Another model than SEN, by its name or as a class.
        folds: Numbers or names of folds; by default those that the task runs, mostly all.
        seed: The first seed.
        seeds: Number of seeds, counted up from the first.
        settings: Value of each configuration field that is not the default, such as {"training.epochs": 5}.
        recipe: That of the model's publication ("own"), or one and the same for every model ("common").
        out: Folder of the run store.
        device: "auto", "cpu", "cuda" or "cuda:N".
        jobs: Trainings at the same time; -1: one per core.

    Returns:
        The run, for `predict`; `load_runs(run)` has its scores.

    Raises:
        UsageError: There is no such task, block, model, field or fold, or a value does not fit.
        DataError: The data cannot be read.
        RunError: Trainings failed; the message has the reasons. The others are stored.
        KeyboardInterrupt: It was stopped; what was trained is kept.
    """
    options = chosen_options(folds, seed, seeds, settings, recipe, device, jobs, out)
    variant = choose_variant(name_of("block", block), name_of("model", model))
    given, named = given_data(data)
    task = named if isinstance(named, Task) else options.choose_task(named)
    config = build_config(task.name, variant, recipe=recipe, defaults=task.defaults, flags=settings)
    check_folds(options.folds, task)
    chosen_device = pick_device(options.device)
    try:
        with RunDisplay() as display:
            symprec = config.graph.symprec
            dataset = given or load_with_bars(task, None, None, display, symprec=symprec)
            if dataset.symprec != symprec:
                raise UsageError(
                    f"The crystals were refined to {dataset.symprec:g} Å and the model is to have them refined to "
                    f"{symprec:g} Å: call load_dataset with symprec={symprec:g}, or set graph.symprec."
                )
            plan = make_plan(
                config,
                dataset,
                folds=choose_folds(options.folds, dataset),
                seeds=options.all_seeds,
                out=options.out,
                progress=display.progress("Building graphs"),
            )
            _, failures = carry_out(plan, display, device=chosen_device, jobs=jobs)
    except (KeyboardInterrupt, Interrupted) as stopped:
        raise stopped_error(stopped) from None
    if failures:
        reasons = " ".join(f"{planned}: {error}" for planned, error in failures.items())
        raise RunError(f"{len(failures)} of {len(plan.missing)} trainings failed and have no result. {reasons}")
    return plan.run


def given_data(data: object) -> tuple[Dataset | None, Task | str]:
    """Return the data, if they are loaded, and their task, or the name or path that stands for it.

    Raises:
        UsageError: It is none of these.
    """
    if isinstance(data, Dataset):
        return data, data.task
    if isinstance(data, Task):
        return None, data
    if isinstance(data, str | Path):
        return None, str(data)
    raise UsageError(
        "data is what load_dataset or load_task returned, the name of a task, or the path of own data, and not an "
        f"object of the type {type(data).__name__}."
    )


def chosen_options(
    folds: object,
    seed: object,
    seeds: object,
    settings: object,
    recipe: object,
    device: object,
    jobs: object,
    out: Path | str,
) -> TrainingOptions:
    """Return as options what the functions that train have in common, after checking what the command line checks.

    Raises:
        UsageError: An argument has a wrong value.
    """
    check_literal("recipe", recipe, Recipe)
    check_jobs(_whole("jobs", jobs, -1))
    if not isinstance(settings, Mapping | None) or not all(isinstance(field, str) for field in settings or ()):
        raise UsageError(f'settings takes a dict, such as {{"training.epochs": 5}}, not {printable(repr(settings))}.')
    if not isinstance(device, str):
        raise UsageError(f'device takes a name, such as "cpu", not {printable(repr(device))}.')
    return TrainingOptions(
        folds=joined(folds),
        seed=_whole("seed", seed, 0),
        seeds=_whole("seeds", seeds, 1),
        recipe=recipe,  # type: ignore[arg-type]
        device=device,
        out=Path(out),
    )


def check_literal(name: str, given: object, literal: object) -> None:
    """Check that an argument is one of the texts of a type `Literal`.

    Raises:
        UsageError: It is none of them.
    """
    if given not in get_args(literal):
        texts = " or ".join(f'"{each}"' for each in get_args(literal))
        raise UsageError(f"{name} takes {texts}, not {printable(repr(given))}.")


def _whole(name: str, given: object, least: int) -> int:
    try:
        number = operator.index(given)  # type: ignore[arg-type]
    except TypeError:
        number = None
    if number is None or number < least:
        raise UsageError(f"{name} takes a whole number, {least} or more, not {printable(repr(given))}.")
    return number


def parse_share(name: str, given: object) -> float:
    """Return a share above 0 and below 1, such as 0.02.

    Raises:
        UsageError: It is none.
    """
    if not isinstance(given, Real) or not 0 < float(given) < 1:
        raise UsageError(f"{name} takes a share above 0 and below 1, such as 0.02, not {printable(repr(given))}.")
    return float(given)


def joined(given: object) -> str | None:
    """Return what may be given alone or as a list as the commands take it, with commas; None if it is not given."""
    return None if given is None else ",".join(map(str, each_of(given)))


def name_of(kind: Literal["block", "model"], given: str | type[Any] | None) -> str | None:
    """Return the name of a block or model; a class is found by its name from then on, see `sen.registry.register`.

    Raises:
        UsageError: The object is no such class, its name is taken, or no hash of it can be computed.
    """
    if given is None or isinstance(given, str):
        return given
    try:
        return register(kind, given)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None


def stopped_error(stopped: BaseException) -> KeyboardInterrupt:
    """Return what a function raises after Ctrl-C: it says how far the trainings are."""
    place = f" ({stopped})" if str(stopped) else ""
    return KeyboardInterrupt(f"Stopped{place}. Finished folds are kept, and the same call continues.")


def as_path(given: object) -> AnyPath:
    """Return the path of a run or of a folder or archive of runs.

    Raises:
        UsageError: It is neither a run nor a path.
    """
    if isinstance(given, Run):
        return given.path
    if isinstance(given, str | Path):
        return Path(given)
    if isinstance(given, ZipPath):
        return given
    raise UsageError(f"A run, or the path of one, is given, and not an object of the type {type(given).__name__}.")


def each_of(given: object) -> list[Any]:
    """Return the items of what may be given alone or as a list; texts, paths, runs and classes are single items."""
    if isinstance(given, str | Path | ZipPath | Run | type) or not isinstance(given, Iterable):
        return [given]
    return list(given)


def carry_out(
    plan: Plan, display: RunDisplay, *, device: str, jobs: int, log: Log | None = None
) -> tuple[dict[str, Any], dict[PlannedTraining, SenBenchError]]:
    """Train what is missing of a plan, store it, and summarise the run.

    Args:
        plan: The plan.
        display: Where progress is shown.
        device: "cpu", "cuda" or "cuda:N".
        jobs: Trainings at the same time; -1: one per core.
        log: What curves are written for.

    Returns:
        The summary of the run, and the trainings that failed, with the reason.

    Raises:
        Interrupted: A stop was requested before all trainings had ended.
    """
    display.start(plan, device)
    with note_signals() as stop, tracked(log, on_epoch=display.epoch, on_end=display.end) as callbacks:
        failures = execute(plan.pending, device=device, stop=stop, jobs=jobs, on_wait=display.wait, **callbacks)
    summary = summarise(plan)
    if summary["trainings"] and not plan.dataset.task.has_leaderboard:
        summary["references"] = references(plan, summary["folds"])
        plan.run.write_summary(lambda: _with_references(summarise(plan), summary))
    return summary, failures


def _with_references(fresh: Mapping[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """Add the known references to a fresh summary, unless another process has finished a fold in the meantime."""
    same = fresh["folds"] == known["folds"]
    return {**fresh, **({"references": known["references"]} if same else {})}


def predict(run: Run | AnyPath | str, structures: object, *, level: float = 0.9, device: str = "auto") -> DataFrame:
    """Predict the target of structures with all models of a run, as `sen-bench predict` does.

    Args:
        run: What `train` returned, or the folder of a run, such as runs/TASK/NAME-HASH.
        structures: A pymatgen structure or its dictionary, the text or the path of a CIF or POSCAR file, a folder of
            such files, or a list or a column of a data frame of these.
        level: Share of structures like those of the task that intervals shall cover, between 0 and 1.
        device: "auto", "cpu", "cuda" or "cuda:N".

    Returns:
        A line for each structure, with the index of the column where one is given: its source and reduced formula,
        its space group (0 where the search for it failed), the mean prediction of the models in the unit of the task
        or the probability of a true label, its standard deviation over them (NaN for one), its interval or set of
        labels if rows calibrate it, the elements that models never saw, each with the number of those models, and
        whether deuterium or tritium was read as hydrogen.

    Raises:
        UsageError: There is no such run or file, the run has no finished fold, or no structure is given.
        DataError: A structure cannot be used; the message names it.
        RunError: The block or model of a plug-in raises.
    """
    import pandas as pd

    level = parse_share("level", level)
    if isinstance(structures, pd.DataFrame):
        columns = ", ".join(map(printable, structures.columns))
        raise UsageError(f"predict takes a column of the data frame, such as frame['structure']. It has: {columns}.")
    # A structure can be iterated over, too: it yields its sites, and its dictionary the keys.
    is_structure = hasattr(structures, "as_dict") or (isinstance(structures, Mapping) and "sites" in structures)
    is_one = is_structure or isinstance(structures, str) or not isinstance(structures, Iterable)
    given = pd.Series([structures] if is_one else structures, dtype=object)
    labels: list[object] = []
    sources: list[Path | tuple[str, object]] = []
    for label, structure in given.items():
        found = _sources(label, structure)
        labels += [label] * len(found)
        sources += found
    if not sources:
        raise UsageError("There is no structure to predict.")
    chosen_device = pick_device(device)
    ensemble = Ensemble(run if isinstance(run, Run) else find_run(as_path(run)))
    with RunDisplay() as display:
        samples, problems = read_samples(sources, ensemble.config.graph, display.progress("Reading crystals"))
        if problems:
            more = f" And {len(problems) - _SHOWN:,} more." if len(problems) > _SHOWN else ""
            raise DataError(" ".join(map(str, problems[:_SHOWN])) + more)
        predictions = ensemble.predict(samples, chosen_device, display.progress("Predicting"), level=level)
    if reason := ensemble.why_no_interval(level):
        logging.getLogger("sen_bench").warning("%s has no interval: %s.", ensemble.run.path, reason)
    frame = pd.DataFrame(prediction_facts(ensemble, predictions), index=labels).rename(columns={"file": "source"})
    for name in ("interval", "interval_by_spread"):
        if name in frame:
            ends = [pair or (math.nan, math.nan) for pair in frame.pop(name)]
            frame[f"{name}_low"], frame[f"{name}_high"] = map(list, zip(*ends, strict=True))
    return frame.astype({"spread": float})


def _sources(label: object, structure: object) -> Sequence[Path | tuple[str, object]]:
    """Return the files that a path stands for, or a structure or text with its name."""
    if isinstance(structure, Path) or (isinstance(structure, str) and "\n" not in structure):
        return find_files([Path(structure)])
    as_dict = getattr(structure, "as_dict", None)
    return [(f"structure {printable(label)}", structure if as_dict is None else as_dict())]


def load_runs(path: Run | AnyPath | str = "runs") -> DataFrame:
    """Return the scores of all finished trainings below a folder, or in an archive.

    Args:
        path: A run store, a folder in it, a run, or an archive such as results.zip.

    Returns:
        A line for each training: the path of its run, task, split, variant, limit on the training rows (None where
        there is none), seed, fold, numbers of training and test rows, and the metrics on its test rows, in the unit of
        the task where they have one.

    Raises:
        UsageError: There is no such folder or archive.
        DataError: The archive cannot be read.
    """
    import pandas as pd

    lines = []
    for run in find_runs(as_path(path)):
        facts = run.read_config()
        config = completed(facts["config"])
        of_run = {
            "run": str(run.path),
            "task": facts["task"]["name"],
            "split": facts["task"]["split"],
            "variant": recorded_variant(config),
            "limit": config["limit"],
        }
        for training in run.trainings():
            record = run.read_metrics(training)
            rows = {f"{part}_rows": record["rows"][part] for part in ("train", "test")}
            lines.append({**of_run, "seed": training.seed, "fold": training.fold, **rows, **record["metrics"]})
    names = ["run", "task", "split", "variant", "limit", "seed", "fold", "train_rows", "test_rows"]
    return pd.DataFrame(lines) if lines else pd.DataFrame(columns=names)
