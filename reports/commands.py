"""The commands `audit`, `report` and `explain`. Heavy imports happen inside them, so that --help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from benchmarks.base.console import say
from benchmarks.base.errors import RunError, UsageError
from benchmarks.base.files import check_folder, expanded, plain
from benchmarks.cli.options import DataDir, DeviceOption, parse_percent, results_in_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from benchmarks.cli.progress import RunDisplay
    from benchmarks.data.tasks import Task
    from reports.audit.overlap import TrainingData
    from reports.page.report import Report
    from reports.study.row_facts import RowFacts

__all__ = ["audit", "check_report", "explain", "report"]


def audit(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="MatBench's results.json.gz, the SEN authors' file, or CSV with id,prediction[,target][,fold]. With "
            "--trained-on it may be left out."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task that the predictions are for; needed if the file has several.")
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(help="JSON file of ids, targets and space groups, if the data are not available."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Other predictions to compare on the same rows: such a file, a folder of runs, or an archive.",
        ),
    ] = None,
    claimed: Annotated[
        float | None, typer.Option(help="Score that is claimed elsewhere, in the unit of the task.")
    ] = None,
    trained_on: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Crystals or formulas that the model was trained on before: which rows of the task are among them?",
        ),
    ] = None,
    data_dir: DataDir = None,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print the audit.")] = "table",
) -> None:
    """Check published predictions: which official rows they are of, their errors, and what the file leaves open.

    Errors are shown by fold and by crystal system, compared with what is claimed, and summed up in a paragraph.
    --trained-on says which rows a model has seen before, also without predictions, and the errors without these rows.
    """
    import json

    from benchmarks.base.zip_path import find_archive
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.data.tasks import get_task
    from reports.audit.facts import check_claim
    from reports.study.published import read_predictions
    from reports.study.reading import read_run_predictions

    check_claim(claimed)
    chosen = get_task(task) if task is not None else None
    if file is None:
        _audit_rows(chosen, trained_on, rows, data_dir, format_, has_more=bool(against) or claimed is not None)
        return
    with RunDisplay() as display:
        predictions = read_predictions(file)
        found, _ = predictions.find(chosen)
        others = []
        for path in against or ():
            holds_runs = path.is_dir() or find_archive(path) is not None
            others += read_run_predictions(path, found) if holds_runs else [read_predictions(path)]
        for other in others:
            other.find(found)

        from reports.audit.facts import audit as examine
        from reports.audit.verdict import show_audit, verdict
        from reports.study.row_facts import find_rows

        known = find_rows(found, rows, data_dir, display.progress("Reading crystals"))
        seen = None if trained_on is None else _seen(trained_on, known, rows, data_dir, display)
        facts = examine(predictions, known, claimed=claimed, against=others, trained_on=seen)
    if format_ == "json":
        typer.echo(json.dumps(plain({"verdict": verdict(facts), **facts}), indent=1))
    else:
        show_audit(facts, display.console)


def _audit_rows(
    task: Task | None,
    trained_on: Path | None,
    rows: Path | None,
    data_dir: Path | None,
    format_: str,
    *,
    has_more: bool,
) -> None:
    """Say which rows of a task are in training data, where there are no predictions."""
    import json

    from benchmarks.cli.progress import RunDisplay
    from reports.audit.facts import official_fold
    from reports.audit.overlap import overlap_facts
    from reports.audit.verdict import overlap_sentence, show_overlap
    from reports.study.row_facts import find_rows

    if trained_on is None:
        raise UsageError("Name a file of predictions, or with --trained-on the data that a model was trained on.")
    if task is None or has_more:
        raise UsageError(
            "Without a file of predictions --trained-on needs a --task, and takes neither --against nor --claimed."
        )
    with RunDisplay() as display:
        known = find_rows(task, rows, data_dir, display.progress("Reading crystals"))
        data, overlap = _seen(trained_on, known, rows, data_dir, display)
        facts = overlap_facts(data, known, overlap, official_fold(task, known) if task.is_official else None)
    if format_ == "json":
        typer.echo(json.dumps(plain({"verdict": overlap_sentence(facts), "trained_on": facts}), indent=1))
    else:
        show_overlap(facts, "", "", display.console)


def _seen(
    path: Path, known: RowFacts, rows: Path | None, data_dir: Path | None, display: RunDisplay
) -> tuple[TrainingData, dict[str, NDArray[np.bool_]]]:
    """Read what a model was trained on, and find the rows of a task in it, by their crystals where there are any."""
    from benchmarks.data.dataset import load_dataset
    from reports.audit.overlap import find_overlap, read_training_data

    data = read_training_data(path, display.progress("Reading the training data"))
    table = None
    if rows is None and data.table is not None:
        table = load_dataset(known.task, data_dir).table
    return data, find_overlap(data, known, table, display.progress("Comparing crystals"))


@results_in_files
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Runs, folders of runs, and archives of them.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="HTML file to write; a JSON file next to it gets the facts.")
    ] = Path("report.html"),
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Published predictions to compare with, such as alignn.results.json.gz."),
    ] = None,
    data_dir: DataDir = None,
    kind: Annotated[
        Literal["sections", "paper"],
        typer.Option(
            help="What the headings are: the sections of a report, or the figures of the paper of SEN, for which "
            "--against takes the predictions that its authors published."
        ),
    ] = "sections",
    sections: Annotated[
        str | None, typer.Option(metavar="NAME,...", help="Only these sections. Default: all that there are.")
    ] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Results to compare by crystal system: labels, or names of blocks and models, such as capsule,megnet. "
            "Default: the best run and what is published, or mlp.",
        ),
    ] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIRST:SECOND",
            help="Compare the results of these labels. Default: every other one with capsule, or without it with the "
            "first.",
        ),
    ] = None,
    margin: Annotated[
        str, typer.Option(metavar="PERCENT", help="Within this share of the second result's score two are equivalent.")
    ] = "2%",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files if they exist.")] = False,
) -> None:
    """Write what is found in runs as one HTML page with figures, tables and methods for a paper.

    The page needs no network and no other file. The numbers in it also go to a JSON file of the same name.
    """
    import gc
    from datetime import UTC, datetime
    from functools import partial

    from benchmarks.base.console import duration
    from benchmarks.cli.progress import RunDisplay
    from benchmarks.results.contrasts import MARGIN
    from reports.page.report import Outcome, make_report
    from reports.study.differences import choose_contrasts
    from reports.study.reading import choose_pair, read_studies
    from reports.study.study import Study

    # Modules, facts and figures live as long as the command: looking for garbage among them took a tenth of its time.
    gc.set_threshold(50_000)
    names, share = check_report(
        out, data_dir=data_dir, kind=kind, sections=sections, margin=margin, overwrite=overwrite
    )
    facts_file = out.with_suffix(".json")
    try:
        with RunDisplay() as display:
            from benchmarks.base.machine import provenance
            from reports.page.html import render

            make = make_report
            if kind == "paper":
                from reports.paper import make_paper

                make = partial(make_paper, against=against or ())
            studies = read_studies(runs, against=against or () if kind == "sections" else (), data_dir=data_dir)
            if pair is not None:
                choose_pair(studies, pair)
            choose_contrasts(studies, contrast or (), share)

            def done(study: Study, outcome: Outcome) -> None:
                state = "failed" if outcome.failed else "nothing to show" if outcome.reason else "done"
                why = f": {outcome.reason}" if outcome.reason and not outcome.failed else ""
                line = f"{study.title}, {outcome.name}: {state} ({duration(outcome.seconds)}){why}"
                display.console.print(line, soft_wrap=True)

            given = [
                *(("--against", path) for path in against or ()),
                ("--data-dir", data_dir),
                ("--pair", pair),
                *(("--contrast", text) for text in contrast or ()),
                ("--margin", margin if share != MARGIN else None),
                ("--kind", kind if kind != "sections" else None),
                ("--sections", sections),  # last, as `Report.command` wants it
            ]
            words = ["sen-bench", "report", *map(str, runs), "-o", str(out)]
            words += [str(word) for option in given if option[1] is not None for word in option]
            made = make(
                studies,
                names,
                made=datetime.now(UTC),
                command=words,
                origin=provenance(),
                progress=display.progress,
                done=done,
            )
            page = render(made, facts_file.name, display.progress("Drawing"))
    except KeyboardInterrupt:
        say("Stopped; nothing was written.", err=True)
        raise typer.Exit(130) from None
    _write(made, page, out, facts_file)
    if made.failures:
        for outcome in made.failures:
            say(outcome.reason, err=True)
        failed = ", ".join(dict.fromkeys(outcome.name for outcome in made.failures))
        raise RunError(f"The report is written, without what failed: {failed}. SEN_BENCH_DEBUG=1 shows why.")


def check_report(
    out: Path, *, data_dir: Path | None, kind: str, sections: str | None, margin: str, overwrite: bool
) -> tuple[list[str], float]:
    """Check what can be checked of the options of `report` before its runs are read.

    Returns:
        The names of the sections, and the margin as a share.

    Raises:
        UsageError: An option has a wrong value, or the files cannot be written.
    """
    from reports.page.report import choose_sections
    from reports.page.section import section_names

    share = parse_percent("--margin", margin)
    known = section_names()
    if kind == "paper":
        from reports.paper import figure_names

        known = figure_names()
    names = choose_sections([name.strip() for name in sections.split(",")] if sections is not None else None, known)
    _check_writable(out, out.with_suffix(".json"), overwrite=overwrite)
    if data_dir is not None:
        check_folder(expanded(data_dir), "(--data-dir) with the data files")
    return names, share


@results_in_files
def explain(
    run: Annotated[Path, typer.Argument(help="Folder of a run, such as runs/TASK/NAME-HASH.")],
    crystals: Annotated[
        str,
        typer.Option(metavar="NAME,...", help="CIF and POSCAR files, folders of them, and ids of rows of the task."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="HTML file to write; a JSON file next to it gets the facts.")
    ] = Path("explain.html"),
    data_dir: DataDir = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files if they exist.")] = False,
) -> None:
    """Show how a run describes chosen crystals, as one HTML page: 2-KS between atoms, densities, capsules.

    A row of the task is explained by the model that did not see it in training.
    """
    from datetime import UTC, datetime

    from benchmarks.cli.progress import RunDisplay
    from benchmarks.results.store import find_run

    facts_file = out.with_suffix(".json")
    _check_writable(out, facts_file, overwrite=overwrite)
    found = find_run(run)
    try:
        with RunDisplay() as display:
            from benchmarks.base.machine import pick_device, provenance
            from reports.environments.description import Models
            from reports.explain import choose, show_explanation
            from reports.explain import explain as describe
            from reports.page.html import render
            from reports.page.report import Part, Report
            from reports.study.reading import read_studies

            models = Models(found, pick_device(device))
            study = read_studies([found.path], data_dir=data_dir)[0]
            names = [name.strip() for name in crystals.split(",") if name.strip()]
            chosen = choose(names, study, models, display.progress("Reading crystals"))
            outcomes = describe(chosen, study, models, display.progress("Describing crystals"))
            words = ["sen-bench", "explain", str(run), "--crystals", crystals, "-o", str(out)]
            words += ["--data-dir", str(data_dir)] if data_dir else []
            made = Report([Part(study, outcomes)], datetime.now(UTC), tuple(words), provenance(), by_section=False)
            page = render(made, facts_file.name, display.progress("Drawing"))
    except OSError as error:
        raise RunError(f"The crystals cannot be explained: {error}.") from error
    show_explanation(outcomes, study, display.console)
    _write(made, page, out, facts_file)
    if made.failures:
        failed = " ".join(outcome.reason for outcome in made.failures)
        raise RunError(f"The page is written, without what failed. {failed}")


def _check_writable(out: Path, facts_file: Path, *, overwrite: bool) -> None:
    """Check before the work begins that its result can be written.

    Raises:
        UsageError: It cannot be.
    """
    import os

    if out.suffix.lower() not in {".html", ".htm"}:
        raise UsageError(f"--out takes the name of an HTML file, such as report.html, not {out}.")
    if not out.parent.is_dir():
        raise UsageError(f"There is no folder {out.parent} to write {out.name} into.")
    if not os.access(out.parent, os.W_OK):
        raise UsageError(f"The folder {out.parent} cannot be written: name a file elsewhere with --out.")
    for path in (out, facts_file):
        if path.is_dir():
            raise UsageError(f"{path} is a folder: name a file with --out.")
        if path.exists() and not overwrite:
            raise UsageError(f"{path} exists: name another file with --out, or replace it with --overwrite.")
    if facts_file.exists() and not _holds_facts(facts_file):
        raise UsageError(f"{facts_file} was not written by a report and is not replaced: name another file with --out.")


def _write(made: Report, page: str, out: Path, facts_file: Path) -> None:
    """Write a page and the facts behind it, and print where they are.

    Raises:
        UsageError: They cannot be written.
    """
    from benchmarks.base.files import write_bytes, write_json

    try:
        write_json(facts_file, made.facts())
        write_bytes(out, page.encode(errors="backslashreplace"))  # names of files may hold other bytes
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}): name another file with --out.") from error
    say(f"Written: {out} ({len(page) / 1e6:.1f} MB) and {facts_file}")


def _holds_facts(path: Path) -> bool:
    """Whether a JSON file is that of a report, and not for instance the config.json of a run."""
    from benchmarks.base.files import parse_json, read_file

    try:
        content = parse_json(read_file(path))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"format", "tasks"} <= set(content)
