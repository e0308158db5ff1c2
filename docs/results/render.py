"""Export the run store docs/results/runs to one CSV file per task, and put the tables of its ablations into results.md.

    python docs/results/render.py            # after `sen-bench ablate ... --out docs/results/runs`
    python docs/results/render.py --check    # exit code 1 where a file or the page differs from the store

No number is typed by hand. TASK.csv has a line for each training. A table of the page stands between
`<!-- WHAT FILE -->` and `<!-- end -->`. FILE is relative to docs, and WHAT is

- `results`, `comparisons` or `leaderboard`: of an ablation, alone or among the published models, FILE its folder;
- `recipes`: what was tried, FILE a folder with ablations judged by validation rows;
- `systems` or `separation`: errors by crystal system, and how blocks separate atoms, FILE the JSON file of a report;
- `published`: errors of published predictions by crystal system, FILE a pattern for the files of `sen-bench audit`;
- `claims`: what the paper claims on MatBench beside the leaderboard and beside what the authors' published predictions
  score, FILE the folder with what `sen-bench audit --format json` said of them.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.display import duration, figures
from benchmarks.leaderboard import published
from benchmarks.store import find_runs

HERE = Path(__file__).parent
DOCS = HERE.parent
PAGE = DOCS / "results.md"
# Liang et al., Nat. Commun. 14, 5198 (2023): by how much per cent SEN is below these models on MatBench.
_CLAIMS = {
    ("matbench_mp_gap", "CGCNN v2019"): 39.1,
    ("matbench_mp_gap", "MegNet (kgcnn v2.1.0)"): 6.2,
    ("matbench_mp_gap", "SchNet (kgcnn v2.1.0)"): 23.3,
    ("matbench_mp_e_form", "CGCNN v2019"): 52.6,
    ("matbench_mp_e_form", "MegNet (kgcnn v2.1.0)"): 36.1,
    ("matbench_mp_e_form", "SchNet (kgcnn v2.1.0)"): 26.1,
}
_PLACE = re.compile(r"<!-- (?P<what>\w+) (?P<file>\S+) -->\n.*?<!-- end -->", re.DOTALL)


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
        made = _TABLES[place["what"]](DOCS / place["file"])
        return f"<!-- {place['what']} {place['file']} -->\n\n{made}\n\n<!-- end -->"

    return _PLACE.sub(table, page)


def claims(audits: Path) -> str:
    """Return the table of what the paper claims on MatBench, given the folder of audits."""
    heading = [
        *("task", "model", "its MAE, five folds", "SEN, claimed", "below it, claimed", "below it, from the two MAE"),
        *("SEN, its published predictions", "below it by these"),
    ]
    rows = []
    for (task, model), claimed in _CLAIMS.items():
        audit = json.loads((audits / f"sen-{task}.json").read_text())
        (other,) = (entry.mean for entry in published(task) if entry.model == model)
        of_claim, of_file = (f"{1 - mae / other:.1%}" for mae in (audit["claim"]["value"], audit["score"]["mae"]))
        rows.append(
            [
                *(task, model, f"{figures(other)} {audit['unit']}", f"{audit['claim']['value']:g}", f"{claimed} %"),
                *(of_claim.replace("%", " %"), figures(audit["score"]["mae"]), of_file.replace("%", " %")),
            ]
        )
    return markdown(heading, rows)


def results(ablation: Path) -> str:
    """Return the table of blocks."""
    facts = json.loads((ablation / "ablation.json").read_text())
    cells = pd.read_csv(ablation / "cells.csv", dtype=str)
    unit = facts["task"]["unit"]
    rows = facts["table"]

    def trained(row: dict[str, Any], fact: str) -> list[str]:
        """Return a fact of each training of the row."""
        setting = {"block": row["block"], **row["values"]}
        chosen = (cells[list(setting)] == pd.Series(setting)).all(axis=1)
        return cells.loc[chosen, fact].tolist()

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
        "time": lambda row: duration(sum(map(float, trained(row, "wall_seconds")))),
        "commit": lambda row: ", ".join(sorted({commit[:7] for commit in trained(row, "commit")})),
    }
    if any("paper_mae_scaled" in row for row in rows):
        columns |= {
            "paper (scaled)": lambda row: f"{row['paper_mae_scaled']:.2f}" if "paper_mae_scaled" in row else "",
            "paper (eV)": lambda row: f"{row['paper_mae_ev']:.2f}" if "paper_mae_ev" in row else "",
        }
    return markdown(list(columns), ([cell(row) for cell in columns.values()] for row in rows))


def comparisons(ablation: Path) -> str:
    """Return the table of paired differences."""
    facts = json.loads((ablation / "ablation.json").read_text())
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


def leaderboard(ablation: Path) -> str:
    """Return the table of the published models and the blocks, best first, blocks in bold."""
    facts = json.loads((ablation / "ablation.json").read_text())
    unit = facts["task"]["unit"]
    lines = [(entry.mean, entry.model, entry.std) for entry in published(facts["task"]["name"])]
    for row in facts["table"]:
        lines.append((row["mean"], f"**SEN, {name(row)}**", row["std_folds"]))
        if row["ensemble"] is not None:
            lines.append((row["ensemble"], f"**SEN, {name(row)}, seeds averaged**", None))
    rows = ([model, number(mean), number(std)] for mean, model, std in sorted(lines, key=lambda line: line[0]))
    return markdown(["model", f"MAE ({unit})", "std, folds"], rows)


def recipes(folder: Path) -> str:
    """Return the table of recipes that were tried, those of one ablation one below the other."""
    rows = []
    for path in sorted(folder.glob("*/ablation-*/ablation.json")):
        facts = json.loads(path.read_text())
        if facts["judge"] != "validation":
            raise ValueError(f"{path}: a recipe is chosen by validation rows.")
        words = shlex.split(facts["command"])
        base = f"--config {words[words.index('--config') + 1]}" if "--config" in words else "default"
        for row in facts["table"]:
            tried = ", ".join(f"{field} = {value}" for field, value in row["values"].items()) or base
            score = f"{number(row['mean'])} {facts['task']['unit']}"
            seeds = ", ".join(map(str, row["seeds"]))
            rows.append([facts["task"]["name"], f"`{row['block']}`", tried, score, number(row["std_seeds"]), seeds])
    heading = ["crystals", "block", "recipe", "validation MAE", "std, seeds", "seeds"]
    return markdown(heading, sorted(rows, key=lambda row: row[:3]))


def systems(report: Path) -> str:
    """Return the table of errors by crystal system: MAE, and in brackets its share of the system's own spread."""
    facts = section(report, "systems")
    shown = [result["overall"] | {"label": result["label"], "groups": result["systems"]} for result in facts["results"]]
    heading = [f"MAE ({facts['unit']}; MAE/MAD)", "test rows", *(result["label"] for result in shown)]

    def line(group: str, n: int, cells: Iterable[dict[str, Any]]) -> list[str]:
        return [group, f"{n:,}", *map(error_share, cells)]

    rows = []
    for i, group in enumerate(shown[0]["groups"]):
        cells = [result["groups"][i] for result in shown]
        if {cell["group"] for cell in cells} != {group["group"]}:
            raise ValueError(f"{report}: the results do not list the same crystal systems.")
        rows.append(line(group["group"], group["n"], cells))
    return markdown(heading, [*rows, line("all", shown[0]["n"], shown)])


