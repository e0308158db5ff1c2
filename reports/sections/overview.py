"""Section: all results, compared with the published leaderboard and with each other on the same rows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from benchmarks.base.console import figures
from benchmarks.base.workers import Progress
from benchmarks.results.contrasts import MEANINGFUL, REFERENCE, TARGET, known_noise
from benchmarks.results.leaderboard import TAGS, published, rank, source
from benchmarks.results.metrics import METRIC_LABELS, mean_absolute_deviation, primary_metric
from benchmarks.results.run_config import is_fitted
from benchmarks.results.statistics import bootstrap_mean
from benchmarks.results.store import is_official
from reports.page.items import FOLDS, Column, Items
from reports.page.section import Figure, Item, Section, Table
from reports.page.style import GRID, INK, MUTED, PAPER, WIDE, look_of, subplots
from reports.study.differences import compare_results, contrasts_of
from reports.study.study import Result, Study, fold_scores

__all__ = ["Overview"]

# In the figure of scores, errors beyond this many times the median are numbers at the edge: they would crush the axis.
_FARTHEST = 2.5
# The two answers of a comparison, and how they are called.
_QUESTIONS = {"on_these_folds": "on these folds", "on_new_data": "on new data"}


class Overview(Section):
    """The results in one table, and how certain they are."""

    name: ClassVar[str] = "overview"
    title: ClassVar[str] = "Results"
    place: ClassVar[int] = 100

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Score every result by fold, and compare those of each contrast on the rows that both predicted."""
        metric = primary_metric(study.task.kind)
        n_rows = len({name for result in study.results for name in result.rows.ids.tolist()})
        results = []
        for i, result in enumerate(study.results):
            results.append({**_result_facts(study, result), "has_all_rows": len(result.rows) == n_rows})
            progress(i + 1, len(study.results) + 1)
        differences = _differences(study)
        progress(len(study.results) + 1, len(study.results) + 1)
        board = published(study.task.name) if study.task.has_leaderboard else []
        used = {tag for entry in board for tag in entry.tags}
        return {
            "task": study.task.name,
            "unit": study.task.unit,
            "kind": study.task.kind,
            "split": study.task.split,
            "n_folds": study.n_folds,
            "fold_names": study.fold_names,
            "tests_rows_twice": study.tests_rows_twice,
            "metric": {"name": metric.name, "label": metric.label, "higher_is_better": metric.higher_is_better},
            "mean_absolute_deviation": _deviation(study),
            "results": results,
            "differences": differences,
            "leaderboard": [{**vars(entry), "label": entry.label, "is_official": entry.is_official} for entry in board],
            "tags": {tag: meaning for tag, meaning in TAGS.items() if tag in used},
            "source": source() if study.task.has_leaderboard else None,
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """A summary, then tables and the scores of every fold."""
        facts = {**facts, "results": [{**result, "n_seeds": _n_seeds(result)} for result in facts["results"]]}
        runs = [result for result in facts["results"] if result["kind"] == "run"]
        items = Items(__name__, {**facts, "runs": runs})
        yield items.text("summary", best=_by_score(runs, facts)[0], places=_places(runs, facts))
        yield _result_table(items, facts)
        if len(facts["results"]) > 1 or facts["leaderboard"]:
            yield _score_figure(items, facts)
        yield _cost_table(items, runs)
        if facts["leaderboard"]:
            yield _leaderboard_table(items, facts, runs)
        if facts["differences"]:
            yield from _show_differences(items, facts)


def _result_facts(study: Study, result: Result) -> dict[str, Any]:
    scores = fold_scores(result, study.task.kind)
    columns = {name: [scores[fold][name] for fold in scores] for name in next(iter(scores.values()))}
    interval = bootstrap_mean(np.sort(result.rows.error))
    records = list(result.records.values())
    epochs = [record["epochs"] for record in records]
    seconds = [record["wall_seconds"] / record["epochs"] for record in records]
    return {
        "label": result.label,
        "kind": "run" if result.run else "published",
        "rows": len(result.rows),
        "folds": result.folds,
        "has_folds": result.has_folds,
        "seeds": {str(fold): sorted(u.seed for u in result.trainings if u.fold == fold) for fold in result.folds},
        "coverage": result.coverage,
        "limit": result.facts["config"]["limit"] if result.run else None,
        "scores": {str(fold): scores[fold] for fold in scores},
        "mean": {name: statistics.fmean(column) for name, column in columns.items()},
        "std": {name: float(np.std(column)) for name, column in columns.items()}
        if len(scores) > 1 and result.has_folds
        else {},
        "row_error": {"mean": float(result.rows.error.mean()), "low": interval.low, "high": interval.high},
        "parameters": records[0]["parameters"] if records else None,
        "parameters_by_part": {
            part: n for record in records for part, n in record.get("parameters_by_part", {}).items()
        },
        "epochs": [min(epochs), max(epochs)] if epochs else None,
        "seconds_per_epoch": statistics.median(seconds) if seconds else None,
        "hours": sum(record["wall_seconds"] for record in records) / 3600 if records else None,
        "memory_gib": max(_memory(record) for record in records) / 2**30 if records else None,
        "devices": sorted({record["device"] for record in records}),
        "threads": sorted({record["threads"] for record in records if record.get("threads")}),
        "is_official": result.run is not None and is_official(result.facts, result.trainings),
    }


def _memory(record: Mapping[str, Any]) -> float:
    return float(record.get("peak_device_memory_bytes") or record["peak_memory_bytes"] or 0)


def _deviation(study: Study) -> float | None:
    """Mean absolute deviation of the test targets of the result that has most rows."""
    largest = max(study.results, key=lambda result: len(result.rows))
    return mean_absolute_deviation(largest.rows.target) if study.task.kind == "regression" else None


def _differences(study: Study) -> dict[str, Any] | None:
    """Compare the results of each contrast; None where there are none."""
    pairs = contrasts_of(study)
    if not pairs:
        return None
    contrasts = [
        {
            **asdict(each),
            "relative": each.difference / each.score if each.score else None,
            "seeds_for_target": each.seeds_for(TARGET * abs(each.score)) if each.score else None,
        }
        for each in compare_results(study)
    ]
    labels = [(first.label, second.label) for first, second in pairs]
    compared = [(each["first"], each["second"]) for each in contrasts]
    metric = primary_metric(study.task.kind).name
    known = known_noise(
        {training: record["metrics"][metric] for training, record in run.records.items()}
        for run in study.runs
        if not is_fitted(str(run.variant))
    )
    by_default = "capsule" if any(second.variant == REFERENCE for _, second in pairs) else "first"
    return {
        "rule": by_default if study.contrasts is None else "named",
        "references": list(dict.fromkeys(second for _, second in labels)),
        "margin": study.margin,
        "target": TARGET,
        "meaningful": MEANINGFUL,
        "known_noise": known and asdict(known),
        "contrasts": contrasts,
        "apart": [pair for pair in labels if pair not in compared],
    }


def _n_seeds(result: Mapping[str, Any]) -> int | str | None:
    """Return how many seeds a fold of a result has: 3, or "1–3" where not all have as many; None of a published one."""
    numbers = sorted({len(seeds) for seeds in result["seeds"].values()})
    return "–".join(map(str, numbers[:: len(numbers) - 1])) if len(numbers) > 1 else numbers[0] or None


def _by_score(results: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Sort results, best first; those without a score come last."""
    metric, sign = facts["metric"]["name"], -1 if facts["metric"]["higher_is_better"] else 1
    scores = {result["label"]: result["mean"][metric] for result in results}
    return sorted(results, key=lambda r: math.inf if (score := scores[r["label"]]) is None else sign * score)


def _places(runs: Iterable[Mapping[str, Any]], facts: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the places, among the published models, of those runs that can have one."""
    if not facts["leaderboard"]:
        return {}
    means = {run["label"]: run["mean"][facts["metric"]["name"]] for run in runs if run["is_official"]}
    return {label: rank(facts["task"], mean) for label, mean in means.items() if mean is not None}


def _result_table(items: Items, facts: Mapping[str, Any]) -> Table:
    metric, unit = facts["metric"], items.unit
    is_regression = facts["kind"] == "regression"
    is_partial = any(result["coverage"] not in {None, 1} for result in facts["results"])
    columns: list[Column] = [
        ("model", "label"),
        (f"{metric['label']}{unit if is_regression else ''}", f"mean.{metric['name']}"),
        ("std", f"std.{metric['name']}"),
    ]
    if is_regression:
        columns += [("95 % low", "row_error.low"), ("95 % high", "row_error.high")]
    for name, label in METRIC_LABELS.items():
        if name in facts["results"][0]["mean"] and name != metric["name"]:
            columns.append((f"{label}{unit if name in {'rmse', 'max_error'} else ''}", f"mean.{name}"))
    columns += [("n", "rows"), FOLDS, ("seeds", "n_seeds")]
    if is_partial:
        columns.append(("coverage (%)", lambda result: result["coverage"] and 100 * result["coverage"]))
    best_first = sorted(_by_score(facts["results"], facts), key=lambda result: not result["has_all_rows"])
    alike = (best_first[0]["has_all_rows"], best_first[-1]["has_all_rows"])
    return items.table("results", best_first, columns, alike=alike, is_partial=is_partial)


def _cost_table(items: Items, runs: Sequence[Mapping[str, Any]]) -> Table:
    parts = list(dict.fromkeys(part for run in runs for part in run["parameters_by_part"]))
    columns: list[Column] = [
        ("model", "label"),
        ("parameters", "parameters"),
        *((f"of the {part}", f"parameters_by_part.{part}") for part in parts),
        ("epochs", lambda run: "–".join(map(str, run["epochs"])) if len(set(run["epochs"])) > 1 else run["epochs"][0]),
        ("s per epoch", "seconds_per_epoch"),
        ("hours", "hours"),
        ("memory (GiB)", "memory_gib"),
        ("device", "devices"),
        ("threads", "threads"),
    ]
    return items.table("cost", runs, columns, digits=3, parts=parts)


def _leaderboard_table(items: Items, facts: Mapping[str, Any], runs: Sequence[Mapping[str, Any]]) -> Table:
    metric = facts["metric"]
    entries = []
    for entry in facts["leaderboard"]:
        place = rank(facts["task"], entry["mean"]) if entry["is_official"] else None
        entries.append({**entry, "tags": ", ".join(entry["tags"]), "place": place, "is_run": False})
    places = _places(runs, facts)
    for run in runs:
        if run["label"] in places:
            scores = {key: run[key][metric["name"]] for key in ("mean", "std")}
            name = f"{run['label']}, this report"
            entries.append({"model": name, "place": places[run["label"]], "is_run": True, **scores})
    entries.sort(key=lambda entry: entry["mean"], reverse=metric["higher_is_better"])
    columns: list[Column] = [
        ("place", "place"),
        ("model", "model"),
        (f"{metric['label']}{items.unit}", "mean"),
        ("std", "std"),
        ("tags", "tags"),
    ]
    return items.table(
        "leaderboard",
        entries,
        columns,
        strong=[i for i, entry in enumerate(entries) if entry["is_run"]],
        left_out=[run["label"] for run in runs if run["label"] not in places],
    )


def _published_for_comparison(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the published models without predictions here, best first, down to the first that is worse than all."""
    results = facts["results"]
    # Scores on a part of the rows cannot be compared with published ones.
    if all(result["coverage"] != 1 for result in results):
        return []
    sign = 1 if facts["metric"]["higher_is_better"] else -1
    means = [mean for result in results if (mean := result["mean"][facts["metric"]["name"]]) is not None]
    worst = min((sign * mean for mean in means), default=math.inf)
    shown = {result["label"] for result in results if result["kind"] == "published"}
    others = [entry for entry in facts["leaderboard"] if entry["model"] not in shown]
    n_better = sum(sign * entry["mean"] > worst for entry in others)
    return others[: n_better + 1]


def _score_lines(items: Items, facts: Mapping[str, Any], board: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return what the figure of scores draws of each result and published model, from the worst to the best."""
    metric = facts["metric"]
    lines: list[dict[str, Any]] = []
    for result in facts["results"]:
        few = ""
        if len(result["folds"]) < facts["n_folds"]:
            few = f" ({items('folds', folds=result['folds'])})"
        elif not result["has_all_rows"]:
            few = f" (n = {result['rows']:,})"
        values = [scores[metric["name"]] for scores in result["scores"].values()]
        ends = [result["row_error"][end] for end in ("low", "high")]
        own = {"values": values, "interval": ends if metric["name"] == "mae" and None not in ends else None}
        lines.append({**result, **own, "shown": f"{result['label']}{few}", "colour": INK})
    for entry in board:
        name, has_folds = entry["label"], None not in entry["folds"]
        values = entry["folds"] if has_folds else [entry["mean"]]
        looks = {"shown": name, "colour": MUTED, "has_folds": has_folds}
        lines.append({"label": name, "values": values, "interval": None, **looks})
    for line in lines:
        line["values"] = [value for value in line["values"] if value is not None]
    lines = [line | {"mean": statistics.fmean(line["values"])} for line in lines if line["values"]]
    lines.sort(key=lambda line: line["mean"], reverse=not metric["higher_is_better"])
    means = [line["mean"] for line in lines]
    edge = math.inf if metric["higher_is_better"] or not means else _FARTHEST * statistics.median_low(means)
    return [line | {"is_beyond": line["mean"] > edge} for line in lines]


def _score_figure(items: Items, facts: Mapping[str, Any]) -> Figure:
    board = _published_for_comparison(facts)
    lines = _score_lines(items, facts, board)

    def draw() -> Any:
        figure, axes = subplots(width=WIDE, height=0.75 + 0.22 * len(lines))
        for y, line in enumerate(lines):
            look, values = look_of(line["label"]), line["values"]
            if line["is_beyond"]:
                place = {"xy": (1, y), "xycoords": ("axes fraction", "data"), "va": "center", "ha": "right"}
                axes.annotate(f"{figures(line['mean'])} \N{RIGHTWARDS ARROW}", **place, color=look.colour, fontsize=7)
                continue
            if line["interval"]:
                axes.hlines(y, *line["interval"], color=look.colour, linewidth=1.0)
            if line["has_folds"]:
                axes.scatter(values, [y] * len(values), s=16, marker=look.marker, color=look.colour, alpha=0.55, lw=0)
            axes.scatter(line["mean"], y, s=90, marker="|", color=look.colour, linewidths=2)
        axes.set_yticks(range(len(lines)), [line["shown"] for line in lines])
        for label, line in zip(axes.get_yticklabels(), lines, strict=True):
            label.set_color(line["colour"])
        axes.set(ylim=(-0.7, len(lines) - 0.3), xlabel=f"{facts['metric']['label']}{items.unit}")
        axes.tick_params(axis="y", length=0)
        axes.yaxis.grid(True)
        axes.spines["left"].set_visible(False)
        return figure

    return items.figure("scores", draw, lines=lines[::-1], board=board)


def _show_differences(items: Items, facts: Mapping[str, Any]) -> Iterable[Item]:
    """What is compared; then the answers to both questions in words, in one figure, and in a table each."""
    contrasts = facts["differences"]["contrasts"]
    yield items.heading("differences_heading")
    yield items.text("declared")
    if not contrasts:
        return
    for question in _QUESTIONS:
        yield items.text(question, by_verdict=_by_verdict(contrasts, question))
    yield _difference_figure(items, facts["metric"]["label"], contrasts)
    for question in _QUESTIONS:
        if any(each[question]["verdict"] != "not assessable" for each in contrasts):
            yield _difference_table(items, contrasts, question)


def _by_verdict(contrasts: Iterable[Mapping[str, Any]], question: str) -> dict[str, list[Mapping[str, Any]]]:
    """Return the contrasts by their verdict, each with its answer to a question as "answer"."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for each in contrasts:
        found.setdefault(each[question]["verdict"], []).append({**each, "answer": each[question]})
    return found


def _name(contrast: Mapping[str, Any]) -> str:
    return f"{contrast['first']} – {contrast['second']}"


def _difference_figure(items: Items, metric: str, contrasts: Sequence[Mapping[str, Any]]) -> Figure:
    lines = contrasts[::-1]

    def draw() -> Any:
        figure, axes = subplots(1, 2, width=WIDE, height=0.8 + 0.24 * len(lines), sharex=True, sharey=True)
        places, margins = range(len(lines)), np.array([line["margin"] for line in lines])
        for panel, (question, title) in zip(axes, _QUESTIONS.items(), strict=True):
            panel.set_title(title)
            panel.barh(places, 2 * margins, height=1, left=-margins, color=GRID, linewidth=0)
            panel.axvline(0, color=MUTED, linewidth=0.6)
            for y, line in zip(places, lines, strict=True):
                _draw_answer(panel, y, line["difference"], line[question])
            panel.set_yticks(places, [_name(line) for line in lines])
            panel.set(ylim=(-0.5, len(lines) - 0.5))
            panel.tick_params(axis="y", length=0)
            panel.spines["left"].set_visible(False)
        figure.supxlabel(f"difference of {metric}{items.unit}", fontsize=8)
        return figure

    return items.figure("differences", draw)


def _draw_answer(panel: Any, y: int, difference: float, answer: Mapping[str, Any]) -> None:
    """Draw a difference with its interval and its verdict; hollow where the question is not assessable."""
    is_known = answer["verdict"] != "not assessable"
    face = INK if is_known else PAPER
    if answer["low"] is not None:
        panel.hlines(y, answer["low"], answer["high"], color=INK, linewidth=1.0)
    panel.scatter(difference, y, s=16, facecolor=face, edgecolor=INK, linewidth=0.9, zorder=3)
    colour = INK if is_known else MUTED
    place = {"xy": (1.02, y), "xycoords": ("axes fraction", "data"), "va": "center"}
    panel.annotate(answer["verdict"], **place, color=colour, fontsize=7, annotation_clip=False)


def _difference_table(items: Items, contrasts: Sequence[Mapping[str, Any]], question: str) -> Table:
    columns: list[Column] = [
        ("first – second", _name),
        ("verdict", f"{question}.verdict"),
        (f"Δ{items.unit}", "difference"),
        ("95 % low", f"{question}.low"),
        ("95 % high", f"{question}.high"),
        ("Δ (%)", lambda each: each["relative"] and 100 * each["relative"]),
        ("p", f"{question}.p"),
        ("p (equivalent)", f"{question}.p_equivalent"),
        (f"smallest found{items.unit}", f"{question}.detectable"),
    ]
    if question == "on_these_folds":
        columns += [("seeds", lambda each: len(each["seeds"])), (f"for {100 * TARGET:g} %", "seeds_for_target")]
    else:
        columns += [("folds", lambda each: len(each["folds"])), ("n", "rows")]
        if any(each["superiority"] for each in contrasts):
            columns += [
                ("first better (%)", lambda each: each["superiority"] and 100 * each["superiority"]["share"]),
                ("low (%)", lambda each: each["superiority"] and 100 * each["superiority"]["low"]),
                ("high (%)", lambda each: each["superiority"] and 100 * each["superiority"]["high"]),
                ("finding", lambda each: each["superiority"] and each["superiority"]["finding"]),
            ]
    return items.table(question.replace("_", "-"), contrasts, columns, digits=3)
