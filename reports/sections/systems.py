"""Section: errors by crystal system and space group (paper Fig. 4d), and whether high symmetry is harder."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import numpy as np

from benchmarks.base.workers import Progress
from benchmarks.results.statistics import FEWEST_OF_A_CLASS
from reports.auditing.breakdown import SMALL, break_down, compare, describe, describe_comparison
from reports.page.items import Column, Items, interval_columns
from reports.page.section import Figure, Item, Section, Table, Text
from reports.page.style import INK, WIDE, legend, look_of, points, subplots
from reports.study.differences import compare_results
from reports.study.row_facts import crystal_systems
from reports.study.study import Result, Study, shared_rows
from sen.crystal import CRYSTAL_SYSTEMS

__all__ = ["Systems"]

_MOST_GROUPS = 20
# Quantiles enough to draw a violin, and few enough for report.json.
_QUANTILES = 101


class Systems(Section):
    """Errors by crystal system, absolute and relative to the spread of its targets."""

    name: ClassVar[str] = "systems"
    title: ClassVar[str] = "Crystal systems"
    place: ClassVar[int] = 500

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Break down every result, and compare pairs on the same rows."""
        table = study.crystals(progress)
        n_steps = len(study.results) + 1
        results = []
        for i, result in enumerate(study.results):
            rows = result.rows
            groups = table.space_group[study.positions(rows.ids.tolist())]
            results.append(
                {
                    "label": result.label,
                    **break_down(study.task.kind, rows.target, rows.prediction, groups, rows.loss),
                    "folds": result.folds,
                }
            )
            progress(i + 1, n_steps)
        violins = [_violin(study, one, other) for one, other in _pairs(study)]
        progress(n_steps, n_steps)
        return {
            "unit": study.task.unit,
            "symprec": study.symprec,
            "kind": study.task.kind,
            "best": _best(study).label,
            "results": results,
            "violins": violins,
        }

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """A summary, errors by system, violins of pairs, tables."""
        items = Items(__name__, {**facts, "small": SMALL, "fewest_of_a_class": FEWEST_OF_A_CLASS})
        best = next(result for result in facts["results"] if result["label"] == facts["best"])
        yield items.text(
            "summary", words=describe(best, facts["unit"], best["label"]), best_systems=_best_systems(facts)
        )
        yield _system_figure(items, facts)
        yield _system_table(items, facts)
        for number, pair in enumerate(facts["violins"], start=1):
            yield from _show_pair(items, facts, pair, number)
        yield items.heading("symmetry_heading")
        yield items.text("symmetry")
        yield _symmetry_table(items, facts)
        yield _group_table(items, facts, best)


def _best(study: Study) -> Result:
    """The run with the smallest error among those with most rows."""
    most = max(len(run.rows) for run in study.runs)
    return min((run for run in study.runs if len(run.rows) == most), key=lambda run: float(run.rows.error.mean()))


def _pairs(study: Study) -> Iterator[tuple[Result, Result]]:
    """The pair that the user names; or the best run against every published result; or against `mlp`, or the worst run.

    Where `mlp` is the best, `capsule` against it, if it is there.
    """
    best = _best(study)
    others = [run for run in study.runs if run is not best]
    if study.pair:
        yield study.pair
    elif study.published:
        yield from ((best, other) for other in study.published)
    elif others:
        blind, capsule = ([run for run in others if run.variant == name] for name in ("mlp", "capsule"))
        if best.variant == "mlp" and capsule:
            yield capsule[0], best
        else:
            yield best, (blind or sorted(others, key=lambda run: float(run.rows.error.mean())))[-1]


def _violin(study: Study, one: Result, other: Result) -> dict[str, Any]:
    at, there = shared_rows(one.rows, other.rows)
    sides = {"one": {"label": one.label}, "other": {"label": other.label}, "rows": len(at)}
    if not len(at):
        return sides
    first, second = one.rows.take(at), other.rows.take(there)
    groups = study.crystals().space_group[study.positions(first.ids.tolist())]
    losses = (first.loss, second.loss)
    comparison = compare(study.task.kind, first.target, first.prediction, second.prediction, groups, losses)
    systems = crystal_systems(groups)
    levels = np.linspace(0, 1, _QUANTILES)
    errors = {
        str(entry["group"]): [
            np.quantile(part.error[systems == entry["group"]], levels).tolist() for part in (first, second)
        ]
        for entry in comparison["systems"]
    }
    answers = [each.on_new_data for each in compare_results(study, [(one, other)])]
    comparison["p_over_folds"] = next((answer.p for answer in answers), None)
    return {**sides, "comparison": comparison, "quantiles": errors}


