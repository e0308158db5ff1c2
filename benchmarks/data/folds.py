"""The splits of a data set: MatBench's official folds, random splits without end, a holdout, groups, and split files.

Validation rows, and rows that calibrate intervals, are cut from the training rows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from benchmarks.base.cache import digest
from benchmarks.base.console import count
from benchmarks.base.errors import DataError, UsageError, printable, suggest
from benchmarks.data.groups import DataFolds, Grouping
from benchmarks.data.tasks import LEAVE_ONE_OUT, OFFICIAL_SEED, RESAMPLE, Kind

__all__ = [
    "JUDGED_FRACTION",
    "N_FOLDS",
    "VALIDATION_FRACTION",
    "Fold",
    "check_fold_numbers",
    "check_split",
    "data_digest",
    "depends_on_data",
    "fold_label",
    "make_folds",
    "n_folds",
    "official_folds",
    "outer_split",
    "tuning_split",
]

N_FOLDS = 5
VALIDATION_FRACTION = 0.1
JUDGED_FRACTION = 0.2

_GROUPS = ("formula", "chemical-system", "space-group", "point-group", "crystal-system", "element")
_FORMS = ("folds", RESAMPLE, "holdout:0.8/0.1/0.1", *_GROUPS, "cluster:K", "group:COLUMN", "file:PATH")
# How a split file is called in the results: its name, and the beginning of the hash of what it says.
_FILE = re.compile(r"file:.+:[0-9a-f]{10}")
# Number of seeds that scikit-learn takes.
_SEEDS = 2**32


def data_digest(table_digest: str, split: str) -> str:
    """Return the hash of crystals, their targets and their split, given that of the first two."""
    return table_digest if split == "folds" else digest(table=table_digest, split=split)


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold as positions in the table, each part in the official row order and disjoint from the others.

    Attributes:
        index: Number of the fold, from 0.
        train: Rows that the model is fitted on, int64 [n_train].
        validation: Rows that stop the training and choose the epoch, int64 [n_validation]; none where all rows train.
        test: Rows that are predicted once, int64 [n_test]. No test row is ever dropped.
        name: Name of the group that is tested, such as "cubic"; empty where it has none.
        calibration: Rows that are predicted once as well, and calibrate the intervals of the predictions, int64
            [n_calibration]. They are the same whatever the seed of the run.
    """

    index: int
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    name: str = ""
    calibration: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, dtype=np.int64))

    @property
    def label(self) -> str:
        """How the fold is called, see `fold_label`."""
        return fold_label(self.index, self.name)


def check_split(split: str) -> str:
    """Return a split in its standard form, which is a part of its runs.

    It is "folds", "resample", "holdout:0.8/0.1/0.1" (training/validation/test), the name of the groups that are tested
    as a whole ("formula", "chemical-system", "space-group", "point-group", "crystal-system", "element", "cluster:5",
    "group:COLUMN" of own data), or "file:NAME:HASH" (see `benchmarks.data.split_files.open_split`).

    Raises:
        UsageError: The text is not a split.
    """
    name, _, value = split.partition(":")
    if split in {"folds", RESAMPLE, *_GROUPS} or (name == "group" and value) or _FILE.fullmatch(split):
        return split
    if name == "cluster" and value:
        if value.isascii() and value.isdecimal() and int(value) > 1:
            return f"cluster:{int(value)}"
        raise UsageError(
            f"--split cluster:K takes a number of clusters, 2 or more, such as cluster:5, not {printable(value)!r}."
        )
    if name == "holdout" and value:
        return _check_holdout(split, value)
    raise UsageError(f"There is no split {printable(split)!r}. {suggest(split, _FORMS)}")


