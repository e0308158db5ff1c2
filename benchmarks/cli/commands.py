"""The commands that `benchmarks` provides. Heavy imports happen inside them, so that --help answers at once."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from benchmarks.base.console import count, say
from benchmarks.base.errors import RunError, UnlearntError, UsageError
from benchmarks.base.interrupts import Interrupted, note_signals
from benchmarks.cli.options import (
    AllowOverlapOption,
    BadRowOption,
    ConfigOption,
    DataDir,
    DeviceOption,
    FoldsOption,
    InitFromOption,
    KindOption,
    LogOption,
    SetOption,
    SplitOption,
    TargetOption,
    TaskArgument,
    TrainingOptions,
    all_targets,
    check_folds,
    check_initial,
    check_jobs,
    check_repeats,
    choose_folds,
    choose_task,
    choose_variant,
    complete_blocks,
    complete_fields,
    complete_models,
    load_with_bars,
    parse_percent,
    results_in_files,
    show_how_to_continue,
    with_training_options,
)

__all__ = [
    "archive",
    "blocks",
    "check_block",
    "check_model",
    "clean",
    "export",
    "fields",
    "models",
    "predict",
    "prepare",
    "run",
    "split",
    "status",
    "tasks",
    "tune",
    "verify",
]


BlockOption = Annotated[
    str | None,
    typer.Option(
        help="Symmetry block of SEN; `sen-bench blocks` lists them. Default: capsule.", autocompletion=complete_blocks
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(help="Another model than SEN; `sen-bench models` lists them.", autocompletion=complete_models),
]


@results_in_files
@with_training_options
def run(
    task: TaskArgument,
    *,
    block: BlockOption = None,
    model: ModelOption = None,
    options: TrainingOptions,
    config: ConfigOption = None,
    jobs: Annotated[int, typer.Option(help="Number of trainings at the same time; -1: one per core.")] = 1,
    set_: SetOption = None,
    log: LogOption = None,
    overwrite: Annotated[
        Literal["only-missing", "always", "never"],
        typer.Option(
            help="What to do with finished folds: keep them, delete them all and train again, or refuse to run."
        ),
    ] = "only-missing",
    init_from: InitFromOption = None,
    allow_overlap: AllowOverlapOption = False,
) -> None:
    """Train SEN with a block, or another model, on the official folds of a task, and show its errors.

    Finished folds are kept. To continue after a stop, give the same command.
    """
    from benchmarks.cli.display import show_result
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.results.run_config import build_config

    check_jobs(jobs)
    variant = choose_variant(block, model)
    chosen = options.choose_task(task)
    configured = build_config(
        chosen.name,
        variant,
        recipe=options.recipe,
        defaults=chosen.defaults,
        file=config,
        flags=options.flags,
        assignments=set_ or (),
    )
    check_folds(options.folds, chosen)
    check_initial(init_from, allow_overlap=allow_overlap)
    command_line = ["sen-bench", *sys.argv[1:]]
    try:
        with RunDisplay() as display:
            from benchmarks.base.machine import pick_device
            from benchmarks.cli.front_door import carry_out
            from benchmarks.training.plans import make_plan
            from benchmarks.training.pretrained import find_initial_weights
            from benchmarks.training.tracking import check_log

            check_log(log)
            device = pick_device(options.device)
            initial = None
            if init_from is not None:
                initial = find_initial_weights(init_from, allow_overlap=allow_overlap, data_dir=options.data_dir)
            dataset = options.load(chosen, display, symprec=configured.graph.symprec)
            plan = make_plan(
                configured,
                dataset,
                folds=choose_folds(options.folds, dataset),
                seeds=options.all_seeds,
                out=options.out,
                overwrite=overwrite,
                progress=display.progress("Building graphs"),
                initial=initial,
            )
            # The results to be trained again are discarded by now.
            command_line = _keeping_finished_folds(command_line)
            summary, failures = carry_out(plan, display, device=device, jobs=jobs, log=log)
    except (KeyboardInterrupt, Interrupted) as interrupted:
        show_how_to_continue(interrupted, command_line)
        raise typer.Exit(130) from None
    show_result(plan, summary)
    if failures:
        names = "; ".join(str(planned) for planned in failures)
        again = "To try them again"
        if any(isinstance(reason, UnlearntError) for reason in failures.values()):
            again = "Those that did not learn would fail again: change what their reasons name in this command"
        raise RunError(
            f"{len(failures)} of {len(plan.missing)} trainings failed, for the reasons above, and have no result: "
            f"{names}. {again}:\n  {shlex.join(command_line)}"
        )


@results_in_files
@with_training_options
def tune(
    task: TaskArgument,
    *,
    block: BlockOption = None,
    model: ModelOption = None,
    trials: Annotated[int, typer.Option(help="Number of recipes to try, including the given one.")],
    folds: Annotated[
        str,
        typer.Option(
            help="Folds whose test rows stay untouched: only rows that are training rows in all of them are used."
        ),
    ] = "0",
    options: TrainingOptions,
    config: ConfigOption = None,
    jobs: Annotated[int, typer.Option(help="Number of trainings at the same time; -1: one per core.")] = 1,
    set_: SetOption = None,
) -> None:
    """Choose learning rate, weight decay, sizes and more by held-out training rows, and write a recipe file.

    Fields that you set keep their values. Test rows of the folds are never used, so their errors stay honest. Finished
    trials are kept. To continue after a stop, give the same command, perhaps with more --trials.
    """
    from benchmarks.cli.display import show_tuning
    from benchmarks.cli.progress import TuningDisplay
    from benchmarks.results.run_config import build_config
    from benchmarks.training.tuning import Tuning, check_trials
    from benchmarks.training.tuning import tune as tune_all

    check_jobs(jobs)
    check_trials(trials, "--trials")
    check_repeats("--trials", trials)
    variant = choose_variant(block, model)
    chosen = options.choose_task(task)
    check_folds(folds, chosen)
    given: dict[str, Any] = {
        "recipe": options.recipe,
        "file": config,
        "flags": options.flags,
        "assignments": set_ or (),
    }
    symprec = build_config(chosen.name, variant, defaults=chosen.defaults, **given).graph.symprec
    try:
        with TuningDisplay() as display, note_signals() as stop:
            from benchmarks.base.machine import pick_device

            device = pick_device(options.device)
            dataset = options.load(chosen, display, symprec=symprec)
            tuning = Tuning(
                variant,
                variant,
                given,
                dataset,
                folds=choose_folds(folds, dataset),
                seeds=options.all_seeds,
                trials=trials,
                out=options.out,
                progress=display.progress("Building graphs"),
            )
            display.start_trials([tuning])
            tune_all([tuning], device=device, stop=stop, jobs=jobs, **display.callbacks)
    except (KeyboardInterrupt, Interrupted) as interrupted:
        show_how_to_continue(interrupted, ["sen-bench", *sys.argv[1:]], kept="trials")
        raise typer.Exit(130) from None
    show_tuning(tuning)


def _keeping_finished_folds(command_line: list[str]) -> list[str]:
    """Return the command line that continues another one, with --overwrite only-missing in place of other values."""
    words = list(command_line)
    for at, word in enumerate(words):
        if word.startswith("--overwrite="):
            words[at] = "--overwrite=only-missing"
        elif word == "--overwrite" and at + 1 < len(words):
            words[at + 1] = "only-missing"
    return words


@results_in_files
def prepare(
    task: TaskArgument,
    data_dir: DataDir = None,
    config: Annotated[Path | None, typer.Option("--config", help="TOML file; only its table graph is read.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="FIELD=VALUE",
            help="Set a field of the table graph, such as graph.cells=full.",
            autocompletion=complete_fields,
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(help="Worker processes; -1: one per core.")] = -1,
    target: TargetOption = None,
    kind: KindOption = None,
    on_bad_row: BadRowOption = None,
) -> None:
    """Read the crystals of a task and store their graphs in the cache, so that runs start at once.

    Blocks and models that read edge vectors need graph.cells=full. `sen-bench models` lists the graph of each model.
    """
    from benchmarks.cli.display import show_preparation
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.data.graph_table import build_graphs
    from benchmarks.data.near_duplicates import find_near_duplicates
    from benchmarks.results.run_config import build_graph_settings

    check_jobs(jobs)
    chosen = choose_task(task, data_dir, on_bad_row, target=target, kind=kind)
    settings = build_graph_settings(file=config, assignments=set_ or ())
    with RunDisplay() as display:
        dataset = load_with_bars(chosen, data_dir, on_bad_row, display, symprec=settings.symprec, jobs=jobs)
        graphs = build_graphs(dataset.table, settings, jobs=jobs, progress=display.progress("Building graphs"))
        duplicates = find_near_duplicates(dataset.table, jobs=jobs, progress=display.progress("Comparing crystals"))
    given = [("--data-dir", data_dir), ("--config", config), *(("--set", each) for each in set_ or ())]
    given += [("--target", target), ("--kind", kind), ("--on-bad-row", on_bad_row)]
    words = [str(word) for option in given if option[1] is not None for word in option]
    show_preparation(dataset, graphs, duplicates, ["sen-bench", "run", task, *words])


def split(
    task: TaskArgument,
    split: SplitOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Split file to write, in MatFold's layout: NAME.json, with CSV files beside it."
        ),
    ] = None,
    folds: FoldsOption = None,
    data_dir: DataDir = None,
    target: TargetOption = None,
    kind: KindOption = None,
    on_bad_row: BadRowOption = None,
) -> None:
    """Show the folds of a split with the groups that they test, or write them to a file for MatFold and --split.

    Validation rows are those of seed 0.
    """
    from benchmarks.cli.display import show_split
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.data.split_files import write_folds
    from sen.crystal import SYMPREC

    chosen = choose_task(task, data_dir, on_bad_row, split=split, target=target, kind=kind)
    check_folds(folds, chosen)
    with RunDisplay() as display:
        dataset = load_with_bars(chosen, data_dir, on_bad_row, display, symprec=SYMPREC)
    made = dataset.folds(numbers=choose_folds(folds, dataset))
    files = [] if output is None else write_folds(output, chosen, dataset.table, made)
    show_split(dataset, made, files)


def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a run, such as runs/TASK/NAME-HASH.")],
    structures: Annotated[list[Path], typer.Argument(help="CIF and POSCAR files, and folders of them.")],
    format_: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="How to print the predictions.")
    ] = "table",
    interval: Annotated[
        str, typer.Option(metavar="PERCENT", help="Share of structures whose target the interval should cover.")
    ] = "90",
    device: DeviceOption = "auto",
) -> None:
    """Predict the target of structures with all models of a run: mean, spread over its folds and seeds, and interval.

    The command names elements that the models never saw in training. An interval holds for structures like those of the
    task. The test rows of each fold calibrate it.
    """
    from benchmarks.cli.display import show_predictions
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.results.store import find_run

    # A number may go without its %, but 0.9 is likely to mean 90 %, which the error then says.
    level = parse_percent("--interval", interval if interval.startswith("0") else f"{interval.removesuffix('%')}%")
    with RunDisplay() as display:
        from benchmarks.base.machine import pick_device
        from benchmarks.training.prediction import Ensemble, find_files, read_samples

        device = pick_device(device)
        ensemble = Ensemble(find_run(run))
        files = find_files(structures)
        samples, problems = read_samples(files, ensemble.config.graph, display.progress("Reading crystals"))
        predictions = ensemble.predict(samples, device, display.progress("Predicting"), level=level) if samples else []
    if predictions:
        show_predictions(ensemble, predictions, level, format_)
    for problem in problems:
        say(problem, err=True)
    if problems:
        raise RunError(f"{len(problems)} of {len(files)} structures cannot be predicted, for the reasons above.")


def tasks(data_dir: DataDir = None) -> None:
    """List the tasks, with rows, target and unit, and whether their data are available."""
    from benchmarks.cli.display import show_tasks

    show_tasks(data_dir)


def models() -> None:
    """List the models, with their parameters, graph, recipe and source."""
    from benchmarks.cli.display import show_models

    show_models()


def blocks() -> None:
    """List the symmetry blocks, with their parameters, the graphs they read, and their source."""
    from benchmarks.cli.display import show_blocks

    show_blocks()


def fields() -> None:
    """List every field that --set and --config can change, with its default, meaning, unit and source."""
    from benchmarks.cli.display import show_fields

    show_fields()


def check_block(
    name: Annotated[str, typer.Argument(help="Block; `sen-bench blocks` lists them.", autocompletion=complete_blocks)],
) -> None:
    """Test a block against the contracts of all blocks, such as: no rotation changes a prediction.

    SEN_BENCH_DEBUG=1 shows the tracebacks of failures.
    """
    _check_contracts(name, "block")


def check_model(
    name: Annotated[str, typer.Argument(help="Model; `sen-bench models` lists them.", autocompletion=complete_models)],
) -> None:
    """Test a model against the contracts of all models, such as: no rotation changes a prediction.

    SEN_BENCH_DEBUG=1 shows the tracebacks of failures.
    """
    _check_contracts("capsule" if name == "sen" else name, "block" if name == "sen" else "model")


def _check_contracts(name: str, kind: Literal["block", "model"]) -> None:
    from benchmarks.cli.display import show_contract
    from benchmarks.results.run_config import check_variant
    from sen.testing import run_contracts

    check_variant(name, kind)
    broken = n_contracts = 0
    for result in run_contracts(name):
        show_contract(result)
        broken += result.outcome == "failed"
        n_contracts += 1
    if broken:
        raise RunError(f"The {kind} {name!r} breaks {broken} of {n_contracts} contracts.")


def status(out: Annotated[Path, typer.Argument(help="Folder of the run store, or an archive.")] = Path("runs")) -> None:
    """List the runs in a store, with their finished folds and results."""
    from benchmarks.cli.display import show_status

    show_status(out)


@results_in_files
def clean(
    runs: Annotated[
        list[Path] | None, typer.Argument(metavar="[RUN...]", help="Runs to delete, such as runs/TASK/NAME-HASH.")
    ] = None,
    *,
    cache: Annotated[
        bool,
        typer.Option(
            "--cache",
            help="Delete the crystals and graphs in the cache; later commands make them again from the data. "
            "Downloaded files stay.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Delete runs, or the crystals and graphs in the cache.

    The command shows what it would delete, with sizes, and asks first. It refuses a run that is being trained, and
    keeps files that sen-bench did not write. Use --cache only while no other command is running.
    """
    from contextlib import ExitStack

    from benchmarks.base.cache import cache_folder, cached_files, delete_cached
    from benchmarks.results.store import find_run

    if not runs and not cache:
        raise UsageError("Nothing is named to delete: name runs, such as runs/TASK/NAME-HASH, or give --cache.")
    found = {run.path.resolve(): run for run in map(find_run, runs or ())}  # a run may be named twice
    with ExitStack() as stack:
        written = [(run, stack.enter_context(run.deletable())) for run in found.values()]
        for run, files in written:
            say(f"{run.path}: {count(len(run.trainings()), 'result')}, {_size(files)}")
        folders = cached_files() if cache else {}
        if cache:
            n_files = [path for files in folders.values() for path in files]
            say(f"{cache_folder()}: {count(len(folders), 'table')} of crystals or graphs, {_size(n_files)}")
        if not (written or folders):
            return
        if not yes and not typer.confirm("Delete this for good?"):
            say("Nothing was deleted.")
            raise typer.Exit(1)
        for run, files in written:
            run.delete(files)
        taken = [folder for folder, files in folders.items() if not delete_cached(folder, files)]
    kept = [run.path for run, _ in written if run.path.exists()] + [folder for folder in folders if folder.exists()]
    say("Deleted.")
    for path in kept:
        why = "another process is building it" if path in taken else "it holds files that sen-bench did not write"
        say(f"{path} stays, because {why}.")


