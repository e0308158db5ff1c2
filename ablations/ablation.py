"""An ablation from what is asked to its result: `sen-bench ablate` and `sen-bench study` take these steps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from ablations.comparison import Declaration, compare_finished, declare_contrasts
from ablations.cost import Cost, finished_cost, probe
from ablations.detection import Detection, Need, with_seeds
from ablations.display import GridDisplay, show_first_stage, show_needs, show_plan, show_result
from ablations.grid import (
    Setting,
    Variant,
    build_settings,
    check_interfaces,
    check_limits,
    check_validated,
    parse_axes,
    parse_configs,
    parse_variants,
)
from ablations.judge import JudgedRows
from ablations.results import AblationResult, evaluate, write_result
from ablations.scores import read_finished
from ablations.tuning import make_tuning, with_finished_recipe, with_recipe
from benchmarks.base.console import count, duration, say
from benchmarks.base.errors import RunError, SenBenchError, UnlearntError, UsageError, printable
from benchmarks.base.interrupts import note_signals
from benchmarks.base.machine import check_device_name, n_threads, pick_device
from benchmarks.base.zip_path import AnyPath
from benchmarks.cli.options import (
    TrainingOptions,
    check_folds,
    check_initial,
    check_jobs,
    check_repeats,
    choose_folds,
    parse_percent,
)
from benchmarks.cli.progress import RunDisplay, TuningDisplay
from benchmarks.data.dataset import Dataset
from benchmarks.data.tasks import RESAMPLE, Task
from benchmarks.results.store import Training
from benchmarks.training.cluster import Cluster
from benchmarks.training.execution import execute, n_workers
from benchmarks.training.plans import Plan, PlannedTraining, make_plan
from benchmarks.training.pretrained import find_initial_weights
from benchmarks.training.tracking import Log, check_log, tracked
from benchmarks.training.tuning import Tuning, check_trials, tune

__all__ = [
    "Ablation",
    "Grid",
    "Place",
    "check_place",
    "choose_ablation",
    "conclude",
    "open_place",
    "plan_grid",
    "refuse_failures",
    "show_cost",
    "store_result",
    "train_grid",
]


@dataclass(frozen=True)
class Ablation:
    """What is asked of an ablation, as far as it can be checked without the data.

    Attributes:
        task: The task.
        settings: The points of the grid.
        seeds: The seeds; the first ones where a detection may add others.
        declaration: The contrasts, and how they are compared.
        judge: Rows that judge.
        trials: Number of recipes to try for each variant; None where they are not tuned.
        paired: Whether each seed trains the fold in the same place alone.
        options: Where the data and the runs are, and what else all commands share that train.
        starts: The run, or training, from whose weights each block and model starts; empty where weights are drawn.
        allow_overlap: Whether these weights may know test rows.
    """

    task: Task
    settings: Sequence[Setting]
    seeds: Sequence[int]
    declaration: Declaration
    judge: JudgedRows
    trials: int | None
    paired: bool
    options: TrainingOptions
    starts: Mapping[str, Path]
    allow_overlap: bool


@dataclass(frozen=True)
class Place:
    """Where trainings take place: the device, and the processes of this machine or the cluster; and their curves."""

    device: str
    jobs: int
    cluster: Cluster | None
    log: Log | None

    def n_workers(self, n_pending: int) -> int:
        """Number of trainings at the same time where so many are to be done."""
        return n_workers(self.cluster.n_workers() if self.cluster else self.jobs, n_pending)


@dataclass(frozen=True)
class Grid:
    """The plan of an ablation.

    Attributes:
        ablation: What is asked.
        variants: The points of the grid with their plans.
        tunings: The search for the recipe of each of them; empty where they are not tuned.
    """

    ablation: Ablation
    variants: Sequence[Variant]
    tunings: Sequence[Tuning]

    @property
    def n_missing(self) -> int:
        """Number of trainings that are not finished."""
        return _n_missing(self.variants)


def choose_ablation(
    options: TrainingOptions,
    *,
    blocks: str | None = None,
    models: str | None = None,
    task: str | Task = "prototypes",
    config: Sequence[str] | None = None,
    tune: int | None = None,
    set_: Sequence[str] | None = None,
    limit: str | None = None,
    judge: JudgedRows = "test",
    contrast: Sequence[str] | None = None,
    margin: str = "2%",
    detect: str | None = None,
    resample: int | None = None,
    max_seeds: int | None = None,
    init_from: Path | None = None,
    allow_overlap: bool = False,
) -> Ablation:
    """Return what the options of `sen-bench ablate` ask for; without `options`, each is the one of its name.

    Raises:
        UsageError: An option has a wrong value or contradicts another one, or own data are missing.
        DataError: Own data cannot be read.
    """
    _check_tune(tune)
    check_initial(init_from, allow_overlap=allow_overlap)
    if tune is not None and init_from is not None:
        raise UsageError("--tune tries recipes from weights that are drawn: leave out --tune or --init-from.")
    detection = _detection(detect, options.seeds, max_seeds, options.seed)
    options = _resampled(resample, options, detect, judge)
    seeds = range(options.seed, options.seed + detection.first) if detection else options.all_seeds
    names = parse_variants(blocks, models)
    assignments, axes = parse_axes([*(set_ or ()), *([] if limit is None else [f"limit={limit}"])])
    chosen = task if isinstance(task, Task) else options.choose_task(task)
    check_folds(options.folds, chosen)
    settings = build_settings(
        chosen.name,
        names,
        axes,
        recipe=options.recipe,
        defaults=chosen.defaults,
        files=parse_configs(config or (), names),
        flags=options.flags,
        assignments=assignments,
    )
    declaration = Declaration(
        declare_contrasts(settings, contrast or ()),
        parse_percent("--margin", margin),
        detection,
        resampled=chosen.is_resampled,
        not_assessable=chosen.not_assessable,
    )
    if detection and not declaration.contrasts:
        raise UsageError("--detect compares variants, and there is only one: name more, or give --seeds in its place.")
    if judge == "validation":
        check_validated(settings)
    check_interfaces(names)
    starts = {} if init_from is None else dict.fromkeys(names, init_from)
    paired = resample is not None
    return Ablation(chosen, settings, seeds, declaration, judge, tune, paired, options, starts, allow_overlap)


def _detection(detect: str | None, seeds: int | None, max_seeds: int | None, seed: int) -> Detection | None:
    if max_seeds is not None:
        check_repeats("--max-seeds", max_seeds, seed)
    if detect is not None:
        return Detection.of(parse_percent("--detect", detect), seeds, max_seeds)
    if max_seeds is not None:
        raise UsageError("--max-seeds is for --detect, which finds how many seeds are needed: give it, such as 5%.")
    return None


def _resampled(n: int | None, options: TrainingOptions, detect: str | None, judge: JudgedRows) -> TrainingOptions:
    """Return the options with those of --resample: n random splits, the first with the first seed, and so on."""
    if detect is not None and (n is not None or options.split == RESAMPLE):
        raise UsageError(
            "--detect finds how many seeds fixed folds need, and every random split is another one: leave it out, or "
            "the random splits."
        )
    if n is None:
        return options
    if n < 2:
        raise UsageError(f"--resample takes a number of random splits, 2 or more, not {n}.")
    check_repeats("--resample", n)
    if options.split is not None:
        raise UsageError(
            f"--resample and --split {printable(options.split)} are two splits of the rows: leave out one."
        )
    if options.folds is not None:
        raise UsageError(f"--resample {n} makes the folds 0 to {n - 1}, each a random split: leave out --folds.")
    if options.seeds is not None or options.seed:
        raise UsageError("--resample trains fold i, the i-th random split, with seed i: leave out --seed and --seeds.")
    if judge == "validation":
        raise UsageError(
            "--resample asks what other test rows would say, and --judge validation reads none: leave out one of them."
        )
    return replace(options, split=RESAMPLE, folds=",".join(map(str, range(n))), seeds=n)


def _check_tune(trials: int | None) -> None:
    if trials is not None:
        check_trials(trials, "--tune")
        check_repeats("--tune", trials)


def check_place(
    device: str, jobs: int | None, backend: Literal["loky", "dask"], scheduler: str | None, log: Log | None = None
) -> None:
    """Check the options that say where to train, and where to write curves.

    Raises:
        UsageError: One of them has a wrong value, or two of them do not go together.
    """
    if jobs is not None:
        check_jobs(jobs)
    if (backend == "dask") != (scheduler is not None):
        raise UsageError(
            "--backend dask and --scheduler ADDRESS go together: the address of the cluster's scheduler, or its file."
        )
    if backend == "dask" and jobs is not None:
        raise UsageError("--jobs is for this machine; a cluster trains as many at a time as it has workers.")
    check_device_name(device)
    check_log(log)


def open_place(
    stack: ExitStack, device: str, jobs: int | None, scheduler: str | None, out: Path, log: Log | None = None
) -> Place:
    """Return where to train: on this machine or, until the stack is closed, on the cluster of a scheduler.

    Raises:
        UsageError: There is no such device, or the cluster cannot be used.
    """
    if scheduler is None:
        return Place(pick_device(device), jobs or 1, None, log)
    cluster = stack.enter_context(Cluster(scheduler))
    cluster.check_workers(out)
    return Place(device, 1, cluster, log)


def plan_grid(ablation: Ablation, place: Place, *, is_trial: bool = False, dataset: Dataset | None = None) -> Grid:
    """Load the data, choose recipes where these are tuned, and find the trainings that are missing.

    Args:
        ablation: What is asked.
        place: Where recipes are tried.
        is_trial: Whether to try no recipe and to write nothing into the store.
        dataset: The data, if they are loaded.

    Raises:
        SenBenchError: The data cannot be had or used, or a variant cannot be trained on them.
        Interrupted: A stop was requested before the recipes were chosen.
    """
    options = ablation.options
    with RunDisplay() as display:
        datasets = {
            symprec: dataset or options.load(ablation.task, display, symprec=symprec)
            for symprec in dict.fromkeys(setting.config.graph.symprec for setting in ablation.settings)
        }
        folds = _common_folds(options.folds, datasets.values())
        check_limits(ablation.settings, next(iter(datasets.values())), folds)
        tunings = [] if ablation.trials is None else _make_tunings(ablation, ablation.trials, datasets, folds, display)
    initial = {
        name: find_initial_weights(run, allow_overlap=ablation.allow_overlap, data_dir=options.data_dir)
        for name, run in ablation.starts.items()
    }
    settings = _with_recipes(ablation.settings, tunings, place, is_trial=is_trial) if tunings else ablation.settings
    with RunDisplay() as display:
        variants = [
            Variant(
                setting,
                make_plan(
                    setting.config,
                    datasets[setting.config.graph.symprec],
                    folds=folds,
                    seeds=ablation.seeds,
                    out=options.out,
                    progress=display.progress(f"Building graphs for {setting}"),
                    is_trial=is_trial,
                    paired=ablation.paired,
                    initial=initial.get(setting.name),
                ),
            )
            for setting in settings
        ]
    return Grid(ablation, variants, tunings)


def _common_folds(text: str | None, datasets: Iterable[Dataset]) -> list[int]:
    """Return the folds to run, which are the same in all data sets: these differ in the tolerance of the refinement.

    Raises:
        UsageError: See `choose_folds`; or the folds of the data sets differ.
    """
    first, *others = datasets
    for other in others:
        if other.fold_names != first.fold_names:
            raise UsageError(
                f"The split {first.task.split} has other folds for crystals refined to {other.symprec:g} Å than for "
                f"those refined to {first.symprec:g} Å: give all variants one graph.symprec."
            )
    return choose_folds(text, first)


def _make_tunings(
    ablation: Ablation, trials: int, datasets: Mapping[float, Dataset], folds: Sequence[int], display: RunDisplay
) -> list[Tuning]:
    """Return a search for the recipe of each setting."""
    return [
        make_tuning(
            setting,
            datasets[setting.config.graph.symprec],
            folds=folds,
            seed=ablation.options.seed,
            trials=trials,
            out=ablation.options.out,
            progress=display.progress(f"Building graphs for {setting}"),
        )
        for setting in ablation.settings
    ]


def _choose_recipes(settings: Sequence[Setting], tunings: Sequence[Tuning], place: Place) -> list[Setting]:
    """Choose a recipe for each setting, and return the settings with these."""
    with TuningDisplay() as display, note_signals() as stop:
        display.start_trials(tunings)
        recipes = tune(
            tunings, device=place.device, stop=stop, jobs=place.jobs, cluster=place.cluster, **display.callbacks
        )
    return [
        with_recipe(setting, tuning.plan.dataset.task, recipe)
        for setting, tuning, recipe in zip(settings, tunings, recipes, strict=True)
    ]


def _with_recipes(
    settings: Sequence[Setting], tunings: Sequence[Tuning], place: Place, *, is_trial: bool
) -> Sequence[Setting]:
    """Return the settings with the recipes that are chosen for them; in a trial, with those that are chosen already."""
    if not is_trial and not all(tuning.is_archived and not tuning.left for tuning in tunings):
        return _choose_recipes(settings, tunings, place)
    return [with_finished_recipe(setting, tuning) for setting, tuning in zip(settings, tunings, strict=True)]


def show_cost(grid: Grid, place: Place) -> dict[tuple[AnyPath, Training], float]:
    """Show the plan and what it would cost, from a few steps of each variant.

    Returns:
        Seconds that each training is estimated to take which is to be done, by the folder of its run.

    Raises:
        RunError: Some of the variants cannot be trained; what can be is shown.
    """
    ablation, tunings, declaration = grid.ablation, grid.tunings, grid.ablation.declaration
    n_left = [len(tuning.left) for tuning in tunings] or [0] * len(grid.variants)
    variants = [  # of a recipe that is not chosen yet nothing is trained
        replace(each, plan=replace(each.plan, missing=each.plan.trainings)) if n else each
        for each, n in zip(grid.variants, n_left, strict=True)
    ]
    detection = declaration.detection
    costs: dict[Plan, Cost] = {}
    if detection and not any(n_left):
        costs = {variant.plan: finished_cost(variant.plan) for variant in variants if not variant.plan.missing}
        if len(costs) == len(variants):
            second, _ = _second_stage(variants, ablation, is_trial=True)
            known = {after.plan: costs[before.plan] for before, after in zip(variants, second, strict=True)}
            show_plan(second, known, place.n_workers(_n_missing(second)), "the finished trainings")
            return _seconds(known)
    workers = place.n_workers(_n_missing(variants))
    device, threads = pick_device(place.device), max(1, n_threads() // workers)
    unfinished = [variant for variant in variants if variant.plan.missing]
    n_failed = 0
    with RunDisplay() as display:
        advance = display.progress("Probing")
        for done, variant in enumerate(unfinished, start=1):
            try:
                costs[variant.plan] = probe(variant.plan, device=device, threads=threads)
            except SenBenchError as error:
                n_failed += 1
                say(f"{variant} cannot be trained: {error}", err=True)
            advance(done, len(unfinished))
    source = f"a few steps of each variant with {count(threads, 'thread')} on this machine"
    show_plan(variants, costs, workers, source)
    if any(n_left) and not n_failed:
        left = {variant: n for variant, n in zip(variants, n_left, strict=True) if n}
        seconds = sum(n * costs[variant.plan].training_seconds for variant, n in left.items())
        chosen = "" if len(left) == len(variants) else f" of {'; '.join(map(str, left))}"
        searched = any("training.epochs" in tuning.space for tuning in tunings if tuning.left)
        epochs = "; those tried have half to twice as many epochs" if searched else ""
        say(
            f"Before that {count(sum(n_left), 'trial')} of recipes: about "
            f"{duration(seconds / place.n_workers(sum(n_left)))} more. The plan and both times are for the recipes "
            f"as given{chosen}{epochs}."
        )
    if detection:
        compared = {name for pair in declaration.contrasts for name in pair}
        plans = [variant.plan for variant in variants if str(variant) in compared]
        show_first_stage(detection, {plan: cost for plan, cost in costs.items() if plan in plans}, workers)
    if n_failed:
        raise RunError("Some of the variants cannot be trained, for the reasons above.")
    return _seconds(costs)


def _seconds(costs: Mapping[Plan, Cost]) -> dict[tuple[AnyPath, Training], float]:
    return {
        (plan.run.path, training): cost.training_seconds for plan, cost in costs.items() for training in plan.missing
    }


def _n_missing(variants: Sequence[Variant]) -> int:
    return sum(len(variant.plan.missing) for variant in variants)


def train_grid(grid: Grid, place: Place) -> tuple[Grid, list[Need], dict[PlannedTraining, SenBenchError]]:
    """Train what is missing, and the seeds that the noise of the first ones shows to be needed.

    Returns:
        The grid with those seeds, what each contrast needs of them, and the trainings that failed, with the reason.

    Raises:
        Interrupted: A stop was requested before all trainings had ended.
    """
    failures = _train(grid.variants, place, grid.ablation.judge)
    if grid.ablation.declaration.detection is None:
        return grid, [], failures
    variants, needs = _second_stage(grid.variants, grid.ablation)
    if further := [variant for variant in variants if variant not in grid.variants]:
        failures |= _train(further, place, grid.ablation.judge)
    return replace(grid, variants=variants), needs, failures


def _second_stage(
    variants: Sequence[Variant], ablation: Ablation, *, is_trial: bool = False
) -> tuple[list[Variant], list[Need]]:
    """Show the seeds that each contrast needs, by the noise of the first stage, and plan them."""
    finished = [read_finished(variant, ablation.judge) for variant in variants]
    complete = {str(one.setting): not one.missing for one in finished}
    declaration = ablation.declaration
    assert declaration.detection is not None
    needs = declaration.detection.needs(compare_finished(finished, declaration), complete)
    if needs:
        show_needs(needs)
    with RunDisplay() as display:
        progress = display.progress("Building graphs")
        return with_seeds(variants, needs, ablation.options.out, progress=progress, is_trial=is_trial), needs


def _train(variants: Sequence[Variant], place: Place, judge: JudgedRows) -> dict[PlannedTraining, SenBenchError]:
    # Seed by seed and fold by fold, so that a grid that is stopped has results of every variant.
    pending = sorted(
        (planned for variant in variants for planned in variant.plan.pending), key=lambda planned: planned.training
    )
    with (
        GridDisplay(variants, place.n_workers(len(pending)), judge) as display,
        note_signals() as stop,
        tracked(place.log, on_epoch=display.epoch, on_end=display.end) as callbacks,
    ):
        return execute(
            pending,
            device=place.device,
            stop=stop,
            jobs=place.jobs,
            cluster=place.cluster,
            **callbacks,
            on_wait=display.wait,
        )


def conclude(
    grid: Grid, needs: Sequence[Need], failures: Mapping[PlannedTraining, SenBenchError], command: str
) -> AnyPath | None:
    """Show and store the result.

    Args:
        grid: The grid after its training.
        needs: What each contrast needed after the first stage of a detection.
        failures: The trainings that failed, with the reason.
        command: The command line that gives the result.

    Returns:
        The folder of the result; None where nothing is finished, or the runs are in an archive.

    Raises:
        RunError: Trainings failed; the message lists them.
    """
    result, folder = store_result(grid, needs, failures, command)
    if result.summaries:
        show_result(result, str(folder) if folder else "none, because an archive is never changed")
    refuse_failures(grid, failures)
    return folder


def store_result(
    grid: Grid, needs: Sequence[Need], failures: Mapping[PlannedTraining, SenBenchError], command: str
) -> tuple[AblationResult, AnyPath | None]:
    """Evaluate and store the result; the arguments are those of `conclude`.

    Returns:
        The result, and its folder; None where nothing is finished, or the runs are in an archive.
    """
    result = evaluate(grid.variants, grid.ablation.declaration, grid.ablation.judge, needs)
    if not result.summaries or grid.variants[0].plan.run.is_archived:
        return result, None
    return result, write_result(result, failures, command)


def refuse_failures(grid: Grid, failures: Mapping[PlannedTraining, SenBenchError]) -> None:
    """Raise a RunError that lists the trainings of a grid that failed, if there are any."""
    if not failures:
        return
    reasons: dict[tuple[str, str], list[str]] = {}
    names = {variant.plan: str(variant) for variant in grid.variants}
    for planned, error in failures.items():
        reasons.setdefault((names[planned.plan], str(error)), []).append(str(planned))
    lines = "\n".join(f"  {name} ({'; '.join(trainings)}): {why}" for (name, why), trainings in reasons.items())
    again = "the same command tries again"
    if any(isinstance(error, UnlearntError) for error in failures.values()):
        again = "those that did not learn would fail again unless something is changed"
    raise RunError(f"{count(len(failures), 'training')} failed, and {again}:\n{lines}")
