"""Export the run store docs/results/runs to one CSV file per task, and put the tables of its ablations into results.md.

    python docs/results/render.py            # after `sen-bench ablate ... --out docs/results/runs`
    python docs/results/render.py --check    # exit code 1 where a file or the page differs from the store

No number is typed by hand. TASK.csv has a line for each training. A table of the page stands between `<!-- FILE -->`
and `<!-- end -->`, where FILE is an ablation's table.csv or comparisons.csv, relative to docs/results/runs. The table
between `<!-- claims -->` and `<!-- end -->` sets what the paper claims on MatBench beside the leaderboard and beside
docs/results/audits, where `sen-bench audit --format json` has put what the authors' published predictions score.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.display import duration, figures
from benchmarks.leaderboard import published
from benchmarks.store import find_runs

HERE = Path(__file__).parent
PAGE = HERE.parent / "results.md"
# Liang et al., Nat. Commun. 14, 5198 (2023): by how much per cent SEN is below these models on MatBench.
_CLAIMS = {
    ("matbench_mp_gap", "CGCNN v2019"): 39.1,
    ("matbench_mp_gap", "MegNet (kgcnn v2.1.0)"): 6.2,
    ("matbench_mp_gap", "SchNet (kgcnn v2.1.0)"): 23.3,
    ("matbench_mp_e_form", "CGCNN v2019"): 52.6,
    ("matbench_mp_e_form", "MegNet (kgcnn v2.1.0)"): 36.1,
    ("matbench_mp_e_form", "SchNet (kgcnn v2.1.0)"): 26.1,
}
_CLAIMS_PLACE = re.compile(r"<!-- claims -->\n.*?<!-- end -->", re.DOTALL)
_PLACE = re.compile(r"<!-- (?P<file>\S+/(?P<name>table|comparisons)\.csv) -->\n.*?<!-- end -->", re.DOTALL)


def main() -> None:
    """Render, or check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    made = {HERE / f"{task.name}.csv": export(task) for task in sorted((HERE / "runs").iterdir())}
    made[PAGE] = render(PAGE.read_text())
    for path, text in made.items():
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path.name} is not what docs/results/render.py makes of docs/results/runs: run it and commit.")


def export(folder: Path) -> str:
    """Return CSV with a line for each training of the runs in a folder."""
    lines = []
    for run in find_runs(folder):
        facts = run.read_config()
        config, split = facts["config"], facts["task"]["split"]
        for unit in run.units():
            record = run.read_metrics(unit)
            lines.append(
                {
                    "block": config["block_name"],
                    "run": run.path.name,
                    "split": split,
                    "limit": config["limit"],
                    "seed": unit.seed,
                    "fold": unit.fold,
                    **record["metrics"],
                    **{f"{part}_rows": n for part, n in record["rows"].items()},
                    "best_epoch": record["best_epoch"],
                    "epochs": record["epochs"],
                    "precision": config["training"]["precision"],
                    "device": record["device"],
                    "wall_seconds": round(record["wall_seconds"], 1),
                    "commit": record["provenance"]["git_commit"][:7],
                }
            )
    return pd.DataFrame(lines).to_csv(index=False, lineterminator="\n")


def render(page: str) -> str:
    """Return the page with its tables made from the files."""

    def table(place: re.Match[str]) -> str:
        facts = json.loads((HERE / "runs" / place["file"]).with_name("ablation.json").read_text())
        make = results if place["name"] == "table" else comparisons
        return f"<!-- {place['file']} -->\n\n{make(facts)}\n\n<!-- end -->"

    page = _CLAIMS_PLACE.sub(lambda _: f"<!-- claims -->\n\n{claims()}\n\n<!-- end -->", page)
    return _PLACE.sub(table, page)


def claims() -> str:
    """Return the table of what the paper claims on MatBench."""
    heading = [
        *("task", "model", "its MAE, five folds", "SEN, claimed", "below it, claimed", "below it, from the two MAE"),
        *("SEN, its published predictions", "below it by these"),
    ]
    rows = []
    for (task, model), claimed in _CLAIMS.items():
        audit = json.loads((HERE / "audits" / f"sen-{task}.json").read_text())
        (other,) = (entry.mean for entry in published(task) if entry.model == model)
        of_claim, of_file = (f"{1 - mae / other:.1%}" for mae in (audit["claim"]["value"], audit["score"]["mae"]))
        rows.append(
            [
                *(task, model, f"{figures(other)} {audit['unit']}", f"{audit['claim']['value']:g}", f"{claimed} %"),
                *(of_claim.replace("%", " %"), figures(audit["score"]["mae"]), of_file.replace("%", " %")),
            ]
        )
    return markdown(heading, rows)


def results(facts: dict[str, Any]) -> str:
    """Return the table of blocks."""
    unit = facts["task"]["unit"]
    rows = facts["table"]
    columns: dict[str, Callable[[dict[str, Any]], str]] = {
        "block": name,
        f"{facts['metric'].upper()} ({unit})": lambda row: number(row["mean"]),
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
        "an epoch": lambda row: duration(row["epoch_seconds"]),
    }
    if any("paper_mae_scaled" in row for row in rows):
        columns |= {
            "paper (scaled)": lambda row: f"{row['paper_mae_scaled']:.2f}" if "paper_mae_scaled" in row else "",
            "paper (eV)": lambda row: f"{row['paper_mae_ev']:.2f}" if "paper_mae_ev" in row else "",
        }
    return markdown(list(columns), ([cell(row) for cell in columns.values()] for row in rows))


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