def _check_holdout(split: str, value: str) -> str:
    try:
        shares = [float(share) for share in value.split("/")]
    except ValueError:
        shares = []
    if len(shares) != 3:
        raise UsageError(
            f"--split takes holdout:TRAIN/VALIDATION/TEST, such as holdout:0.8/0.1/0.1, not {printable(split)!r}."
        )
    if not min(shares) > 0 or not abs(sum(shares) - 1) < 1e-6:
        raise UsageError(f"The three shares of {split!r} must be positive and sum to 1, such as holdout:0.8/0.1/0.1.")
    return "holdout:" + "/".join(f"{share:g}" for share in shares)


def depends_on_data(split: str) -> bool:
    """Whether the folds of a split are known only with the data, as those by groups and those of a split file."""
    return not split.startswith(("folds", RESAMPLE, "holdout:", "tuning:"))


def tuning_split(split: str, folds: Sequence[int]) -> str:
    """Return the split for tuning on these folds of another split: it has one fold and none of their test rows.

    A share of the rows that train in all of these folds, `JUDGED_FRACTION`, judges: it takes the part of the test rows.
    The same rows judge whatever the seed, the limit and the share of validation rows.
    """
    return f"tuning:{','.join(map(str, sorted(folds)))}:{split}"


def outer_split(split: str) -> str:
    """Return the split that a split for tuning is inside of; any other split itself."""
    return split.split(":", 2)[2] if split.startswith("tuning:") else split


def n_folds(split: str) -> int | None:
    """Return the number of folds of a split; None where there is no end of them, or where the data decide it."""
    name, _, value = split.partition(":")
    if name == "cluster":
        return int(value)
    if name in {RESAMPLE, "file", *LEAVE_ONE_OUT}:
        return None
    return 1 if name in {"holdout", "tuning"} else N_FOLDS


def check_fold_numbers(folds: Sequence[int], split: str, end: int | None) -> None:
    """Check the folds that are to be run.

    Args:
        folds: Their numbers.
        split: The split.
        end: Number of its folds; None where there is no end of them.

    Raises:
        UsageError: The split does not have them, or one is named twice.
    """
    if end == 1 and list(folds) != [0]:
        raise UsageError(f"The split {split} has only fold 0: leave out --folds.")
    known = range(_SEEDS if end is None else end)
    if not folds or len(set(folds)) != len(folds) or any(fold not in known for fold in folds):
        raise UsageError(
            f"--folds takes numbers from 0 to {known[-1]}, none of them twice, not {','.join(map(str, folds))}."
        )


