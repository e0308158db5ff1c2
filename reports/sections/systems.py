"""Section: errors by crystal system and space group (paper Fig. 4d): is high symmetry harder?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from benchmarks.base.console import figures
from benchmarks.base.workers import Progress
from benchmarks.results.statistics import FEWEST_OF_A_CLASS
from reports.audit.breakdown import SMALL, break_down, compare, describe, describe_comparison
from reports.page.section import Figure, Heading, Item, Section, Table, Text, Value
from reports.page.style import GRID, INK, WIDE, legend, look_of, subplots
from reports.study.row_facts import crystal_systems
from reports.study.study import Result, Study, shared_rows
from reports.study.wording import in_brackets

__all__ = ["Systems"]

_MOST_GROUPS = 20
# Quantiles enough to draw a violin, and few enough for report.json.
_QUANTILES = 101


class Systems(Section):
    """Errors by crystal system, absolute and relative to the system's own spread."""

    name: ClassVar[str] = "systems"
    title: ClassVar[str] = "Crystal systems"
    place: ClassVar[int] = 500

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Break down every result, and compare two on the same rows."""
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
        facts: dict[str, Any] = {
            "unit": study.task.unit,
            "kind": study.task.kind,
            "best": _best(study).label,
            "results": results,
            "violins": [],
        }
        for one, other in _pairs(study):
            facts["violins"].append(_violin(study, one, other))
        progress(n_steps, n_steps)
        return facts

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Words, the figure by system, violins, tables."""
        best = next(result for result in facts["results"] if result["label"] == facts["best"])
        yield Text("\n\n".join(_words(facts, best)))
        yield _system_figure(facts)
        yield _system_table(facts)
        yield from _violin_blocks(facts)
        yield Heading("Does error go with symmetry?")
        yield Text(
            "Rank correlation between the error of a row and the number of operations of its point group: above zero, "
            "more symmetric crystals have larger errors. That high symmetry is harder, as the paper's premise has it, "
            "would show as positive numbers here."
        )
        yield _symmetry_table(facts)
        yield _group_table(best, facts)


def _best(study: Study) -> Result:
    """The run with the smallest error among those with most rows."""
    most = max(len(run.rows) for run in study.runs)
    return min((run for run in study.runs if len(run.rows) == most), key=lambda run: float(run.rows.error.mean()))


def _pairs(study: Study) -> Iterator[tuple[Result, Result]]:
    """The best run against every published result; or else against `mlp`, or the worst run.

    Where `mlp` is the best, `capsule` against it, if it is there.
    """
    best = _best(study)
    others = [run for run in study.runs if run is not best]
    if study.published:
        yield from ((best, other) for other in study.published)
    elif others:
        blind, capsule = ([run for run in others if run.block_name == name] for name in ("mlp", "capsule"))
        if best.block_name == "mlp" and capsule:
            yield capsule[0], best
        else:
            yield best, (blind or sorted(others, key=lambda run: float(run.rows.error.mean())))[-1]


def _violin(study: Study, one: Result, other: Result) -> dict[str, Any]:
    at, there = shared_rows(one.rows, other.rows)
    if not len(at):
        return {"one": {"label": one.label}, "other": {"label": other.label}, "rows": 0}
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
    sides = {"one": {"label": one.label}, "other": {"label": other.label}}
    return {**sides, "rows": len(at), "comparison": comparison, "quantiles": errors}


def _words(facts: Mapping[str, Any], best: Mapping[str, Any]) -> Iterator[str]:
    yield " ".join(describe(best, facts["unit"], best["label"]))
    if len(facts["results"]) > 1:
        key, lowest = ("mae", min) if facts["kind"] == "regression" else ("accuracy", max)
        names: dict[str, list[str]] = {}
        for result in facts["results"]:
            enough = [system for system in result["systems"] if not system["is_small"] and system["group"] != "unknown"]
            if enough:
                name = lowest(enough, key=lambda system: system[key])["group"]
                names.setdefault(name, []).append(result["label"])
        if names:
            which = "lowest MAE" if key == "mae" else "highest accuracy"
            told = "; ".join(f"{name} for {', '.join(labels)}" for name, labels in names.items())
            yield f"System with the {which} among those of {SMALL} rows or more: {told}."


def _names(facts: Mapping[str, Any]) -> list[str]:
    """Crystal systems that any result has, in order."""
    order = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic", "unknown")
    there = {system["group"] for result in facts["results"] for system in result["systems"]}
    return [name for name in order if name in there]


