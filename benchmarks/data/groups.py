"""Folds that test whole groups of crystals: what a model predicts of a formula, a symmetry, an element it never saw.

Every choice is by name and number of rows, never by the order of a file, and drawn by fixed seeds: the same data have
the same folds on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.errors import DataError, UsageError, printable
from benchmarks.data.crystal_table import CrystalTable, reduced_formula
from benchmarks.data.descriptors import crystal_statistics, elements_of
from benchmarks.data.layouts import open_layout
from benchmarks.data.tasks import LEAVE_ONE_OUT, OFFICIAL_SEED, Task
from sen.crystal import CRYSTAL_SYSTEMS, SYMBOLS

__all__ = ["FEWEST_WITH_ELEMENT", "DataFolds", "Grouping", "TestedRows", "group_rows", "grouped_folds"]

FEWEST_WITH_ELEMENT = 30
"""Rows with an element from which on the element is a fold."""

_N_FOLDS = 5
_UNKNOWN = CRYSTAL_SYSTEMS[0]


@dataclass(frozen=True, eq=False)
class Grouping:
    """Groups of the M rows of a table; every row is in at least one, and in a partition in no other.

    Attributes:
        names: Name of each of the G groups.
        row: Positions in the table, those of one group after the other and ascending within it, int64 [P].
        ptr: First place of each group in `row`, int64 [G + 1].
    """

    names: tuple[str, ...]
    row: NDArray[np.int64]
    ptr: NDArray[np.int64]

    @classmethod
    def of_pairs(cls, names: Sequence[str], row: NDArray[np.int64], group: NDArray[np.int64]) -> Grouping:
        """Return the grouping in which `row[i]` is in the group `group[i]`, [P], without the groups of no row."""
        order = np.lexsort((row, group))
        found, sizes = np.unique(group, return_counts=True)
        return cls(tuple(names[g] for g in found.tolist()), row[order], np.concatenate([[0], np.cumsum(sizes)]))

    @classmethod
    def of_keys(cls, keys: Iterable[str], order: Callable[[str], int] | None = None) -> Grouping:
        """Return the partition of rows by their keys [M]; groups are sorted by name, or by `order` of the name."""
        keys = list(keys)
        names = sorted(set(keys)) if order is None else sorted(set(keys), key=order)
        number = {name: g for g, name in enumerate(names)}
        return cls.of_pairs(names, np.arange(len(keys)), np.array([number[key] for key in keys], dtype=np.int64))

    @property
    def sizes(self) -> NDArray[np.int64]:
        """Rows of each group, int64 [G]."""
        return np.diff(self.ptr)

    def __len__(self) -> int:
        """Number of groups G."""
        return len(self.names)

    def rows(self, group: int) -> NDArray[np.int64]:
        """Return the rows of a group, ascending."""
        return self.row[self.ptr[group] : self.ptr[group + 1]]

    def __iter__(self) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of each group."""
        return map(self.rows, range(len(self)))

    def take(self, groups: Sequence[int]) -> Grouping:
        """Return the grouping of these groups alone."""
        parts = [self.rows(group) for group in groups]
        ptr = np.concatenate([[0], np.cumsum([len(part) for part in parts])]).astype(np.int64)
        return Grouping(tuple(self.names[group] for group in groups), np.concatenate(parts), ptr)

    def hold_out(self, rows: NDArray[np.int64], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Return a mask [n] that holds out whole groups of these rows: about a share of them, but never all.

        Groups are taken in random order, each that leaves the total within the share. If none is so small, the smallest
        is taken. None is held out for a share of 0, or if all rows are in one group.

        Args:
            rows: Positions in the table, [n].
            share: Share of them.
            rng: Draws the order of the groups.
        """
        n_rows = int(max(self.row.max(), rows.max(initial=0))) + 1
        left = np.zeros(n_rows, dtype=bool)
        left[rows] = True
        sizes = np.add.reduceat(left[self.row].astype(np.int64), self.ptr[:-1])
        wanted, total = min(max(1, round(share * len(rows))), len(rows) - 1), 0
        drawn = [group for group in rng.permutation(len(self)).tolist() if 0 < sizes[group] < len(rows)]
        if not share or not drawn:
            return np.zeros(len(rows), dtype=bool)
        for group in drawn:
            more = self.rows(group)[left[self.rows(group)]]
            if total + len(more) <= wanted:
                left[more] = False
                total += len(more)
            if total == wanted:
                break
        if not total:
            left[self.rows(min(drawn, key=lambda group: sizes[group]))] = False
        return ~left[rows]


@dataclass(frozen=True, eq=False)
class TestedRows:
    """What a fold tests.

    Attributes:
        fold: Number of the fold.
        name: Name of its group, such as "cubic"; empty where it has none, because it tests several groups.
        keys: Names of the groups that it tests, sorted.
        rows: Its test rows as positions in the table, ascending, int64 [n].
        validation: Its validation rows, where a split file has them, in the same form; None where they are drawn.
    """

    fold: int
    name: str
    keys: tuple[str, ...]
    rows: NDArray[np.int64]
    validation: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class DataFolds:
    """The folds of a split that depend on the data: those by groups, and those of a split file.

    Attributes:
        tested: What each fold tests, by its number.
        held_out: Groups that are validation rows as a whole, whatever the fold: those of the split, or groups within
            them where one of them would be too much; None where single rows are.
    """

    tested: tuple[TestedRows, ...]
    held_out: Grouping | None


def group_rows(split: str, task: Task, table: CrystalTable) -> Grouping:
    """Return the groups of a split, as `check_split` returns it.

    Those of "element" overlap: a row is in the group of each of its elements. Others are partitions.

    Raises:
        UsageError: There is no such column, or there are as many clusters as rows.
        DataError: A row has no value in the column, or the data cannot be read.
    """
    name, _, value = split.partition(":")
    if name == "group":
        return Grouping.of_keys(_column(task, value, table))
    if name == "cluster":
        return _clusters(table, int(value))
    return _GROUPINGS[name](table)


def grouped_folds(split: str, task: Task, table: CrystalTable) -> DataFolds:
    """Return the folds of a split by groups, as `check_split` returns it.

    Raises:
        UsageError: There are too few groups, see also `group_rows`, as for `DataError`.
        DataError: The data cannot be read.
    """
    groups, (name, _, _) = group_rows(split, task, table), split.partition(":")
    if name == "element":
        return _element_folds(groups)
    if name not in LEAVE_ONE_OUT:
        if len(groups) < _N_FOLDS:
            raise UsageError(
                f"The split {split} needs at least {_N_FOLDS} groups of rows, one for each fold, and the data have "
                f"{len(groups)} ({_listed(groups.names)}): choose another split."
            )
        return DataFolds(tuple(_balanced(groups)), groups)
    if len(groups) == 1:
        raise UsageError(
            f"The split {split} needs at least two groups of rows, and all rows are of one ({groups.names[0]}): choose "
            "another split."
        )
    tested = tuple(TestedRows(fold, each, (each,), groups.rows(fold)) for fold, each in enumerate(groups.names))
    within = "chemical-system" if name == "cluster" else "space-group"
    return DataFolds(tested, group_rows(within, task, table))


def _element_folds(groups: Grouping) -> DataFolds:
    """Return a fold for each element with enough rows; whole elements are validation rows, rare ones among them."""
    frequent = np.flatnonzero(groups.sizes >= FEWEST_WITH_ELEMENT).tolist()
    if not frequent:
        most = int(groups.sizes.argmax())
        raise UsageError(
            f"The split element tests each element that at least {FEWEST_WITH_ELEMENT} rows contain, and no element is "
            f"in so many: {groups.names[most]} is in {groups.sizes[most]}. Choose another split, such as "
            "chemical-system."
        )
    tested = (TestedRows(fold, groups.names[g], (groups.names[g],), groups.rows(g)) for fold, g in enumerate(frequent))
    return DataFolds(tuple(tested), groups)


def _balanced(groups: Grouping) -> Iterator[TestedRows]:
    """Yield five folds of whole groups with about as many rows: the largest group left goes to the smallest fold."""
    order = np.random.default_rng(OFFICIAL_SEED).permutation(len(groups))
    order = order[np.argsort(-groups.sizes[order], kind="stable")]
    chosen: list[list[int]] = [[] for _ in range(_N_FOLDS)]
    n_rows = [0] * _N_FOLDS
    for group in order.tolist():
        smallest = n_rows.index(min(n_rows))
        chosen[smallest].append(group)
        n_rows[smallest] += int(groups.sizes[group])
    for fold, members in enumerate(chosen):
        part = groups.take(sorted(members))
        yield TestedRows(fold, "", part.names, np.sort(part.row))


def _by_formula(table: CrystalTable) -> Grouping:
    """Group crystals by their reduced formula, such as "NaCl"."""
    crystal, number, n_atoms = elements_of(table)
    known: dict[tuple[int, ...], str] = {}
    keys, start = [], 0
    for end in np.searchsorted(crystal, np.arange(1, len(table) + 1)).tolist():
        counts = n_atoms[start:end] // math.gcd(*n_atoms[start:end].tolist())
        ratio = (*number[start:end].tolist(), *counts.tolist())
        if ratio not in known:
            known[ratio] = reduced_formula(np.repeat(number[start:end], counts))
        keys.append(known[ratio])
        start = end
    return Grouping.of_keys(keys)


def _by_chemical_system(table: CrystalTable) -> Grouping:
    """Group crystals by their elements in alphabetical order, such as "Cl-Na"."""
    crystal, number, _ = elements_of(table)
    elements: list[list[str]] = [[] for _ in range(len(table))]
    for i, z in zip(crystal.tolist(), number.tolist(), strict=True):
        elements[i].append(SYMBOLS[z - 1])
    return Grouping.of_keys("-".join(sorted(each)) for each in elements)


def _by_space_group(table: CrystalTable) -> Grouping:
    return Grouping.of_pairs(
        [_UNKNOWN, *map(str, range(1, 231))], np.arange(len(table)), table.space_group.astype(np.int64)
    )


def _by_point_group(table: CrystalTable) -> Grouping:
    """Group crystals by their point group in Hermann and Mauguin's symbols, in order of the space groups."""
    import gemmi

    of_number = [_UNKNOWN, *(gemmi.find_spacegroup_by_number(number).point_group_hm() for number in range(1, 231))]
    return Grouping.of_keys((of_number[number] for number in table.space_group.tolist()), of_number.index)


def _by_crystal_system(table: CrystalTable) -> Grouping:
    return Grouping.of_keys(table.crystal_system.tolist(), CRYSTAL_SYSTEMS.index)


def _by_element(table: CrystalTable) -> Grouping:
    crystal, number, _ = elements_of(table)
    return Grouping.of_pairs(("", *SYMBOLS), crystal, number)


_GROUPINGS: dict[str, Callable[[CrystalTable], Grouping]] = {
    "formula": _by_formula,
    "chemical-system": _by_chemical_system,
    "space-group": _by_space_group,
    "point-group": _by_point_group,
    "crystal-system": _by_crystal_system,
    "element": _by_element,
}


def _column(task: Task, column: str, table: CrystalTable) -> list[str]:
    """Return the text of each row in a column of own data, for the rows that can be used.

    Raises:
        UsageError: The column is missing, or has one value; or only the crystals are available, from the cache.
        DataError: A row has no value in it.
    """
    if task.path is None:
        raise UsageError(
            f"The groups of the split {task.split} are in the file of {task.name}, which is no longer where it was: "
            "name its folder with --data-dir."
        )
    layout = open_layout(task.path, task.target)
    value = dict(zip(layout.ids(), layout.values(column), strict=True))
    keys = [value[name] for name in table.ids.tolist()]
    if "" in keys:
        row = printable(table.ids[keys.index("")])
        raise DataError(f"{layout.path}: row {row} has no value in the column {column!r}, by which the rows are split.")
    if len(set(keys)) == 1:
        raise UsageError(
            f"{layout.path}: all rows have the {printable(column)} {printable(keys[0])}: the rows cannot be split by "
            "that column."
        )
    return keys


def _clusters(table: CrystalTable, n_clusters: int) -> Grouping:
    """Return clusters by K-means on `crystal_statistics`, the largest first: "cluster 1" and so on.

    Raises:
        UsageError: There are as many clusters as rows, or more than different crystals.
    """
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits

    if n_clusters >= len(table):
        raise UsageError(
            f"{n_clusters:,} clusters of {len(table):,} rows are too many, because a cluster must be a group of rows: "
            "choose a smaller K."
        )
    # In the order of the rows, whatever that of the file; one thread, because several add up in another order.
    order = np.argsort(table.row)
    statistics = crystal_statistics(table)[order]
    n_different = len(np.unique(statistics.round(6), axis=0))
    if n_different < n_clusters:
        raise UsageError(
            f"{n_clusters:,} clusters of {n_different:,} different crystals are too many: choose a smaller K."
        )
    with threadpool_limits(1):
        found = KMeans(n_clusters, n_init=10, random_state=OFFICIAL_SEED).fit_predict(statistics)
    sizes, first = np.bincount(found, minlength=n_clusters), [int(np.argmax(found == c)) for c in range(n_clusters)]
    by_size = sorted(range(n_clusters), key=lambda c: (-sizes[c], first[c]))
    place = np.argsort(by_size)
    group = np.empty(len(table), dtype=np.int64)
    group[order] = place[found]
    return Grouping.of_pairs([f"cluster {c + 1}" for c in range(n_clusters)], np.arange(len(table)), group)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(printable, names))
