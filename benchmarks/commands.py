"""The commands of this room. Heavy imports happen inside them, so that --help answers at once."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchmarks.errors import RunError, UsageError
from benchmarks.interrupts import Interrupted, note_signals

if TYPE_CHECKING:
    from benchmarks.data import Dataset
    from benchmarks.display import RunDisplay
    from benchmarks.tasks import Task

__all__ = ["blocks", "check_block", "export", "predict", "prepare", "run", "status", "tasks"]

TaskArgument = Annotated[
    str,
    typer.Argument(help="Name of a task (`sen-bench tasks` lists them), or the folder or file of own data."),
]
BlockOption = Annotated[str, typer.Option(help="Symmetry block; `sen-bench blocks` lists them.")]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds the MatBench files (NAME.json.gz), or receives them; default: SEN_BENCH_DATA."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="Set any configuration field, such as training.epochs=50."),
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="TOML file with the tables graph, sen, block and training.")
]
_OWN = "Own data"
TargetOption = Annotated[
    str | None, typer.Option(help="Column to predict; needed where there are several.", rich_help_panel=_OWN)
]
KindOption = Annotated[
    Literal["regression", "classification"] | None,
    typer.Option(help="What the target is: a number (default), or true and false.", rich_help_panel=_OWN),
]
BadRowOption = Annotated[
    Literal["fail", "skip"] | None,
    typer.Option(help="Rows that cannot be used: refuse the data (default), or leave them out.", rich_help_panel=_OWN),
]


def run(
    task: TaskArgument,
    block: BlockOption = "capsule",
    folds: Annotated[
        str | None, typer.Option(help="Folds to run, such as 0,1. Default: all five; for `prototypes` fold 0.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the first run.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds, counted up from --seed.")] = 1,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training rows.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Crystals in a batch.")] = None,
    device: DeviceOption = "auto",
    precision: Annotated[str | None, typer.Option(help="float32 or bfloat16.")] = None,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(help="Folder of the run store.")] = Path("runs"),
    jobs: Annotated[int, typer.Option(help="Folds and seeds trained at the same time; -1: one per core.")] = 1,
    limit: Annotated[
        int | None, typer.Option(help="Use only that many training rows of each fold; all test rows are predicted.")
    ] = None,
    config: ConfigOption = None,
    set_: SetOption = None,
    overwrite: Annotated[
        Literal["only-missing", "always", "never"],
        typer.Option(help="What to do with folds that are finished: keep, train again, or refuse to run."),
    ] = "only-missing",
    target: TargetOption = None,
    kind: KindOption = None,
    split: Annotated[
        str | None,
        typer.Option(
            metavar="folds|holdout:A/B/C",
            help="Five folds (default), or shares of training, validation and test rows.",
            rich_help_panel=_OWN,
        ),
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of the target, for tables.", rich_help_panel=_OWN)] = None,
    on_bad_row: BadRowOption = None,
) -> None:
    """Train SEN with a block under the official folds of a task and report its errors.

    Finished folds are kept: the same command goes on where it was stopped.
    """
    from benchmarks.config import build_config
    from benchmarks.display import RunDisplay, show_result
    from benchmarks.folds import check_fold_numbers

    _check_jobs(jobs)
    chosen, load = _find_data(
        task, data_dir, on_bad_row, {"target": target, "kind": kind, "split": split, "unit": unit}
    )
    flags = {
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.precision": precision,
        "limit": limit,
    }
    configuration = build_config(
        chosen.name, block, defaults=chosen.defaults, file=config, flags=flags, assignments=set_ or ()
    )
    wanted = _numbers(folds) if folds is not None else list(chosen.default_folds)
    # Before data are read or even downloaded.
    check_fold_numbers(wanted, chosen.split)
    try:
        with RunDisplay() as display:
            from benchmarks.machine import pick_device
            from benchmarks.runner import execute, make_plan, references, summarise

            device = pick_device(device)
            dataset = load(display, -1)
            plan = make_plan(
                configuration,
                dataset,
                folds=wanted,
                seeds=range(seed, seed + seeds),
                out=out,
                overwrite=overwrite,
                progress=display.progress("Building graphs"),
            )
            display.start(plan, device)
            with note_signals() as stop:
                failures = execute(
                    plan,
                    device=device,
                    stop=stop,
                    jobs=jobs,
                    on_epoch=display.epoch,
                    on_unit=display.unit,
                    on_wait=display.wait,
                )
            summary = summarise(plan)
            if summary["units"] and not chosen.is_official:
                summary["references"] = references(plan, summary["folds"])
                plan.run.write_summary(lambda: {**summarise(plan), "references": summary["references"]})
    except (KeyboardInterrupt, Interrupted) as interrupted:
        place = f" ({interrupted})" if str(interrupted) else ""
        # What was begun anew has been discarded already, and goes on like everything else.
        words = ["sen-bench", *sys.argv[1:]]
        for at, word in enumerate(words):
            if word == "--overwrite=always" or words[at - 1 : at + 1] == ["--overwrite", "always"]:
                words[at] = word.replace("always", "only-missing")
        command = shlex.join(words)
        typer.echo(f"Stopped{place}. Finished folds are kept. To go on:\n  {command}", err=True)
        raise typer.Exit(130) from None
    show_result(plan, summary)
    if failures:
        names = "; ".join(map(str, failures))
        raise RunError(
            f"{len(failures)} of {len(plan.missing)} trainings failed, for the reasons told above, and have no result: "
            f"{names}. The same command tries them again."
        )


def prepare(
    task: TaskArgument,
    data_dir: DataDir = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="TOML file; only its table graph matters here.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Set a field of the table graph, such as graph.cells=full."),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Worker processes; -1: one per core.")] = -1,
    target: TargetOption = None,
    kind: KindOption = None,
    on_bad_row: BadRowOption = None,
) -> None:
    """Read the crystals of a task and build their graphs into the cache, so that runs start at once.

    A block that reads edge vectors needs graph.cells=full.
    """
    from benchmarks.config import build_graph_settings
    from benchmarks.display import RunDisplay, show_preparation
    from benchmarks.graphs import build_graphs

    _check_jobs(jobs)
    _, load = _find_data(task, data_dir, on_bad_row, {"target": target, "kind": kind})
    settings = build_graph_settings(file=config, assignments=set_ or ())
    with RunDisplay() as display:
        dataset = load(display, jobs)
        graphs = build_graphs(dataset.table, settings, jobs=jobs, progress=display.progress("Building graphs"))
    show_preparation(dataset, graphs)


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run, such as runs/TASK/BLOCK-HASH.")],
    structures: Annotated[list[Path], typer.Argument(help="CIF and POSCAR files, and folders of them.")],
    format_: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="How to print the predictions.")
    ] = "table",
    device: DeviceOption = "auto",
) -> None:
    """Predict structures by all models of a run: mean and spread over its folds and seeds.

    It says which elements the models never saw in training.
    """
    from benchmarks.display import RunDisplay, show_predictions
    from benchmarks.store import find_run

    with RunDisplay() as display:
        from benchmarks.machine import pick_device
        from benchmarks.prediction import Ensemble, find_files, read_samples

        device = pick_device(device)
        ensemble = Ensemble(find_run(run))
        files = find_files(structures)
        samples, problems = read_samples(files, display.progress("Reading crystals"))
        predictions = ensemble.predict(samples, device, display.progress("Predicting")) if samples else []
    if predictions:
        show_predictions(ensemble, predictions, format_)
    for problem in problems:
        typer.echo(str(problem), err=True)
    if problems:
        raise RunError(f"{len(problems)} of {len(files)} structures cannot be predicted, for the reasons told above.")


def tasks(data_dir: DataDir = None) -> None:
    """List the tasks, with rows, target and unit, and whether their data are at hand."""
    from benchmarks.display import show_tasks

    show_tasks(data_dir)


def blocks() -> None:
    """List the symmetry blocks, with their parameters, the graphs they read, and their source."""
    from benchmarks.display import show_blocks

    show_blocks()


def check_block(name: Annotated[str, typer.Argument(help="Block; `sen-bench blocks` lists them.")]) -> None:
    """Put a block through the contracts that all blocks must keep, such as that no rotation changes an answer.

    SEN_BENCH_DEBUG=1 shows the traceback of what fails.
    """
    from benchmarks.config import check_block_name
    from benchmarks.display import show_contract
    from sen.testing import run_contracts

    check_block_name(name)
    broken = n_contracts = 0
    for result in run_contracts(name):
        show_contract(result)
        broken += result.outcome == "failed"
        n_contracts += 1
    if broken:
        raise RunError(f"The block {name!r} breaks {broken} of {n_contracts} contracts.")


def status(out: Annotated[Path, typer.Argument(help="Folder of the run store.")] = Path("runs")) -> None:
    """List the runs in a store: what is finished and with what result."""
    from benchmarks.display import show_status

    show_status(out)


def export(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Run folders, runs/TASK/BLOCK-HASH, one for each task.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, such as results.json.gz.")],
    algorithm: Annotated[
        str | None, typer.Option(help="Name of the model in the file. Default: SEN with the block.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write finished runs as an official MatBench submission file.

    All five folds of every seed are needed, on complete official data. Predictions are averaged over the seeds.
    """
    from datetime import UTC, datetime

    from benchmarks.display import show_submission
    from benchmarks.store import find_run
    from benchmarks.submission import make_submission, read_submission, write_submission

    content = make_submission([find_run(path) for path in runs], algorithm=algorithm, moment=datetime.now(UTC))
    write_submission(out, content, overwrite=overwrite)
    show_submission(out, read_submission(out))


