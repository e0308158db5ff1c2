"""Export the run store docs/results/runs to one CSV file per task, and put the tables of its ablations into results.md.

    python docs/results/render.py            # after `sen-bench ablate ... --out docs/results/runs`
    python docs/results/render.py --check    # exit code 1 where a file or the page differs from the store

No number is typed by hand. TASK.csv has a line for each training. A table of the page stands between
`<!-- WHAT FILE -->` and `<!-- end -->`. FILE is relative to docs, and WHAT is

- `results`, `comparisons` or `leaderboard`: of an ablation, alone or among the published models, FILE its folder;
- `repeated` or `apart`: configurations that were trained again with the same seed on all five folds, and how far apart
  the predictions of any two trainings lie, FILE the folder of a task or a pattern for such folders;
- `recipes`: what was tried, FILE the folder of a task with ablations judged by validation rows;
- `systems` or `separation`: errors by crystal system, and how blocks separate atoms, FILE the JSON file of a report;
- `published` or `unlike`: errors of published predictions by crystal system, of all rows or of those that do not have
  the most common target, FILE a pattern for files of `sen-bench audit --format json`;
- `same_rows`: published predictions beside others of the same rows, FILE a pattern for files of
  `sen-bench audit --against`;
- `claims`: what the paper claims on MatBench beside the leaderboard and beside what the authors' published predictions
  score, FILE the folder with what `sen-bench audit --format json` said of them;
- `parted`: errors of the authors' predictions of band gaps in the two parts that the order of their rows tells apart,
  FILE the predictions in that order.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, combinations, pairwise, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ablations.grid import parse_axes
from ablations.paper import SCALE
from benchmarks.base.console import duration, figures
from benchmarks.data.folds import N_FOLDS
from benchmarks.results.leaderboard import published
from benchmarks.results.metrics import mean_absolute_deviation, primary_metric
from benchmarks.results.statistics import bootstrap_mean
from benchmarks.results.store import Run, Training, find_runs

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
# Options of `sen-bench ablate` that do not change what is trained, or that every line of the table has alike.
_NOT_RECIPE = {
    *("--task", "--target", "--unit", "--split", "--folds", "--seeds"),
    *("--blocks", "--set", "--judge", "--out", "--jobs", "--data-dir"),
}
_PLACE = re.compile(r"<!-- (?P<what>\w+) (?P<file>\S+) -->\n(?:(?!<!-- ).)*?<!-- end -->", re.DOTALL)


def main() -> None:
    """Render, or check."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    tasks = sorted(path for path in (HERE / "runs").iterdir() if path.is_dir())
    made = {HERE / f"{task.name}.csv": export(task) for task in tasks}
    if stale := sorted(set(HERE.glob("*.csv")) - set(made)):
        sys.exit(f"{stale[0].name} belongs to no task in docs/results/runs: remove it.")
    made[PAGE] = render(PAGE.read_text())
    for path, text in made.items():
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(f"{path.name} is not what docs/results/render.py makes of the files behind it: run it and commit.")


def export(folder: Path) -> str:
    """Return CSV with a line for each training of the runs in a folder."""
    lines = []
    for run in find_runs(folder):
        facts = run.read_config()
        config, split = facts["config"], facts["task"]["split"]
        for training in run.trainings():
            record = run.read_metrics(training)
            lines.append(
                {
                    "block": config["block_name"],
                    "run": run.path.name,
                    "split": split,
                    "limit": config["limit"],
                    "seed": training.seed,
                    "fold": training.fold,
                    **record["metrics"],
                    **{f"{part}_rows": n for part, n in record["rows"].items()},
                    "best_epoch": record["best_epoch"],
                    "epochs": record["epochs"],
                    "precision": config["training"]["precision"],
                    "device": record["device"],
                    "wall_seconds": round(record["wall_seconds"], 1),
                    "commit": short(record["provenance"]["git_commit"]),
                }
            )
    return pd.DataFrame(lines).to_csv(index=False, lineterminator="\n")


def render(page: str) -> str:
    """Return the page with its tables made from the files.

    Raises:
        ValueError: A place does not end before the next begins, or nothing is known to stand there.
    """
    places = [(place["what"], place["file"]) for place in _PLACE.finditer(page)]
    if len(places) != page.count("<!-- end -->") or 2 * len(places) != page.count("<!-- "):
        raise ValueError(f"{PAGE.name}: each <!-- WHAT FILE --> needs an <!-- end --> of its own.")

    def table(place: re.Match[str]) -> str:
        if place["what"] not in _TABLES:
            raise ValueError(f"{PAGE.name}: {place['what']} is no table; there are {', '.join(_TABLES)}.")
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
        of_claim, of_file = (percent(1 - mae / other) for mae in (audit["claim"]["value"], audit["score"]["mae"]))
        rows.append(
            [
                *(task, model, f"{figures(other)} {audit['unit']}", f"{audit['claim']['value']:g}", f"{claimed} %"),
                *(of_claim, figures(audit["score"]["mae"]), of_file),
            ]
        )
    return markdown(heading, rows)


