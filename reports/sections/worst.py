"""Section: the rows with the worst predictions, and possible causes."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable
from reports.page.items import Column, Items
from reports.page.section import Item, Section, Table
from reports.study.study import Absent, Result, Study, shared_rows
from reports.study.wording import space_group_symbol
from sen.crystal import SYMBOLS

__all__ = ["Worst"]

MAGNETIC = frozenset(
    {"V", "Cr", "Mn", "Fe", "Co", "Ni"}
    | {SYMBOLS[number - 1] for number in range(58, 71)}
    | {SYMBOLS[number - 1] for number in range(91, 104)}
)
"""Elements that often carry a moment in crystals: 3d metals, lanthanides Ce to Yb, actinides from Pa on."""

_SHOWN = 15
_WORST_SHARE = 0.05
_RARE_SHARE = 0.005
_TAIL = 1.0  # per cent at each end
_LONELY, _REACH = 3.5, 5.0

CAUSES = (
    *("magnetic", "unseen element", "rare element", "one atom", "large cell", "dense", "loose", "extreme target"),
    *("no symmetry found", "lonely atom"),
)
"""Suspected causes of large errors, in the order of the page; the template of this section defines them."""


class Worst(Section):
    """Rows with the largest errors, and how often suspected causes go with large errors."""

    name: ClassVar[str] = "worst"
    title: ClassVar[str] = "Worst predictions"
    place: ClassVar[int] = 400

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Rank the rows that all runs predicted by their mean error over the runs."""
        runs = _of_most_rows(study.runs)
        at = shared_rows(runs[0].rows, *(run.rows for run in runs[1:]))
        parts = [run.rows.take(where) for run, where in zip(runs, at, strict=True)]
        if not len(parts[0]):
            raise Absent("The runs have no test row in common, so none can be the worst of all; run the same folds.")
        errors = np.array([part.error for part in parts])
        error = errors.mean(axis=0)
        predictions = np.array([part.prediction for part in parts])
        ids, target = parts[0].ids, parts[0].target
        worst_first = np.argsort(-error, kind="stable")
        worst = worst_first[:_SHOWN]
        tail = worst_first[: max(1, round(_WORST_SHARE * len(error)))]
        facts: dict[str, Any] = {
            "unit": study.task.unit,
            "kind": study.task.kind,
            "models": [run.label for run in runs],
            "left_out": [run.label for run in study.runs if run not in runs],
            "rows": len(ids),
            "mean_error": float(error.mean()),
            "crystals": None,
            "causes": [],
        }
        causes: dict[str, NDArray[np.bool_]] = {}
        described: list[dict[str, Any]] = [{} for _ in worst]
        try:
            table = study.crystals(progress)
            where = study.positions(ids.tolist())
        except Absent as absent:
            facts["crystals"] = str(absent)
        else:
            causes = find_causes(table, where, _seen(runs, parts[0].fold))
            described = _describe(study, where[worst])
            facts["causes"] = _rates(causes, error, tail)
        facts["worst"] = [
            {
                "id": str(ids[i]),
                "fold": int(parts[0].fold[i]),
                "target": float(target[i]),
                "prediction": float(predictions[:, i].mean()),
                "error": float(error[i]),
                "errors": errors[:, i].tolist(),
                **row,
                "causes": [
                    *(name for name, mask in causes.items() if mask[i]),
                    *(["lonely atom"] if (row.get("lonely") or 0) > _LONELY else []),
                ],
            }
            for i, row in zip(worst.tolist(), described, strict=True)
        ]
        facts["share_of_error"] = float(error[tail].sum() / max(error.sum(), 1e-300))
        return facts

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """The worst rows, and the rates of the causes."""
        items = Items(
            __name__, {**facts, "worst_share": _WORST_SHARE, "rare_share": _RARE_SHARE, "lonely_distance": _LONELY}
        )
        yield items.text("summary")
        yield _worst_table(items, facts)
        if facts["causes"]:
            yield _cause_table(items, facts)


def find_causes(
    table: CrystalTable, where: NDArray[np.int64], seen: Sequence[frozenset[str]] | None = None
) -> dict[str, NDArray[np.bool_]]:
    """Return which suspected causes of a large error apply to which rows.

    Percentiles and rare elements are those of the whole table.

    Args:
        table: The crystals.
        where: Positions of the rows in it, [n].
        seen: Elements of the training rows of the fold of each of them.

    Returns:
        Whether the cause of that name applies, bool [n]; causes that apply to no row are left out.
    """
    n_atoms = np.diff(table.ptr)
    crystal = np.repeat(np.arange(len(table)), n_atoms)
    has: NDArray[np.bool_] = np.zeros((len(table), len(SYMBOLS)), dtype=bool)
    has[crystal, table.numbers.astype(np.int64) - 1] = True
    magnetic = np.array([symbol in MAGNETIC for symbol in SYMBOLS])
    rare: NDArray[np.bool_] = has.sum(axis=0) < _RARE_SHARE * len(table)
    volume = np.abs(np.linalg.det(table.lattice)) / n_atoms
    low, high = np.percentile(table.target, (_TAIL, 100 - _TAIL))
    varied = np.unique(table.target).size > 2
    found: dict[str, NDArray[Any]] = {
        "magnetic": np.any(has[:, magnetic], axis=1)[where],
        "rare element": np.any(has[:, rare], axis=1)[where],
        "one atom": (n_atoms == 1)[where],
        "large cell": (n_atoms > np.percentile(n_atoms, 100 - _TAIL))[where],
        "dense": (volume < np.percentile(volume, _TAIL))[where],
        "loose": (volume > np.percentile(volume, 100 - _TAIL))[where],
        "extreme target": (((table.target < low) | (table.target > high)) & varied)[where],
        "no symmetry found": (table.space_group == 0)[where],
    }
    if seen is not None:
        known = {elements: np.array([symbol in elements for symbol in SYMBOLS]) for elements in set(seen)}
        lacking = [bool((has[i] & ~known[elements]).any()) for i, elements in zip(where, seen, strict=True)]
        found["unseen element"] = np.array(lacking)
    return {name: found[name] for name in CAUSES if name in found and found[name].any()}


