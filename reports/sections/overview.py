"""Section: all results side by side, beside the published leaderboard, and their differences on the same rows."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.console import figures
from benchmarks.base.workers import Progress
from benchmarks.results.leaderboard import published, rank, source
from benchmarks.results.metrics import METRIC_LABELS, mean_absolute_deviation, primary_metric
from benchmarks.results.statistics import bootstrap_mean, corrected_t_test, holm, share_tested
from benchmarks.results.store import is_official
from reports.page.section import Figure, Heading, Item, Section, Table, Text, Value
from reports.page.style import GRID, INK, MUTED, WIDE, look_of, subplots
from reports.study.study import Result, Study, fold_scores, shared_rows
from reports.study.wording import after_number, in_brackets

__all__ = ["Overview"]

# A difference is called one where p, adjusted for the number of comparisons, is below this.
_LEVEL = 0.05


class Overview(Section):
    """What was found, in one table, and how sure it is."""

    name: ClassVar[str] = "overview"
    title: ClassVar[str] = "Results"
    place: ClassVar[int] = 100

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Score every result by fold, compare every pair on the rows that both predicted."""
        metric = primary_metric(study.task.kind)
        pairs = list(itertools.combinations(study.results, 2))
        pairs = [pair for pair in pairs if pair[0].run is not None or pair[1].run is not None]
        n_rows = len({name for result in study.results for name in result.rows.ids.tolist()})
        results = []
        for i, result in enumerate(study.results):
            results.append({**_result_facts(study, result), "has_all_rows": len(result.rows) == n_rows})
            progress(i + 1, len(study.results) + len(pairs))
        differences = []
        for i, (first, second) in enumerate(pairs):
            differences.append(_difference(first, second))
            progress(len(study.results) + i + 1, len(study.results) + len(pairs))
        adjusted = holm([math.nan if pair["p"] is None else pair["p"] for pair in differences])
        for pair, p in zip(differences, adjusted, strict=True):
            pair["p_holm"] = None if math.isnan(p) else p
        return {
            "task": study.task.name,
            "unit": study.task.unit,
            "kind": study.task.kind,
            "split": study.task.split,
            "n_folds": study.n_folds,
            "metric": {"name": metric.name, "label": metric.label, "higher_is_better": metric.higher_is_better},
            "mean_absolute_deviation": _deviation(study),
            "results": results,
            "differences": differences,
            "leaderboard": _leaderboard(study),
            "source": source() if study.task.is_official else None,
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Words first, then the tables."""
        yield Text("\n\n".join(_words(facts)))
        yield _result_table(facts)
        if len(facts["results"]) > 1 or facts["leaderboard"]:
            yield _score_figure(facts)
        yield _cost_table(facts)
        if facts["leaderboard"]:
            yield _leaderboard_table(facts)
        if facts["differences"]:
            yield Heading("Differences on the same rows")
            yield Text("\n\n".join(_difference_words(facts)))
            yield _difference_table(facts)


def _result_facts(study: Study, result: Result) -> dict[str, Any]:
    scores = fold_scores(result, study.task.kind)
    columns = {name: [scores[fold][name] for fold in scores] for name in next(iter(scores.values()))}
    interval = bootstrap_mean(result.rows.error)
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
    if study.task.kind != "regression":
        return None
    target = max(study.results, key=lambda result: len(result.rows)).rows.target
    return mean_absolute_deviation(target)


def _leaderboard(study: Study) -> list[dict[str, Any]]:
    if not study.task.is_official:
        return []
    entries: list[dict[str, Any]] = [
        {"model": entry.model, "mean": entry.mean, "std": entry.std, "folds": list(entry.folds)}
        for entry in published(study.task.name)
    ]
    return entries


def _difference(first: Result, second: Result) -> dict[str, Any]:
    """Compare the errors of two results, row by row."""
    at, other = shared_rows(first.rows, second.rows)
    facts: dict[str, Any] = {"first": first.label, "second": second.label, "rows": len(at), "p": None}
    if not len(at):
        return facts
    a, b = first.rows.take(at), second.rows.take(other)
    difference = a.error - b.error
    interval = bootstrap_mean(difference)
    tested_alike = first.has_folds and second.has_folds and np.array_equal(a.fold, b.fold)
    folds = np.unique(a.fold).tolist() if tested_alike else []
    by_fold = [float(difference[a.fold == fold].mean()) for fold in folds]
    facts |= {
        "mean": float(difference.mean()),
        "low": interval.low,
        "high": interval.high,
        "share_better": _share(difference),
        "folds": folds,
        "by_fold": by_fold,
        "error_correlation": _correlation(a.error, b.error),
    }
    if len(folds) > 1:
        ratio = share_tested(
            record
            for result in (first, second)
            for training, record in result.records.items()
            if training.fold in folds
        )
        p = corrected_t_test(by_fold, ratio)
        facts |= {"p": None if math.isnan(p) else p, "test_to_train": ratio}
    return facts


def _share(difference: NDArray[np.float64]) -> float:
    """Share of rows on which the first has the smaller error; ties count half."""
    return float(np.mean(difference < 0) + np.mean(difference == 0) / 2)


def _correlation(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return None
    from scipy.stats import spearmanr

    return float(spearmanr(a, b).statistic)


def _words(facts: Mapping[str, Any]) -> Iterator[str]:
    metric, unit = facts["metric"], after_number(facts["unit"])
    name = metric["name"]
    ours = [result for result in facts["results"] if result["kind"] == "run"]
    upwards = metric["higher_is_better"]
    best = min(ours, key=lambda result: _sortable(result["mean"][name], higher_is_better=upwards))
    lacking = [result for result in ours if not result["has_all_rows"]]
    if len(ours) == 1:
        yield f"{best['label']} reaches {_score(best, facts)}."
    elif not lacking:
        direction = "highest" if upwards else "lowest"
        yield f"Of {len(ours)} runs {best['label']} has the {direction} {metric['label']}: {_score(best, facts)}."
    else:
        told = [f"{result['label']} ({_folds(result['folds'])}, n = {result['rows']:,})" for result in lacking]
        yield (
            "Not all runs have the same test rows, and rows differ in difficulty: means over different rows must not "
            f"be compared. Rows are missing from {', '.join(told)}. The differences on the same rows below can be read."
        )
    if facts["mean_absolute_deviation"]:
        yield (
            "A model that knows only the mean of the targets has an MAE of "
            f"{figures(facts['mean_absolute_deviation'])}{unit} (mean absolute deviation of the test rows)."
        )
    yield from _caveats(ours, facts)
    official = [result for result in ours if result["is_official"] and result["mean"][name] is not None]
    if official and facts["leaderboard"]:
        places = [f"{result['label']} {rank(facts['task'], result['mean'][name])}" for result in official]
        yield f"Place beside the {len(facts['leaderboard'])} published models: {', '.join(places)}."


def _caveats(ours: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> Iterator[str]:
    """What a reader must know before quoting a number."""
    no_place = ", with no place on the leaderboard" if facts["leaderboard"] else ""
    for coverage, labels in _grouped(ours, "coverage"):
        if coverage is not None and coverage < 1:
            yield (
                f"{labels} ran on {100 * coverage:.1f} % of the official rows (partial data). A score on them is not "
                f"one of the task{no_place}."
            )
    for limit, labels in _grouped(ours, "limit"):
        if limit is not None:
            yield (
                f"{labels} had at most {limit:,} training rows in each fold (--limit). Such a score says what little "
                f"data give{no_place}."
            )
    if facts["split"] != "folds":
        yield f"The rows were split once ({facts['split']}): there is no spread over folds."
    for result in ours:
        seeds = {len(seeds) for seeds in result["seeds"].values()}
        if len(seeds) > 1:
            yield f"{result['label']} has {min(seeds)} to {max(seeds)} seeds per fold: some trainings are not finished."


def _grouped(results: Sequence[Mapping[str, Any]], key: str) -> Iterator[tuple[Any, str]]:
    """Yield each value of a fact with the labels of the results that have it."""
    for value in dict.fromkeys(result[key] for result in results):
        yield value, ", ".join(result["label"] for result in results if result[key] == value)


def _score(result: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    metric = facts["metric"]
    mean, std = result["mean"][metric["name"]], result["std"].get(metric["name"])
    value = f"{metric['label']} {figures(mean)}" if mean is not None else f"no {metric['label']}"
    spread = f" ± {figures(std)}" if std is not None else ""
    seeds = {len(seeds) for seeds in result["seeds"].values()} - {0}
    n_seeds = "–".join(str(n) for n in sorted({min(seeds), max(seeds)})) if seeds else ""
    told = f", {n_seeds} {'seed' if n_seeds == '1' else 'seeds'}" if seeds else ""
    over = "standard deviation over " if spread else ""
    return (
        f"{value}{spread}{after_number(facts['unit'])} ({over}{_folds(result['folds'])}{told}, n = {result['rows']:,})"
    )


def _folds(folds: Sequence[int]) -> str:
    return f"fold {folds[0]} alone" if len(folds) == 1 else f"{len(folds)} folds"


def _result_table(facts: Mapping[str, Any]) -> Table:
    metric, unit = facts["metric"], in_brackets(facts["unit"])
    name = metric["name"]
    partial = any(result["coverage"] not in {None, 1} for result in facts["results"])
    others = [key for key in METRIC_LABELS if key in facts["results"][0]["mean"] and key != name]
    best = sorted(
        facts["results"],
        key=lambda result: (
            not result["has_all_rows"],
            _sortable(result["mean"][name], higher_is_better=metric["higher_is_better"]),
        ),
    )
    rows: list[list[Value]] = []
    for result in best:
        seeds = sorted({len(seeds) for seeds in result["seeds"].values()})
        n_seeds: Value = "–".join(map(str, seeds)) if len(seeds) > 1 else (seeds[0] or None)
        rows.append(
            [
                result["label"],
                result["mean"][name],
                result["std"].get(name),
                *([] if facts["kind"] != "regression" else [result["row_error"]["low"], result["row_error"]["high"]]),
                *(result["mean"].get(key) for key in others),
                result["rows"],
                len(result["folds"]) if result["has_folds"] else None,
                n_seeds,
                *([100 * result["coverage"] if result["coverage"] is not None else None] if partial else []),
            ]
        )
    interval = [] if facts["kind"] != "regression" else ["95 % low", "95 % high"]
    with_unit = {"rmse", "max_error"}
    return Table(
        name="results",
        columns=[
            "model",
            f"{metric['label']}{unit if facts['kind'] == 'regression' else ''}",
            "std",
            *interval,
            *(f"{METRIC_LABELS[key]}{unit if key in with_unit else ''}" for key in others),
            "n",
            "folds",
            "seeds",
            *(["coverage (%)"] if partial else []),
        ],
        rows=rows,
        caption=f"Results on the test rows of {facts['task']}{_order(best)}.",
        method=(
            "Mean and standard deviation (ddof 0) over folds; a fold's score is the mean over its seeds. "
            + ("The interval is of the MAE over all test rows: bootstrap, 95 %. " if interval else "")
            + "n: test rows; seeds: per fold."
            + (" Coverage: share of the official rows in the data." if partial else "")
        ),
    )


def _order(results: Sequence[Mapping[str, Any]]) -> str:
    """Say in which order the results stand in the table."""
    if len(results) == 1:
        return ""
    if not results[0]["has_all_rows"]:
        return "; none has all the rows that others have, and their means must not be compared"
    mixed = "; below those with all rows stand those with fewer, whose means must not be compared with theirs"
    return f", best first{'' if results[-1]['has_all_rows'] else mixed}"


def _sortable(value: float | None, *, higher_is_better: bool) -> float:
    return math.inf if value is None else -value if higher_is_better else value


def _cost_table(facts: Mapping[str, Any]) -> Table:
    ours = [result for result in facts["results"] if result["kind"] == "run"]
    rows: list[list[Value]] = [
        [
            result["label"],
            result["parameters"],
            f"{result['epochs'][0]}–{result['epochs'][1]}" if len(set(result["epochs"])) > 1 else result["epochs"][0],
            result["seconds_per_epoch"],
            result["hours"],
            result["memory_gib"],
            ", ".join(result["devices"]),
            ", ".join(map(str, result["threads"])),
        ]
        for result in ours
    ]
    return Table(
        name="cost",
        columns=["model", "parameters", "epochs", "s per epoch", "hours", "memory (GiB)", "device", "threads"],
        rows=rows,
        digits=3,
        caption="What the runs took.",
        method=(
            "Seconds per epoch: wall time of a training over its epochs, median over folds and seeds, validation and "
            "test included; trainings that shared a machine slowed each other down. Hours: sum of all trainings. "
            "Memory: largest peak, on the GPU where there was one."
        ),
    )


def _leaderboard_table(facts: Mapping[str, Any]) -> Table:
    metric = facts["metric"]
    name = metric["name"]
    entries = [(entry["model"], entry["mean"], entry["std"], True) for entry in facts["leaderboard"]]
    ours = [
        result
        for result in facts["results"]
        if result["kind"] == "run" and result["is_official"] and result["mean"][name] is not None
    ]
    entries += [
        (f"SEN ({result['label']}), this report", result["mean"][name], result["std"][name], False) for result in ours
    ]
    entries.sort(key=lambda entry: entry[1], reverse=metric["higher_is_better"])
    places = {entry["mean"]: i for i, entry in reversed(list(enumerate(facts["leaderboard"], start=1)))}
    rows: list[list[Value]] = []
    for model, mean, std, is_published in entries:
        place = places[mean] if is_published else rank(facts["task"], mean)
        rows.append([place, model, mean, std])
    shown = [result["label"] for result in ours]
    left_out = [r["label"] for r in facts["results"] if r["kind"] == "run" and r["label"] not in shown]
    lacking = f" Not in it, as not complete and official: {', '.join(left_out)}." if left_out else ""
    return Table(
        name="leaderboard",
        columns=["place", "model", f"{metric['label']}{in_brackets(facts['unit'])}", "std"],
        rows=rows,
        caption=f"The published leaderboard of {facts['task']}, five folds.{lacking}",
        strong=[i for i, entry in enumerate(entries) if not entry[3]],
        method=f"{facts['source']} The place of a run is counted among the published models alone.",
    )


def _published_beside(facts: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the published models without predictions here, best first, down to the first that is worse than all."""
    results = facts["results"]
    # On a part of the rows nothing published can be read beside.
    if all(result["coverage"] != 1 for result in results):
        return []
    sign = 1 if facts["metric"]["higher_is_better"] else -1
    means = [mean for result in results if (mean := result["mean"][facts["metric"]["name"]]) is not None]
    worst = min((sign * mean for mean in means), default=math.inf)
    shown = {result["label"] for result in results if result["kind"] == "published"}
    others = [entry for entry in facts["leaderboard"] if entry["model"] not in shown]
    n_better = sum(sign * entry["mean"] > worst for entry in others)
    return others[: n_better + 1]


def _score_figure(facts: Mapping[str, Any]) -> Figure:
    metric = facts["metric"]
    name = metric["name"]
    results = facts["results"]
    bars = [
        {**result, "values": {int(fold): scores[name] for fold, scores in result["scores"].items()}}
        for result in results
    ]
    board = _published_beside(facts)
    bars += [{"label": entry["model"], "values": dict(enumerate(entry["folds"]))} for entry in board]
    for bar in bars:
        bar["shown"] = bar["label"]
        bar["values"] = {fold: value for fold, value in bar["values"].items() if value is not None}
        if "mean" in bar and len(bar["folds"]) < facts["n_folds"]:
            bar["shown"] += f" ({_folds(bar['folds'])})"
        elif "mean" in bar and not bar["has_all_rows"]:
            bar["shown"] += f" (n = {bar['rows']:,})"
    bars = [bar for bar in bars if bar["values"]]
    bars.sort(key=lambda bar: statistics.fmean(bar["values"].values()), reverse=not metric["higher_is_better"])

    def draw() -> Any:
        figure, axes = subplots(width=WIDE, height=0.75 + 0.22 * len(bars))
        for y, bar in enumerate(bars):
            values, look = list(bar["values"].values()), look_of(bar["label"])
            axes.axhline(y, color=GRID, linewidth=0.5, zorder=0)
            if bar.get("has_folds", True):
                axes.scatter(values, [y] * len(values), s=16, marker=look.marker, color=look.colour, alpha=0.55, lw=0)
            axes.scatter(statistics.fmean(values), y, s=90, marker="|", color=look.colour, linewidths=2)
        axes.set_yticks(range(len(bars)), [bar["shown"] for bar in bars])
        for label, bar in zip(axes.get_yticklabels(), bars, strict=True):
            label.set_color(INK if "mean" in bar else MUTED)
        axes.set_ylim(-0.7, len(bars) - 0.3)
        axes.set_xlabel(f"{metric['label']}{in_brackets(facts['unit'])}")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        return figure

    beside = ""
    if board:
        beside = " Grey: published models, from the leaderboard, down to the first that is worse than all results here."
    means = "; ".join(f"{bar['shown']} {figures(statistics.fmean(bar['values'].values()))}" for bar in reversed(bars))
    return Figure(
        name="scores",
        draw=draw,
        caption=f"{metric['label']} of every fold (points) and their mean (bars), best at the top.{beside}",
        method="A fold's score is the mean over its seeds; a model with fewer rows stands at the mean of these, "
        "and one whose file names no folds, or not those of the runs, has its mean alone.",
        alt=f"Dot plot of {metric['label']}{in_brackets(facts['unit'])} by fold. Means: {means}.",
    )


def _difference_words(facts: Mapping[str, Any]) -> Iterator[str]:
    unit = after_number(facts["unit"])
    same, apart = [], []
    for pair in facts["differences"]:
        names = f"{pair['first']} and {pair['second']}"
        if not pair["rows"]:
            apart.append(names)
        elif pair["low"] is None or pair["low"] <= 0 <= pair["high"]:
            interval = "one row" if pair["low"] is None else f"{figures(pair['low'], 3)} to {figures(pair['high'], 3)}"
            same.append(f"{names} ({figures(pair['mean'], 3)}{unit}, {interval})")
        else:
            better, worse = (pair["first"], pair["second"]) if pair["mean"] < 0 else (pair["second"], pair["first"])
            low, high = sorted(abs(pair[end]) for end in ("low", "high"))
            p = pair["p_holm"]
            folds = "" if p is None else f"; over {len(pair['folds'])} folds adjusted p = {figures(p, 2)}"
            sure = "" if p is None or p < _LEVEL else ", so that for other training rows they are not told apart"
            alone = "; without several folds this says nothing of other training rows" if p is None else ""
            yield (
                f"{better} errs less than {worse} by {figures(abs(pair['mean']), 3)}{unit} on {pair['rows']:,} rows "
                f"(95 % {figures(low, 3)} to {figures(high, 3)}{folds}{sure}){alone}."
            )
    if same:
        yield f"Not told apart, as the interval of the difference includes zero: {'; '.join(same)}."
    if apart:
        yield f"Not to be compared, as they predicted no row in common: {'; '.join(apart)}."


def _compared(facts: Mapping[str, Any]) -> str:
    """Say what of a row is compared."""
    if facts["kind"] == "regression":
        return "Compared: the absolute error of each row, its mean over seeds."
    return (
        "Compared: |label – probability| of each row, its mean over seeds, and not the balanced accuracy by which "
        "models are ranked and which sen-bench ablate compares; the two can disagree."
    )


def _family(differences: Sequence[Mapping[str, Any]]) -> str:
    n = sum(pair["p"] is not None for pair in differences)
    return f"all {n:,} pairs of this table that have a p" if n != 1 else "the one pair of this table that has a p"


def _difference_table(facts: Mapping[str, Any]) -> Table:
    rows: list[list[Value]] = [
        [
            f"{pair['first']} – {pair['second']}",
            pair.get("mean"),
            pair.get("low"),
            pair.get("high"),
            100 * pair["share_better"] if "share_better" in pair else None,
            pair.get("error_correlation"),
            pair["p"],
            pair["p_holm"],
            pair["rows"],
            len(pair.get("folds", ())) or None,
        ]
        for pair in facts["differences"]
    ]
    return Table(
        name="differences",
        columns=[
            "first – second",
            f"Δ MAE{in_brackets(facts['unit'])}" if facts["kind"] == "regression" else "Δ |error|",
            "95 % low",
            "95 % high",
            "first better (%)",
            "correlation",
            "p",
            "p (Holm)",
            "n",
            "folds",
        ],
        rows=rows,
        digits=3,
        caption="Paired differences of absolute errors, on the rows that both predicted; below zero favours the first.",
        method=(
            f"{_compared(facts)} Interval: bootstrap of the rows. p: corrected resampled t-test over folds (Nadeau and "
            "Bengio 2003, 10.1023/A:1024068626366); none where a file names no folds, or not those of the runs. "
            f"p (Holm): adjusted for {_family(facts['differences'])}; sen-bench ablate adjusts for the comparisons "
            "with its best variant and for those with capsule, so that its numbers are others. First "
            "better: share of rows. Correlation: Spearman, of the two errors."
        ),
    )
