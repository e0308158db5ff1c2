"""The audit in words and tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.data.folds import N_FOLDS
from benchmarks.results.metrics import primary_metric
from reports.auditing.breakdown import describe
from reports.study.sentences import Sentences
from reports.study.wording import dashed, in_brackets

__all__ = ["other_sets", "overlap_sentence", "show_audit", "show_overlap", "verdict"]


def verdict(facts: Mapping[str, Any]) -> str:
    """Return the facts of an audit in one paragraph, which a reviewer can paste.

    Without predictions there are those of `trained_on` alone.
    """
    if "file" not in facts:
        return overlap_sentence(facts["trained_on"])
    return Sentences(__name__, {**facts, "metric_label": _metric(facts)})("verdict")


def other_sets(sets: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[str]:
    """Return sentences on the facts of `check_other_sets` about a file, whose form and name the other facts hold."""
    sentences = Sentences(__name__, {"kind": "", "metric_label": "", "file": facts["file"]})
    if facts["form"] == "submission" and sets:
        return [sentences("other_tasks", names=[entry["task"] for entry in sets])]
    return [sentences("other_set", entry=entry) for entry in sets]


def overlap_sentence(facts: Mapping[str, Any]) -> str:
    """Return the facts about training data (`overlap_facts`) in sentences."""
    return Sentences(__name__, {"kind": "", "metric_label": ""})("trained_on", data=facts)


def show_overlap(facts: Mapping[str, Any], metric: str, unit: str, console: Console) -> None:
    """Print which rows are in training data, by official fold, and the scores with and without them."""
    console.print(overlap_sentence(facts), soft_wrap=not console.is_terminal)
    headings = ["in it by", "rows", "share", *(f"fold {fold}" for fold in range(N_FOLDS))]
    of = f"{metric}{in_brackets(unit)}"
    has_scores = any(found["score"] for found in facts["found"])
    scores = [f"{of} of these", "of the others", "of all"] if has_scores else []
    table = _table(f"Rows of {facts['task']} in {facts['file']}", *headings, *scores)
    for found in facts["found"]:
        folds = ["–"] * N_FOLDS if found["folds"] is None else [f"{n:,}" for n in found["folds"]]
        cells = [dashed(found["score"][part]["score"]) for part in ("known", "others", "all")] if has_scores else []
        table.add_row(found["by"], f"{found['n']:,}", f"{found['share']:.2%}", *folds, *cells)
    console.print(table)


def show_audit(facts: Mapping[str, Any], console: Console) -> None:
    """Print an audit: the verdict, and the tables behind it."""
    if "file" not in facts:
        show_overlap(facts["trained_on"], "", "", console)
        return

    def write(text: str, style: str | None = None) -> None:
        console.print(text, soft_wrap=not console.is_terminal, style=style)

    write(verdict(facts))
    for table in _tables(facts):
        console.print()
        console.print(table)
    console.print()
    if facts["trained_on"]:
        show_overlap(facts["trained_on"], _metric(facts), facts["unit"], console)
        console.print()
    for sentence in describe(facts["breakdown"], facts["unit"], facts["model"])[1:]:
        write(sentence)
    if sentences := other_sets(facts["also"], facts):
        console.print("\nAlso in the file:", style="bold")
        for sentence in sentences:
            write(f"- {sentence}")
    if facts["leaderboard"]["n_models"]:
        write(f"Published: {facts['leaderboard']['source']}", style="dim")


def _tables(facts: Mapping[str, Any]) -> Iterator[Table]:
    if facts["folds"]["folds"]:
        yield _fold_table(facts)
    yield _system_table(facts)
    if facts["against"]:
        yield _model_table(facts)


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for i, heading in enumerate(headings):
        table.add_column(heading, justify="right" if i else "left")
    return table


def _fold_table(facts: Mapping[str, Any]) -> Table:
    headings = ("fold", "test rows", "in the file", "share", "scored", f"{_metric(facts)}{in_brackets(facts['unit'])}")
    table = _table("Official folds", *headings)
    scores = {fold["fold"]: fold for fold in facts["by_fold"]}
    for fold in facts["folds"]["folds"]:
        score = scores.get(fold["fold"], {"n": 0, "score": None})
        given = (f"{fold['n_test']:,}", f"{fold['n']:,}", f"{fold['share']:.2%}")
        table.add_row(str(fold["fold"]), *given, f"{score['n']:,}", dashed(score["score"]))
    return table


def _system_table(facts: Mapping[str, Any]) -> Table:
    unit = in_brackets(facts["unit"])
    columns = {
        f"MAE{unit}": "mae",
        "95 % of it": "mae_interval",
        f"MAD{unit}": "mad",
        "MAE/MAD": "relative",
        "95 % of that": "relative_interval",
        f"bias{unit}": "bias",
    }
    if facts["kind"] == "classification":
        columns = {
            "accuracy": "accuracy",
            "95 % of it": "accuracy_interval",
            "balanced accuracy": "balanced_accuracy",
            "95 % of that": "balanced_accuracy_interval",
            "share true": "positive",
        }
    table = _table("Crystal systems, with 95 % intervals", "system", "n", *columns)
    for system in (*facts["breakdown"]["systems"], facts["breakdown"]["overall"]):
        name = system["group"] + (" (few rows)" if system["is_small"] else "")
        style = "bold" if system["group"] == "all" else "dim" if system["is_small"] else None
        table.add_row(name, f"{system['n']:,}", *(_cell(system[key]) for key in columns.values()), style=style)
    return table


def _model_table(facts: Mapping[str, Any]) -> Table:
    what = "MAE" if facts["kind"] == "regression" else "wrong labels"
    own = f"its {what}{in_brackets(facts['unit'])}"
    headings = ("model", "n", own, "of this file", "this minus other", "95 % of that")
    table = _table("Other models on the same rows", *headings)
    for entry in facts["against"]:
        cells = ["–"] * 4
        if entry["comparison"] is not None:
            overall = entry["comparison"]["overall"]
            cells = [_cell(overall[key]) for key in ("other", "one", "difference", "difference_interval")]
        table.add_row(entry["model"], f"{entry['n']:,}", *cells)
    return table


def _cell(value: float | Sequence[float | None] | None) -> str:
    if isinstance(value, Sequence):
        return " to ".join(map(dashed, value)) if any(end is not None for end in value) else "–"
    return dashed(value)


def _metric(facts: Mapping[str, Any]) -> str:
    return "MAE" if facts["kind"] == "regression" else primary_metric("classification").label
