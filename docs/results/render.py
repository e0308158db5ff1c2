"""Put the tables of the ablations in docs/results/runs into docs/results.md, so that no number is typed by hand.

    python docs/results/render.py            # after `sen-bench ablate ... --out docs/results/runs`
    python docs/results/render.py --check    # exit code 1 where the page and the files differ

A table stands between `<!-- FILE -->` and `<!-- end -->`, where FILE is an ablation's table.csv or comparisons.csv,
relative to docs/results/runs.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.display import duration, figures

HERE = Path(__file__).parent
PAGE = HERE.parent / "results.md"
_PLACE = re.compile(r"<!-- (?P<file>\S+/(?P<name>table|comparisons)\.csv) -->\n.*?<!-- end -->", re.DOTALL)


def main() -> None:
    """Render, or check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    page = PAGE.read_text()
    rendered = render(page)
    if check and rendered != page:
        sys.exit("docs/results.md is not what docs/results/render.py makes of docs/results/runs: run it and commit.")
    if not check:
        PAGE.write_text(rendered)


def render(page: str) -> str:
    """Return the page with its tables made from the files."""

    def table(place: re.Match[str]) -> str:
        facts = json.loads((HERE / "runs" / place["file"]).with_name("ablation.json").read_text())
        make = results if place["name"] == "table" else comparisons
        return f"<!-- {place['file']} -->\n\n{make(facts)}\n\n<!-- end -->"

    return _PLACE.sub(table, page)


def results(facts: dict[str, Any]) -> str:
    """Return the table of blocks."""
    unit = facts["task"]["unit"]
    has_paper = any("paper_mae_scaled" in row for row in facts["table"])
    heading = [
        "block",
        f"{facts['metric'].upper()} ({unit})",
        "std, folds",
        "std, seeds",
        "folds",
        "seeds",
        "test rows",
    ]
    heading += ["parameters", "an epoch"] + (["paper (scaled)", "paper (eV)"] if has_paper else [])
    return markdown(heading, (result_cells(row, has_paper=has_paper) for row in facts["table"]))


def result_cells(row: dict[str, Any], *, has_paper: bool) -> list[str]:
    """Return a line of the table of blocks."""
    cells = [
        name(row),
        *(number(row[key]) for key in ("mean", "std_folds", "std_seeds")),
        ", ".join(map(str, row["folds"])),
        ", ".join(map(str, row["seeds"])),
        f"{row['rows']:,}",
        f"{row['parameters']:,}",
        duration(row["epoch_seconds"]),
    ]
    if has_paper:
        cells += [f"{row[key]:.2f}" if key in row else "" for key in ("paper_mae_scaled", "paper_mae_ev")]
    return cells


def comparisons(facts: dict[str, Any]) -> str:
    """Return the table of paired differences."""
    heading = [
        "block",
        "against",
        f"difference ({facts['task']['unit']})",
        "95 % interval",
        "p (Holm)",
        "folds",
        "verdict",
    ]
    rows = (
        [
            row["variant"],
            row["against"],
            number(row["difference"]),
            f"{number(row['low'])} to {number(row['high'])}",
            "–" if row["p_holm"] is None else f"{row['p_holm']:.2g}",
            str(len(row["folds"])),
            row["verdict"],
        ]
        for row in facts["comparisons"]
    )
    return markdown(heading, rows)


def name(row: dict[str, Any]) -> str:
    """Name a block with the values of its axes."""
    return ", ".join([f"`{row['block']}`", *(f"{field}={value}" for field, value in row["values"].items())])


def number(value: float | None) -> str:
    """Return four significant digits, or a dash."""
    return "–" if value is None else figures(value)


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