def results(ablation: Path) -> str:
    """Return the table of blocks."""
    facts = json.loads((ablation / "ablation.json").read_text())
    trained = partial(of_trainings, read_cells(ablation))
    unit = facts["task"]["unit"]
    rows = facts["table"]
    if any(row["missing"] for row in rows):
        raise ValueError(f"{ablation}: trainings are missing.")

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
        "commit": lambda row: commits(trained(row, "commit")),
    }
    if any("paper_mae_scaled" in row for row in rows):
        columns |= {
            "paper (scaled)": lambda row: f"{row['paper_mae_scaled']:.2f}" if "paper_mae_scaled" in row else "",
            "paper (eV)": lambda row: f"{row['paper_mae_ev']:.2f}" if "paper_mae_ev" in row else "",
        }
    return markdown(list(columns), ([cell(row) for cell in columns.values()] for row in rows))


def read_cells(ablation: Path) -> pd.DataFrame:
    """Read what an ablation has of each training, all of it as text."""
    return pd.read_csv(ablation / "cells.csv", dtype=str, keep_default_na=False)


def of_trainings(cells: pd.DataFrame, row: dict[str, Any], fact: str) -> list[str]:
    """Return a fact of each training of a line of an ablation's table."""
    wanted = {"block": row["block"], **row["values"]}
    chosen = (cells[list(wanted)] == pd.Series(wanted)).all(axis=1)
    found: list[str] = cells.loc[chosen, fact].tolist()
    return found


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
    task, rows = facts["task"], facts["table"]
    official = task["is_official"] and facts["coverage"] == 1 and not facts["limit"] and facts["judge"] == "test"
    if not official or any(row["folds"] != list(range(N_FOLDS)) or row["missing"] for row in rows):
        raise ValueError(f"{ablation}: only all five folds of complete official data stand beside the leaderboard.")
    metric = primary_metric(task["kind"])
    lines = [(entry.mean, entry.model, entry.std) for entry in published(task["name"])]
    for row in rows:
        lines.append((row["mean"], f"**SEN, {name(row)}**", row["std_folds"]))
        if row["ensemble"] is not None:
            lines.append((row["ensemble"], f"**SEN, {name(row)}, seeds averaged**", None))
    lines.sort(key=lambda line: line[0], reverse=metric.higher_is_better)
    heading = ["model", f"{metric.label} ({task['unit']})", "std, folds"]
    return markdown(heading, ([model, number(mean), number(std)] for mean, model, std in lines))


def repeated(pattern: Path) -> str:
    """Return the table of the blocks that were trained more than once, a line for each run.

    Raises:
        ValueError: There is no such block, or its runs have not the same test rows.
    """
    folds = [f"fold {fold}" for fold in range(N_FOLDS)]
    heading = ["block", "commit", *folds, "mean", "this line less the block's first, mean over rows (95 % interval)"]
    lines = []
    for block, runs in by_block(pattern).items():
        if len(runs) < 2:
            continue
        first = predicted(runs[0]).error
        for run in runs:
            records = [run.read_metrics(Training(0, fold)) for fold in range(N_FOLDS)]
            errors = [record["metrics"]["mae"] for record in records]
            made = commits(record["provenance"]["git_commit"] for record in records)
            less_first = "–"
            if run is not runs[0]:
                change = predicted(run).error - first
                if change.isna().any():
                    raise ValueError(f"{run.path} has other test rows than {runs[0].path}.")
                less_first = f"{number(change.mean())} ({' to '.join(map(number, bootstrap_mean(change)))})"
            lines.append([f"`{block}`", made, *map(number, errors), number(np.mean(errors)), less_first])
    if not lines:
        raise ValueError(f"{pattern}: no block was trained more than once.")
    return markdown(heading, lines)


def apart(pattern: Path) -> str:
    """Return the table of mean absolute differences between what two runs predict of the same rows.

    On the diagonal are runs of one block that was trained more than once; of several pairs the mean is given.

    Raises:
        ValueError: The runs have not the same test rows.
    """
    predictions = {block: [predicted(run).prediction for run in runs] for block, runs in by_block(pattern).items()}
    if len({frozenset(rows.index) for of_block in predictions.values() for rows in of_block}) > 1:
        raise ValueError(f"{pattern}: the runs with all five folds have not the same test rows.")

    def distance(one: str, other: str) -> float | None:
        pairs = product(predictions[one], predictions[other]) if one != other else combinations(predictions[one], 2)
        distances = [(first - second).abs().mean() for first, second in pairs]
        return np.mean(distances) if distances else None

    rows = ([f"`{one}`", *(number(distance(one, other)) for other in predictions)] for one in predictions)
    return markdown(["", *(f"`{block}`" for block in predictions)], rows)