def _system_figure(facts: Mapping[str, Any]) -> Figure:
    results, names = facts["results"], _names(facts)
    regression = facts["kind"] == "regression"
    unit = in_brackets(facts["unit"])
    panels = [("mae", f"MAE{unit}"), ("relative", "MAE / MAD")] if regression else [("accuracy", "accuracy")]
    if not regression and any(s["balanced_accuracy"] is not None for r in results for s in r["systems"]):
        panels.append(("balanced_accuracy", "balanced accuracy"))
    most = {name: max(s["n"] for r in results for s in r["systems"] if s["group"] == name) for name in names}

    def draw() -> Any:
        figure, axes = subplots(1, len(panels), width=WIDE, height=3.1, squeeze=False)
        step = 0.72 / len(results)
        for panel, (key, label) in zip(axes.flat, panels, strict=True):
            for i, result in enumerate(results):
                systems = {system["group"]: system for system in result["systems"]}
                for j, name in enumerate(names):
                    system = systems.get(name)
                    if system is None or system[key] is None:
                        continue
                    x = j + (i - (len(results) - 1) / 2) * step
                    low, high = system[f"{key}_interval"]
                    if low is not None and high is not None:
                        panel.plot(
                            (x, x),
                            (low, high),
                            color=look_of(result["label"]).colour,
                            linewidth=1.0,
                            solid_capstyle="butt",
                        )
                    face = "none" if system["is_small"] else look_of(result["label"]).colour
                    panel.scatter(
                        x,
                        system[key],
                        s=16,
                        marker=look_of(result["label"]).marker,
                        facecolor=face,
                        edgecolor=look_of(result["label"]).colour,
                        lw=0.9,
                    )
            panel.set_xticks(range(len(names)), [f"{name}\n{most[name]:,}" for name in names], rotation=45, ha="right")
            panel.set_ylabel(label)
            if regression:
                panel.set_ylim(0, 1.08 * _top(results, key))
            panel.yaxis.grid(True)
        handles = [
            figure.axes[0].plot(
                [], [], look_of(result["label"]).marker, color=look_of(result["label"]).colour, markersize=4
            )[0]
            for result in results
        ]
        legend(figure, handles, [result["label"] for result in results])
        return figure

    first = panels[0][0]
    told = "; ".join(
        f"{result['label']}: "
        + ", ".join(f"{s['group']} {figures(s[first], 3)} (n = {s['n']:,})" for s in result["systems"])
        for result in results
    )
    right = "; right: divided by the mean absolute deviation of the system's own targets" if regression else ""
    return Figure(
        name="systems",
        draw=draw,
        caption=(
            f"Error by crystal system, from low to high symmetry, with the number of test rows{right}. Hollow: fewer "
            f"than {SMALL} rows, where intervals are too narrow; they may reach beyond the axis."
        ),
        method=(
            "Space groups by moyopy (symprec 0.01 Å). Bars: 95 % bootstrap intervals of the rows within a system; "
            "the error of a row is the mean over seeds of its errors."
        ),
        alt=f"{panels[0][1]} by crystal system. {told}.",
    )


def _top(results: Sequence[Mapping[str, Any]], key: str) -> float:
    """The highest end of an interval, or value where the rows are too few for one."""
    tops = [
        system[key] if system["is_small"] or system[f"{key}_interval"][1] is None else system[f"{key}_interval"][1]
        for result in results
        for system in result["systems"]
        if system[key] is not None
    ]
    return max(tops, default=1.0) or 1.0


def _system_table(facts: Mapping[str, Any]) -> Table:
    regression = facts["kind"] == "regression"
    rows: list[list[Value]] = []
    for name in _names(facts):
        for result in facts["results"]:
            system = next((system for system in result["systems"] if system["group"] == name), None)
            if system is None:
                continue
            rows.append([name, result["label"], system["n"], *_scores(system, regression=regression)])
    rows += [
        ["all", result["label"], result["n"], *_scores(result["overall"], regression=regression)]
        for result in facts["results"]
    ]
    return Table(
        name="systems",
        columns=["system", "model", "n", *_score_columns(facts)],
        rows=rows,
        caption="Errors by crystal system, with 95 % intervals.",
        method=_score_method(facts),
        digits=3,
        strong=[i for i, row in enumerate(rows) if row[0] == "all"],
    )