def published_systems(pattern: Path) -> str:
    """Return the table of errors by crystal system of the predictions that were audited, best first."""
    audits = [json.loads(path.read_text()) for path in pattern.parent.glob(pattern.name)]
    groups = [line["group"] for line in audits[0]["breakdown"]["systems"]]
    rows = []
    for audit in sorted(audits, key=lambda audit: audit["score"]["mae"]):
        breakdown, symmetry = audit["breakdown"], audit["breakdown"]["symmetry"]
        by_group = {line["group"]: line for line in breakdown["systems"]}
        trends = (symmetry["loss"], symmetry["without_most_common"]["rest"])
        rows.append(
            [
                *(audit["model"], f"{audit['n']:,}"),
                *(error_share(by_group[group]) for group in groups),
                error_share(breakdown["overall"]),
                *(f"{trend['value']:+.2f}" for trend in trends),
            ]
        )
    (unit,) = {audit["unit"] for audit in audits}
    heading = [f"MAE ({unit}; MAE/MAD)", "rows", *groups, "all", "rank correlation", "without rows of gap 0"]
    return markdown(heading, rows)


def separation(report: Path) -> str:
    """Return the table of how well blocks separate atoms, before and after the block, trained and not."""
    heading = [
        *("block", "environments, trained", "untrained", "after the block, trained", "untrained"),
        *("crystals", "equivalent atoms after 0.02 Å of noise"),
    ]
    rows = []
    for block in section(report, "separation")["blocks"]:
        scores = block["scores"]
        faded = [step["relative"] for step in block["fading"]["steps"] if step["size"] == 0.02]
        rows.append(
            [
                f"`{block['label']}`",
                *(score(scores[state][where]) for where in ("before", "after") for state in ("trained", "untrained")),
                f"{scores['trained']['after']['n']:,}",
                *map(share, faded),
            ]
        )
    return markdown(heading, rows)


def section(report: Path, name: str) -> dict[str, Any]:
    """Return the facts that a report shows in a section."""
    (task,) = json.loads(report.read_text())["tasks"]
    facts: dict[str, Any] = task["sections"][name]["facts"]
    return facts


def error_share(line: dict[str, Any]) -> str:
    """Return a MAE and, in brackets, its share of the mean absolute deviation of the same rows."""
    return f"{number(line['mae'])} ({share(line['relative'])})"


def score(facts: dict[str, Any]) -> str:
    """Return a separation score with its 95 % interval."""
    low, high = facts["interval"]
    return f"{share(facts['value'])} ({share(low)} to {share(high)})"


def share(value: float) -> str:
    """Return two decimals: finer, scores say nothing."""
    return f"{value:.2f}"


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


_TABLES: dict[str, Callable[[Path], str]] = {
    "published": published_systems,
    **{made.__name__: made for made in (results, comparisons, leaderboard, recipes, systems, separation, claims)},
}


if __name__ == "__main__":
    main()