def by_block(pattern: Path) -> dict[str, list[Run]]:
    """Return the runs with all five folds of seed 0 in the folders of this pattern, by block.

    Raises:
        ValueError: Runs of a block differ in their configuration, or there is none.
    """
    found: dict[str, list[Run]] = {}
    folders = sorted(Path(pattern.anchor).glob(str(pattern.relative_to(pattern.anchor))))
    for run in chain.from_iterable(map(find_runs, folders)):
        facts = run.read_config()
        if facts["task"]["split"] == "folds" and {Training(0, fold) for fold in range(N_FOLDS)} <= set(run.trainings()):
            of_block = found.setdefault(facts["config"]["block_name"], [])
            of_block.append(run)
            if facts["config"] != of_block[0].read_config()["config"]:
                raise ValueError(f"{run.path} has another configuration than {of_block[0].path}.")
    if not found:
        raise ValueError(f"{pattern}: there is no run with all five folds of seed 0.")
    return found


def predicted(run: Run) -> pd.DataFrame:
    """Return the predictions of a run with seed 0 for the test rows of all folds, and their errors, by row id."""
    folds = [run.read_predictions(Training(0, fold)) for fold in range(N_FOLDS)]
    errors = [abs(fold.prediction - fold.target) for fold in folds]
    return pd.concat(
        pd.DataFrame({"prediction": fold.prediction, "error": error}, index=fold.ids)
        for fold, error in zip(folds, errors, strict=True)
    )


def recipes(folder: Path) -> str:
    """Return the table of recipes that were tried, a line for each run, the default first.

    A run that was trained again elsewhere, at another commit, has a line for each.
    """
    found: dict[tuple[str, str], list[tuple[list[tuple[str, str]], dict[str, Any], str]]] = {}
    for path in sorted(folder.glob("ablation-*/ablation.json")):
        facts = json.loads(path.read_text())
        if facts["judge"] != "validation":
            raise ValueError(f"{path}: a recipe is chosen by validation rows.")
        cells = read_cells(path.parent)
        for row in facts["table"]:
            tried = sorted([*_set(facts["command"]), *row["values"].items()])
            run = Path(facts["runs"][setting(row)]).name
            made = commits(of_trainings(cells, row, "commit"))
            found.setdefault((run, made), []).append((tried, row, facts["task"]["unit"]))
    lines = []
    for (_, made), entries in found.items():
        # A run may be a value of several axes: it is named by the least that tells it, and shown with all its seeds.
        tried = min((tried for tried, _, _ in entries), key=len)
        _, row, unit = max(entries, key=lambda entry: len(entry[1]["seeds"]))
        lines.append((row["block"], list(map(_by_value, tried)), made, tried, row, unit))
    rows = [
        [
            f"`{block}`",
            ", ".join(f"{field}{' ' if field.startswith('-') else ' = '}{value}" for field, value in tried)
            or "default",
            f"{number(row['mean'])} {unit}",
            *(number(row["std_seeds"]), ", ".join(map(str, row["seeds"])), f"{row['rows']:,}", made),
        ]
        for block, _, made, tried, row, training in sorted(lines, key=lambda line: line[:3])
    ]
    return markdown(["block", "recipe", "validation MAE", "std, seeds", "seeds", "validation rows", "commit"], rows)


def commits(hashes: Iterable[str]) -> str:
    """Return the commits of trainings, each once."""
    return ", ".join(sorted({short(commit) for commit in hashes}))


def short(commit: str) -> str:
    """Shorten a commit, but not what follows its hash where files were not committed."""
    return commit[:7] + commit[40:]


def setting(row: dict[str, Any]) -> str:
    """Return what an ablation calls the line of its table."""
    return ", ".join([row["block"], *(f"{field}={value}" for field, value in row["values"].items())])


def _set(command: str) -> list[tuple[str, str]]:
    """Return what a command sets that is no axis of its grid."""
    given = list(pairwise(shlex.split(command)))
    fixed, _ = parse_axes([value for option, value in given if option == "--set"])
    found = [(field, value) for field, _, value in (assignment.partition("=") for assignment in fixed)]
    for option, value in given:
        if option == "--config":
            found.append((option, value))
        elif option.startswith("--") and option not in _NOT_RECIPE:
            raise ValueError(f"{command}: {option} may change the recipe; say it by --set.")
    return found


def _by_value(tried: tuple[str, str]) -> tuple[str, float, str]:
    field, value = tried
    try:
        return field, float(value), value
    except ValueError:
        return field, 0.0, value


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
        if any((cell["group"], cell["n"]) != (group["group"], group["n"]) for cell in cells):
            raise ValueError(f"{report}: the results are not on the same rows.")
        rows.append(line(group["group"], group["n"], cells))
    trends = [correlation(result["symmetry"]["loss"]) for result in facts["results"]]
    return markdown(heading, [*rows, line("all", shown[0]["n"], shown), ["rank correlation", "", *trends]])


