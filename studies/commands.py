"""The command `sen-bench study`. Heavy imports happen inside it, so that --help answers at once."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from benchmarks.base.console import count, duration, say
from benchmarks.base.errors import RunError, SenBenchError, UsageError
from benchmarks.base.interrupts import Interrupted
from benchmarks.cli.options import (
    BackendOption,
    DataDir,
    DeviceOption,
    JobsOption,
    SchedulerOption,
    StoreOption,
    TrainingOptions,
    results_in_files,
    show_how_to_continue,
)

if TYPE_CHECKING:
    from ablations.ablation import Ablation, Grid, Place
    from benchmarks.base.zip_path import AnyPath
    from benchmarks.results.store import Training
    from benchmarks.training.plans import Plan
    from studies.study_file import StudyFile, TableOfRuns

__all__ = ["study"]


@partial(results_in_files, unless=("dry_run", "status"))
def study(
    file: Annotated[
        str, typer.Argument(metavar="FILE|NAME", help="A study file, or the name of one that comes with sen-bench.")
    ],
    *,
    data_dir: DataDir = None,
    out: StoreOption = Path("runs"),
    device: DeviceOption = "auto",
    jobs: JobsOption = None,
    backend: BackendOption = "loky",
    scheduler: SchedulerOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan and its hours, estimated from a few steps of each variant.")
    ] = False,
    status: Annotated[bool, typer.Option("--status", help="Show what is finished and what is missing.")] = False,
) -> None:
    """Train what is missing of the ablations in a study file, and write its reports and archives here.

    Finished trainings are never repeated. To continue after a stop, give the same command.
    """
    from ablations.ablation import check_place, open_place, plan_grid
    from benchmarks.base.zip_path import find_archive
    from studies.display import show_status
    from studies.study_file import find_study_file, read_study_file

    if dry_run and status:
        raise UsageError("--dry-run and --status both only show something: leave out one of them.")
    check_place(device, jobs, backend, scheduler)
    path = find_study_file(file)
    content = read_study_file(path)
    if find_archive(out) is not None:  # which holds the results: there is nothing to archive
        content = content.model_copy(update={"archive": {}})
    ablations = _choose_ablations(path, content, TrainingOptions(data_dir=data_dir, out=out, device=device))
    sources = {name: table.source(content.ablate) for name, table in content.ablate.items()}
    if not status:
        content = content.model_copy(update={"report": _check_reports(path, content, data_dir)})
    try:
        with ExitStack() as stack:
            place = open_place(stack, device, jobs, scheduler, out)
            # All are planned before any is trained: what is wrong with the data of the last is found first.
            grids: dict[str, Grid] = {}
            waiting = {}
            for name, (ablation, _) in ablations.items():
                with _at(path, f"ablate.{name}"):
                    started = _with_weights(ablation, grids.get(sources[name] or ""))
                    if started is None:
                        waiting[name], started = str(sources[name]), _with_drawn_weights(ablation, name)
                    grids[name] = plan_grid(started, place, is_trial=True)
            if status:
                show_status(path, grids, waiting, [*map(_page, content.report), *map(_archive, content.archive)])
            elif dry_run:
                _show_costs(path, grids, place)
            else:
                _check_archives(path, content, grids)
                _make(path, content, ablations, sources, place, data_dir)
    except (KeyboardInterrupt, Interrupted) as interrupted:
        show_how_to_continue(interrupted, ["sen-bench", *sys.argv[1:]])
        raise typer.Exit(130) from None


@contextmanager
def _at(path: Path, table: str) -> Iterator[None]:
    """Name a table of the study file in the errors of the block."""
    try:
        yield
    except SenBenchError as error:
        raise type(error)(f"{path}, {table}: {error}") from None


def _choose_ablations(path: Path, content: StudyFile, shared: TrainingOptions) -> dict[str, tuple[Ablation, str]]:
    """Return what each table of an ablation asks for, and the command line that asks for the same."""
    from ablations.ablation import choose_ablation
    from benchmarks.data.tasks import TASKS

    found = {}
    for name, table in content.ablate.items():
        with _at(path, f"ablate.{name}"):
            located = table.located(shared.data_dir)
            given = located.options()
            if located.source(content.ablate):
                del given["init_from"]
            is_own = given.get("task", "prototypes") not in TASKS
            options = replace(
                shared,
                data_dir=None if is_own and "without" not in given else shared.data_dir,
                # --limit may be an axis of the grid, so it is an option of the ablation itself.
                **{option: given.pop(option) for option in vars(shared) if option in given and option != "limit"},
            )
            words = ["sen-bench", "ablate", *located.words(), "--out", str(shared.out)]
            words += ["--data-dir", str(options.data_dir)] if options.data_dir else []
            if located.source(content.ablate):  # whose runs get their names when they are planned
                words = ["sen-bench", "study", str(path), "--out", str(shared.out)]
                words += ["--data-dir", str(shared.data_dir)] if shared.data_dir else []
            found[name] = choose_ablation(options, **given), shlex.join(words)
    return found


def _with_weights(ablation: Ablation, source: Grid | None) -> Ablation | None:
    """Return an ablation of which each block and model starts from its own run of another one, or from its only run.

    Args:
        ablation: What is asked.
        source: The other ablation; None where weights are drawn, or taken from what `ablation` says itself.

    Returns:
        None where the first training of such a run is not finished.

    Raises:
        UsageError: The other one has no run of a block or model, or several.
    """
    if source is None:
        return ablation
    plans: dict[str, list[Plan]] = {}
    for variant in source.variants:
        plans.setdefault(variant.setting.name, []).append(variant.plan)
    starts = {}
    for name in dict.fromkeys(setting.name for setting in ablation.settings):
        of_name = next(iter(plans.values())) if len(plans) == 1 else plans.get(name, [])
        if len(of_name) != 1:
            raise UsageError(f"init-from names an ablation with {count(len(of_name), 'run')} of {name}: it needs one.")
        first = min(of_name[0].trainings)
        if first not in of_name[0].run.trainings():
            return None
        starts[name] = Path(str(of_name[0].run.training_path(first)))
    return replace(ablation, starts=starts)


def _with_drawn_weights(ablation: Ablation, name: str) -> Ablation:
    """Return an ablation to plan in place of one whose weights are not trained yet, in a folder that has no runs."""
    settings = []
    for each in ablation.settings:
        training = each.config.training.model_copy(update={"frozen_epochs": 0})
        settings.append(replace(each, config=each.config.model_copy(update={"training": training})))
    options = replace(ablation.options, out=ablation.options.out / f"{name}, not begun")
    return replace(ablation, settings=settings, options=options)


def _check_reports(path: Path, content: StudyFile, data_dir: Path | None) -> dict[str, TableOfRuns]:
    """Check what can be checked of reports before anything is trained; return them with the paths of their files."""
    from reports.commands import report_options
    from reports.front_door import check_page

    found = {}
    for name, table in content.report.items():
        with _at(path, f"report.{name}"):
            found[name] = table.located(data_dir)
            given = table.options()
            sections, _ = report_options(given.get("sections"), given.get("margin", "2%"))
            kind = given.get("kind", "sections")
            check_page(_page(name), kind=kind, data_dir=data_dir, sections=sections, overwrite=True)
    return found


def _check_archives(path: Path, content: StudyFile, grids: Mapping[str, Grid]) -> None:
    """Check that the archives can be written before hours are spent on what they are to hold."""
    from benchmarks.results.archive import check_new

    for name, table in content.archive.items():
        with _at(path, f"archive.{name}"):
            file, n_missing = _archive(name), sum(grids[each].n_missing for each in table.runs or grids)
            if not file.exists():
                check_new(file)
            elif n_missing:
                raise UsageError(
                    f"{file} exists, {count(n_missing, 'training')} for it would be new, and an archive is never "
                    "changed: give the table another name, or move the file away."
                )


def _page(name: str) -> Path:
    return Path(f"{name}.html")


def _archive(name: str) -> Path:
    return Path(f"{name}.zip")


def _show_costs(path: Path, grids: Mapping[str, Grid], place: Place) -> None:
    """Show the plan and the cost of each ablation, and what all cost together."""
    from ablations.ablation import show_cost

    seconds: dict[tuple[AnyPath, Training], float] = {}
    problems = []
    for name, grid in grids.items():
        say(f"[ablate.{name}]")
        try:
            seconds |= show_cost(grid, place)
        except RunError as error:
            problems.append(f"ablate.{name}: {error}")
    workers = place.n_workers(len(seconds))
    if seconds:
        adds = any(grid.tunings or grid.ablation.declaration.detection for grid in grids.values())
        say(
            f"{path.name}, each training counted once: {count(len(seconds), 'training')} to do, {workers} at a time, "
            f"about {duration(sum(seconds.values()) / workers)}{', and what tune and detect add' if adds else ''}."
        )
    if problems:
        raise RunError("\n  ".join([f"{path}: {problems[0]}", *problems[1:]]))


def _make(
    path: Path,
    content: StudyFile,
    ablations: Mapping[str, tuple[Ablation, str]],
    sources: Mapping[str, str | None],
    place: Place,
    data_dir: Path | None,
) -> None:
    """Train what is missing, and write results, reports and archives.

    Raises:
        RunError: Something failed, which stops nothing but the archives.
    """
    runs: dict[str, list[Path]] = {}
    tables: dict[str, list[Path]] = {}
    grids: dict[str, Grid] = {}
    problems = []
    for name, (ablation, command) in ablations.items():
        with _at(path, f"ablate.{name}"):
            started = _with_weights(ablation, grids.get(sources[name] or ""))
            if started is None:
                problems.append(f"ablate.{name}: not trained, because {sources[name]} has no weights to start from")
                runs[name], tables[name] = [], []
                continue
            grids[name], tables[name], problem = _train(name, started, command, place)
        runs[name] = [Path(str(variant.plan.run.path)) for variant in grids[name].variants]
        problems += [f"ablate.{name}: {problem}"] if problem else []
    is_complete = not problems
    for name, table in content.report.items():
        try:
            _write_report(name, table, _of(table, runs), data_dir)
        except SenBenchError as error:
            problems.append(f"report.{name}: {error}")
    for name, table in content.archive.items():
        if is_complete:
            with _at(path, f"archive.{name}"):
                _write_archive(name, [*_of(table, runs), *_of(table, tables)])
        else:
            say(f"{_archive(name)} is not written, because trainings failed and an archive is never changed.", err=True)
    if problems:
        raise RunError("\n  ".join([f"{path}: {problems[0]}", *problems[1:]]))


def _train(name: str, ablation: Ablation, command: str, place: Place) -> tuple[Grid, list[Path], RunError | None]:
    """Train what is missing of an ablation.

    Returns:
        Its grid, the folders of its results and tunings, and what says which trainings failed.
    """
    from ablations.ablation import conclude, plan_grid, train_grid

    grid = plan_grid(ablation, place)  # again, because ablations before it may have trained some of its trainings
    n_all = sum(len(variant.plan.trainings) for variant in grid.variants)
    say(f"[ablate.{name}] {grid.n_missing} of {count(n_all, 'training')} to do")
    grid, needs, failures = train_grid(grid, place)
    tables = [tuning.folder for tuning in grid.tunings if not tuning.is_archived]
    try:
        folder = conclude(grid, needs, failures, command)
    except RunError as error:
        return grid, tables, error
    return grid, [*tables, *([Path(str(folder))] if folder else [])], None


def _write_report(name: str, table: TableOfRuns, runs: list[Path], data_dir: Path | None) -> None:
    from reports.commands import report

    say(f"[report.{name}]")
    report(runs, _page(name), data_dir=data_dir, overwrite=True, **table.options())


def _write_archive(name: str, folders: list[Path]) -> None:
    from benchmarks.cli.commands import archive
    from benchmarks.results.archive import check_same, collect

    file = _archive(name)
    say(f"[archive.{name}]")
    if file.exists():
        check_same(file, collect(folders))
        say(f"{file} holds these results already.")
    else:
        archive(folders, file)


def _of(table: TableOfRuns, folders: Mapping[str, list[Path]]) -> list[Path]:
    """Return the folders of the ablations that a table reads, each once."""
    return list(dict.fromkeys(folder for name in table.runs or folders for folder in folders[name]))
