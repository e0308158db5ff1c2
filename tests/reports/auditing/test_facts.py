from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.base.errors import DataError, UsageError
from benchmarks.data.folds import official_folds
from benchmarks.data.tasks import TASKS, Task
from benchmarks.results.store import Training
from reports.auditing.facts import audit, check_other_sets
from reports.auditing.verdict import other_sets, verdict
from reports.study.published import PredictionFile, PredictionSet, read_predictions
from reports.study.row_facts import RowFacts, find_rows, read_rows_file
from tests.benchmarks.conftest import Answer
from tests.conftest import REPOSITORY
from tests.reports.made_runs import make_run, official

Command = Callable[..., Answer]
PHONONS = TASKS["matbench_phonons"]
JDFT2D = TASKS["matbench_jdft2d"]
IS_METAL = TASKS["matbench_mp_is_metal"]


def made_rows(task: Task = PHONONS, n: int | None = None, seed: int = 0) -> RowFacts:
    """The first n rows of a task with made-up targets and space groups."""
    n = task.n_rows if n is None else n
    assert n is not None
    rng = np.random.default_rng(seed)
    target = rng.normal(500, 100, n) if task.kind == "regression" else (rng.random(n) < 0.4).astype(float)
    group = rng.choice([2, 14, 62, 225], n, p=[0.01, 0.29, 0.4, 0.3])
    ids = np.array([task.row_id(row) for row in range(n)])
    return RowFacts(task, ids, np.arange(n), target, [""] * n, group.astype(np.int16), "rows.json", is_verified=False)


def predictions(rows: RowFacts, noise: float = 10, seed: int = 1) -> np.ndarray:
    return rows.target + np.random.default_rng(seed).normal(0, noise, len(rows))


def official_test(task: Task, fold: int) -> np.ndarray:
    assert task.n_rows is not None
    return official_folds(task.kind, task.n_rows)[fold][1]