def _of_most_rows(runs: Sequence[Result]) -> list[Result]:
    """Leave out runs that share fewer rows with the others than half of the rows of the largest run."""
    kept: list[Result] = []
    for run in sorted(runs, key=lambda run: -len(run.rows)):
        others = [*kept, run]
        n = len(shared_rows(others[0].rows, *(other.rows for other in others[1:]))[0])
        if not kept or n >= len(kept[0].rows) / 2:
            kept.append(run)
    return [run for run in runs if run in kept]


def _seen(runs: Sequence[Result], folds: NDArray[np.int64]) -> list[frozenset[str]] | None:
    """Return the elements that the training rows of each row's fold hold, in any of the runs and seeds."""
    by_fold: dict[int, frozenset[str]] = {}
    for training, record in itertools.chain.from_iterable(run.records.items() for run in runs):
        if not (elements := record.get("elements")):
            return None
        by_fold[training.fold] = by_fold.get(training.fold, frozenset()) | frozenset(elements)
    return [by_fold[fold] for fold in folds.tolist()]


def _describe(study: Study, where: NDArray[np.int64]) -> list[dict[str, Any]]:
    from reports.study.row_facts import rows_of

    rows, table = rows_of(study.dataset()), study.crystals()
    described = []
    for i, lonely in zip(where.tolist(), _lonely(table, where), strict=True):
        number = int(rows.space_group[i])
        described.append(
            {
                "formula": rows.formula(i),
                "space_group": number,
                "symbol": space_group_symbol(number),
                "system": str(rows.crystal_system[i]),
                "atoms": int(table.ptr[i + 1] - table.ptr[i]),
                "lonely": lonely,
            }
        )
    return described


def _lonely(table: CrystalTable, where: NDArray[np.int64]) -> list[float]:
    """Return the largest distance in Å, at most 5, of an atom of each crystal from its nearest neighbour."""
    from sen.graph import build_graph

    distances = []
    for i in where.tolist():
        graph = build_graph(table.crystal(i), cutoff=_REACH, max_neighbors=1, cells="asymmetric")
        start, stop = graph.edge_ptr[:-1], graph.edge_ptr[1:]
        alone = (start == stop).any() or not len(graph.distance)
        distances.append(_REACH if alone else float(graph.distance[start].max()))
    return distances


def _rates(
    causes: Mapping[str, NDArray[np.bool_]], error: NDArray[np.float64], worst: NDArray[np.int64]
) -> list[dict[str, Any]]:
    """Return how often each cause applies, to all rows and to the worst, and the errors with and without it."""
    return [
        {
            "cause": name,
            "rows": int(mask.sum()),
            "share": float(mask.mean()),
            "share_of_worst": float(mask[worst].mean()),
            "mean_error": float(error[mask].mean()),
            "mean_error_without": float(error[~mask].mean()) if not mask.all() else None,
            "median_error": float(np.median(error[mask])),
        }
        for name, mask in causes.items()
    ]


def _worst_table(items: Items, facts: Mapping[str, Any]) -> Table:
    with_crystals = not facts["crystals"]
    columns: list[Column] = [("row", "id")]
    if with_crystals:
        columns += [("formula", "formula"), ("space group", _group), ("atoms", "atoms")]
    columns += [(f"true{items.unit}", "target"), ("predicted", "prediction"), ("error", "error")]
    if len(facts["models"]) > 1:
        columns.append(("best model's", lambda row: min(row["errors"])))
    if with_crystals:
        columns.append(("suspected cause", "causes"))
    met = [name for name in CAUSES if any(name in row["causes"] for row in facts["worst"])]
    return items.table("worst", facts["worst"], columns, digits=3, met=met)


def _group(row: Mapping[str, Any]) -> str:
    return f"{row['symbol']} ({row['space_group']})" if row["space_group"] else str(row["symbol"])


def _cause_table(items: Items, facts: Mapping[str, Any]) -> Table:
    columns: list[Column] = [
        ("cause", "cause"),
        ("n", "rows"),
        ("% of all rows", lambda row: 100 * row["share"]),
        (f"% of the worst {100 * _WORST_SHARE:g} %", lambda row: 100 * row["share_of_worst"]),
        (f"mean error{items.unit}", "mean_error"),
        (f"without{items.unit}", "mean_error_without"),
        (f"median error{items.unit}", "median_error"),
    ]
    return items.table("causes", facts["causes"], columns, digits=3)
