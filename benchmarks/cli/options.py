"""Options that several commands have, and what they mean. Heavy imports happen inside the functions."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from benchmarks.base.errors import UsageError

if TYPE_CHECKING:
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.data.dataset import Dataset
    from benchmarks.data.tasks import Task

__all__ = [
    "BadRowOption",
    "BatchSizeOption",
    "BlockOption",
    "ConfigOption",
    "DataDir",
    "DeviceOption",
    "EpochsOption",
    "FoldsOption",
    "KindOption",
    "LimitOption",
    "OutOption",
    "PrecisionOption",
    "SeedOption",
    "SeedsOption",
    "SetOption",
    "SplitOption",
    "TargetOption",
    "TaskArgument",
    "UnitOption",
    "check_jobs",
    "choose_folds",
    "configuration_flags",
    "load_with_bars",
    "tell_how_to_go_on",
]

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
    Path | None,
    typer.Option(
        "--config", help="TOML file with the tables graph, sen, block and training; or paper, the paper's settings."
    ),
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
SplitOption = Annotated[
    str | None,
    typer.Option(
        metavar="folds|holdout:A/B/C",
        help="Five folds (default), or shares of training, validation and test rows.",
        rich_help_panel=_OWN,
    ),
]
UnitOption = Annotated[str | None, typer.Option(help="Unit of the target, for tables.", rich_help_panel=_OWN)]
FoldsOption = Annotated[
    str | None, typer.Option(help="Folds to run, such as 0,1. Default: all five; for `prototypes` fold 0.")
]
SeedOption = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the first run.")]
SeedsOption = Annotated[int, typer.Option(min=1, help="Number of seeds, counted up from --seed.")]
EpochsOption = Annotated[
    int | None, typer.Option(help="Passes over the training rows. Default: 60; for `prototypes` 30.")
]
BatchSizeOption = Annotated[int | None, typer.Option(help="Crystals in a batch. Default: 32.")]
PrecisionOption = Annotated[str | None, typer.Option(help="float32, tf32 or bfloat16.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the run store.")]
LimitOption = Annotated[
    int | None,
    typer.Option(help="Train and validate on at most so many rows of each fold; all test rows are predicted."),
]


def load_with_bars(
    task: Task,
    data_dir: Path | None,
    on_bad_row: Literal["fail", "skip"] | None,
    display: RunDisplay,
    *,
    jobs: int = -1,
) -> Dataset:
    """Load the crystals of a task, and show in bars how far the download and the reading are."""
    from benchmarks.data.dataset import load_dataset

    return load_dataset(
        task,
        data_dir,
        on_bad_row=on_bad_row,
        jobs=jobs,
        progress=display.progress("Reading crystals"),
        download_progress=display.progress(f"Downloading {task.file_name} (MB)"),
    )


def tell_how_to_go_on(interrupted: BaseException, words: Sequence[str]) -> None:
    """Say that trainings were stopped, where each is, and which command line goes on."""
    place = f" ({interrupted})" if str(interrupted) else ""
    typer.echo(f"Stopped{place}. Finished folds are kept. To go on:\n  {shlex.join(words)}", err=True)


def check_jobs(jobs: int) -> None:
    """Check the number of processes asked for.

    Raises:
        UsageError: It is none.
    """
    if jobs < -1 or jobs == 0:
        raise UsageError(f"--jobs takes a number of processes, or -1 for one per core, not {jobs}.")


def choose_folds(text: str | None, task: Task) -> list[int]:
    """Return the folds in a list such as "0,1", or those that a task takes unless told.

    Raises:
        UsageError: It is no such list, or the task has no such fold.
    """
    from benchmarks.data.folds import check_fold_numbers

    if text is None:
        return list(task.default_folds)
    try:
        folds = [int(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"--folds takes numbers from 0 to 4 separated by commas, such as 0,1, not {text!r}.") from None
    check_fold_numbers(folds, task.split)
    return folds


def configuration_flags(
    *, epochs: int | None, batch_size: int | None, precision: str | None, limit: int | None
) -> dict[str, Any]:
    """Return the fields of the configuration that have options of their own, as `run_config` takes them."""
    return {
        "training.epochs": epochs,
        "training.batch_size": batch_size,
        "training.precision": precision,
        "limit": limit,
    }
