"""Options that several commands share, and what they mean. Heavy imports happen inside the functions."""

from __future__ import annotations

import functools
import inspect
import re
import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from benchmarks.base.console import say
from benchmarks.base.errors import UsageError, printable
from benchmarks.base.text import whole_number
from sen.registry import block_names, model_names

if TYPE_CHECKING:
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.data.dataset import Dataset
    from benchmarks.data.tasks import Task

__all__ = [
    "CONFIG_HELP",
    "TASK_HELP",
    "AllowOverlapOption",
    "BackendOption",
    "BadRowOption",
    "ConfigOption",
    "DataDir",
    "DeviceOption",
    "FoldsOption",
    "InitFromOption",
    "JobsOption",
    "KindOption",
    "LogOption",
    "SchedulerOption",
    "SetOption",
    "SplitOption",
    "StoreOption",
    "TargetOption",
    "TaskArgument",
    "TaskCommand",
    "TrainingOptions",
    "all_targets",
    "check_folds",
    "check_initial",
    "check_jobs",
    "check_repeats",
    "choose_folds",
    "choose_task",
    "choose_variant",
    "complete_blocks",
    "complete_fields",
    "complete_models",
    "complete_tasks",
    "has_results_in_files",
    "load_with_bars",
    "parse_percent",
    "results_in_files",
    "show_how_to_continue",
    "with_training_options",
]

TASK_HELP = "Name of a task (`sen-bench tasks` lists them), or a folder or file of your own data."


def complete_tasks(incomplete: str) -> list[str]:
    """Return the tasks whose names begin so, for the completion of shells."""
    from benchmarks.data.tasks import TASKS

    return [name for name in TASKS if name.startswith(incomplete)]


def complete_blocks(incomplete: str) -> list[str]:
    """Return the blocks whose names begin so, also after others in a list: "mlp,eg" may become "mlp,egnn"."""
    return _complete_last(incomplete, block_names())


def complete_models(incomplete: str) -> list[str]:
    """Return the models whose names begin so, see `complete_blocks`."""
    return _complete_last(incomplete, model_names())


def _complete_last(incomplete: str, names: Sequence[str]) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{name}" for name in names if name.startswith(last)]


def complete_fields(incomplete: str) -> list[str]:
    """Return the fields of the configuration whose names begin so, for the completion of shells."""
    from benchmarks.results.run_config import all_fields

    return [f"{name}=" for _, name, _ in all_fields() if name.startswith(incomplete)]


TaskArgument = Annotated[str, typer.Argument(help=TASK_HELP, autocompletion=complete_tasks)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the MatBench files (NAME.json.gz); missing ones are downloaded to it. Default: SEN_BENCH_DATA."
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
StoreOption = Annotated[Path, typer.Option(help="Folder of the run store.")]
JobsOption = Annotated[
    int | None, typer.Option(help="Number of trainings at the same time on this machine; -1: one per core. Default: 1.")
]
BackendOption = Annotated[
    Literal["loky", "dask"], typer.Option(help="Where to train: processes of this machine, or a Dask cluster.")
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(help="Address of the cluster's scheduler, such as tls://host:8786, or its --scheduler-file."),
]
CONFIG_HELP = (
    "TOML file with the tables graph, training, sen (or another model) and block, such as a recipe file of `sen-bench "
    "tune`. The word paper takes the settings of SEN's paper and, if its text has none, of its authors' code."
)
ConfigOption = Annotated[Path | None, typer.Option("--config", help=CONFIG_HELP)]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Set any configuration field, such as training.epochs=50.",
        autocompletion=complete_fields,
    ),
]
LogOption = Annotated[
    Literal["tensorboard"] | None,
    typer.Option(
        "--log",
        help="Write losses, validation errors and learning rates for TensorBoard. To see them in a browser: "
        "tensorboard --logdir runs.",
    ),
]
InitFromOption = Annotated[
    Path | None,
    typer.Option(
        metavar="RUN",
        help="Start from the weights of another run, where names and shapes agree. RUN takes its first training, "
        "RUN/seed_S/fold_F another one.",
    ),
]
AllowOverlapOption = Annotated[
    bool,
    typer.Option(
        "--allow-overlap", help="Let --init-from take weights that may know test rows. The results get a label."
    ),
]
_OWN = "Own data"
_PERCENT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?%")
_LARGEST_SEED = 2**32 - 1
# Each of them is a training or more. Noise falls with the root of their number: a thousand leave 3 % of it.
_MOST_REPEATS = 1000
# Attribute of a command, which `functools.wraps` hands on.
_IN_FILES = "_results_in_files"
TargetOption = Annotated[
    str | None, typer.Option(help="Column to predict. Needed if there are several.", rich_help_panel=_OWN)
]
KindOption = Annotated[
    Literal["regression", "classification"] | None,
    typer.Option(help="What the target is: a number (default), or true and false.", rich_help_panel=_OWN),
]
BadRowOption = Annotated[
    Literal["fail", "skip"] | None,
    typer.Option(help="What to do with bad rows: refuse the data (default), or leave them out.", rich_help_panel=_OWN),
]