def _score_columns(facts: Mapping[str, Any]) -> list[str]:
    unit = in_brackets(facts["unit"])
    if facts["kind"] == "regression":
        return [f"MAE{unit}", "MAE low", "MAE high", f"MAD{unit}", "MAE/MAD", "ratio low", "ratio high", f"bias{unit}"]
    return ["accuracy", "acc. low", "acc. high", "balanced accuracy", "bal. low", "bal. high", "share true"]


def _scores(group: Mapping[str, Any], *, regression: bool) -> list[Value]:
    if regression:
        return [
            group["mae"],
            *group["mae_interval"],
            group["mad"],
            group["relative"],
            *group["relative_interval"],
            group["bias"],
        ]
    return [
        group["accuracy"],
        *group["accuracy_interval"],
        group["balanced_accuracy"],
        *group["balanced_accuracy_interval"],
        group["positive"],
    ]


def _score_method(facts: Mapping[str, Any]) -> str:
    if facts["kind"] == "regression":
        return (
            "MAD: mean absolute deviation of the group's own targets from their mean, the MAE of a model that knows "
            "only that mean. Bias: mean of predicted minus true. The error of a row is the mean over seeds of its "
            "errors; all rows are pooled, where the results above are means over folds."
        )
    return (
        "Labels by a threshold of 0.5; of several seeds, the share of them that is right. All rows are pooled, where "
        f"the results above are means over folds. With fewer than {FEWEST_OF_A_CLASS} rows of a class the balanced "
        "accuracy has no interval. Share true: of the rows."
    )


def _violin_blocks(facts: Mapping[str, Any]) -> Iterator[Item]:
    for i, pair in enumerate(facts["violins"]):
        one, other = pair["one"]["label"], pair["other"]["label"]
        yield Heading(f"{one} against {other}")
        if not pair["rows"]:
            yield Text(f"{one} and {other} predicted no row in common.")
            continue
        yield Text(" ".join(describe_comparison(pair["comparison"], one, other, facts["unit"])))
        if facts["kind"] == "regression":
            yield _violin_figure(facts, pair, i)
        yield _comparison_table(facts, pair, i)


def _violin_figure(facts: Mapping[str, Any], pair: Mapping[str, Any], number: int) -> Figure:
    systems = [entry for entry in pair["comparison"]["systems"] if entry["group"] in pair["quantiles"]]
    sides = (pair["one"], pair["other"])

    def draw() -> Any:
        from scipy.stats import gaussian_kde

        figure, axes = subplots(width=WIDE, height=2.9)
        floor = _floor(pair)
        for j, entry in enumerate(systems):
            for sign, side, quantiles in zip((-1, 1), sides, pair["quantiles"][entry["group"]], strict=True):
                values = np.log10(np.maximum(quantiles, floor))
                if entry["n"] >= SMALL and np.ptp(values) > 0:
                    grid = np.linspace(values.min(), values.max(), 200)
                    density = gaussian_kde(values)(grid)
                    width = 0.42 * density / density.max()
                    axes.fill_betweenx(
                        10**grid, j, j + sign * width, color=look_of(side["label"]).colour, alpha=0.55, linewidth=0
                    )
                else:
                    x = np.full(entry["n"], j + sign * 0.12)
                    dots = np.quantile(values, np.linspace(0, 1, entry["n"]))
                    axes.scatter(x, 10**dots, s=6, color=look_of(side["label"]).colour, linewidths=0)
                median = 10 ** float(np.median(values))
                axes.plot((j, j + sign * 0.3), (median, median), color=INK, linewidth=1)
            axes.axvline(j, color=GRID, linewidth=0.5, zorder=0)
        axes.set_yscale("log")
        axes.set_xticks(range(len(systems)), [f"{entry['group']}\n{entry['n']:,}" for entry in systems])
        axes.set_ylabel(f"absolute error{in_brackets(facts['unit'])}")
        axes.set_xlim(-0.6, len(systems) - 0.4)
        handles = [axes.fill_between([], [], color=look_of(side["label"]).colour, alpha=0.55) for side in sides]
        legend(figure, handles, [f"{sides[0]['label']} (left)", f"{sides[1]['label']} (right)"])
        return figure

    told = "; ".join(
        f"{entry['group']}: {figures(entry['one'], 3)} and {figures(entry['other'], 3)} (n = {entry['n']:,})"
        for entry in systems
    )
    return Figure(
        name=f"violins-{number + 1}",
        draw=draw,
        caption=(
            f"Absolute errors of {sides[0]['label']} (left) and {sides[1]['label']} (right) on the same "
            f"{pair['rows']:,} rows, by crystal system. Lines: medians. Fewer than {SMALL} rows are drawn as points."
        ),
        method=(
            "As Fig. 4d of Liang et al. (10.1038/s41467-023-40756-2), on a logarithmic scale; kernel densities of the "
            "logarithms, each scaled to the same width."
        ),
        alt=f"Split violins of absolute errors by crystal system; means of the two models: {told}.",
    )


