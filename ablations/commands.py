"""The command `sen-bench ablate`. Heavy imports happen inside it, so that --help answers at once."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmarks.base.console import count, duration, say
from benchmarks.base.errors import RunError, UsageError, printable
from benchmarks.base.interrupts import Interrupted, note_signals
from benchmarks.cli.options import (
    CONFIG_HELP,
    TASK_HELP,
    LogOption,
    TrainingOptions,
    check_folds,
    check_jobs,
    check_repeats,
    choose_folds,
    load_with_bars,
    parse_percent,
    results_in_files,
    show_how_to_continue,
    with_training_options,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ablations.comparison import Declaration
    from ablations.cost import Cost
    from ablations.detection import Detection, Need
    from ablations.grid import Setting, Variant
    from ablations.judge import JudgedRows
    from benchmarks.base.errors import SenBenchError
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.data.dataset import Dataset
    from benchmarks.training.cluster import Cluster
    from benchmarks.training.plans import Plan, PlannedTraining
    from benchmarks.training.tracking import Log
    from benchmarks.training.tuning import Tuning

__all__ = ["ablate"]


@partial(results_in_files, unless="dry_run")
@with_training_options
def ablate(
    *,
    blocks: Annotated[
        str | None,
        typer.Option(
            help="Blocks to compare, such as mlp,egnn,capsule; all: every installed one. "
            "Default: all, or no blocks with --models."
        ),
    ] = None,
    models: Annotated[
        str | None, typer.Option(help="Models to compare, such as megnet,cogn; all: every installed one but SEN.")
    ] = None,
    task: Annotated[str, typer.Option(help=TASK_HELP)] = "prototypes",
    options: TrainingOptions,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", metavar="FILE|X=FILE", help=f"{CONFIG_HELP} X=FILE is for the variant X alone."),
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(metavar="TRIALS", help="First choose a recipe for each variant, as `sen-bench tune` does."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(help="Trainings at the same time on this machine; -1: one per core. Default: 1.")
    ] = None,
    backend: Annotated[
        Literal["loky", "dask"], typer.Option(help="Where to train: processes of this machine, or a Dask cluster.")
    ] = "loky",
    scheduler: Annotated[
        str | None,
        typer.Option(help="Address of the cluster's scheduler, such as tls://host:8786, or its --scheduler-file."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE[,VALUE...]",
            help="Set any configuration field; several values add an axis to the grid: sen.rounds=1,3,5.",
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]",
            help="Largest number of rows to train and validate on in each fold, or all; several add an axis to the "
            "grid: 250,500,1000,all.",
        ),
    ] = None,
    judge: Annotated[
        Literal["test", "validation"],
        typer.Option(help="Rows to judge by. Choose recipes by validation: then nothing about the test rows is shown."),
    ] = "test",
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIRST:SECOND",
            help="Compare these two variants. Default: every other one with capsule, else with the first by name.",
        ),
    ] = None,
    margin: Annotated[
        str, typer.Option(metavar="PERCENT", help="Within this share of the second variant's score two are equivalent.")
    ] = "2%",
    detect: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="Train as many seeds as it takes to find this difference, such as 5%; --seeds (default: 4) are the "
            "first of them.",
        ),
    ] = None,
    resample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Train on N random splits in place of the folds, each with a seed of its own: is the first better on "
            "new data, and on how many splits?",
        ),
    ] = None,
    max_seeds: Annotated[
        int | None, typer.Option(help="Largest number of seeds of a variant, with --detect. Default: 10.")
    ] = None,
    log: LogOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and what it would cost, from a few steps of each variant.")
    ] = False,
) -> None:
    """Train SEN with several blocks, and other models, on the same folds and seeds, and say which is better.

    Every variant is an ordinary run in the store. Finished trainings are never repeated: the same command continues
    where it was stopped.
    """
    from ablations.comparison import Declaration, declare_contrasts
    from ablations.grid import (
        Variant,
        build_settings,
        check_limits,
        check_seams,
        check_validated,
        parse_axes,
        parse_configs,
        parse_variants,
    )
    from benchmarks.base.machine import check_device_name, pick_device
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.training.plans import make_plan
    from benchmarks.training.tracking import check_log

    _check_workers(backend, scheduler, jobs)
    check_device_name(options.device)
    _check_tune(tune)
    detection = _detection(detect, options.seeds, max_seeds, options.seed)
    options = _resampled(resample, options, detect, judge)
    seeds = range(options.seed, options.seed + detection.first) if detection else options.all_seeds
    names = parse_variants(blocks, models)
    assignments, axes = parse_axes([*(set_ or ()), *([] if limit is None else [f"limit={limit}"])])
    chosen = options.choose_task(task)
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
    check_seams(names)
    try:
        with ExitStack() as stack:
            cluster = _connect(stack, scheduler, options.out)
            device = pick_device(options.device) if cluster is None else options.device
            check_log(log)
            with RunDisplay() as display:
                datasets = {
                    symprec: load_with_bars(chosen, options.data_dir, options.on_bad_row, display, symprec=symprec)
                    for symprec in dict.fromkeys(setting.config.graph.symprec for setting in settings)
                }
                folds = _common_folds(options.folds, datasets.values())
                check_limits(settings, next(iter(datasets.values())), folds)
                tunings = [] if tune is None else _make_tunings(settings, datasets, folds, tune, options, display)
            place = _Place(device, jobs or 1, cluster, log)
            if tunings:
                settings = _with_recipes(settings, tunings, place, is_trial=dry_run)
            with RunDisplay() as display:
                variants = [
                    Variant(
                        setting,
                        make_plan(
                            setting.config,
                            datasets[setting.config.graph.symprec],
                            folds=folds,
                            seeds=seeds,
                            out=options.out,
                            progress=display.progress(f"Building graphs for {setting}"),
                            is_trial=dry_run,
                            paired=resample is not None,
                        ),
                    )
                    for setting in settings
                ]
            if dry_run:
                _show_cost(variants, tunings, declaration, judge, options.out, place)
                return
            failures = _train(variants, place, judge)
            needs: list[Need] = []
            if detection:
                variants, needs, further = _train_second_stage(variants, declaration, judge, options.out, place)
                failures |= further
    except (KeyboardInterrupt, Interrupted) as interrupted:
        show_how_to_continue(interrupted, ["sen-bench", *sys.argv[1:]])
        raise typer.Exit(130) from None
    _conclude(variants, declaration, needs, failures, judge)


@dataclass(frozen=True)
class _Place:
    """Where trainings take place: the device, and the processes of this machine or the cluster; and their curves."""

    device: str
    jobs: int
    cluster: Cluster | None
    log: Log | None

    def n_workers(self, variants: Sequence[Variant]) -> int:
        """Number of trainings of these variants at the same time."""
        return self.n_workers_for(sum(len(variant.plan.missing) for variant in variants))

    def n_workers_for(self, n_pending: int) -> int:
        """Number of trainings at the same time where so many are to be done."""
        from benchmarks.training.execution import n_workers

        return n_workers(self.cluster.n_workers() if self.cluster else self.jobs, n_pending)


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


def _detection(detect: str | None, seeds: int | None, max_seeds: int | None, seed: int) -> Detection | None:
    from ablations.detection import Detection

    if max_seeds is not None:
        check_repeats("--max-seeds", max_seeds, seed)
    if detect is not None:
        return Detection.of(parse_percent("--detect", detect), seeds, max_seeds)
    if max_seeds is not None:
        raise UsageError("--max-seeds is for --detect, which finds how many seeds are needed: give it, such as 5%.")
    return None


def _resampled(n: int | None, options: TrainingOptions, detect: str | None, judge: JudgedRows) -> TrainingOptions:
    """Return the options with those of --resample: n random splits, the first with the first seed, and so on."""
    from benchmarks.data.tasks import RESAMPLE

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
    from benchmarks.training.tuning import check_trials

    if trials is not None:
        check_trials(trials, "--tune")
        check_repeats("--tune", trials)


def _check_workers(backend: str, scheduler: str | None, jobs: int | None) -> None:
    if jobs is not None:
        check_jobs(jobs)
    if (backend == "dask") != (scheduler is not None):
        raise UsageError(
            "--backend dask and --scheduler ADDRESS go together: the address of the cluster's scheduler, or its file."
        )
    if backend == "dask" and jobs is not None:
        raise UsageError("--jobs is for this machine; a cluster trains as many at a time as it has workers.")


def _make_tunings(
    settings: Sequence[Setting],
    datasets: Mapping[float, Dataset],
    folds: Sequence[int],
    trials: int,
    options: TrainingOptions,
    display: RunDisplay,
) -> list[Tuning]:
    """Return a search for the recipe of each setting."""
    from ablations.tuning import make_tuning

    return [
        make_tuning(
            setting,
            datasets[setting.config.graph.symprec],
            folds=folds,
            seed=options.seed,
            trials=trials,
            out=options.out,
            progress=display.progress(f"Building graphs for {setting}"),
        )
        for setting in settings
    ]


def _tune(settings: Sequence[Setting], tunings: Sequence[Tuning], place: _Place) -> list[Setting]:
    """Choose a recipe for each setting, and return the settings with these."""
    from ablations.tuning import with_recipe
    from benchmarks.cli.progress import TuningDisplay
    from benchmarks.training.tuning import tune

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
    settings: Sequence[Setting], tunings: Sequence[Tuning], place: _Place, *, is_trial: bool
) -> list[Setting]:
    """Return the settings with the recipes that are chosen for them; in a trial, with those that are chosen already."""
    from ablations.tuning import with_finished_recipe

    if not is_trial and not all(tuning.is_archived and not tuning.left for tuning in tunings):
        return _tune(settings, tunings, place)
    return [with_finished_recipe(setting, tuning) for setting, tuning in zip(settings, tunings, strict=True)]


def _show_cost(
    variants: Sequence[Variant],
    tunings: Sequence[Tuning],
    declaration: Declaration,
    judge: JudgedRows,
    out: Path,
    place: _Place,
) -> None:
    from ablations.cost import finished_cost, probe
    from ablations.display import show_first_stage, show_plan
    from benchmarks.base.errors import SenBenchError
    from benchmarks.base.machine import n_threads, pick_device
    from benchmarks.cli.progress import RunDisplay

    n_left = [len(tuning.left) for tuning in tunings] or [0] * len(variants)
    variants = [  # of a recipe that is not chosen yet nothing is trained
        replace(each, plan=replace(each.plan, missing=each.plan.trainings)) if n else each
        for each, n in zip(variants, n_left, strict=True)
    ]
    detection = declaration.detection
    costs: dict[Plan, Cost] = {}
    if detection and not any(n_left):
        costs = {variant.plan: finished_cost(variant.plan) for variant in variants if not variant.plan.missing}
        if len(costs) == len(variants):
            second, _ = _second_stage(variants, declaration, judge, out, is_trial=True)
            known = {after.plan: costs[before.plan] for before, after in zip(variants, second, strict=True)}
            show_plan(second, known, place.n_workers(second), "the finished trainings")
            return
    workers = place.n_workers(variants)
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
            f"{duration(seconds / place.n_workers_for(sum(n_left)))} more. The plan and both times are for the recipes "
            f"as given{chosen}{epochs}."
        )
    if detection:
        compared = {name for pair in declaration.contrasts for name in pair}
        plans = [variant.plan for variant in variants if str(variant) in compared]
        show_first_stage(detection, {plan: cost for plan, cost in costs.items() if plan in plans}, workers)
    if n_failed:
        raise RunError("Some of the variants cannot be trained, for the reasons above.")


def _train_second_stage(
    first_stage: Sequence[Variant], declaration: Declaration, judge: JudgedRows, out: Path, place: _Place
) -> tuple[list[Variant], list[Need], dict[PlannedTraining, SenBenchError]]:
    """Train the seeds that the first stage has shown to be needed; return the variants, the needs and the failures."""
    variants, needs = _second_stage(first_stage, declaration, judge, out)
    further = [variant for variant in variants if variant not in first_stage]
    return variants, needs, _train(further, place, judge) if further else {}


def _second_stage(
    variants: Sequence[Variant], declaration: Declaration, judge: JudgedRows, out: Path, *, is_trial: bool = False
) -> tuple[list[Variant], list[Need]]:
    """Show the seeds that each contrast needs, by the noise of the first stage, and plan them."""
    from ablations.comparison import compare_finished
    from ablations.detection import with_seeds
    from ablations.display import show_needs
    from ablations.scores import read_finished
    from benchmarks.cli.progress import RunDisplay

    finished = [read_finished(variant, judge) for variant in variants]
    complete = {str(one.setting): not one.missing for one in finished}
    assert declaration.detection is not None
    needs = declaration.detection.needs(compare_finished(finished, declaration), complete)
    if needs:
        show_needs(needs)
    with RunDisplay() as display:
        progress = display.progress("Building graphs")
        return with_seeds(variants, needs, out, progress=progress, is_trial=is_trial), needs


def _connect(stack: ExitStack, scheduler: str | None, out: Path) -> Cluster | None:
    """Connect to the cluster, if one is asked for, until the stack is closed."""
    if scheduler is None:
        return None
    from benchmarks.training.cluster import Cluster

    cluster = stack.enter_context(Cluster(scheduler))
    cluster.check_workers(out)
    return cluster


def _train(variants: Sequence[Variant], place: _Place, judge: JudgedRows) -> dict[PlannedTraining, SenBenchError]:
    from ablations.display import GridDisplay
    from benchmarks.training.execution import execute
    from benchmarks.training.tracking import tracked

    # Seed by seed and fold by fold, so that a grid that is stopped has results of every variant.
    pending = sorted(
        (planned for variant in variants for planned in variant.plan.pending), key=lambda planned: planned.training
    )
    with (
        GridDisplay(variants, place.n_workers(variants), judge) as display,
        note_signals() as stop,
        tracked(place.log, on_epoch=display.epoch, on_end=display.end) as callbacks,
    ):
        return execute(
            pending,
            device=place.device,
            stop=stop,
            jobs=place.jobs,
            cluster=place.cluster,
            on_wait=display.wait,
            **callbacks,
        )


def _conclude(
    variants: Sequence[Variant],
    declaration: Declaration,
    needs: Sequence[Need],
    failures: Mapping[PlannedTraining, SenBenchError],
    judge: JudgedRows,
) -> None:
    """Show and store the result, then raise an error that lists the failures, if there are any."""
    from ablations.display import show_result
    from ablations.results import evaluate, write_result

    result = evaluate(variants, declaration, judge, needs)
    if result.summaries:
        if variants[0].plan.run.is_archived:
            show_result(result, "none, because an archive is never changed")
        else:
            folder = write_result(result, failures, shlex.join(["sen-bench", *sys.argv[1:]]))
            show_result(result, str(folder))
    if failures:
        reasons: dict[tuple[str, str], list[str]] = {}
        names = {variant.plan: str(variant) for variant in variants}
        for planned, error in failures.items():
            reasons.setdefault((names[planned.plan], str(error)), []).append(str(planned))
        lines = "\n".join(f"  {name} ({'; '.join(trainings)}): {why}" for (name, why), trainings in reasons.items())
        raise RunError(f"{count(len(failures), 'training')} failed, and the same command tries again:\n{lines}")