def _n_seeds(text: str) -> int:
    """Return the number of seeds that --seeds asks for.

    Raises:
        UsageError: It is no number above 0.
    """
    if not (n := whole_number(text.strip())):
        raise UsageError(f"--seeds takes a count, such as 3 for the seeds 0, 1 and 2, not {printable(text)!r}.")
    return n


FoldsOption = Annotated[
    str | None,
    typer.Option(help="Folds, such as 0,1 or cubic,hexagonal. Default: all; for `prototypes` fold 0."),
]
SplitOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPLIT",
        help="folds (default). resample: random splits, fold i is the i-th. holdout:A/B/C: shares of training, "
        "validation and test rows. Whole groups that no model saw: formula, chemical-system, space-group, point-group, "
        "crystal-system, element, cluster:K, or group:COLUMN for own data. file:PATH: a file of `sen-bench split` or "
        "MatFold.",
    ),
]


class TaskCommand(TyperCommand):
    """A command whose argument `task`, if it has one, may also be given as --task TASK."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the value of --task first, where the argument is expected."""
        if any(each.name == "task" and each.param_type_name == "argument" for each in self.params):
            end = args.index("--") if "--" in args else len(args)
            for at, word in enumerate(args[:end]):
                if word == "--task" and at + 1 < end:
                    args = [args[at + 1], *args[:at], *args[at + 2 :]]
                    break
                if word.startswith("--task="):
                    args = [word.removeprefix("--task="), *args[:at], *args[at + 1 :]]
                    break
        return super().parse_args(ctx, args)