def _find_data(
    name: str, data_dir: Path | None, on_bad_row: Literal["fail", "skip"] | None, options: Mapping[str, str | None]
) -> tuple[Task, Callable[[RunDisplay, int], Dataset]]:
    """Return the task that a task argument means, and what loads its crystals with so many jobs."""
    from benchmarks.data import load_dataset
    from benchmarks.own_data import OwnData, find_own_data
    from benchmarks.tasks import get_task

    given: dict[str, Any] = {option: value for option, value in options.items() if value is not None}
    path = find_own_data(name)
    if path is None:
        task = get_task(name)
        if on_bad_row is not None:
            given["on_bad_row"] = on_bad_row
        if given:
            flags = " and ".join(f"--{option.replace('_', '-')}" for option in given)
            raise UsageError(f"{flags}: for own data alone. {name} is a task, which decides that itself.")
        return task, lambda display, jobs: load_dataset(
            task,
            data_dir,
            jobs=jobs,
            progress=display.progress("Reading crystals"),
            download_progress=display.progress(f"Downloading {task.file_name} (MB)"),
        )
    if data_dir is not None:
        raise UsageError(f"--data-dir is for the files of tasks; {name} is read from where it is.")
    own = OwnData(path=path, **given)
    return own.task, lambda display, jobs: own.load(
        on_bad_row=on_bad_row or "fail", jobs=jobs, progress=display.progress("Reading crystals")
    )


def _check_jobs(jobs: int) -> None:
    if jobs < -1 or jobs == 0:
        raise UsageError(f"--jobs takes a number of processes, or -1 for one per core, not {jobs}.")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--folds takes numbers from 0 to 4 separated by commas, such as 0,1, not {text!r}.") from None