def write_csv(path: Path, ids: Sequence[str], values: Sequence[Any], **columns: Sequence[Any]) -> Path:
    table = {"id": ids, "prediction": values, **columns}
    lines = [",".join(table), *(",".join(map(str, row)) for row in zip(*table.values(), strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., PredictionFile]:
    """A CSV file of these rows, or of these ids, read."""

    def make(rows: RowFacts, at: Any = slice(None), name: str = "mine.csv", **columns: Any) -> PredictionFile:
        values = columns.pop("values", None)
        values = predictions(rows)[at] if values is None else values
        ids = columns.pop("ids", None) or rows.ids[at].tolist()
        return read_predictions(write_csv(tmp_path / name, ids, list(values), **columns))

    return make


def fold_column(rows: RowFacts) -> np.ndarray:
    fold = np.empty(len(rows), dtype=int)
    for number in range(5):
        labels = rows.target if rows.task.kind == "classification" else None
        fold[official_folds(rows.task.kind, len(rows), labels)[number][1]] = number
    return fold


def check(facts: Mapping[str, Any]) -> str:
    """Facts must be JSON, and can be said in words."""
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    text = verdict(facts)
    assert "None" not in text
    assert "nan" not in text
    assert "{" not in text
    return text


def test_a_complete_file_with_its_folds_has_a_rank(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    file = make(rows, fold=fold_column(rows), target=rows.target)
    facts = audit(file, rows)
    text = check(facts)
    error = predictions(rows) - rows.target
    fold = fold_column(rows)
    assert facts["score"]["mae"] == pytest.approx(np.abs(error).mean())
    assert facts["bias"]["mean"] == pytest.approx(error.mean())
    assert [entry["score"] for entry in facts["by_fold"]] == pytest.approx(
        [np.abs(error[fold == number]).mean() for number in range(5)]
    )
    assert facts["leaderboard"]["rank"] == 1
    assert facts["folds"]["kind"] == "whole"
    assert facts["folds"]["which"] == [0, 1, 2, 3, 4]
    assert (facts["folds"]["missing"]["n"], facts["folds"]["extra"]["n"], facts["folds"]["n_misplaced"]) == (0, 0, 0)
    assert "They are all five official folds." in text
    assert "The file names the fold of each row, and it is the official one" in text
    assert "The file claims no score." in text
    assert "Its own targets are the official ones." in text
    assert "takes rank 1 against 16 official published models" in text


def test_a_complete_file_without_folds_cannot_tell_train_from_test(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    facts = audit(make(rows), rows)
    text = check(facts)
    assert facts["leaderboard"]["rank"] is None
    assert "cannot be determined whether each was predicted by the model that had not been trained on it" in text
    assert "no rank against the 16 official published models: the file does not say by which fold's model" in text


def test_folds_that_are_not_the_official_ones(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    fold = fold_column(rows)
    fold[:10] = (fold[:10] + 1) % 5
    facts = audit(make(rows, fold=fold), rows)
    assert facts["folds"]["n_misplaced"] == 10
    assert "10 rows are listed in another fold than the official one." in check(facts)
    assert facts["leaderboard"]["reason"] == "its folds are not the official ones"


def test_one_fold_less_some_rows_and_with_rows_of_others(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    test = official_test(PHONONS, 2)
    others = official_test(PHONONS, 0)[:3]
    facts = audit(make(rows, np.concatenate([test[6:], others])), rows)
    text = check(facts)
    folds = facts["folds"]
    assert (folds["kind"], folds["which"]) == ("whole", [2])
    assert folds["missing"] == {"n": 6, "first": [PHONONS.row_id(row) for row in test[:5]]}
    assert folds["extra"] == {"n": 3, "first": [PHONONS.row_id(row) for row in others]}
    assert f"the official fold fold_2 less 6 rows ({PHONONS.row_id(test[0])}, " in text
    assert f", and 3 rows of other folds ({PHONONS.row_id(others[0])}, " in text
    assert "could not have had the 3 rows of other folds as test rows, and one fold of five is no MatBench" in text
    assert "could have made them" not in text


def test_a_few_rows_of_one_fold(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    facts = audit(make(rows, official_test(PHONONS, 4)[:50]), rows)
    assert (facts["folds"]["kind"], facts["folds"]["which"]) == ("part", [4])
    text = check(facts)
    assert "They are rows of the official fold 4, 19.8% of it." in text
    assert "One model trained on the other four folds could have made them" in text


def test_a_few_rows_of_one_fold_and_fewer_of_another(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    others = official_test(PHONONS, 1)[:5]
    facts = audit(make(rows, np.concatenate([official_test(PHONONS, 0)[:100], others])), rows)
    assert (facts["folds"]["kind"], facts["folds"]["which"], facts["folds"]["missing"]) == ("part", [0], None)
    assert facts["folds"]["extra"] == {"n": 5, "first": [PHONONS.row_id(row) for row in others]}
    text = check(facts)
    assert f"the official fold 0, 39.5% of it, and 5 rows of other folds ({PHONONS.row_id(others[0])}, " in text
    assert "could not have had the 5 rows of other folds as test rows" in text
    assert "could have made them" not in text


def test_a_split_of_its_own_is_recognised(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    at = np.random.default_rng(0).permutation(len(rows))[:253]
    facts = audit(make(rows, at), rows)
    text = check(facts)
    assert (facts["folds"]["kind"], facts["folds"]["which"]) == ("spread", [0, 1, 2, 3, 4])
    assert "of all five folds" in text
    assert "as many in all as one fold has" in text
    assert "cannot be determined which rows were trained on" in text


def test_the_order_of_the_rows_changes_nothing(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    order = np.random.default_rng(3).permutation(len(rows))
    assert audit(make(rows), rows) == audit(make(rows, order), rows)


@settings(max_examples=15)
@given(
    folds=st.sets(st.integers(0, 4), min_size=1),
    lost=st.integers(0, 200),
    seed=st.integers(0, 2**32 - 1),
    states_folds=st.booleans(),
)
def test_any_rows_of_any_folds_are_counted_and_told(
    tmp_path_factory: pytest.TempPathFactory, folds: set[int], lost: int, seed: int, states_folds: bool
) -> None:
    rows = made_rows()
    fold = fold_column(rows)
    at = np.random.default_rng(seed).permutation(np.flatnonzero(np.isin(fold, list(folds))))[lost:]
    columns = {"fold": fold[at]} if states_folds else {}
    path = tmp_path_factory.getbasetemp() / "any.csv"
    write_csv(path, rows.ids[at].tolist(), predictions(rows)[at].tolist(), **columns)
    facts = audit(read_predictions(path), rows)
    check(facts)
    assert sum(entry["n"] for entry in facts["folds"]["folds"]) == facts["n"] == len(at)
    assert sum(entry["n"] for entry in facts["by_fold"]) == len(at)
    assert set(facts["folds"]["which"]) == folds
    if lost <= 12:  # a twentieth of one fold
        assert facts["folds"]["kind"] == "whole"
        assert (facts["folds"]["missing"]["n"], facts["folds"]["extra"]["n"]) == (lost, 0)
    is_complete = len(folds) == 5 and lost == 0 and states_folds
    assert (facts["leaderboard"]["rank"] is not None) == is_complete


def test_wrong_repeated_and_broken_rows_are_named_and_the_rest_is_scored(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    ids = [*rows.ids[:100].tolist(), rows.ids[0], rows.ids[1], *(JDFT2D.row_id(row) for row in range(7))]
    values = [*predictions(rows)[:100], predictions(rows)[0], 1.0, *range(7)]
    values[5:7] = [float("nan"), float("inf")]
    facts = audit(make(rows, ids=ids, values=values), rows)
    text = check(facts)
    found = facts["ids"]
    assert (facts["n"], found["n_rows"], facts["rows"]["n_scored"]) == (109, 100, 98)
    assert found["foreign"] == {"n": 7, "first": [JDFT2D.row_id(row) for row in range(5)], "task": "matbench_jdft2d"}
    assert found["repeated"] == {"n": 2, "first": rows.ids[:2].tolist(), "conflicting": 1}
    assert found["not_usable"] == {"n": 2, "first": rows.ids[5:7].tolist()}
    kept = np.delete(np.arange(100), [5, 6])
    assert facts["score"]["mae"] == pytest.approx(np.abs(predictions(rows) - rows.target)[kept].mean())
    for part in (
        "7 ids are no row of it (mb-jdft2d-001, mb-jdft2d-002",
        "...); they look like rows of matbench_jdft2d.",
        "2 ids occur more than once (mb-phonons-0001, mb-phonons-0002), 1 of them with different predictions",
        "For 2 rows the prediction is no finite number (mb-phonons-0006, mb-phonons-0007); they are not scored.",
        "On the 98 rows that can be scored",
    ):
        assert part in text


@pytest.mark.parametrize(
    ("values", "at", "message"),
    [
        ([float("nan")] * 3, slice(0, 3), "not one is a finite number"),
        ([1.0] * 3, slice(20, 23), "rows.json has none of their rows"),
        (
            [float("nan"), float("nan"), 1.0],
            [0, 1, 22],
            "those that are numbers are of rows that rows.json does not have",
        ),
    ],
)
def test_nothing_to_score(make: Callable[..., PredictionFile], values: Any, at: Any, message: str) -> None:
    some = made_rows(n=10)
    with pytest.raises(DataError, match=f"None of the 3 predictions in .*mine.csv .* can be scored: {message}"):
        audit(make(made_rows(), at, values=values), some)


def test_ids_of_another_task(make: Callable[..., PredictionFile]) -> None:
    with pytest.raises(UsageError, match="no predictions for matbench_jdft2d, but those of matbench_phonons"):
        audit(make(made_rows()), made_rows(JDFT2D))


def test_rows_that_are_only_partly_at_hand(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    facts = audit(make(rows, fold=fold_column(rows)), made_rows(n=300))
    text = check(facts)
    assert (facts["rows"]["n_scored"], facts["rows"]["n_not_at_hand"], facts["rows"]["is_complete"]) == (
        300,
        965,
        False,
    )
    assert facts["folds"]["which"] == [0, 1, 2, 3, 4]
    assert "On the 300 rows whose targets are available (targets from rows.json)" in text
    assert "not all of its rows are available for scoring" in text


def test_bias_and_affine_refit(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    noise = np.random.default_rng(7).normal(0, 1, len(rows))
    facts = audit(make(rows, values=(rows.target - 30) / 2 + noise), rows, claimed=2.0)
    affine = facts["affine"]
    assert affine["slope"] == pytest.approx(2, rel=0.01)
    assert affine["mae"] == pytest.approx(np.abs(2 * noise).mean(), rel=0.03)
    low, high = facts["bias"]["interval"]
    assert low < facts["bias"]["mean"] < high < 0
    text = check(facts)
    assert "a shift and scale of the published numbers could explain it" in text
    low, high = affine["mae_interval"]
    assert low < affine["mae"] < high
    assert "fitted on the test targets and no result" in text
    assert "not the 2 1/cm that is claimed, but" in text
    worse = audit(make(rows), rows, claimed=2.0)
    assert "still more than the claim" in check(worse)
    modest = check(audit(make(rows), rows, claimed=20.0))
    assert "That is not the 20 1/cm that is claimed" in modest
    assert "the claim" not in modest
    assert "could explain it" not in modest
    assert audit(make(rows, values=[1.0] * len(rows)), rows)["affine"] is None


@pytest.mark.parametrize(("claimed", "is_met"), [(1.0, True), (1.02, False), (0.5, False)])
def test_a_claim_is_met_or_not(make: Callable[..., PredictionFile], claimed: float, is_met: bool) -> None:
    rows = made_rows()
    signs = np.where(np.arange(len(rows)) % 2, 1.0, -1.0)
    facts = audit(make(rows, values=rows.target + signs), rows, claimed=claimed)
    assert facts["claim"]["is_met"] is is_met
    assert ("That agrees with" in check(facts)) is is_met


def test_a_claim_in_the_interval_is_not_met_but_possible_on_other_rows(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    facts = audit(make(rows), rows, claimed=8.2)
    low, high = facts["breakdown"]["overall"]["mae_interval"]
    assert low < 8.2 < high
    assert (facts["claim"]["is_met"], facts["claim"]["is_inside"]) == (False, True)
    assert "That is not the 8.2 1/cm that is claimed, which lies in the interval" in check(facts)


def test_targets_of_the_file_that_are_others(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    target = rows.target.copy()
    target[3:10] += 100
    facts = audit(make(rows, target=target), rows)
    assert facts["targets"]["differ"] == {"n": 7, "first": rows.ids[3:8].tolist()}
    assert "Its own targets differ from the official ones for 7 rows of 1,265" in check(facts)
    assert ", by up to 100.0 1/cm; the official ones are used." in check(facts)


def test_targets_of_the_file_that_are_rounded(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    facts = audit(make(rows, target=rows.target.round(2)), rows)
    assert facts["targets"]["differ"]["n"] == 0
    assert "Its own targets are the official ones to within 0.005 1/cm, as if rounded." in check(facts)
    facts = audit(make(rows, target=rows.target.round(0)), rows)
    assert facts["targets"]["differ"]["n"] > 1000
    assert facts["targets"]["largest"] == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("claimed", [float("nan"), float("inf"), -1.0, 0.0])
def test_a_claim_that_is_no_score_is_refused(make: Callable[..., PredictionFile], claimed: float) -> None:
    rows = made_rows()
    with pytest.raises(UsageError, match="--claimed takes a score, a finite number above 0, not"):
        audit(make(rows), rows, claimed=claimed)


@pytest.mark.parametrize("size", [1e12, 1e200, 1e307])
@pytest.mark.filterwarnings("error")
def test_absurd_predictions_are_scored_without_a_warning(make: Callable[..., PredictionFile], size: float) -> None:
    rows = made_rows()
    values = size * np.random.default_rng(0).normal(size=len(rows))
    text = check(audit(make(rows, values=values), rows, claimed=30.0))
    assert "That is not the 30 1/cm that is claimed" in text


def test_predictions_that_hardly_differ_are_not_refitted(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    values = 500 + 1e-8 * np.arange(len(rows)) / len(rows)
    assert audit(make(rows, values=values), rows)["affine"] is None
    exactly = audit(make(rows, values=1e9 + rows.target), rows)["affine"]
    assert exactly["slope"] == pytest.approx(1, rel=1e-6)


def test_other_models_on_the_same_rows(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows()
    better = make(rows, slice(0, 400), "better.csv", values=rows.target[:400] + 1)
    elsewhere = make(rows, slice(1000, 1010), "elsewhere.csv")
    facts = audit(make(rows, slice(0, 500)), rows, against=[better, elsewhere])
    text = check(facts)
    first, second = facts["against"]
    assert (first["model"], first["n"], first["comparison"]["overall"]["errs_less"]) == ("better", 400, "other")
    assert first["comparison"]["overall"]["other"] == pytest.approx(1)
    assert (second["n"], second["comparison"]) == (0, None)
    assert "better has MAE 1.000 1/cm on the 400 rows that both have: mine is worse on these rows (difference +" in text
    assert "elsewhere (elsewhere.csv) predicts none of these rows." in text


def test_classification(make: Callable[..., PredictionFile]) -> None:
    rows = made_rows(IS_METAL)
    probability = np.clip(0.4 * rows.target + np.random.default_rng(8).random(len(rows)) * 0.65, 0, 1)
    probability[5] = 1.5
    file = make(rows, values=probability, fold=fold_column(rows))
    facts = audit(file, rows)
    text = check(facts)
    assert facts["ids"]["not_usable"]["n"] == 1
    assert facts["affine"] is None
    assert facts["folds"]["n_misplaced"] == 0
    assert "the prediction is no probability (mb-mp-is-metal-000006)" in text
    assert "the balanced accuracy, MatBench's 'rocauc', 0." in text
    part = audit(file, made_rows(IS_METAL, 500))
    assert part["folds"]["kind"] == "unknown"
    assert "cannot be determined which official folds they are" in check(part)


def test_the_first_prediction_of_an_id_counts_on_both_sides() -> None:
    one = PredictionSet("a/gap_test", None, ("x", "x", "y"), np.array([1.0, 5.0, 2.0]))
    other = PredictionSet("b/gap_test", None, ("x", "y", "x"), np.array([1.0, 2.0, 9.0]))
    (shared,) = check_other_sets(PredictionFile(Path("sen.json"), "sen", "SEN", (one, other)))[0]["shared"]
    assert (shared["n"], shared["difference"]) == (2, 0)


def test_sets_that_cannot_be_scored_are_held_against_each_other(tmp_path: Path) -> None:
    path = tmp_path / "sen.json"
    content = {
        "a": {"gap_test": {f"mp-{i}": 1.0 for i in range(40)}, "Loss of gap": "0.1eV"},
        "b": {"gap_test": {f"mp-{i}": 1.5 for i in range(20, 60)}, "Loss of gap": "0.2eV"},
        "c": {"gap_test": {"mp-99": 1.5, "mp-98": None}, "energy_test": {"mp-1": 2.0, "mp-2": 2.0}},
    }
    path.write_text(json.dumps(content))
    sets = check_other_sets(read_predictions(path))
    json.dumps(sets, allow_nan=False)
    assert [entry["set"] for entry in sets] == ["a/gap_test", "b/gap_test", "c/gap_test", "c/energy_test"]
    shared = sets[0]["shared"][0]
    assert (shared["set"], shared["n"], shared["difference"]) == ("b/gap_test", 20, 0.5)
    assert shared["bound"] == pytest.approx(0.3)
    text = other_sets(sets, {"form": "sen", "file": "sen.json"})
    assert "it shares 20 rows, on which the two predictions differ by 0.5000" in text[0]
    assert "more than 0.3, the most there could be if both claims held" in text[0]
    assert "It shares no row with c/gap_test." in text[0]
    assert "no id twice, 1 are no finite number" in text[2]
    assert sets[3]["shared"] == []


@pytest.fixture(scope="module")
def sen_file(leaderboard: Path) -> PredictionFile:
    return read_predictions(leaderboard / "sen_published_predictions.json.gz")


@pytest.mark.deep
def test_known_answers_on_the_gaps_of_the_sen_authors(leaderboard: Path, sen_file: PredictionFile) -> None:
    task = TASKS["matbench_mp_gap"]
    facts = audit(sen_file, read_rows_file(leaderboard / "matbench_mp_gap.rows.json.bz2", task))
    text = check(facts)
    assert facts["n"] == facts["rows"]["n_scored"] == 21218
    assert (facts["folds"]["kind"], facts["folds"]["which"]) == ("spread", [0, 1, 2, 3, 4])
    assert facts["score"]["mae"] == pytest.approx(0.2371, abs=5e-5)
    assert facts["claim"]["value"] == 0.181
    assert not facts["claim"]["is_met"]
    assert "the MAE is 0.2371 eV [" in text
    assert "That is not the 0.181 eV that the file claims" in text
    assert "no MatBench result" in text
    names = [entry["set"] for entry in facts["also"]]
    assert [name for name in names if "amdnet" in name or "gatgnn" in name] == [
        *("amdnet_data_test/bandgap_test", "amdnet_data_test/formation_energy_test"),
        *("gatgnn_data_test/bandgap_test", "gatgnn_data_test/formation_energy_test"),
    ]
    words = other_sets(facts["also"], facts)
    assert all("What cannot: its ids (m" in sentence for sentence in words[1:])
    assert "it shares 128 rows, on which the two predictions differ by 0.2687" in words[1]


@pytest.mark.deep
def test_known_answers_on_the_formation_energies_of_the_sen_authors(
    leaderboard: Path, sen_file: PredictionFile
) -> None:
    task = TASKS["matbench_mp_e_form"]
    facts = audit(sen_file, read_rows_file(leaderboard / "matbench_mp_e_form.rows.json.bz2", task))
    text = check(facts)
    assert facts["folds"]["which"] == [3]
    assert (facts["folds"]["missing"]["n"], facts["folds"]["extra"]["n"]) == (7, 0)
    assert facts["score"]["mae"] == pytest.approx(0.0728, abs=5e-5)
    assert facts["claim"]["value"] == 0.0161
    assert facts["bias"]["mean"] == pytest.approx(0.0716, abs=5e-5)
    assert facts["affine"]["mae"] == pytest.approx(0.0157, abs=5e-5)
    assert "They are the official fold fold_3 less 7 rows" in text
    low, high = facts["affine"]["mae_interval"]
    assert low < 0.0157 < high
    assert "a shift and scale of the published numbers could explain it" in text


@pytest.mark.deep
@pytest.mark.parametrize(("task", "column"), [("matbench_mp_gap", 0), ("matbench_mp_e_form", 1)])
def test_the_how_to_says_what_the_command_prints(
    sen_bench: Command, leaderboard: Path, sen_file: PredictionFile, task: str, column: int
) -> None:
    text = (REPOSITORY / "docs" / "how-to" / "audit-predictions.md").read_text()
    lines = re.findall(r"^\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, flags=re.MULTILINE)
    told = {name: cells[column] for name, *cells in lines}
    rows, alignn = leaderboard / f"{task}.rows.json.bz2", leaderboard / "alignn.results.json.gz"
    answer = sen_bench("audit", sen_file.path, "--task", task, "--rows", rows, "--against", alignn)
    said = answer.out.splitlines()[0]
    n = told["rows"].partition(", ")[0]
    unit = told["claimed"].partition(" ")[2]
    assert f"holds {n} predictions" in said
    for sentence, name in (
        ("the MAE is {} [{}]", "MAE, 95 % interval"),
        ("(prediction minus target) is {} [{}]", "mean bias"),
        ("it would be {} [{}]", "MAE after the affine refit"),
    ):
        value, _, interval = told[name].partition(", ")
        assert sentence.format(value, interval.replace(" to ", ", ")) in said
    assert f"That is not the {told['claimed']} that the file claims" in said
    assert f"ALIGNN has MAE {told['ALIGNN on the same rows']} on the same rows" in said
    assert said.count(unit) > 5
    shares = re.search(r"[\d.]+% to [\d.]+% of each|less 7 rows", told["rows"])
    assert shares
    assert shares[0] in said
    # The last paragraph of the page, on sets of which nothing can be scored.
    by_set = {
        "matbench_mp_gap": "0.2687 eV on average (0.2046 to 0.3383), where both claims "
        "and equal targets would allow 0.059",
        "matbench_mp_e_form": "0.03710 eV/atom (0.03169 to 0.04354), about the 0.0357 that they would allow",
    }
    assert by_set[task] in text.replace("\n", " ")
    difference, low, high, bound = re.findall(r"0\.\d+", by_set[task])
    assert f"differ by {difference} [{low}, {high}]" in answer.out
    assert f"{'about' if 'about' in by_set[task] else 'more than'} {bound}, the most there could be" in answer.out


@pytest.mark.deep
def test_an_official_submission(leaderboard: Path, data_dir: Path) -> None:
    file = read_predictions(leaderboard / "alignn.results.json.gz")
    facts = audit(file, find_rows(PHONONS, data_dir=data_dir), against=[file])
    text = check(facts)
    assert facts["rows"]["is_verified"]
    assert facts["claim"]["is_met"]
    assert facts["leaderboard"]["rank"] == 3
    assert facts["against"][0]["comparison"]["overall"]["difference"] == 0
    assert "targets from the official data" in text
    assert "takes rank 3 against 16 official published models" in text


def rows_file(path: Path, rows: RowFacts) -> Path:
    columns = {
        "mbid": rows.ids.tolist(),
        rows.task.target: rows.target.tolist(),
        "spg_num": rows.space_group.tolist(),
    }
    path.write_bytes(gzip.compress(json.dumps(columns).encode()))
    return path


def test_the_command_prints_an_audit(sen_bench: Command, make: Callable[..., PredictionFile], tmp_path: Path) -> None:
    rows = made_rows()
    path = make(rows, fold=fold_column(rows)).path
    other = make(rows, name="[red]other.csv").path
    options = (path, "--rows", rows_file(tmp_path / "rows.json.gz", rows), "--against", other, "--claimed", "8")
    answer = sen_bench("audit", *options)
    assert answer.code == 0, answer.err
    for part in (
        "mine.csv holds 1,265",
        "Official folds",
        "Crystal systems",
        "triclinic (few rows)",
        "[red]other",
        "rank 1",
    ):
        assert part in answer.out
    facts = json.loads(sen_bench("audit", *options, "--format", "json").out)
    assert facts["verdict"] == answer.out.splitlines()[0]
    assert facts["claim"]["source"] == "--claimed"
    assert len(facts["breakdown"]["space_groups"]) == 4


def test_runs_are_compared_on_the_same_rows(
    sen_bench: Command, make: Callable[..., PredictionFile], tmp_path: Path
) -> None:
    rows, archive = made_rows(JDFT2D, 60), tmp_path / "results.zip"
    path, known = make(rows).path, rows_file(tmp_path / "rows.json.gz", rows)
    dataset = official(tmp_path / "data")
    runs = [make_run(tmp_path / "runs", dataset, block=block, seeds=[0, 1]) for block in ("capsule", "mlp")]
    assert sen_bench("archive", tmp_path / "runs", "-o", archive).code == 0
    found = []
    for source in (tmp_path / "runs", archive, archive / "matbench_jdft2d"):
        answer = sen_bench("audit", path, "--rows", known, "--against", source, "--format", "json")
        assert answer.code == 0, answer.err
        found.append(json.loads(answer.out)["against"])
    assert found[0] == found[1] == found[2]
    assert [(other["model"], other["n"]) for other in found[0]] == [(run.path.name, 60) for run in runs]
    prediction = {
        name: np.mean([run.read_predictions(Training(seed, fold)).prediction[at] for seed in (0, 1)])
        for run in runs[:1]
        for fold in range(5)
        for at, name in enumerate(run.read_predictions(Training(0, fold)).ids)
    }
    mae = np.mean([abs(prediction[name] - target) for name, target in zip(rows.ids, rows.target, strict=True)])
    assert found[0][0]["comparison"]["overall"]["other"] == pytest.approx(mae)
    phonons = make(made_rows(), name="phonons.csv").path
    answer = sen_bench("audit", phonons, "--rows", known, "--against", archive)
    assert (answer.code, f"of matbench_phonons is finished in {archive}" in answer.err) == (2, True)


def test_the_command_with_labels(sen_bench: Command, make: Callable[..., PredictionFile], tmp_path: Path) -> None:
    rows = made_rows(IS_METAL, 400)
    path = make(rows, values=rows.target).path
    answer = sen_bench("audit", path, "--rows", rows_file(tmp_path / "rows.json.gz", rows))
    assert answer.code == 0, answer.err
    assert "balanced accuracy" in answer.out


def test_what_the_command_is_given_wrongly_is_answered_in_a_sentence(
    sen_bench: Command, make: Callable[..., PredictionFile], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MATMINER_DATA", str(tmp_path))
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path / "cache"))
    rows = made_rows()
    path = make(rows).path
    known = rows_file(tmp_path / "rows.json.gz", rows)
    jdft2d = write_csv(tmp_path / "j.csv", [JDFT2D.row_id(0)], [1.0])
    for arguments, code, message in (
        ((tmp_path / "none.csv",), 2, "none.csv cannot be read"),
        ((path,), 2, "The rows of matbench_phonons are neither in the cache nor in a folder of data"),
        ((path, "--rows", path), 1, "mine.csv is not valid JSON"),
        ((path, "--task", "matbench_phonon"), 2, "Did you mean matbench_phonons"),
        ((path, "--task", "matbench_steels"), 2, "composition-only task"),
        ((path, "--task", "matbench_jdft2d"), 2, "no predictions for matbench_jdft2d"),
        ((path, "--task", "prototypes"), 2, "no predictions for prototypes"),
        ((path, "--rows", known, "--against", jdft2d), 2, "j.csv has no predictions for matbench_phonons"),
        ((known,), 1, "is not a file of predictions that can be read"),
        *(
            ((path, "--rows", known, "--claimed", claim), 2, "--claimed takes a score, a finite number above 0, not")
            for claim in ("nan", "inf", "-1", "0")
        ),
    ):
        answer = sen_bench("audit", *arguments)
        assert (answer.code, answer.out) == (code, ""), arguments
        assert message in answer.err
        assert len(answer.err.strip().splitlines()) == 1
