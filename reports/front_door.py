"""Reports and audits from Python: `from reports import make_report, audit`."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.base.console import duration, say
from benchmarks.base.errors import RunError, UsageError
from benchmarks.base.files import check_folder, expanded, parse_json, read_file, write_bytes, write_json
from benchmarks.base.machine import provenance
from benchmarks.base.zip_path import AnyPath, find_archive
from benchmarks.cli.front_door import as_path, check_literal, each_of, joined, parse_share
from benchmarks.cli.progress import RunDisplay
from benchmarks.data.tasks import Task, get_task
from benchmarks.results.contrasts import MARGIN
from benchmarks.results.store import Run
from reports.page.report import Outcome, Report, choose_sections
from reports.page.report import make_report as analyse
from reports.page.section import section_names
from reports.study.differences import choose_contrasts
from reports.study.published import read_predictions
from reports.study.reading import choose_pair, read_run_predictions, read_studies
from reports.study.row_facts import RowFacts, find_rows
from reports.study.study import Study

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame

    from reports.auditing.overlap import TrainingData

__all__ = ["Audit", "Page", "audit", "check_page", "check_writable", "make_report", "write_page"]

Kind = Literal["sections", "paper"]


@dataclass(frozen=True)
class Page:
    """A report that is written; a notebook shows a link to it.

    Attributes:
        path: The HTML file.
        facts: The JSON file with the numbers behind it.
        sections: A line for each task and section: its title, its state (shown, absent or failed), and the reason why
            it shows nothing.
    """

    path: Path
    facts: Path
    sections: DataFrame

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        path = escape(str(self.path))
        return f'<a href="{path}">{path}</a>'


def make_report(
    runs: Run | AnyPath | str | Iterable[Run | AnyPath | str] = "runs",
    out: Path | str = "report.html",
    *,
    kind: Kind = "sections",
    against: Iterable[Path | str] = (),
    data_dir: Path | str | None = None,
    sections: str | Sequence[str] | None = None,
    pair: str | Sequence[str] | None = None,
    contrasts: str | Sequence[str] = (),
    margin: float = MARGIN,
    overwrite: bool = False,
) -> Page:
    """Write what is found in runs as one HTML page, as `sen-bench report` does, and the numbers in it as JSON.

    Args:
        runs: Runs, folders of runs, archives, or a list of these.
        out: HTML file to write; the JSON file has the same name.
        kind: What the headings are: the sections of a report, or the figures of the paper of SEN, for which `against`
            takes the predictions that its authors published.
        against: Published predictions to compare with, such as alignn.results.json.gz.
        data_dir: Folder with the data files, where crystals are found neither in the cache nor where they were read.
        sections: Names of sections, or of figures; by default all that there are.
        pair: Labels or variants of two results to compare by crystal system, such as "capsule,megnet".
        contrasts: What to compare, such as "mlp:capsule"; by default every other result with capsule, else with the
            first by name.
        margin: Share of the second result's score within which two are equivalent.
        overwrite: Whether to replace the files if they exist.

    Returns:
        Where the page is, and what each section shows.

    Raises:
        UsageError: There is no such folder, file, section or result, or the files cannot be written.
        DataError: A published file or an archive cannot be read.
        RunError: A section failed; the page is written without it.
    """
    import pandas as pd

    check_literal("kind", kind, Kind)
    share, pair = parse_share("margin", margin), joined(pair)
    sections, contrasts = None if sections is None else each_of(sections), each_of(contrasts)
    path, folder = Path(out), Path(data_dir) if data_dir is not None else None
    names = check_page(path, kind=kind, data_dir=folder, sections=sections, overwrite=overwrite)
    paths, published = [as_path(each) for each in each_of(runs)], [Path(each) for each in each_of(against)]
    with RunDisplay() as display:
        from reports.page.html import render

        make = analyse
        if kind == "paper":
            from reports.paper import make_paper

            make = partial(make_paper, against=published)
        studies = read_studies(paths, against=published if kind == "sections" else (), data_dir=folder)
        if pair is not None:
            choose_pair(studies, pair)
        choose_contrasts(studies, contrasts, share)

        def done(study: Study, outcome: Outcome) -> None:
            state = "failed" if outcome.failed else "nothing to show" if outcome.reason else "done"
            why = f": {outcome.reason}" if outcome.reason and not outcome.failed else ""
            line = f"{study.title}, {outcome.name}: {state} ({duration(outcome.seconds)}){why}"
            display.console.print(line, soft_wrap=True)

        given = [
            *(("--against", each) for each in published),
            ("--data-dir", folder),
            ("--pair", pair),
            *(("--contrast", text) for text in contrasts),
            ("--margin", None if share == MARGIN else f"{100 * share:.10g}%"),
            ("--kind", None if kind == "sections" else kind),
            ("--sections", None if sections is None else ",".join(sections)),  # last, as `Report.command` wants it
        ]
        words = ["sen-bench", "report", *map(str, paths), "-o", str(path)]
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
        page = render(made, path.with_suffix(".json").name, display.progress("Drawing"))
    write_page(made, page, path)
    if made.failures:
        for outcome in made.failures:
            say(outcome.reason, err=True)
        failed = ", ".join(dict.fromkeys(outcome.name for outcome in made.failures))
        raise RunError(f"The report is written, without what failed: {failed}. SEN_BENCH_DEBUG=1 shows why.")
    lines = [
        {
            "task": part.study.title,
            "section": outcome.name,
            "title": outcome.title,
            "state": "absent" if outcome.reason else "shown",
            "reason": outcome.reason,
        }
        for part in made.parts
        for outcome in part.outcomes
    ]
    return Page(path, path.with_suffix(".json"), pd.DataFrame(lines))


def check_page(
    out: Path, *, kind: str, data_dir: Path | None, sections: Sequence[str] | None, overwrite: bool
) -> list[str]:
    """Check what can be checked of a report before its runs are read, and that its files can be written.

    Args:
        out: The HTML file.
        kind: What the headings are, "sections" or "paper".
        data_dir: Folder with the data files.
        sections: Names of sections or figures; None for all.
        overwrite: Whether files may be replaced.

    Returns:
        The names of the sections.

    Raises:
        UsageError: One of them is wrong, or the files cannot be written.
    """
    known = section_names()
    if kind == "paper":
        from reports.paper import figure_names

        known = figure_names()
    names = choose_sections(sections, known)
    check_writable(out, overwrite=overwrite)
    if data_dir is not None:
        check_folder(expanded(data_dir), "(--data-dir) with the data files")
    return names


@dataclass(frozen=True)
class Audit:
    """What an audit finds.

    Attributes:
        facts: Everything, as `sen-bench audit --format json` prints it.
    """

    facts: Mapping[str, Any]

    @property
    def verdict(self) -> str:
        """The facts in a paragraph, which a reviewer can paste."""
        from reports.auditing.verdict import verdict

        return verdict(self.facts)

    @property
    def folds(self) -> DataFrame:
        """A line for each official fold: its test rows, how many of them the file has, and their score."""
        import pandas as pd

        scores = {fold["fold"]: fold["score"] for fold in self.facts.get("by_fold", ())}
        folds = self.facts["folds"]["folds"] if "folds" in self.facts else []
        return pd.DataFrame([{**fold, "score": scores.get(fold["fold"])} for fold in folds or ()])

    @property
    def systems(self) -> DataFrame:
        """A line for each crystal system, and one for all rows: errors or accuracies with their 95 % intervals."""
        import pandas as pd

        found = self.facts.get("breakdown")
        return pd.DataFrame([*found["systems"], found["overall"]] if found else [])

    @property
    def models(self) -> DataFrame:
        """A line for each other file or run on the same rows: its error, and by how much this file errs more."""
        import pandas as pd

        return pd.DataFrame(
            [
                {
                    "model": each["model"],
                    "n": each["n"],
                    **(each["comparison"]["overall"] if each["comparison"] else {}),
                }
                for each in self.facts.get("against", ())
            ]
        )

    @property
    def trained_on(self) -> DataFrame:
        """A line for each way to find rows of the task in training data: their number, share, ids and scores."""
        import pandas as pd

        return pd.DataFrame(self.facts["trained_on"]["found"] if self.facts["trained_on"] else [])

    def _repr_html_(self) -> str:
        """Return what a notebook shows."""
        frames = (self.folds, self.systems, self.models, self.trained_on.drop(columns="ids", errors="ignore"))
        tables = "".join(frame.to_html(index=False) for frame in frames if len(frame))
        return f"<p>{escape(self.verdict)}</p>{tables}"


def audit(
    file: Path | str | None = None,
    *,
    task: str | None = None,
    rows: Path | str | None = None,
    against: Iterable[Run | AnyPath | str] = (),
    claimed: float | None = None,
    trained_on: Path | str | None = None,
    data_dir: Path | str | None = None,
) -> Audit:
    """Check published predictions, as `sen-bench audit` does: which rows they are of, their errors, what is open.

    Args:
        file: MatBench's results.json.gz, the file of the authors of SEN, or CSV with the columns id, prediction and
            perhaps target and fold. With `trained_on` it may be left out.
        task: Task that the predictions are for; needed if the file has several.
        rows: JSON file of ids, targets and space groups, if the data are not available.
        against: Other predictions to compare on the same rows: such files, runs, folders of runs, or archives.
        claimed: Score that is claimed elsewhere, in the unit of the task.
        trained_on: Crystals or formulas that the model was trained on before: which rows of the task are among them?
        data_dir: Folder with the data files, where crystals are not found in the cache.

    Raises:
        UsageError: There is no such file or task, or the arguments do not go together.
        DataError: A file cannot be read, or has nothing that can be scored.
    """
    from reports.auditing.facts import audit as examine
    from reports.auditing.facts import check_claim

    check_claim(claimed)
    chosen = get_task(task) if task is not None else None
    rows, trained_on, data_dir = (None if each is None else Path(each) for each in (rows, trained_on, data_dir))
    others = [Path(str(as_path(each))) for each in each_of(against)]
    if file is None:
        return Audit(_overlap(chosen, trained_on, rows, data_dir, has_more=bool(others) or claimed is not None))
    with RunDisplay() as display:
        predictions = read_predictions(Path(file))
        found, _ = predictions.find(chosen)
        compared = []
        for path in others:
            holds_runs = path.is_dir() or find_archive(path) is not None
            compared += read_run_predictions(path, found) if holds_runs else [read_predictions(path)]
        for other in compared:
            other.find(found)
        known = find_rows(found, rows, data_dir, display.progress("Reading crystals"))
        seen = None if trained_on is None else _seen(trained_on, known, rows, data_dir, display)
        return Audit(examine(predictions, known, claimed=claimed, against=compared, trained_on=seen))


def _overlap(
    task: Task | None, trained_on: Path | None, rows: Path | None, data_dir: Path | None, *, has_more: bool
) -> dict[str, Any]:
    """Return which rows of a task are in training data, where there are no predictions."""
    from reports.auditing.facts import official_fold
    from reports.auditing.overlap import overlap_facts

    if trained_on is None:
        raise UsageError("Name a file of predictions, or with --trained-on the data that a model was trained on.")
    if task is None or has_more:
        raise UsageError(
            "Without a file of predictions --trained-on needs a --task, and takes neither --against nor --claimed."
        )
    with RunDisplay() as display:
        known = find_rows(task, rows, data_dir, display.progress("Reading crystals"))
        data, overlap = _seen(trained_on, known, rows, data_dir, display)
        folds = official_fold(task, known) if task.is_official else None
        return {"trained_on": overlap_facts(data, known, overlap, folds)}


def _seen(
    path: Path, known: RowFacts, rows: Path | None, data_dir: Path | None, display: RunDisplay
) -> tuple[TrainingData, dict[str, NDArray[np.bool_]]]:
    """Read what a model was trained on, and find the rows of a task in it, by their crystals where there are any."""
    from benchmarks.data.dataset import load_dataset
    from reports.auditing.overlap import find_overlap, read_training_data

    data = read_training_data(path, display.progress("Reading the training data"))
    table = None
    if rows is None and data.table is not None:
        table = load_dataset(known.task, data_dir).table
    return data, find_overlap(data, known, table, display.progress("Comparing crystals"))


def check_writable(out: Path, *, overwrite: bool) -> None:
    """Check before the work begins that a page and its JSON file can be written.

    Raises:
        UsageError: It cannot be.
    """
    facts_file = out.with_suffix(".json")
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


def write_page(made: Report, page: str, out: Path) -> None:
    """Write a page and the facts behind it, and print where they are.

    Raises:
        UsageError: They cannot be written.
    """
    facts_file = out.with_suffix(".json")
    try:
        write_json(facts_file, made.facts())
        write_bytes(out, page.encode(errors="backslashreplace"))  # names of files may hold other bytes
    except OSError as error:
        raise UsageError(f"{out} cannot be written ({error.strerror}): name another file with --out.") from error
    say(f"Written: {out} ({len(page) / 1e6:.1f} MB) and {facts_file}")


def _holds_facts(path: Path) -> bool:
    """Whether a JSON file is that of a report, and not for instance the config.json of a run."""
    try:
        content = parse_json(read_file(path))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and {"format", "tasks"} <= set(content)