def official_folds(
    kind: Kind,
    n_rows: int,
    targets: NDArray[np.generic] | None = None,
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return MatBench's folds of a complete data set, equal in content and order to those of matbench 0.6.

    Args:
        kind: "regression" splits as scikit-learn's `KFold`, "classification" by its `StratifiedKFold`.
        n_rows: Rows of the complete data set.
        targets: Labels of all rows in the official order, [n_rows]; read only for a classification.

    Returns:
        Five pairs (training rows, test rows) of ascending row indices.

    Raises:
        UsageError: There are fewer rows, or fewer rows of one class, than folds.
        ValueError: A classification lacks the label of every row.
    """
    _require_rows(kind, n_rows, targets)
    if kind == "regression":
        tests = np.array_split(_permutation(n_rows, OFFICIAL_SEED), N_FOLDS)
        return [(np.delete(np.arange(n_rows), test), np.sort(test)) for test in tests]
    from sklearn.model_selection import StratifiedKFold  # not at the top: it takes a second to load

    splits = StratifiedKFold(N_FOLDS, shuffle=True, random_state=OFFICIAL_SEED).split(np.zeros(n_rows), targets)
    return [(train.astype(np.int64), test.astype(np.int64)) for train, test in splits]


def _permutation(n: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers below n in random order, from the generator of MatBench's folds, which NumPy has frozen."""
    return np.random.RandomState(seed).permutation(n).astype(np.int64)


def _shuffle_split(
    n_test: int, seed: int, n_rows: int, labels: NDArray[np.generic] | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw test rows as scikit-learn's `ShuffleSplit`, or its `StratifiedShuffleSplit` where rows have labels.

    Returns:
        The other rows and the test rows, each in random order.

    Raises:
        ValueError: A class has too few rows for two parts.
    """
    if labels is None:
        rows = _permutation(n_rows, seed)
        return rows[n_test:], rows[:n_test]
    from sklearn.model_selection import StratifiedShuffleSplit  # not at the top: it takes a second to load

    splitter = StratifiedShuffleSplit(1, test_size=n_test, random_state=seed)
    ((train, test),) = splitter.split(np.zeros(n_rows), labels)
    return train, test


def _require_rows(kind: Kind, n_rows: int, targets: NDArray[np.generic] | None) -> None:
    """Refuse too few rows, or too few of a class, for a fifth of them to be tested."""
    if n_rows < N_FOLDS:
        raise UsageError(f"{n_rows} rows cannot be split into {N_FOLDS} folds: give at least {N_FOLDS} rows.")
    if kind == "regression":
        return
    if targets is None or len(targets) != n_rows:
        raise ValueError("stratified folds need the label of every row")
    classes, counts = np.unique(targets, return_counts=True)
    if counts.min() < N_FOLDS:
        raise UsageError(
            f"Only {counts.min()} rows have the target {classes[counts.argmin()]}: "
            f"stratified folds need at least {N_FOLDS} rows of each class."
        )


def make_folds(
    kind: Kind,
    rows: NDArray[np.int64],
    n_official_rows: int | None,
    targets: NDArray[np.generic],
    seed: int,
    *,
    limit: int | None = None,
    validation: float | None = None,
    calibration: float = 0.0,
    split: str = "folds",
    numbers: Sequence[int] | None = None,
    of_data: DataFolds | None = None,
    left_out: NDArray[np.int64] | None = None,
) -> list[Fold]:
    """Return folds of the rows of the table, by default the official ones, with validation rows cut from training rows.

    A share of each fold's training rows, drawn by the run's seed and the fold's index, becomes validation rows; in a
    classification, that share of each class. A part of these rows calibrates intervals and does not choose the epoch;
    the fold's index alone draws it, so that no seed of a run trains on it. Fold i of "resample" tests a fifth of the
    rows of the table, in a classification of each class, drawn with the seed i whatever the run's. A holdout split,
    validation rows included, is drawn with the seed of the official folds, so that all blocks and seeds share it; in a
    classification it is stratified. A fold by groups tests whole groups, and the rows that are held out of its training
    rows are whole groups as well.

    Args:
        kind: "regression" or "classification".
        rows: Official row index of each row of the table, [M].
        n_official_rows: Rows of the complete data set; None for a data set that is complete by itself (own data,
            `prototypes`), which is split in the order of the table.
        targets: Target of each row of the table, [M].
        seed: Seed of the run; it draws the validation rows and never changes the official folds.
        limit: Keep at most this many of each fold's training rows, those held out included, drawn at random; a
            smaller limit keeps a subset of what a larger one keeps, but for the groups that calibrate. Test rows are
            never dropped.
        validation: Share of the training rows that become validation rows, from 0 on; None: a tenth, or what a holdout
            split or split file names.
        calibration: Share of the validation rows that calibrate intervals instead, from 0 to 1.
        split: As `check_split` or `tuning_split` returns it.
        numbers: Folds to make, see `check_fold_numbers`. Default: all; of a split that has no last fold, the first.
        of_data: The folds of a split that depends on the data; those inside of a split for tuning.
        left_out: Positions of rows that neither train nor validate [n]; they are tested like others.

    Raises:
        UsageError: Too few rows, a limit below 2, two shares of validation rows, a fold without training or validation
            rows, or a part of a classification data set, whose stratified official folds depend on the labels of all
            rows.
        DataError: Row indices that repeat or lie outside the complete data set.
    """
    if limit is not None and limit < 2:
        raise UsageError(
            f"A limit of {limit} training rows is too small: one row to train on and one to validate on are 2."
        )
    held_out = of_data.held_out if of_data else None
    if split.startswith("tuning:"):
        outer_numbers = [int(number) for number in split.split(":", 2)[1].split(",")]
        train, judging = _judged(
            kind,
            targets,
            make_folds(
                *(kind, rows, n_official_rows, targets, 0),
                validation=validation,
                split=outer_split(split),
                numbers=outer_numbers,
                of_data=of_data,
                left_out=left_out,
            ),
            held_out,
        )
        fold = Fold(0, train, train[:0], judging)
        return [_divided(kind, targets, fold, seed, limit, validation, calibration, held_out)]
    if n_official_rows is None:
        rows, n_official_rows = np.arange(len(rows)), len(rows)
    position = _positions(rows, n_official_rows)
    order = position[position >= 0]
    if split.startswith("holdout:"):
        shares = [float(share) for share in split.partition(":")[2].split("/")]
        folds = [_holdout(kind, order, targets, shares)]
    elif of_data is not None:
        folds = [
            _tested(order, of_data, number) for number in (range(len(of_data.tested)) if numbers is None else numbers)
        ]
    elif split == RESAMPLE:
        folds = [_drawn(kind, order, targets, number) for number in numbers or [0]]
    else:
        folds = _official(kind, position, targets, range(N_FOLDS) if numbers is None else numbers)
    if left_out is not None:
        folds = [_without(fold, left_out) for fold in folds]
    return [
        _in_order(order, _limited_fold(kind, targets, fold, seed, limit, validation, calibration))
        if len(fold.validation)
        else _divided(kind, targets, fold, seed, limit, validation, calibration, held_out)
        for fold in folds
    ]


def _without(fold: Fold, left_out: NDArray[np.int64]) -> Fold:
    """Return a fold without rows that are to be left out, but for its test rows."""
    train, validation = (rows[~np.isin(rows, left_out)] for rows in (fold.train, fold.validation))
    if len(train) < 2 or (len(fold.validation) and not len(validation)):
        raise UsageError(
            f"--without leaves fold {fold.label} no rows to train or validate on: choose other folds, or a task with "
            "fewer of its formulas."
        )
    return replace(fold, train=train, validation=validation)


def _tested(order: NDArray[np.int64], of_data: DataFolds, number: int) -> Fold:
    """Return a fold that depends on the data; its validation rows are those of the split file, if that has any.

    Args:
        order: Positions in the table in the official order, [M].
        of_data: The folds.
        number: Number of the fold.
    """
    tested = of_data.tested[number]
    validation = order[:0] if tested.validation is None else tested.validation
    is_test, is_validation = np.isin(order, tested.rows), np.isin(order, validation)
    fold = Fold(number, order[~is_test & ~is_validation], order[is_validation], order[is_test], tested.name)
    if not len(fold.train) or len(fold.train) + len(fold.validation) < 2:
        raise UsageError(
            f"Fold {fold.label} has {count(len(fold.train), 'training row')}, because it tests {len(fold.test):,} of "
            f"{len(order):,} rows: leave it out with --folds, or choose another split."
        )
    return fold


def fold_label(fold: int, name: str = "") -> str:
    """Return how a fold is called in tables: its number, with the name of the group that it tests if it has one."""
    return f"{fold} ({printable(name)})" if name else str(fold)


def _official(
    kind: Kind, position: NDArray[np.int64], targets: NDArray[np.generic], numbers: Sequence[int]
) -> list[Fold]:
    """Return official folds, as positions in the table, without validation rows.

    Args:
        kind: "regression" or "classification".
        position: Position in the table of each official row, [n_official_rows]; -1 where it has none.
        targets: Target of each row of the table, [M].
        numbers: Numbers of the folds.
    """
    labels, n_rows, n_official_rows = None, len(targets), len(position)
    if kind == "classification":
        if n_rows < n_official_rows:
            raise UsageError(
                f"A classification cannot be run on a part of its rows ({n_rows:,} of {n_official_rows:,}): "
                "the official folds are stratified by the labels of all rows. Use the complete file."
            )
        labels = targets[position]
    folds, official = [], official_folds(kind, n_official_rows, labels)
    for index in numbers:
        train, test = (at[at >= 0] for at in (position[part] for part in official[index]))
        if len(train) < 2 or len(test) == 0:
            raise UsageError(
                f"The {n_rows:,} rows of the data leave {len(train)} training and {len(test)} test rows "
                f"in fold {index}: give more rows."
            )
        folds.append(Fold(index, train, train[:0], test))
    return folds


def _drawn(kind: Kind, order: NDArray[np.int64], targets: NDArray[np.generic], number: int) -> Fold:
    """Return a random split of the rows in this order, as positions in the table [n], without validation rows."""
    labels = targets[order] if kind == "classification" else None
    _require_rows(kind, len(order), labels)
    train, test = _shuffle_split(len(order) // N_FOLDS, number, len(order), labels)
    return Fold(number, order[np.sort(train)], order[:0], order[np.sort(test)])


def _divided(
    kind: Kind,
    targets: NDArray[np.generic],
    fold: Fold,
    seed: int,
    limit: int | None,
    validation: float | None,
    calibration: float,
    held_out: Grouping | None,
) -> Fold:
    """Return a fold with a part of its training rows, some of which become validation rows or calibrate."""
    share = VALIDATION_FRACTION if validation is None else validation
    strata = _strata(kind, targets, fold.train)
    known = len(fold.train)
    size = known if limit is None else min(limit, known)
    if held_out is None:
        calibrates = _draw_calibration(
            strata, lambda n: int(calibration * _n_validation(max(1, round(n * size / known)), share)), fold.index
        )
    else:
        for_calibration = np.random.default_rng([OFFICIAL_SEED, fold.index])
        calibrates = held_out.hold_out(fold.train, share * calibration * size / known, for_calibration)
        if calibrates.sum() > size - 2:
            raise UsageError(
                f"Of the {size:,} rows of fold {fold.label} (--limit) a whole group of {calibrates.sum():,} rows would "
                "calibrate: give more rows, or --set training.calibration=0."
            )
    # Two streams, so that a limit that drops nothing changes nothing.
    for_limit, for_validation = map(np.random.default_rng, np.random.SeedSequence([seed, fold.index]).spawn(2))
    train = _limited(fold.train, strata, size, for_limit, calibrates)
    if held_out is None:
        strata = _strata(kind, targets, train)
        chooses = _draw_strata(strata, lambda n: _n_choosing(n, share, calibration), for_validation)
    else:
        choosing = share * (1 - calibration) / (1 - share * calibration)
        chooses = held_out.hold_out(train, choosing, for_validation)
        if choosing and not chooses.any():
            raise UsageError(
                f"Fold {fold.label} has no validation rows, because its {len(train):,} training rows are all of one "
                "group, and whole groups are held out: leave it out with --folds, or train on all of them with --set "
                "training.validation=0."
            )
    divided = replace(fold, train=train[~chooses], validation=train[chooses], calibration=fold.train[calibrates])
    _require_all_classes(kind, targets, divided, limit, held_out)
    return divided


def _judged(
    kind: Kind, targets: NDArray[np.generic], folds: Sequence[Fold], held_out: Grouping | None
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that train in all of these folds, in two parts: those to train on, and those that judge."""
    known = reduce(np.intersect1d, [_without_validation(fold).train for fold in folds])
    if len(known) < 3:
        numbers = ",".join(str(fold.index) for fold in folds)
        raise UsageError(
            f"{len(known)} rows train in all of the folds {numbers}, too few to tune on: "
            + ("name fewer folds." if len(folds) > 1 else "give more rows.")
        )
    rng = np.random.default_rng([OFFICIAL_SEED, *(fold.index for fold in folds)])
    if held_out is None:
        judging = _draw_validation(_strata(kind, targets, known), JUDGED_FRACTION, rng)
    else:
        judging = held_out.hold_out(known, JUDGED_FRACTION, rng)
    if not judging.any():
        raise UsageError(
            f"The {len(known):,} rows that train in all of these folds are all of one group, so that no whole group "
            "can judge: name other folds, or choose another split."
        )
    return known[~judging], known[judging]


def _holdout(kind: Kind, order: NDArray[np.int64], targets: NDArray[np.generic], shares: Sequence[float]) -> Fold:
    """Split rows into training, validation and test rows of these shares, with at least one row of each class.

    They are in the order in which they were drawn.

    Args:
        kind: "regression" or "classification".
        order: Positions in the table in the official order, [M].
        targets: Target of each row of the table, [M].
        shares: Shares of training, validation and test rows.
    """
    n_test, n_validation = (max(1, round(share * len(order))) for share in (shares[2], shares[1]))

    def draw(rows: NDArray[np.int64], n: int) -> list[NDArray[np.int64]]:
        labels = targets[order[rows]] if kind == "classification" else None
        return [rows[part] for part in _shuffle_split(n, OFFICIAL_SEED, len(rows), labels)]

    try:
        known, test = draw(np.arange(len(order)), n_test)
        train, validation = draw(known, n_validation)
    except ValueError:  # nothing is left to train on, or a class has fewer rows than parts
        train = validation = test = np.empty(0, dtype=np.int64)
    train, validation, test = (order[part] for part in (train, validation, test))
    n_classes = len(np.unique(targets)) if kind == "classification" else 1
    if any(len(np.unique(targets[part])) < n_classes for part in (train, validation, test)):
        each = " of each class" if kind == "classification" else ""
        raise UsageError(
            f"{len(order)} rows are too few for this holdout split, which needs training, validation and test "
            f"rows{each}: give more rows, or larger shares to the small parts."
        )
    return Fold(0, train, validation, test)


def _limited_fold(
    kind: Kind,
    targets: NDArray[np.generic],
    fold: Fold,
    seed: int,
    limit: int | None,
    validation: float | None,
    calibration: float,
) -> Fold:
    """Return a fold whose split names validation rows, with a part of them and of its training rows."""
    if validation:
        raise UsageError(
            f"The split names its share of validation rows: in place of training.validation={validation:g} give null "
            "to choose the epoch by these rows, or 0 to train on them as well."
        )
    if validation is not None:
        calibration = 0.0
    n_known = len(fold.train) + len(fold.validation)
    size = n_known if limit is None else min(limit, n_known)
    n_kept = min(max(1, round(size * len(fold.validation) / n_known)), size - 1)
    strata, kept = _strata(kind, targets, fold.validation), n_kept / len(fold.validation)
    calibrates = _draw_calibration(strata, lambda n: int(calibration * kept * n), fold.index)
    rng = np.random.default_rng([seed, fold.index])
    limited = replace(
        fold,
        train=_limited(fold.train, _strata(kind, targets, fold.train), size - n_kept, rng),
        # If all calibrate, none that rounding left over may choose the epoch.
        validation=_limited(fold.validation, strata, n_kept if calibration < 1 else 0, rng, calibrates),
        calibration=fold.validation[calibrates],
    )
    _require_all_classes(kind, targets, limited, limit, None)
    return limited if validation is None else _without_validation(limited)


def _in_order(order: NDArray[np.int64], fold: Fold) -> Fold:
    """Return a fold whose parts are in the official order, given as the positions in the table [M]."""
    parts = (fold.train, fold.validation, fold.test, fold.calibration)
    train, validation, test, calibration = (order[np.isin(order, part)] for part in parts)
    return replace(fold, train=train, validation=validation, test=test, calibration=calibration)


def _without_validation(fold: Fold) -> Fold:
    """Return the fold with its validation rows among the training rows."""
    known = np.sort(np.concatenate([fold.train, fold.validation]))
    return replace(fold, train=known, validation=fold.validation[:0])


def _strata(kind: Kind, targets: NDArray[np.generic], rows: NDArray[np.int64]) -> NDArray[np.generic]:
    """Return the stratum of each row [n]: its class; for a regression all rows are in one stratum."""
    return targets[rows] if kind == "classification" else np.zeros(len(rows))


def _limited(
    rows: NDArray[np.int64],
    strata: NDArray[np.generic],
    limit: int,
    rng: np.random.Generator,
    calibrates: NDArray[np.bool_] | bool = False,
) -> NDArray[np.int64]:
    """Return `limit` rows, drawn at random in proportion to the strata, ascending; fewer rows are a subset of more.

    Those that calibrate, by a mask [n], count and are left out.
    """
    order = np.empty(len(rows))
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        order[rng.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    order[calibrates] = -1.0
    first = np.argsort(order, kind="stable")[:limit]
    return rows[np.sort(first[order[first] >= 0])]


def _require_all_classes(
    kind: Kind, targets: NDArray[np.generic], fold: Fold, limit: int | None, held_out: Grouping | None
) -> None:
    """Refuse a limit or groups that leave a class out: the epoch would be chosen by rows without that class."""
    if kind == "regression" or (limit is None and held_out is None):
        return
    n_classes = len(np.unique(targets))
    parts = [fold.train, fold.validation] if len(fold.validation) else [fold.train]
    if any(len(np.unique(targets[part])) < n_classes for part in parts):
        advice = "leave it out with --folds, or choose another split" if limit is None else "raise --limit"
        who = f"With a limit of {limit} training rows, fold" if limit is not None else "Fold"
        raise UsageError(f"{who} {fold.label} has training or validation rows of one class alone: {advice}.")


def _positions(rows: NDArray[np.int64], n_official_rows: int) -> NDArray[np.int64]:
    """Return the position in the table of each official row, [n_official_rows], -1 where the table lacks it."""
    if len(rows) and not 0 <= rows.min() <= rows.max() < n_official_rows:
        raise DataError(
            f"The row indices run from {rows.min()} to {rows.max()}, "
            f"but the complete data set has the rows 0 to {n_official_rows - 1}."
        )
    position = np.full(n_official_rows, -1, dtype=np.int64)
    position[rows] = np.arange(len(rows))
    lost = rows[position[rows] != np.arange(len(rows))]
    if len(lost):
        raise DataError(f"Row index {lost[0]} occurs more than once: each official row may occur only once.")
    return position


def _draw_validation(strata: NDArray[np.generic], share: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Return a mask [n] that holds out a share of each stratum."""
    return _draw_strata(strata, lambda n: _n_validation(n, share), rng)


def _draw_calibration(strata: NDArray[np.generic], number: Callable[[int], int], fold: int) -> NDArray[np.bool_]:
    """Return a mask [n] that holds out a number of rows of each stratum, the same rows for every seed of a run."""
    return _draw_strata(strata, number, np.random.default_rng([OFFICIAL_SEED, fold]))


def _n_validation(n: int, share: float) -> int:
    """Return how many rows a share of a stratum of n rows is: at least one row, but never all; none for 0."""
    return min(max(1, round(share * n)), n - 1) if share else 0


def _n_choosing(n: int, share: float, calibration: float) -> int:
    """Return how many rows choose the epoch, of the n rows of a stratum that are left by those that calibrate."""
    held_out = _n_validation(round(n / (1 - share * calibration)), share)
    return min(held_out - int(calibration * held_out), n - 1)


def _draw_strata(
    strata: NDArray[np.generic], number: Callable[[int], int], rng: np.random.Generator
) -> NDArray[np.bool_]:
    """Return a mask [n] that holds out rows of each stratum, as many as the function says of its size."""
    held_out = np.zeros(len(strata), dtype=bool)
    for stratum in np.unique(strata):
        members = np.flatnonzero(strata == stratum)
        held_out[rng.permutation(members)[: number(len(members))]] = True
    return held_out
