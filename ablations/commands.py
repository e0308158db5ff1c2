"""The command `sen-bench ablate`. Heavy imports happen inside it, so that --help answers at once."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmarks.base.console import count, duration, say
from benchmarks.base.errors import RunError, UsageError
from benchmarks.base.interrupts import Interrupted, note_signals
from benchmarks.cli.options import (
    CONFIG_HELP,
    TASK_HELP,
    TrainingOptions,
    check_jobs,
    choose_folds,
    load_with_bars,
    results_in_files,
    show_how_to_continue,
    with_training_options,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ablations.grid import Setting, Variant
    from ablations.judge import JudgedRows
    from benchmarks.base.errors import SenBenchError
    from benchmarks.training.cluster import Cluster
    from benchmarks.training.plans import PlannedTraining
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
            "Default: all, or none with --models."
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
    judge: Annotated[
        Literal["test", "validation"],
        typer.Option(help="Rows to judge by. Choose recipes by validation: then nothing about the test rows is shown."),
    ] = "test",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and what it would cost, from a few steps of each variant.")
    ] = False,
) -> None:
    """Train SEN with several blocks, and other models, on the same folds and seeds, and compare their errors.

    Every variant is an ordinary run in the store. Finished trainings are never repeated: the same command continues
    where it was stopped.
    """
    from ablations.grid import (
        Variant,
        build_settings,
        check_seams,
        check_validated,
        parse_axes,
        parse_configs,
        parse_variants,
    )
    from ablations.tuning import make_tuning
    from benchmarks.base.machine import check_device_name, pick_device
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.training.plans import make_plan
    from benchmarks.training.tuning import check_trials

    if jobs is not None:
        check_jobs(jobs)
    _check_backend(backend, scheduler, jobs)
    device = options.device
    check_device_name(device)
    if tune is not None:
        check_trials(tune, "--tune")
    names = parse_variants(blocks, models)
    assignments, axes = parse_axes(set_ or ())
    chosen = options.choose_task(task)
    folds = choose_folds(options.folds, chosen)
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
    if judge == "validation":
        check_validated(settings)
    check_seams(names)
    try:
        with ExitStack() as stack:
            cluster = _connect(stack, scheduler, options.out)
            if cluster is None:
                device = pick_device(device)
            with RunDisplay() as display:
                datasets = {
                    symprec: load_with_bars(chosen, options.data_dir, options.on_bad_row, display, symprec=symprec)
                    for symprec in dict.fromkeys(setting.config.graph.symprec for setting in settings)
                }
                tunings = [
                    make_tuning(
                        setting,
                        datasets[setting.config.graph.symprec],
                        folds=folds,
                        seed=options.seed,
                        trials=tune,
                        out=options.out,
                        progress=display.progress(f"Building graphs for {setting}"),
                    )
                    for setting in settings
                    if tune is not None
                ]
            if tunings and not dry_run:
                settings = _tune(settings, tunings, device, jobs or 1, cluster)
            with RunDisplay() as display:
                variants = [
                    Variant(
                        setting,
                        make_plan(
                            setting.config,
                            datasets[setting.config.graph.symprec],
                            folds=folds,
                            seeds=options.all_seeds,
                            out=options.out,
                            progress=display.progress(f"Building graphs for {setting}"),
                            is_trial=dry_run,
                        ),
                    )
                    for setting in settings
                ]
            if dry_run:
                _show_cost(variants, tunings, device, _n_workers(variants, jobs or 1, cluster))
                return
            failures = _train(variants, device, jobs or 1, cluster, judge)
    except (KeyboardInterrupt, Interrupted) as interrupted:
        show_how_to_continue(interrupted, ["sen-bench", *sys.argv[1:]])
        raise typer.Exit(130) from None
    _conclude(variants, failures, judge)


def _check_backend(backend: str, scheduler: str | None, jobs: int | None) -> None:
    if (backend == "dask") != (scheduler is not None):
        raise UsageError(
            "--backend dask and --scheduler ADDRESS go together: the address of the cluster's scheduler, or its file."
        )
    if backend == "dask" and jobs is not None:
        raise UsageError("--jobs is for this machine; a cluster trains as many at a time as it has workers.")


def _n_workers(variants: Sequence[Variant], jobs: int, cluster: Cluster | None) -> int:
    from benchmarks.training.execution import n_workers

    return n_workers(cluster.n_workers() if cluster else jobs, sum(len(variant.plan.missing) for variant in variants))


def _tune(
    settings: Sequence[Setting], tunings: Sequence[Tuning], device: str, jobs: int, cluster: Cluster | None
) -> list[Setting]:
    """Choose a recipe for each setting, and return the settings with these."""
    from ablations.tuning import with_recipe
    from benchmarks.cli.progress import TuningDisplay
    from benchmarks.training.tuning import tune

    with TuningDisplay() as display, note_signals() as stop:
        display.start_trials(tunings)
        recipes = tune(tunings, device=device, stop=stop, jobs=jobs, cluster=cluster, **display.callbacks)
    return [
        with_recipe(setting, tuning.plan.dataset.task, recipe)
        for setting, tuning, recipe in zip(settings, tunings, recipes, strict=True)
    ]


def _show_cost(variants: Sequence[Variant], tunings: Sequence[Tuning], device: str, workers: int) -> None:
    from ablations.cost import probe
    from ablations.display import show_plan
    from benchmarks.base.errors import SenBenchError
    from benchmarks.base.machine import n_threads, pick_device
    from benchmarks.cli.progress import RunDisplay

    device, threads = pick_device(device), max(1, n_threads() // workers)
    unfinished = [variant for variant in variants if variant.plan.missing or tunings]
    costs = {}
    with RunDisplay() as display:
        advance = display.progress("Probing")
        for done, variant in enumerate(unfinished, start=1):
            try:
                costs[variant.plan] = probe(variant.plan, device=device, threads=threads)
            except SenBenchError as error:
                say(f"{variant} cannot be trained: {error}", err=True)
            advance(done, len(unfinished))
    show_plan(variants, costs, workers, threads)
    if tunings and len(costs) == len(variants):
        n_left, trial = [len(tuning.left) for tuning in tunings], [costs[variant.plan] for variant in variants]
        work = sum(n * cost.training_seconds for n, cost in zip(n_left, trial, strict=True))
        say(
            f"Before that {count(sum(n_left), 'trial')} of recipes: about {duration(work / workers)} more. The plan "
            "and both times are for the recipes as given; those tried have half to twice as many epochs."
        )
    if len(costs) < len(unfinished):
        raise RunError("Some of the variants cannot be trained, for the reasons above.")


def _connect(stack: ExitStack, scheduler: str | None, out: Path) -> Cluster | None:
    """Connect to the cluster, if one is asked for, until the stack is closed."""
    if scheduler is None:
        return None
    from benchmarks.training.cluster import Cluster

    cluster = stack.enter_context(Cluster(scheduler))
    cluster.check_workers(out)
    return cluster


def _train(
    variants: Sequence[Variant], device: str, jobs: int, cluster: Cluster | None, judge: JudgedRows
) -> Mapping[PlannedTraining, SenBenchError]:
    from ablations.display import GridDisplay
    from benchmarks.training.execution import execute

    # Seed by seed and fold by fold, so that a grid that is stopped has results of every variant.
    pending = sorted(
        (planned for variant in variants for planned in variant.plan.pending), key=lambda planned: planned.training
    )
    with GridDisplay(variants, _n_workers(variants, jobs, cluster), judge) as display, note_signals() as stop:
        return execute(
            pending,
            device=device,
            stop=stop,
            jobs=jobs,
            cluster=cluster,
            on_epoch=display.epoch,
            on_end=display.end,
            on_wait=display.wait,
        )


def _conclude(
    variants: Sequence[Variant], failures: Mapping[PlannedTraining, SenBenchError], judge: JudgedRows
) -> None:
    """Show and store the result, then raise an error that lists the failures, if there are any."""
    from ablations.display import show_result
    from ablations.results import evaluate, write_result

    result = evaluate(variants, judge)
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
            reasons.setdefault((names[planned.plan], str(error)), []).append(str(planned.training))
        lines = "\n".join(f"  {name} ({'; '.join(trainings)}): {why}" for (name, why), trainings in reasons.items())
        raise RunError(f"{count(len(failures), 'training')} failed, and the same command tries again:\n{lines}")