def _size(files: Iterable[Path]) -> str:
    """Return the size of files: "85.1 MB"."""
    return f"{sum(path.stat().st_size for path in files) / 1e6:,.1f} MB"


@results_in_files
def export(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Runs, such as runs/TASK/NAME-HASH, one for each task.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, such as results.json.gz.")],
    algorithm: Annotated[
        str | None, typer.Option(help="Name of the model in the file. Default: its own, or SEN with the block.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it exists.")] = False,
) -> None:
    """Write finished runs as an official MatBench submission file.

    Every seed needs all five folds, on complete official data. The file holds the mean over the seeds.
    """
    from datetime import UTC, datetime

    from benchmarks.cli.display import show_submission
    from benchmarks.results.export import make_submission, write_submission
    from benchmarks.results.store import find_run
    from benchmarks.results.submission import read_submission

    content = make_submission([find_run(path) for path in runs], algorithm=algorithm, moment=datetime.now(UTC))
    write_submission(out, content, overwrite=overwrite)
    show_submission(out, read_submission(out))


def verify(
    file: Annotated[Path, typer.Argument(help="Submission file, such as results.json.gz.")], data_dir: DataDir = None
) -> None:
    """Let the real matbench 0.6 load, validate and score a submission file, and compare the scores in it.

    matbench runs in the Python that SEN_BENCH_MATBENCH_PYTHON names, or in this one if matbench is installed here.
    """
    from benchmarks.cli.display import show_verified
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.results.submission import read_submission
    from benchmarks.results.verification import matbench_python
    from benchmarks.results.verification import verify as verify_file

    python = matbench_python()
    submission = read_submission(file)
    with RunDisplay() as display:
        targets = {
            result.task.name: all_targets(result.task, data_dir, display) for result in submission.tasks.values()
        }
    verified = verify_file(file, submission, targets, python)
    show_verified(verified)
    if differing := [name for name, scores in verified.items() if scores.differing]:
        raise RunError(f"{file} claims other scores of {', '.join(differing)} than matbench computes.")


@results_in_files
def archive(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Runs, folders of runs, and archives of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write, such as results.zip.")],
) -> None:
    """Write the results of finished trainings to one file, without the weights.

    Other commands read the archive in place of a folder of runs. The same results give the same bytes with the
    same version of zlib. An existing file is never replaced.
    """
    from benchmarks.base.files import file_digest
    from benchmarks.results.archive import check_new, collect, write_archive

    check_new(out)
    found = collect(runs)
    write_archive(out, found.files)
    for each in found.left_out:
        say(f"Not finished and left out: {each}", err=True)
    contents = [
        (found.n_trainings, "training"),
        (found.n_runs, "run"),
        (found.n_tunings, "tuning"),
        (found.n_ablations, "ablation"),
    ]
    say(
        f"Written: {out} ({out.stat().st_size / 1e3:,.0f} kB, sha256 {file_digest(out)}) with "
        f"{', '.join(count(n, noun) for n, noun in contents if n)}."
    )