def _best_systems(facts: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return which system has the lowest MAE, or highest accuracy, with the labels of the results for which it does."""
    key, best = ("mae", min) if facts["kind"] == "regression" else ("accuracy", max)
    labels: dict[str, list[str]] = {}
    for result in facts["results"]:
        enough = [system for system in result["systems"] if not system["is_small"] and system["group"] != "unknown"]
        if enough and len(facts["results"]) > 1:
            labels.setdefault(best(enough, key=lambda system: system[key])["group"], []).append(result["label"])
    return labels


def _names(facts: Mapping[str, Any]) -> list[str]:
    """Crystal systems that any result has, in order."""
    found = {system["group"] for result in facts["results"] for system in result["systems"]}
    return [name for name in (*CRYSTAL_SYSTEMS[1:], "unknown") if name in found]


def _system_figure(items: Items, facts: Mapping[str, Any]) -> Figure:
    results, names = facts["results"], _names(facts)
    systems = [system for result in results for system in result["systems"]]
    if facts["kind"] == "regression":
        scores = {"mae": f"MAE{items.unit}", "relative": "MAE / MAD"}
    else:
        scores = {"accuracy": "accuracy", "balanced_accuracy": "balanced accuracy"}
        scores = {key: label for key, label in scores.items() if any(system[key] is not None for system in systems)}
    most = {name: max(system["n"] for system in systems if system["group"] == name) for name in names}

    def draw() -> Any:
        figure, axes = subplots(1, len(scores), width=WIDE, height=3.1, squeeze=False)
        step = 0.72 / len(results)
        for panel, (key, label) in zip(axes.flat, scores.items(), strict=True):
            edge = 1.08 * _top(systems, key) if facts["kind"] == "regression" else 1.0
            for i, result in enumerate(results):
                shown = [system for system in result["systems"] if system[key] is not None]
                x = [names.index(system["group"]) + (i - (len(results) - 1) / 2) * step for system in shown]
                intervals, hollow = ([system[name] for system in shown] for name in (f"{key}_interval", "is_small"))
                values = [min(system[key], edge) for system in shown]
                points(panel, x, values, intervals, result["label"], hollow=hollow)
            panel.set_xticks(range(len(names)), [f"{name}\n{most[name]:,}" for name in names], rotation=45, ha="right")
            panel.set_ylabel(label)
            if facts["kind"] == "regression":
                panel.set_ylim(0, edge)
            panel.yaxis.grid(True)
        legend(figure, *axes[0, 0].get_legend_handles_labels())
        return figure

    key, label = next(iter(scores.items()))
    return items.figure("systems", draw, key=key, label=label)


def _top(systems: Iterable[Mapping[str, Any]], key: str) -> float:
    """The highest end of an interval of systems that have enough rows; or the highest value, where none has."""
    known = [system for system in systems if system[key] is not None]
    ends = [system[f"{key}_interval"][1] or system[key] for system in known if not system["is_small"]]
    return max(ends or [system[key] for system in known], default=1.0) or 1.0


def _system_table(items: Items, facts: Mapping[str, Any]) -> Table:
    groups = [
        {"model": result["label"], **system}
        for name in _names(facts)
        for result in facts["results"]
        for system in result["systems"]
        if system["group"] == name
    ]
    overall = [{"model": result["label"], **result["overall"]} for result in facts["results"]]
    columns = [("system", "group"), ("model", "model"), ("n", "n"), *_score_columns(items, facts)]
    strong = range(len(groups), len(groups) + len(overall))
    return items.table("systems", [*groups, *overall], columns, digits=3, strong=strong)


def _score_columns(items: Items, facts: Mapping[str, Any]) -> list[Column]:
    if facts["kind"] == "regression":
        return [
            (f"MAE{items.unit}", "mae"),
            *interval_columns("mae_interval", "MAE low", "MAE high"),
            (f"MAD{items.unit}", "mad"),
            ("MAE/MAD", "relative"),
            *interval_columns("relative_interval", "ratio low", "ratio high"),
            (f"bias{items.unit}", "bias"),
        ]
    return [
        ("accuracy", "accuracy"),
        *interval_columns("accuracy_interval", "acc. low", "acc. high"),
        ("balanced accuracy", "balanced_accuracy"),
        *interval_columns("balanced_accuracy_interval", "bal. low", "bal. high"),
        ("share true", "positive"),
    ]


def _show_pair(items: Items, facts: Mapping[str, Any], pair: Mapping[str, Any], number: int) -> Iterator[Item]:
    names = {"one": pair["one"]["label"], "other": pair["other"]["label"]}
    yield items.heading("pair_heading", **names)
    if not pair["rows"]:
        yield items.text("nothing_shared", **names)
        return
    yield Text(" ".join(describe_comparison(pair["comparison"], **names, unit=facts["unit"])))
    if facts["kind"] == "regression":
        yield _violin_figure(items, pair, number)
    what = f"MAE{items.unit}" if facts["kind"] == "regression" else "share wrong"
    columns: list[Column] = [
        ("system", "group"),
        ("n", "n"),
        (f"{names['one']}: {what}", "one"),
        (f"{names['other']}: {what}", "other"),
        ("difference", "difference"),
        *interval_columns("difference_interval"),
    ]
    entries = [*pair["comparison"]["systems"], pair["comparison"]["overall"]]
    yield items.table("comparison", entries, columns, digits=3, strong=[len(entries) - 1], number=number, **names)


def _violin_figure(items: Items, pair: Mapping[str, Any], number: int) -> Figure:
    systems = [entry for entry in pair["comparison"]["systems"] if entry["group"] in pair["quantiles"]]
    one, other = pair["one"]["label"], pair["other"]["label"]

    def draw() -> Any:
        import pandas as pd
        import seaborn as sns
        from matplotlib.patches import Patch

        figure, axes = subplots(width=WIDE, height=2.9)
        errors = pd.DataFrame(_samples(pair, systems), columns=["system", "model", "error", "has_density"])
        style: dict[str, Any] = {
            "x": "system",
            "y": "error",
            "hue": "model",
            "hue_order": [one, other],
            "ax": axes,
            "order": [entry["group"] for entry in systems],
            "palette": {label: look_of(label).colour for label in (one, other)},
            "log_scale": True,
            "legend": False,
        }
        large, small = errors[errors["has_density"]], errors[~errors["has_density"]]
        if len(large):
            density = {"density_norm": "width", "width": 0.84, "cut": 0}
            look = {"saturation": 1, "alpha": 0.55, "linewidth": 0, "inner_kws": {"color": INK, "linewidth": 0.8}}
            sns.violinplot(large, split=True, inner="quart", **density, **look, **style)
        if len(small):
            sns.stripplot(small, dodge=True, jitter=False, size=2.5, **style)
        axes.set_xticks(range(len(systems)), [f"{entry['group']}\n{entry['n']:,}" for entry in systems])
        axes.set(xlabel="", ylabel=f"absolute error{items.unit}")
        axes.xaxis.grid(True)
        handles = [Patch(color=look_of(label).colour, alpha=0.55) for label in (one, other)]
        legend(figure, handles, [f"{one} (left)", f"{other} (right)"])
        return figure

    return items.figure("violins", draw, number=number, one=one, other=other, rows=pair["rows"], systems=systems)


def _samples(pair: Mapping[str, Any], systems: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, float, bool]]:
    """Yield system, model and error of what is drawn, and whether by a density: of few rows points are drawn."""
    # Errors below a thousandth of the median are drawn there: a logarithm makes much of nothing.
    medians = [side[len(side) // 2] for sides in pair["quantiles"].values() for side in sides]
    floor = max(1e-3 * float(np.median(medians)), 1e-12)
    for entry in systems:
        for side, quantiles in zip(("one", "other"), pair["quantiles"][entry["group"]], strict=True):
            errors = np.maximum(quantiles, floor)
            has_density = entry["n"] >= SMALL and bool(np.ptp(errors) > 0)
            if not has_density:
                errors = np.quantile(errors, np.linspace(0, 1, entry["n"]))
            yield from ((entry["group"], pair[side]["label"], error, has_density) for error in errors.tolist())


def _symmetry_table(items: Items, facts: Mapping[str, Any]) -> Table:
    common = [(result["symmetry"] or {}).get("without_most_common") for result in facts["results"]]
    known = next((entry for entry in common if entry is not None), None)
    columns: list[Column] = [
        ("model", "label"),
        ("correlation", "symmetry.loss.value"),
        *interval_columns("symmetry.loss.interval"),
        ("n", "symmetry.loss.n"),
    ]
    if known is not None:
        rest = "symmetry.without_most_common.rest"
        columns += [
            ("without most common", f"{rest}.value"),
            *interval_columns(f"{rest}.interval"),
            ("n of these", f"{rest}.n"),
        ]
    return items.table("symmetry", facts["results"], columns, digits=3, most_common=known and known["value"])


def _group_table(items: Items, facts: Mapping[str, Any], best: Mapping[str, Any]) -> Table:
    groups = sorted(best["space_groups"], key=lambda group: -group["n"])[:_MOST_GROUPS]
    columns: list[Column] = [
        ("space group", lambda group: str(group["group"])),
        ("symbol", "symbol"),
        ("system", "system"),
        ("n", "n"),
        *_score_columns(items, facts),
    ]
    values = {"label": best["label"], "shown": len(groups), "left": len(best["space_groups"]) - len(groups)}
    return items.table("space-groups", sorted(groups, key=lambda group: group["group"]), columns, digits=3, **values)