@dataclass(frozen=True, kw_only=True)
class TrainingOptions:
    """The options that commands share which train: each field is one of them, with its default."""

    folds: FoldsOption = None
    seed: Annotated[int, typer.Option(min=0, max=_LARGEST_SEED, help="First seed.")] = 0
    seeds: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", parser=_n_seeds, help="Number of seeds, counted up from --seed. Default: 1."),
    ] = None
    epochs: Annotated[
        int | None,
        typer.Option(
            help="Passes over the training rows. Default: that of the model, 60 for SEN; for `prototypes` 30."
        ),
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(help="Crystals in a batch. Default: that of the model, 32 for SEN.")
    ] = None
    device: DeviceOption = "auto"
    precision: Annotated[str | None, typer.Option(help="float32, tf32 or bfloat16.")] = None
    data_dir: DataDir = None
    out: StoreOption = Path("runs")
    limit: Annotated[
        int | None,
        typer.Option(help="Largest number of rows to train and validate on in each fold. All test rows are predicted."),
    ] = None
    without: Annotated[
        str | None,
        typer.Option(
            metavar="TASK",
            help="Neither train nor validate on rows whose formula occurs in this task. Weights for --init-from then "
            "know nothing of it.",
            autocompletion=complete_tasks,
        ),
    ] = None
    recipe: Annotated[
        Literal["own", "common"],
        typer.Option(help="own: the recipe of each model's publication. common: the same recipe for every model."),
    ] = "own"
    target: TargetOption = None
    kind: KindOption = None
    split: SplitOption = None
    unit: Annotated[str | None, typer.Option(help="Unit of the target, for tables.", rich_help_panel=_OWN)] = None
    on_bad_row: BadRowOption = None

    def __post_init__(self) -> None:
        """Check the number of seeds.

        Raises:
            UsageError: They are too many, or too large.
        """
        if self.seeds is not None:
            check_repeats("--seeds", self.seeds, self.seed)

    @property
    def all_seeds(self) -> range:
        """The seeds asked for."""
        return range(self.seed, self.seed + (self.seeds or 1))

    @property
    def flags(self) -> dict[str, Any]:
        """The fields of the configuration that have an option of their own, as `build_config` takes them."""
        return {
            "training.epochs": self.epochs,
            "training.batch_size": self.batch_size,
            "training.precision": self.precision,
            "limit": self.limit,
        }

    def choose_task(self, name: str) -> Task:
        """Return the task of a name, or the one that own data define, see the function of this name."""
        own = {"target": self.target, "kind": self.kind, "unit": self.unit}
        # Beside own data, the folder may be that of the task whose formulas are left out.
        data_dir = None if self.without else self.data_dir
        return choose_task(name, data_dir, self.on_bad_row, split=self.split, **own)

    def load(self, task: Task, display: RunDisplay, *, symprec: float) -> Dataset:
        """Load the crystals of a task, refined to a tolerance in Å, with bars; see `load_with_bars`.

        Raises:
            UsageError: There is no task whose formulas are to be left out, or no row has one of them.
        """
        from benchmarks.data.overlap import leave_out
        from benchmarks.data.tasks import get_task

        data_dir = None if task.path else self.data_dir
        other = None if self.without is None else get_task(self.without)
        dataset = load_with_bars(task, data_dir, self.on_bad_row, display, symprec=symprec)
        if other is None:
            return dataset
        dataset = leave_out(dataset, load_with_bars(other, self.data_dir, None, display, symprec=symprec))
        if dataset.left_out and not dataset.left_out.ids:
            raise UsageError(f"No row of {task.name} has a formula of {other.name}: leave out --without.")
        return dataset


def with_training_options(command: Callable[..., None]) -> Callable[..., None]:
    """Let a command take the options of `TrainingOptions` on its command line, where its parameter `options` stands.

    An option that the command declares itself takes the place of the shared one of that name.

    typer reads the options of a command from its signature. The function returned has a signature with the fields of
    `TrainingOptions` in place of `options`; it collects them and passes them to the command as one object.
    """
    own = inspect.signature(command, eval_str=True).parameters
    every = inspect.signature(TrainingOptions, eval_str=True).parameters
    shared = {name: parameter for name, parameter in every.items() if name not in own}
    parameters: list[inspect.Parameter] = []
    for parameter in own.values():
        parameters += shared.values() if parameter.name == "options" else [parameter]

    @functools.wraps(command)
    def call(**given: Any) -> None:
        options = TrainingOptions(**{name: given.pop(name) for name in shared})
        command(options=options, **given)

    keywords = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in parameters]
    call.__signature__ = inspect.Signature(keywords)  # type: ignore[attr-defined]
    return call


def results_in_files(command: Callable[..., None], *, unless: Collection[str] = ()) -> Callable[..., None]:
    """Mark a command whose results are in files, so that it succeeds even if its output cannot be written.

    Args:
        command: The command.
        unless: Names of options with which it only prints.
    """
    vars(command)[_IN_FILES] = unless
    return command


