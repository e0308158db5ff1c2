"""The commands `audit`, `report` and `explain`. Heavy imports happen inside them, so that --help is fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from benchmarks.base.console import say
from benchmarks.base.errors import RunError
from benchmarks.base.files import plain
from benchmarks.cli.options import DataDir, DeviceOption, parse_percent, results_in_files

__all__ = ["audit", "explain", "report", "report_options"]


def audit(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="MatBench's results.json.gz, the SEN authors' file, or CSV with id,prediction[,target][,fold]. "
            "Optional with --trained-on."
        ),
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="Task that the predictions are for. Needed if the file has several.")
    ] = None,
    rows: Annotated[
        Path | None,
        typer.Option(help="JSON file of ids, targets and space groups, if the data are not available."),
    ] = None,
    against: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Other predictions to compare on the same rows: a file like FILE, a folder of runs, or an archive.",
        ),
    ] = None,
    claimed: Annotated[
        float | None, typer.Option(help="Score that is claimed elsewhere, such as in a paper, in the unit of the task.")
    ] = None,
    trained_on: Annotated[
        Path | None,
        typer.Option(
            metavar="TABLE",
            help="Crystals or formulas that the model was trained on: which rows of the task are among them?",
        ),
    ] = None,
    data_dir: DataDir = None,
    format_: Annotated[Literal["table", "json"], typer.Option("--format", help="How to print the audit.")] = "table",
) -> None:
    """Check published predictions: which official rows they predict, their errors, and what the file leaves open.

    The audit shows errors by fold and by crystal system, compares them with the claim, and sums up in a paragraph.
    --trained-on shows which rows a model has seen before, with or without predictions, and the errors without them.
    """
    import json

    from benchmarks.base.console import make_console
    from reports.auditing.verdict import show_audit
    from reports.front_door import audit as examine

    found = examine(
        file, task=task, rows=rows, against=against or (), claimed=claimed, trained_on=trained_on, data_dir=data_dir
    )
    if format_ == "json":
        typer.echo(json.dumps(plain({"verdict": found.verdict, **found.facts}), indent=1))
    else:
        show_audit(found.facts, make_console())


@results_in_files
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUNS...", help="Runs, folders of runs, and archives of them.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="HTML file to write. A JSON file beside it holds the facts.")
    ] = Path("report.html"),
    against: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Published predictions to compare with, such as alignn.results.json.gz."),
    ] = None,
    data_dir: DataDir = None,
    kind: Annotated[
        Literal["sections", "paper"],
        typer.Option(
            help="Headings: the sections of a report, or the figures of SEN's paper. For the paper, --against takes "
            "the predictions that its authors published."
        ),
    ] = "sections",
    sections: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these sections. Default: all.")] = None,
    pair: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,NAME",
            help="Two results to compare by crystal system: labels, or names of blocks and models, such as "
            "capsule,megnet. Default: the best run and a published result, or mlp.",
        ),
    ] = None,
    contrast: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIRST:SECOND",
            help="Compare the results with these labels. Default: every other one with capsule, or without it with the "
            "first.",
        ),
    ] = None,
    margin: Annotated[
        str,
        typer.Option(metavar="PERCENT", help="Two results are equivalent within this share of the second one's score."),
    ] = "2%",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files if they exist.")] = False,
) -> None:
    """Write the results of runs as one HTML page with figures, tables and methods for a paper.

    The page needs no network and no other file. A JSON file of the same name holds its numbers.
    """
    import gc

    from reports.front_door import make_report

    # Modules, facts and figures live as long as the command: looking for garbage among them took a tenth of its time.
    gc.set_threshold(50_000)
    names, share = report_options(sections, margin)
    try:
        make_report(
            runs,
            out,
            kind=kind,
            against=against or (),
            data_dir=data_dir,
            sections=names,
            pair=pair,
            contrasts=contrast or (),
            margin=share,
            overwrite=overwrite,
        )
    except KeyboardInterrupt:
        say("Stopped; nothing was written.", err=True)
        raise typer.Exit(130) from None


def report_options(sections: str | None, margin: str) -> tuple[list[str] | None, float]:
    """Return the names of the sections, None for all, and the margin as a share, which options of `report` give.

    Raises:
        UsageError: The margin is no share in per cent.
    """
    share = parse_percent("--margin", margin)
    return None if sections is None else [name.strip() for name in sections.split(",")], share


@results_in_files
def explain(
    run: Annotated[Path, typer.Argument(help="Folder of a run, such as runs/TASK/NAME-HASH.")],
    crystals: Annotated[
        str,
        typer.Option(metavar="NAME,...", help="CIF and POSCAR files, folders of them, and ids of rows of the task."),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="HTML file to write. A JSON file beside it holds the facts.")
    ] = Path("explain.html"),
    data_dir: DataDir = None,
    device: DeviceOption = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the files if they exist.")] = False,
) -> None:
    """Show how a run describes chosen crystals, as one HTML page: 2-KS between atoms, densities, capsules.

    For a row of the task, the page shows the model that did not see it in training.
    """
    from datetime import UTC, datetime

    from benchmarks.cli.progress import RunDisplay
    from benchmarks.results.store import find_run
    from reports.front_door import check_writable, write_page

    check_writable(out, overwrite=overwrite)
    found = find_run(run)
    try:
        with RunDisplay() as display:
            from benchmarks.base.machine import pick_device, provenance
            from reports.environments.description import Models
            from reports.explain import choose, show_explanation, title_of
            from reports.explain import explain as describe
            from reports.page.html import render
            from reports.page.report import Part, Report
            from reports.study.reading import read_studies

            models = Models(found, pick_device(device))
            study = read_studies([found.path], data_dir=data_dir)[0]
            names = [name.strip() for name in crystals.split(",") if name.strip()]
            chosen = choose(names, study, models, display.progress("Reading crystals"))
            outcomes = describe(chosen, study, models, display.progress("Describing crystals"))
            study.title = title_of(outcomes, study)
            words = ["sen-bench", "explain", str(run), "--crystals", crystals, "-o", str(out)]
            words += ["--data-dir", str(data_dir)] if data_dir else []
            made = Report([Part(study, outcomes)], datetime.now(UTC), tuple(words), provenance(), by_section=False)
            page = render(made, out.with_suffix(".json").name, display.progress("Drawing"))
    except OSError as error:
        raise RunError(f"The crystals cannot be explained: {error}.") from error
    show_explanation(outcomes, study, display.console)
    write_page(made, page, out)
    if made.failures:
        failed = " ".join(outcome.reason for outcome in made.failures)
        raise RunError(f"The page is written, without what failed. {failed}")
