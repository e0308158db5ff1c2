"""Tables of published predictions: what audits of them found, and what the paper claims."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.paper import SCALE
from benchmarks.base.console import figures
from benchmarks.results.leaderboard import published
from benchmarks.results.metrics import mean_absolute_deviation
from reports.paper import CLAIMS
from tools.results_page.formats import correlation, error_share, markdown, number, percent

__all__ = ["claims", "parted", "published_systems", "same_rows", "unlike"]


def published_systems(pattern: Path) -> str:
    """Return the table of errors of published predictions by crystal system."""
    audits = read_audits(pattern)
    groups = [line["group"] for line in audits[0]["breakdown"]["systems"]]
    rows = []
    for audit in audits:
        breakdown = audit["breakdown"]
        shares = map(error_share, in_order(breakdown["systems"], groups))
        trend = correlation(breakdown["symmetry"]["loss"])
        rows.append([audit["model"], f"{audit['n']:,}", *shares, error_share(breakdown["overall"]), trend])
    return markdown([f"MAE ({audits[0]['unit']}; MAE/MAD)", "rows", *groups, "all", "rank correlation"], rows)


def unlike(pattern: Path) -> str:
    """Return the same table without the rows of the most common target, whose share is in the first line."""
    audits = read_audits(pattern)
    groups = [line["group"] for line in audits[0]["breakdown"]["systems"]]
    rows: list[list[str]] = []
    for audit in sorted(audits, key=lambda audit: -audit["n"]):
        rest = audit["breakdown"]["symmetry"]["without_most_common"]
        systems = in_order(rest["systems"], groups)
        if not rows:
            left_out = [f"{line['share']:.0%}" for line in systems]
            rows.append([f"rows of {rest['value']:g} {audit['unit']} left out", "", *left_out, ""])
        shares = map(error_share, systems)
        rows.append([audit["model"], f"{rest['rest']['n']:,}", *shares, correlation(rest["rest"])])
    return markdown([f"MAE ({audits[0]['unit']}; MAE/MAD)", "rows", *groups, "rank correlation"], rows)


def same_rows(pattern: Path) -> str:
    """Return the table of audited predictions and those of other models for the same rows."""
    rows = []
    for audit in read_audits(pattern):
        affine = audit["affine"]
        corrected = f"{number(affine['shifted'])} without its mean offset, {number(affine['mae'])} after a refit"
        rows.append(
            [
                *(audit["task"], audit["model"], f"{audit['n']:,}", f"{number(audit['score']['mae'])} {audit['unit']}"),
                f"{corrected} to the test targets",
            ]
        )
        for other in sorted(audit["against"], key=lambda other: other["comparison"]["overall"]["other"]):
            facts = other["comparison"]["overall"]
            than = f"{audit['model']} is {abs(facts['difference'] / facts['other']):.1%}".replace("%", " %")
            where = "above" if facts["difference"] > 0 else "below"
            mae = f"{number(facts['other'])} {audit['unit']}"
            rows.append([audit["task"], other["model"], f"{other['n']:,}", mae, f"{than} {where}"])
    return markdown(["task", "model", "rows", "MAE", ""], rows)


def claims(audits: Path) -> str:
    """Return the table of what the paper claims on MatBench, given the folder of audits."""
    heading = [
        *("task", "model", "its MAE, five folds", "SEN, claimed", "below it, claimed", "below it, from the two MAE"),
        *("SEN, its published predictions", "below it by these"),
    ]
    rows = []
    for task, model, claimed in ((task, *claim) for task, (_, of_task) in CLAIMS.items() for claim in of_task.items()):
        audit = json.loads((audits / f"sen-{task}.json").read_text())
        (other,) = (entry.mean for entry in published(task) if entry.model == model)
        of_claim, of_file = (percent(1 - mae / other) for mae in (audit["claim"]["value"], audit["score"]["mae"]))
        rows.append(
            [
                *(task, model, f"{figures(other)} {audit['unit']}", f"{audit['claim']['value']:g}", f"{claimed} %"),
                *(of_claim, figures(audit["score"]["mae"]), of_file),
            ]
        )
    return markdown(heading, rows)


def parted(predictions: Path) -> str:
    """Return the table of errors before and after the row where they change most, and how much that is by chance."""
    table = pd.read_csv(predictions)
    of_file = {name: rows * SCALE for name, rows in table.groupby("file")[["target", "prediction"]]}
    validation, training = of_file["validation"], of_file["training"]
    errors = np.abs(validation.prediction - validation.target).to_numpy()
    first, gain = change(errors)
    rng = np.random.default_rng(0)
    by_chance = max(change(rng.permutation(errors))[1] for _ in range(1000))
    parts = {
        f"validation, rows 1 to {first:,}": validation[:first],
        f"validation, rows {first + 1:,} to {len(errors):,}": validation[first:],
        "validation, all rows": validation,
        f"training, the first {len(training):,} rows": training,
    }
    heading = [
        *("part of the file", "rows", "MAE (scaled)", "MAE (eV)", "median error (eV)", "errors above 0.5 eV"),
        *("gaps of 0 predicted above 0.2 eV", "mean absolute deviation of the gaps (eV)"),
    ]
    lines = []
    for part, rows in parts.items():
        error = (rows.prediction - rows.target).abs()
        false_gap = rows.prediction[rows.target == 0] > 0.2
        lines.append(
            [
                *(part, f"{len(rows):,}", number(error.mean() / SCALE), number(error.mean()), number(error.median())),
                *(percent((error > 0.5).mean()), percent(false_gap.mean())),
                number(mean_absolute_deviation(rows.target)),
            ]
        )
    return (
        f"{markdown(heading, lines)}\n\n"
        "The rows are parted where the logarithmic likelihood of errors that follow a Laplace distribution gains most "
        f"by a second width:\nby {figures(gain)}. In 1,000 random orders of the same rows the best parting gains "
        f"{figures(by_chance)} at most."
    )


def change(errors: NDArray[np.float64]) -> tuple[int, float]:
    """Return how many absolute errors [n] come before their width changes most, and the gain in log-likelihood.

    The most likely width of a Laplace distribution is the mean absolute error. Each part has 10 errors or more.
    """
    n, k = len(errors), np.arange(10, len(errors) - 9)
    sums = np.cumsum(errors)
    before, after = sums[k - 1] / k, (sums[-1] - sums[k - 1]) / (n - k)
    gains = n * np.log(sums[-1] / n) - k * np.log(before) - (n - k) * np.log(after)
    return int(k[gains.argmax()]), float(gains.max())


def read_audits(pattern: Path) -> list[dict[str, Any]]:
    """Read audits, best first."""
    audits = [json.loads(path.read_text()) for path in sorted(pattern.parent.glob(pattern.name))]
    if not audits:
        raise ValueError(f"{pattern}: there is no such audit.")
    return sorted(audits, key=lambda audit: float(audit["score"]["mae"]))


def in_order(systems: list[dict[str, Any]], groups: list[str]) -> list[dict[str, Any]]:
    """Return the lines of these crystal systems."""
    by_group = {line["group"]: line for line in systems}
    return [by_group[group] for group in groups]