def has_results_in_files(command: Callable[..., None], options: Mapping[str, Any]) -> bool:
    """Whether a command, with these options, is marked by `results_in_files`."""
    return _IN_FILES in vars(command) and not any(options.get(option) for option in vars(command)[_IN_FILES])


def choose_task(
    name: str, data_dir: Path | None, on_bad_row: str | None, *, split: str | None = None, **own_data: Any
) -> Task:
    """Return the task of a name, or the one that own data define, and check that all options are for such a task.

    Args:
        name: Name of a task, or the path of own data.
        data_dir: Value of --data-dir, which is for tasks only.
        on_bad_row: Value of --on-bad-row, which is for own data only.
        split: Value of --split.
        own_data: Values of the other options for own data, which `find_task` takes.

    Raises:
        UsageError: An option is not for this task, or `find_task` raises it.
        DataError: `find_task` raises it.
    """
    from benchmarks.data.own_data import find_own_data, find_task, own_data_only
    from benchmarks.data.tasks import get_task

    options = {**own_data, "on_bad_row": on_bad_row}
    given = [f"--{option.replace('_', '-')}" for option, value in options.items() if value is not None]
    is_own = find_own_data(name) is not None
    if is_own and data_dir is not None:
        raise UsageError(f"--data-dir is for the files of built-in tasks; {name} is read from where it is.")
    if given and not is_own:
        raise own_data_only(get_task(name), *given)
    return find_task(name, split=split, **own_data)


def choose_variant(block: str | None, model: str | None) -> str:
    """Return the name of the block or model that --block and --model choose.

    Raises:
        UsageError: There is none of that name, or both are given.
    """
    from benchmarks.results.run_config import check_variant

    if block is not None and model is not None:
        raise UsageError("--block X is short for --model sen with that block: leave out --block or --model.")
    for option, names in (("block", block), ("model", model)):
        if names is not None and "," in names:
            raise UsageError(
                f"--{option} takes one {option}. To compare several: "
                f"sen-bench ablate TASK --{option}s {printable(names)}"
            )
    if model is not None:
        check_variant(model, "model")
    else:
        check_variant(block or "capsule", "block")
    # SEN is called by its block.
    return block or (model if model and model != "sen" else "capsule")


def load_with_bars(
    task: Task,
    data_dir: Path | None,
    on_bad_row: Literal["fail", "skip"] | None,
    display: RunDisplay,
    *,
    symprec: float,
    jobs: int = -1,
) -> Dataset:
    """Load the crystals of a task, refined to a tolerance in Å; bars show how far the download and the reading are."""
    from benchmarks.data.dataset import load_dataset

    return load_dataset(
        task,
        data_dir,
        on_bad_row=on_bad_row,
        symprec=symprec,
        jobs=jobs,
        progress=display.progress("Reading crystals"),
        download_progress=display.progress(f"Downloading {task.file_name} (MB)"),
    )


def all_targets(task: Task, data_dir: Path | None, display: RunDisplay) -> list[float]:
    """Return the targets of all rows of an official task in their order; nothing is downloaded.

    Raises:
        UsageError: Not all of them are available; the message says how to have them.
    """
    from benchmarks.data.dataset import find_official

    dataset = find_official(task, data_dir, progress=display.progress("Reading crystals"))
    if dataset is None or not dataset.is_complete:
        raise UsageError(
            f"matbench needs the targets of all rows of {task.name}: name the folder of {task.file_name} with "
            f"--data-dir, or download it with `sen-bench prepare {task.name}`."
        )
    table = dataset.table
    values = table.target > 0 if task.kind == "classification" else table.target
    targets: list[float] = values[table.row.argsort()].tolist()
    return targets


def show_how_to_continue(interrupted: BaseException, command_line: Sequence[str], *, kept: str = "folds") -> None:
    """Say that trainings were stopped, how far each of them is, and which command line continues them."""
    place = f" ({interrupted})" if str(interrupted) else ""
    say(f"Stopped{place}. Finished {kept} are kept. To continue:\n  {shlex.join(command_line)}", err=True)


