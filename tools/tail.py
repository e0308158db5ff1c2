"""Print where recipes that were tried on the proxies err: with and without hydrogen, and in the tail of the targets.

    python -m tools.proxies DATA PROXIES
    python -m tools.tail PROXIES RUNS...

RUNS are folders of runs or archives. Errors and biases (prediction less target) are means over rows and seeds, in the
unit of the target; the tail is what lies above the 90th percentile of the targets.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from pymatgen.core import Composition

from tools.proxies import SOURCES, read_rows
from tools.results_page.formats import markdown, number
from tools.results_page.proxies import ALL_ROWS, Tried, read_tried, recipe_of, reference_of


def main(proxies: Path, runs: list[Path]) -> None:
    """Print a table for each proxy, with a line for each recipe."""
    recipes = [recipe for path in runs for recipe in read_tried(path)]
    columns = [f"{part}, {what}" for part in ("with H", "without H", "tail") for what in ("error", "bias")]
    for proxy in SOURCES:
        rows = read_rows(proxies / f"{proxy}.json.gz")
        with_hydrogen = [
            str(row) for row, formula in zip(rows.ids, rows.formulas, strict=True) if "H" in Composition(formula)
        ]
        lines = []
        for recipe in recipes:
            name, variant, limit = recipe.rows
            if name == proxy:
                told = recipe_of(recipe, reference_of(recipe, recipes))
                lines.append([f"{limit or ALL_ROWS:,}", f"`{variant}`", told, *parts(recipe, with_hydrogen)])
        typer.echo(f"{proxy}\n\n{markdown(['rows', 'block', 'recipe', *columns], sorted(lines))}\n")


def parts(recipe: Tried, with_hydrogen: list[str]) -> list[str]:
    """Return error and bias of a recipe on the rows with hydrogen, on those without, and in the tail."""
    found = []
    for training in recipe.run.trainings():
        ids, targets, predictions = recipe.run.read_predictions(training)
        hydrogen = np.isin(ids, with_hydrogen)
        residuals = predictions - targets
        found.append(
            [
                value
                for part in (hydrogen, ~hydrogen, targets > np.quantile(targets, 0.9))
                for value in (np.abs(residuals[part]).mean(), residuals[part].mean())
            ]
        )
    return [number(float(value)) for value in np.mean(found, axis=0)]


if __name__ == "__main__":
    typer.run(main)
