"""Tables of ablations: blocks, their differences, their rank among published models, and recipes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd

from ablations.answers import answers, as_share, verdict, with_share
from ablations.grid import parse_axes
from benchmarks.base.console import duration, figures
from benchmarks.base.zip_path import AnyPath, open_path
from benchmarks.data.folds import N_FOLDS
from benchmarks.results.contrasts import Answer, Compared, Comparison, compare, declare
from benchmarks.results.leaderboard import published
from benchmarks.results.metrics import primary_metric
from benchmarks.results.statistics import share_tested
from benchmarks.results.store import Run, Training
from tools.results_page.formats import commits, markdown, number

__all__ = ["comparisons", "leaderboard", "recipes", "results"]

# Options of `sen-bench ablate` that do not change what is trained, or that are the same for all lines of a table.
_NOT_RECIPE = {
    *("--task", "--target", "--unit", "--split", "--folds", "--seeds"),
    *("--blocks", "--set", "--judge", "--out", "--jobs", "--data-dir"),
}


def results(ablation: Path) -> str:
    """Return the table of variants."""
    facts, trainings = read_facts(ablation), read_trainings(ablation)
    unit = facts["task"]["unit"]
    rows = facts["table"]
    if any(row["missing"] for row in rows):
        raise ValueError(f"{ablation}: trainings are missing.")

    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "variant": name,
        facts["metric"].upper() + (f" ({unit})" if unit else ""): lambda row: number(row["mean"]),
        "std, folds": lambda row: number(row["std_folds"]),
        "std, seeds": lambda row: number(row["std_seeds"]),
    }
    if any(row["ensemble"] is not None for row in rows):
        columns["seeds averaged"] = lambda row: number(row["ensemble"])
    columns |= {
        "folds": lambda row: ", ".join(map(str, row["folds"])),
        "seeds": lambda row: ", ".join(map(str, row["seeds"])),
        f"{facts['judge']} rows": lambda row: f"{row['rows']:,}",
        "parameters": lambda row: f"{row['parameters']:,}",
    }
    parts = dict.fromkeys(part for row in rows for part in row.get("parameters_by_part", {}))
    columns |= {f"of the {part}": partial(_of_part, part) for part in parts}
    columns |= {
        "time": lambda row: duration(sum(map(float, of_trainings(trainings, row, "wall_seconds")))),
        "commit": lambda row: commits(of_trainings(trainings, row, "commit")),
    }
    if any("paper_mae_scaled" in row for row in rows):
        columns |= {
            "paper (scaled)": lambda row: f"{row['paper_mae_scaled']:.2f}" if "paper_mae_scaled" in row else "",
            "paper (eV)": lambda row: f"{row['paper_mae_ev']:.2f}" if "paper_mae_ev" in row else "",
        }
    return markdown(list(columns), ([text(row) for text in columns.values()] for row in rows))


def _of_part(part: str, row: dict[str, Any]) -> str:
    """Return the parameters of a part of SEN; other models, and trainings of older versions, have no parts."""
    n = row.get("parameters_by_part", {}).get(part)
    return "" if n is None else f"{n:,}"


def comparisons(ablation: Path) -> str:
    """Return the table of the default contrasts, made from the predictions that lie beside the ablation.

    Whatever version made the ablation, its trainings are compared as they are today.
    """
    facts = read_facts(ablation)
    rows = {setting(row): row for row in facts["table"]}
    compared = {label: _compared(ablation, facts["runs"][label], label, row) for label, row in rows.items()}
    declared = declare(
        {label: (rows[label]["variant"], frozenset(rows[label]["values"].items())) for label in facts["runs"]}
    )
    kind, metric = facts["task"]["kind"], primary_metric(facts["task"]["kind"])
    pairs = [(compared[first], compared[second]) for first, second in declared]
    heading = ["first", "second", f"difference ({facts['task']['unit']})", "folds", "seeds"]
    lines = [
        [
            comparison.first,
            comparison.second,
            with_share(comparison.difference, comparison),
            *(", ".join(map(str, numbers)) for numbers in (comparison.folds, comparison.seeds)),
            *(_answer(answer, comparison) for _, answer in answers(comparison)),
        ]
        for comparison in compare(pairs, kind, higher_is_better=metric.higher_is_better)
    ]
    return markdown([*heading, "on these folds", "on new data"], lines)


def _compared(ablation: Path, path: str, label: str, row: dict[str, Any]) -> Compared:
    """Return the trainings of a variant, whose run lies beside the ablation."""
    run = Run(open_path(ablation).parent / Path(path).name)
    wanted = {Training(seed, fold) for seed in row["seeds"] for fold in row["folds"]}
    records = {training: run.read_metrics(training) for training in run.trainings() if training in wanted}
    name = primary_metric(run.read_config()["task"]["kind"]).name
    return Compared(
        label,
        {training: record["metrics"][name] for training, record in records.items()},
        {training: run.read_predictions(training) for training in records},
        share_tested(records.values()),
    )


def _answer(answer: Answer, comparison: Comparison) -> str:
    """Return the verdict with its interval, p and the smallest difference that the design finds."""
    if answer.reason:
        return verdict(answer)
    interval = f"{figures(answer.low, 3)} to {figures(answer.high, 3)}"
    return f"{answer.verdict} ({interval}; p = {figures(answer.p, 2)}; finds {as_share(answer.detectable, comparison)})"


def leaderboard(ablation: Path) -> str:
    """Return the table of the published models and the blocks, best first, blocks in bold."""
    facts = read_facts(ablation)
    task, rows = facts["task"], facts["table"]
    official = (
        task["is_official"]
        and task["split"] == "folds"
        and facts["coverage"] == 1
        and not facts["limit"]
        and facts["judge"] == "test"
    )
    if not official or any(row["folds"] != list(range(N_FOLDS)) or row["missing"] for row in rows):
        raise ValueError(f"{ablation}: only all five folds of complete official data are ranked on the leaderboard.")
    metric = primary_metric(task["kind"])
    lines: list[tuple[float, str, float | None]] = [
        (entry.mean, entry.label, entry.std) for entry in published(task["name"])
    ]
    for row in rows:
        lines.append((row["mean"], f"**SEN, {name(row)}**", row["std_folds"]))
        if row["ensemble"] is not None:
            lines.append((row["ensemble"], f"**SEN, {name(row)}, seeds averaged**", None))
    lines.sort(key=lambda line: line[0], reverse=metric.higher_is_better)
    heading = ["model", f"{metric.label} ({task['unit']})", "std, folds"]
    return markdown(heading, ([model, number(mean), number(std)] for mean, model, std in lines))


def recipes(folder: Path) -> str:
    """Return the table of recipes that were tried, a line for each run, the default first.

    A run that was trained again elsewhere, at another commit, has a line for each.
    """
    found: dict[tuple[str, str], list[tuple[list[tuple[str, str]], dict[str, Any], str]]] = {}
    ablations: list[AnyPath] = [*open_path(folder).glob("ablation-*")]
    for ablation in sorted(ablations, key=str):
        facts = read_facts(ablation)
        if facts["judge"] != "validation":
            raise ValueError(f"{ablation}: a recipe is chosen by validation rows.")
        trainings = read_trainings(ablation)
        for row in facts["table"]:
            tried = sorted([*_set(facts["command"]), *row["values"].items()])
            run = Path(facts["runs"][setting(row)]).name
            made = commits(of_trainings(trainings, row, "commit"))
            found.setdefault((run, made), []).append((tried, row, facts["task"]["unit"]))
    lines = []
    for (_, made), entries in found.items():
        # Several ablations may have the same run: it gets its shortest name, and is shown with all its seeds.
        tried = min((tried for tried, _, _ in entries), key=len)
        _, row, unit = max(entries, key=lambda entry: len(entry[1]["seeds"]))
        lines.append((row["variant"], list(map(_by_value, tried)), made, tried, row, unit))
    rows = [
        [
            f"`{variant}`",
            ", ".join(f"{field}{' ' if field.startswith('-') else ' = '}{value}" for field, value in tried)
            or "default",
            f"{number(row['mean'])} {unit}",
            *(number(row["std_seeds"]), ", ".join(map(str, row["seeds"])), f"{row['rows']:,}", made),
        ]
        for variant, _, made, tried, row, unit in sorted(lines, key=lambda line: line[:3])
    ]
    return markdown(["variant", "recipe", "validation MAE", "std, seeds", "seeds", "validation rows", "commit"], rows)


def read_facts(ablation: AnyPath) -> dict[str, Any]:
    """Read the facts of an ablation, given its folder."""
    facts: dict[str, Any] = json.loads((open_path(ablation) / "ablation.json").read_bytes())
    for row in facts["table"]:
        row.setdefault("variant", row.get("block"))  # its name in files of sen-bench 0.1
    return facts


def read_trainings(ablation: AnyPath) -> pd.DataFrame:
    """Read the line of each training of an ablation, with all values as text."""
    lines = pd.read_csv((open_path(ablation) / "cells.csv").open("rb"), dtype=str, keep_default_na=False)
    return lines.rename(columns={"block": "variant"})


def of_trainings(trainings: pd.DataFrame, row: dict[str, Any], fact: str) -> list[str]:
    """Return a fact of each training of a line of an ablation's table."""
    wanted = {"variant": row["variant"], **row["values"]}
    chosen = (trainings[list(wanted)] == pd.Series(wanted)).all(axis=1)
    found: list[str] = trainings.loc[chosen, fact].tolist()
    return found


def setting(row: dict[str, Any]) -> str:
    """Return the name of a line of an ablation's table."""
    return ", ".join([row["variant"], *(f"{field}={value}" for field, value in row["values"].items())])


def name(row: dict[str, Any]) -> str:
    """Return the setting with the block or model as code."""
    return f"`{row['variant']}`{setting(row).removeprefix(row['variant'])}"


def _set(command: str) -> list[tuple[str, str]]:
    """Return the fields that a command sets to one value."""
    given = list(pairwise(shlex.split(command)))
    fixed, _ = parse_axes([value for option, value in given if option == "--set"])
    found = [(field, value) for field, _, value in (assignment.partition("=") for assignment in fixed)]
    for option, value in given:
        if option == "--config":
            found.append((option, value))
        elif option.startswith("--") and option not in _NOT_RECIPE:
            raise ValueError(f"{command}: {option} may change the recipe; use --set instead.")
    return found


def _by_value(tried: tuple[str, str]) -> tuple[str, float, str]:
    field, value = tried
    try:
        return field, float(value), value
    except ValueError:
        return field, 0.0, value