def check_initial(init_from: object, *, allow_overlap: bool) -> None:
    """Check that --allow-overlap is given only with --init-from.

    Raises:
        UsageError: It is given alone.
    """
    if allow_overlap and init_from is None:
        raise UsageError("--allow-overlap is for weights of another run: name it with --init-from, or leave it out.")


def check_jobs(jobs: int) -> None:
    """Check that --jobs is a number of processes.

    Raises:
        UsageError: It is not.
    """
    if jobs < -1 or jobs == 0:
        raise UsageError(f"--jobs takes a number of processes, or -1 for one per core, not {jobs}.")


def check_repeats(option: str, n: int, seed: int = 0) -> None:
    """Check that the number of seeds, random splits or trials that an option asks for can be planned.

    Args:
        option: The option.
        n: Its value.
        seed: The first seed, from which they are counted.

    Raises:
        UsageError: It is absurdly large, or the last seed is too large.
    """
    if n > _MOST_REPEATS:
        raise UsageError(
            f"{option} takes at most {_MOST_REPEATS:,}, not {n:,}: each is a training of every fold or more, and "
            "so many leave no noise that would matter."
        )
    if seed + n - 1 > _LARGEST_SEED:
        raise UsageError(f"--seed {seed} and {option} {n} go beyond the largest seed, {_LARGEST_SEED}.")


def parse_percent(option: str, text: str) -> float:
    """Return the share that an option gives in per cent, such as 0.05 for "5%".

    Raises:
        UsageError: The text has no %, or is not above 0 and below 100 %.
    """
    found = _PERCENT.fullmatch(text.strip())
    if found is None or not 0 < float(found[1]) < 100:
        meant = _meant(text.strip())
        raise UsageError(
            f"{option} takes a share above 0 and below 100 per cent, such as 5%, not {printable(text)!r}."
            + (f" Did you mean {meant}?" if meant else "")
        )
    return float(found[1]) / 100


def _meant(text: str) -> str:
    """Return the share that a number without a % is likely to mean, "10%" for "10" and "2%" for "0.02", or nothing."""
    found = _PERCENT.fullmatch(f"{text}%")
    if found is None or not 0 < float(text) < 100:
        return ""
    return f"{text}%" if float(text) >= 1 else f"{100 * float(text):g}%"


def check_folds(text: str | None, task: Task) -> None:
    """Check the value of --folds as far as that is possible without the data.

    Raises:
        UsageError: It is no list of folds, or the task has no such fold.
    """
    from benchmarks.data.folds import check_fold_numbers, depends_on_data, n_folds

    if text is None or depends_on_data(task.split):
        return
    parts = text.split(",")
    folds = [fold for part in parts if (fold := whole_number(part.strip())) is not None]
    if len(folds) < len(parts):
        raise UsageError(f"--folds takes numbers separated by commas, such as 0,1, not {printable(text)!r}.")
    check_fold_numbers(folds, task.split, n_folds(task.split))


def choose_folds(text: str | None, dataset: Dataset) -> list[int]:
    """Return the folds in a list of numbers and names, such as "0,1" or "cubic,hexagonal"; by default all.

    Of `prototypes` and of random splits the default is that of the task.

    Raises:
        UsageError: The split has no such fold, one is named twice, or its groups cannot be found.
        DataError: The data or the split file cannot be read.
    """
    from benchmarks.data.folds import check_fold_numbers
    from benchmarks.data.tasks import RESAMPLE

    task, end = dataset.task, dataset.n_folds
    if text is None:
        return list(task.default_folds) if task.split in {"folds", RESAMPLE} else list(range(end or 0))
    parts = [part.strip() for part in text.split(",")]
    numbers = [whole_number(part) for part in parts]
    folds = [dataset.fold_number(p) if n is None else n for p, n in zip(parts, numbers, strict=True)]
    check_fold_numbers(folds, task.split, end)
    return folds
