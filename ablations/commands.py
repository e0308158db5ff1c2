"""The command `sen-bench ablate`. Heavy imports happen inside it, so that --help answers at once."""

from __future__ import annotations

import shlex
import sys
from contextlib import ExitStack
from functools import partial
from typing import Annotated, Literal

import typer

from benchmarks.base.interrupts import Interrupted
from benchmarks.cli.options import (
    CONFIG_HELP,
    AllowOverlapOption,
    BackendOption,
    InitFromOption,
    JobsOption,
    LogOption,
    SchedulerOption,
    TaskArgument,
    TrainingOptions,
    complete_blocks,
    complete_fields,
    complete_models,
    results_in_files,
    show_how_to_continue,
    with_training_options,
)

__all__ = ["ablate"]


@partial(results_in_files, unless=["dry_run"])
@with_training_options
def ablate(
    task: TaskArgument = "prototypes",
    *,
    blocks: Annotated[
        str | None,
        typer.Option(
            help="Blocks to compare, such as mlp,egnn,capsule; all: every installed one. "
            "Default: all, or no blocks with --models.",
            autocompletion=complete_blocks,
        ),
    ] = None,
    models: Annotated[
        str | None,
        typer.Option(
            help="Models to compare, such as megnet,cogn; all: every installed one except SEN.",
            autocompletion=complete_models,
        ),
    ] = None,
    options: TrainingOptions,
    config: Annotated[
        list[str] | None,
        typer.Option("--config", metavar="FILE|X=FILE", help=f"{CONFIG_HELP} X=FILE is only for the variant X."),
    ] = None,
    tune: Annotated[
        int | None,
        typer.Option(metavar="TRIALS", help="First choose a recipe for each variant, as `sen-bench tune` does."),
    ] = None,
    jobs: JobsOption = None,
    backend: BackendOption = "loky",
    scheduler: SchedulerOption = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE[,VALUE...]",
            help="Set any configuration field. Several values add an axis to the grid: sen.rounds=1,3,5.",
            autocompletion=complete_fields,
        ),
    ] = None,
    limit: Annotated[
        str | None,
        typer.Option(
            metavar="N[,N...]",
            help="Largest number of rows to train and validate on in each fold, or all. Several add an axis to the "
            "grid: 250,500,1000,all.",
        ),
    ] = None,
    judge: Annotated[
        Literal["test", "validation"],
        typer.Option(
            help="Rows to judge by. Choose recipes by validation: the command then shows nothing about the test rows."
        ),
    ] = "test",
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIRST:SECOND",
            help="Compare these two variants. Default: every other one with capsule, or without it with the first by "
            "name.",
        ),
    ] = None,
    margin: Annotated[
        str,
        typer.Option(
            metavar="PERCENT", help="Two variants are equivalent within this share of the second one's score."
        ),
    ] = "2%",
    detect: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="Train as many seeds as it takes to find this difference, such as 5%. The first --seeds (default: 4) "
            "measure the noise.",
        ),
    ] = None,
    resample: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Train on N random splits in place of the folds, each with its own seed: is the first better on new "
            "data, and on how many splits?",
        ),
    ] = None,
    max_seeds: Annotated[
        int | None, typer.Option(help="Largest number of seeds of a variant, with --detect. Default: 10.")
    ] = None,
    log: LogOption = None,
    init_from: InitFromOption = None,
    allow_overlap: AllowOverlapOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its hours, estimated from a few steps of each variant.")
    ] = False,
) -> None:
    """Train SEN with several blocks, and other models, on the same folds and seeds, and say which is better.

    Every variant is an ordinary run in the store, and finished trainings are never repeated. To continue after a stop,
    give the same command.
    """
    from ablations.ablation import check_place, choose_ablation, conclude, open_place, plan_grid, show_cost, train_grid

    check_place(options.device, jobs, backend, scheduler, log)
    ablation = choose_ablation(
        options,
        blocks=blocks,
        models=models,
        task=task,
        config=config,
        tune=tune,
        set_=set_,
        limit=limit,
        judge=judge,
        contrast=contrast,
        margin=margin,
        detect=detect,
        resample=resample,
        max_seeds=max_seeds,
        init_from=init_from,
        allow_overlap=allow_overlap,
    )
    command = ["sen-bench", *sys.argv[1:]]
    try:
        with ExitStack() as stack:
            place = open_place(stack, options.device, jobs, scheduler, options.out, log)
            grid = plan_grid(ablation, place, is_trial=dry_run)
            if dry_run:
                show_cost(grid, place)
                return
            grid, needs, failures = train_grid(grid, place)
    except (KeyboardInterrupt, Interrupted) as interrupted:
        show_how_to_continue(interrupted, command)
        raise typer.Exit(130) from None
    conclude(grid, needs, failures, shlex.join(command))