def _floor(pair: Mapping[str, Any]) -> float:
    """Errors below a thousandth of the median are drawn there: a logarithm makes much of nothing."""
    medians = [side[len(side) // 2] for sides in pair["quantiles"].values() for side in sides]
    return max(1e-3 * float(np.median(medians)), 1e-12)


def _comparison_table(facts: Mapping[str, Any], pair: Mapping[str, Any], number: int) -> Table:
    one, other = pair["one"]["label"], pair["other"]["label"]
    what = f"MAE{in_brackets(facts['unit'])}" if facts["kind"] == "regression" else "share wrong"
    entries = [*pair["comparison"]["systems"], pair["comparison"]["overall"]]
    return Table(
        name=f"comparison-{number + 1}",
        columns=["system", "n", f"{one}: {what}", f"{other}: {what}", "difference", "95 % low", "95 % high"],
        rows=[[e["group"], e["n"], e["one"], e["other"], e["difference"], *e["difference_interval"]] for e in entries],
        caption=f"{one} against {other} on the same rows; a negative difference favours {one}.",
        method="Paired bootstrap of the rows within a system.",
        digits=3,
        strong=[len(entries) - 1],
    )


def _symmetry_table(facts: Mapping[str, Any]) -> Table:
    found = [result["symmetry"] or {"loss": None, "without_most_common": None} for result in facts["results"]]
    common = [symmetry["without_most_common"] for symmetry in found]
    known = next((entry for entry in common if entry is not None), None)
    rows: list[list[Value]] = [
        [
            result["label"],
            *_correlation(symmetry["loss"]),
            *(_correlation(entry and entry["rest"]) if known is not None else []),
        ]
        for result, symmetry, entry in zip(facts["results"], found, common, strict=True)
    ]
    rest = (
        "" if known is None else f"; then without the rows whose target is {figures(known['value'])}, the most common"
    )
    return Table(
        name="symmetry",
        columns=[
            "model",
            "correlation",
            "95 % low",
            "95 % high",
            "n",
            *([] if known is None else ["without most common", "95 % low", "95 % high", "n of these"]),
        ],
        rows=rows,
        caption="Rank correlation of error and symmetry, with 95 % intervals.",
        method=(
            f"Spearman's correlation with the order of the point group{rest}; intervals by the delta method. "
            "Crystals of high symmetry also have smaller cells and other elements: none of this shows a cause. Of "
            "errors divided by the MAD of their system there is no correlation here: the MADs alone would make one."
        ),
        digits=3,
    )


def _correlation(facts: Mapping[str, Any] | None) -> list[Value]:
    return [None] * 4 if facts is None else [facts["value"], *facts["interval"], facts["n"]]


def _group_table(best: Mapping[str, Any], facts: Mapping[str, Any]) -> Table:
    regression = facts["kind"] == "regression"
    groups: Sequence[Mapping[str, Any]] = sorted(best["space_groups"], key=lambda group: -group["n"])[:_MOST_GROUPS]
    groups = sorted(groups, key=lambda group: group["group"])
    left = len(best["space_groups"]) - len(groups)
    return Table(
        name="space-groups",
        columns=["space group", "symbol", "system", "n", *_score_columns(facts)],
        rows=[[str(g["group"]), g["symbol"], g["system"], g["n"], *_scores(g, regression=regression)] for g in groups],
        caption=(
            f"Errors of {best['label']} by space group"
            + (
                f", the {len(groups)} with most rows; the other {left} are in the JSON file beside this page."
                if left
                else "."
            )
        ),
        method=f"{_score_method(facts)} Below {SMALL} rows an interval is too narrow more often than it says.",
        digits=3,
    )