def read_audits(pattern: Path) -> list[dict[str, Any]]:
    """Return what audits found, best first."""
    audits = [json.loads(path.read_text()) for path in sorted(pattern.parent.glob(pattern.name))]
    if not audits:
        raise ValueError(f"{pattern}: there is no such audit.")
    return sorted(audits, key=lambda audit: float(audit["score"]["mae"]))


def in_order(systems: list[dict[str, Any]], groups: list[str]) -> list[dict[str, Any]]:
    """Return the facts of these crystal systems."""
    by_group = {line["group"]: line for line in systems}
    return [by_group[group] for group in groups]


def published_systems(pattern: Path) -> str:
    """Return the table of errors of published predictions by crystal system."""
    audits = read_audits(pattern)
    groups = [line["group"] for line in audits[0]["breakdown"]["systems"]]
    rows = []
    for audit in audits:
        breakdown = audit["breakdown"]
        cells = map(error_share, in_order(breakdown["systems"], groups))
        trend = correlation(breakdown["symmetry"]["loss"])
        rows.append([audit["model"], f"{audit['n']:,}", *cells, error_share(breakdown["overall"]), trend])
    return markdown([f"MAE ({audits[0]['unit']}; MAE/MAD)", "rows", *groups, "all", "rank correlation"], rows)


def unlike(pattern: Path) -> str:
    """Return the same table of the rows that do not have the most common target, under the share that has it."""
    audits = read_audits(pattern)
    groups = [line["group"] for line in audits[0]["breakdown"]["systems"]]
    rows = []
    for audit in sorted(audits, key=lambda audit: -audit["n"]):
        rest = audit["breakdown"]["symmetry"]["without_most_common"]
        systems = in_order(rest["systems"], groups)
        if not rows:
            left_out = [f"{line['share']:.0%}" for line in systems]
            rows.append([f"rows of {rest['value']:g} {audit['unit']} left out", "", *left_out, ""])
        cells = map(error_share, systems)
        rows.append([audit["model"], f"{rest['rest']['n']:,}", *cells, correlation(rest["rest"])])
    return markdown([f"MAE ({audits[0]['unit']}; MAE/MAD)", "rows", *groups, "rank correlation"], rows)


def same_rows(pattern: Path) -> str:
    """Return the table of audited predictions beside those of other models of the same rows."""
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


def separation(report: Path) -> str:
    """Return the table of how well blocks separate atoms, before and after the block, trained and not."""
    heading = [
        *("block", "before the block, trained", "untrained", "after the block, trained", "untrained"),
        *("crystals", "resolution", "equivalent atoms after 0.02 Å of noise", "crystals of these", "resolution"),
    ]
    rows = []
    for block in section(report, "separation")["blocks"]:
        scores = block["scores"]
        fading = block["fading"]
        (faded,) = (step for step in fading["steps"] if step["size"] == 0.02)
        rows.append(
            [
                f"`{block['label']}`",
                *(score(scores[state][where]) for where in ("before", "after") for state in ("trained", "untrained")),
                *(f"{scores['trained']['after']['n']:,}", share(scores["trained"]["after"]["resolution"])),
                f"{share(faded['relative'])} ({' to '.join(map(share, faded['interval']))})",
                *(f"{fading['n']:,}", share(fading["resolution"])),
            ]
        )
    return markdown(heading, rows)


def parted(predictions: Path) -> str:
    """Return the table of errors before and after the row where they change most, and what chance makes of it."""
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


def correlation(facts: dict[str, Any]) -> str:
    """Return a rank correlation with its 95 % interval."""
    return f"{facts['value']:+.2f} ({' to '.join(f'{end:+.2f}' for end in facts['interval'])})"


def share(value: float) -> str:
    """Return two decimals: finer, scores say nothing."""
    return f"{value:.2f}"


def percent(value: float) -> str:
    """Return a share in per cent, with one decimal."""
    return f"{100 * value:.1f} %"


def name(row: dict[str, Any]) -> str:
    """Return the same with the block set as code."""
    return f"`{row['block']}`{setting(row).removeprefix(row['block'])}"


def number(value: float | None) -> str:
    """Return four significant digits, or a dash."""
    return "–" if value is None else figures(value)


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


_TABLES: dict[str, Callable[[Path], str]] = {
    "published": published_systems,
    **{made.__name__: made for made in (results, comparisons, leaderboard, recipes, systems, separation)},
    **{made.__name__: made for made in (repeated, apart, unlike, same_rows, claims, parted)},
}


if __name__ == "__main__":
    main()
