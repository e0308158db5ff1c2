from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from benchmarks.data.tasks import TASKS
from benchmarks.results.metrics import mean_absolute_deviation
from benchmarks.results.submission import read_submission
from reports.auditing.breakdown import SMALL, break_down, compare, describe, describe_comparison, point_group_order
from reports.study.row_facts import read_rows_file

# mp_gap, MAE in eV; computed from the submissions by other code than ours.
KNOWN = {
    "coNGN": (0.2167, 0.2128, 0.1615, 0.1446, 0.1991, 0.0903, 0.1128),
    "cgcnnv2019": (0.3052, 0.3491, 0.3070, 0.2745, 0.3264, 0.2051, 0.2355),
}
SYSTEMS = ("triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic")


def made_rows(n: int = 400, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Targets, predictions and space groups of rows whose error shrinks with the symmetry."""
    rng = np.random.default_rng(seed)
    group = rng.choice([2, 14, 62, 225], n, p=[0.02, 0.28, 0.4, 0.3])
    target = rng.normal(0, 2, n)
    return target, target + rng.normal(0, 1, n) / np.sqrt(point_group_order(group)), group


def by_group(facts: dict[str, Any], key: str = "systems") -> dict[Any, dict[str, Any]]:
    return {entry["group"]: entry for entry in facts[key]}


def test_point_group_orders_of_all_space_groups() -> None:
    import moyopy

    for number in range(1, 231):
        operations = moyopy.operations_from_number(number, primitive=True)
        assert point_group_order(number) == len({str(rotation) for rotation in operations.rotations}), number


def test_numbers_of_a_regression_are_those_of_their_definitions() -> None:
    target, prediction, group = made_rows()
    facts = break_down("regression", target, prediction, group)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert [system["group"] for system in facts["systems"]] == ["triclinic", "monoclinic", "orthorhombic", "cubic"]
    assert facts["absent"] == ["tetragonal", "trigonal", "hexagonal"]
    assert sum(system["n"] for system in facts["systems"]) == facts["n"] == len(target)
    for number, name in ((14, "monoclinic"), (62, "orthorhombic"), (225, "cubic")):
        at = group == number
        system = by_group(facts)[name]
        error = prediction[at] - target[at]
        mad = mean_absolute_deviation(target[at])
        assert system["n"] == at.sum()
        assert not system["is_small"]
        assert system["mae"] == pytest.approx(np.abs(error).mean())
        assert system["mad"] == pytest.approx(mad)
        assert system["relative"] == pytest.approx(np.abs(error).mean() / mad)
        assert system["bias"] == pytest.approx(error.mean())
        for key in ("mae", "relative", "bias"):
            low, high = system[f"{key}_interval"]
            assert low < system[key] < high
        # Only one space group in each system here.
        same = by_group(facts, "space_groups")[number]
        assert {key: same[key] for key in system if key != "group"} == {k: v for k, v in system.items() if k != "group"}
        assert same["system"] == name
    assert by_group(facts, "space_groups")[225]["symbol"] == "Fm3̄m"
    assert by_group(facts)["triclinic"]["is_small"]
    assert by_group(facts)["triclinic"]["n"] < SMALL


def test_interval_of_the_relative_error_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(100):
        target = rng.exponential(1.0, 100)
        prediction = target + rng.laplace(0, 0.3, 100)
        low, high = break_down("regression", target, prediction, np.full(100, 225))["overall"]["relative_interval"]
        covered.append(low <= 0.3 / (2 / np.e) <= high)  # mean absolute deviation of an exponential: 2 / e
    assert 0.87 <= np.mean(covered) <= 1


def test_small_groups_are_marked_and_one_row_has_no_interval() -> None:
    target = np.array([1.0, 2.0, 3.0, 4.0])
    facts = break_down("regression", target, target + 0.5, np.array([1, 225, 225, 225]))
    alone = by_group(facts)["triclinic"]
    assert (alone["n"], alone["mae"], alone["is_small"]) == (1, 0.5, True)
    assert alone["mae_interval"] == alone["relative_interval"] == [None, None]
    assert alone["relative"] is None
    assert "Fewer than 30 rows, too few to rank: triclinic (1), cubic (3)." in describe(facts)


def test_targets_that_are_all_the_same_have_no_relative_error() -> None:
    target = np.full(50, 0.1)
    facts = break_down("regression", target, target + np.linspace(-1, 1, 50), np.full(50, 225))
    overall = facts["overall"]
    assert (overall["mad"], overall["relative"], overall["relative_interval"]) == (0, None, [None, None])
    assert overall["mae_interval"][0] < overall["mae"] < overall["mae_interval"][1]
    assert facts["symmetry"] is None
    assert any("cannot be determined" in sentence for sentence in describe(facts, "eV"))


def test_one_gap_among_metals_has_no_upper_end() -> None:
    target = np.zeros(40)
    target[0] = 3.0
    overall = break_down("regression", target, target + 0.1, np.full(40, 225))["overall"]
    low, high = overall["relative_interval"]
    assert low > 0
    assert high is None


def test_rows_without_a_space_group_are_told_apart() -> None:
    target, prediction, group = made_rows()
    group[:40] = 0
    facts = break_down("regression", target, prediction, group)
    assert facts["systems"][-1]["group"] == "unknown"
    assert facts["systems"][-1]["n"] == 40
    assert 0 not in by_group(facts, "space_groups")
    assert facts["symmetry"]["n"] == 360
    assert "The space group of 40 rows is not known." in describe(facts)
    json.dumps(break_down("regression", target, prediction, np.zeros(400, dtype=int)), allow_nan=False)


def test_rank_correlation_is_spearmans_and_its_interval_has_the_width_it_should() -> None:
    from scipy.stats import bootstrap, spearmanr

    target, prediction, group = made_rows(300)
    order, error = point_group_order(group), np.abs(prediction - target)
    found = break_down("regression", target, prediction, group)["symmetry"]["loss"]
    assert found["value"] == pytest.approx(spearmanr(order, error).statistic)
    slow = bootstrap(
        (order, error),
        lambda x, y: spearmanr(x, y).statistic,
        paired=True,
        vectorized=False,
        n_resamples=600,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    assert found["interval"] == pytest.approx([slow.low, slow.high], abs=0.03)


def test_losses_of_several_seeds_are_scored_as_they_are() -> None:
    target, prediction, group = made_rows()
    loss = np.abs(prediction - target) + 1
    facts = break_down("regression", target, prediction, group, loss)
    plainly = break_down("regression", target, prediction, group)
    for one, other in zip(facts["systems"], plainly["systems"], strict=True):
        assert one["mae"] == pytest.approx(other["mae"] + 1)
        assert one["mae_interval"] == pytest.approx([end + 1 for end in other["mae_interval"]])
        assert one["bias"] == other["bias"]
    halves = np.full(len(target), 0.5)
    assert break_down("classification", target > 0, np.ones(400), group, halves)["overall"]["accuracy"] == 0.5
    compared = compare("regression", target, prediction, prediction, group, (loss, loss - 1))
    assert compared["overall"]["difference"] == pytest.approx(1)
    with pytest.raises(ValueError, match="a breakdown needs rows"):
        break_down("regression", target, prediction, group, loss[1:])


def test_no_trend_is_told_that_dividing_by_the_spread_of_a_system_makes() -> None:
    # Errors that have nothing to do with symmetry, and targets that spread less in cubic crystals.
    rng = np.random.default_rng(8)
    group = np.repeat([14, 225], 1500)
    target = rng.normal(0, np.where(group == 225, 0.5, 2), 3000)
    facts = break_down("regression", target, target + rng.normal(0, 0.1, 3000), group)
    assert set(facts["symmetry"]) == {"n", "loss", "without_most_common"}
    cubic, monoclinic = by_group(facts)["cubic"], by_group(facts)["monoclinic"]
    assert cubic["relative"] > 2 * monoclinic["relative"]
    text = " ".join(describe(facts))
    assert "No trend of the error with symmetry is shown." in text
    assert "go with more symmetry" not in text
    assert "the cubic crystals (n = 1,500, MAE/MAD" in text


def test_what_is_said_about_symmetry_follows_the_numbers() -> None:
    target, prediction, group = made_rows(3000)
    sentences = describe(break_down("regression", target, prediction, group), "eV", "a model")
    assert sentences[0].startswith("3,000 rows; a model has MAE ")
    assert sentences[0].endswith("] eV.")
    assert "More symmetric crystals have smaller errors here." in sentences
    assert any("n = " in sentence and "cubic" in sentence for sentence in sentences)
    assert sentences.index("More symmetric crystals have smaller errors here.")
    assert any("none of this shows a cause" in sentence for sentence in sentences)
    worse = target + (prediction - target) * point_group_order(group)
    assert "More symmetric crystals have larger errors here." in describe(
        break_down("regression", target, worse, group)
    )
    rng = np.random.default_rng(1)
    nothing = target + rng.normal(0, 1, 3000)
    assert "No trend of the error with symmetry is shown." in describe(break_down("regression", target, nothing, group))


def test_a_trend_that_one_target_makes_is_said_to_be_its_own() -> None:
    # Metals: gap 0, easy, and mostly cubic. Among the others symmetry changes nothing.
    rng = np.random.default_rng(2)
    group = np.repeat([14, 225], 2000)
    target = rng.exponential(1, 4000)
    metal = rng.random(4000) < np.where(group == 225, 0.8, 0.2)
    target[metal] = 0
    prediction = target + rng.normal(0, np.where(metal, 0.01, 0.5))
    facts = break_down("regression", target, prediction, group)
    common = facts["symmetry"]["without_most_common"]
    assert common["value"] == 0
    assert common["share"] == pytest.approx(metal.mean())
    assert facts["symmetry"]["loss"]["interval"][1] < 0 < common["rest"]["interval"][1]
    for system, number in zip(common["systems"], (14, 225), strict=True):
        rest = (group == number) & ~metal
        assert system["n"] == rest.sum()
        assert system["share"] == pytest.approx(metal[group == number].mean())
        assert system["mae"] == pytest.approx(np.abs(prediction - target)[rest].mean())
    assert any(s.startswith("Among them the lowest MAE is that of the ") for s in describe(facts, "eV"))
    assert any("49% of the targets are 0" in s and "no trend is shown there" in s for s in describe(facts))


def test_classification() -> None:
    rng = np.random.default_rng(3)
    target = (rng.random(600) < 0.4).astype(float)
    group = rng.choice([2, 225], 600)
    probability = np.clip(target * 0.5 + rng.random(600) * 0.6, 0, 1)
    facts = break_down("classification", target, probability, group)
    json.dumps(facts, allow_nan=False)
    at = group == 225
    label = probability > 0.5
    cubic = by_group(facts)["cubic"]
    rates = [np.mean(label[at & (target == value)] == value) for value in (0, 1)]
    assert cubic["accuracy"] == pytest.approx(np.mean(label[at] == target[at]))
    assert cubic["balanced_accuracy"] == pytest.approx(np.mean(rates))
    assert cubic["positive"] == pytest.approx(target[at].mean())
    for key in ("accuracy", "balanced_accuracy"):
        low, high = cubic[f"{key}_interval"]
        assert low < cubic[key] < high
    assert any(sentence.startswith("The highest accuracy is that of the") for sentence in describe(facts, "", "m"))
    one_class = break_down("classification", np.ones(40), probability[:40], group[:40])["overall"]
    assert one_class["balanced_accuracy"] is None
    assert one_class["accuracy_interval"][0] is not None


def test_a_few_rows_of_a_class_give_the_balanced_accuracy_no_interval() -> None:
    for n, known in ((9, False), (10, True)):
        target = np.zeros(400)
        target[:n] = 1
        facts = break_down("classification", target, target.copy(), np.full(400, 225))["overall"]
        assert facts["balanced_accuracy"] == 1
        assert (facts["balanced_accuracy_interval"] == [None, None]) != known
        assert facts["accuracy_interval"] == [1, 1]


def test_interval_of_the_balanced_accuracy_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(4)
    covered = []
    for _ in range(150):
        target = (rng.random(200) < 0.1).astype(float)
        right = rng.random(200) < np.where(target == 1, 0.6, 0.9)
        probability = np.where(right, target, 1 - target)
        low, high = break_down("classification", target, probability, np.full(200, 2))["overall"][
            "balanced_accuracy_interval"
        ]
        covered.append(low <= 0.75 <= high)
    assert 0.87 <= np.mean(covered) <= 1


def test_two_models_on_the_same_rows() -> None:
    target, prediction, group = made_rows(2000)
    rng = np.random.default_rng(6)
    other = prediction.copy()
    cubic = group == 225
    other[cubic] = target[cubic] + 2 * (prediction[cubic] - target[cubic])
    other[~cubic] += rng.normal(0, 1e-3, (~cubic).sum())
    facts = compare("regression", target, prediction, other, group)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    found = by_group(facts)
    mae = np.abs(prediction - target)[cubic].mean()
    assert found["cubic"]["one"] == pytest.approx(mae)
    assert found["cubic"]["difference"] == pytest.approx(-mae)
    assert found["cubic"]["errs_less"] == "one"
    # Paired: the spread of the rows themselves is no uncertainty of the difference.
    low, high = found["orthorhombic"]["difference_interval"]
    assert high - low < 1e-3
    turned = by_group(compare("regression", target, other, prediction, group))
    assert turned["cubic"]["errs_less"] == "other"
    text = " ".join(describe_comparison(facts, "A", "B", "eV"))
    assert f"cubic ({cubic.sum():,} rows)" in text.partition("A is better on these rows of ")[2].partition(". ")[0]
    same = compare("regression", target, prediction, prediction, group)
    assert all(system["errs_less"] is None for system in same["systems"])
    assert "No significant difference on these rows of " in " ".join(describe_comparison(same, "A", "B"))


@pytest.mark.parametrize(
    ("p", "says"),
    [
        (None, "A is better on these rows."),
        (0.2, "A is better on these rows; not significant over folds (p = 0.20)."),
        (0.01, "A is better on these rows; significant over folds (p = 0.010)."),
    ],
)
def test_what_folds_say_stands_beside_what_rows_say(p: float | None, says: str) -> None:
    target = np.arange(60.0)
    facts = compare("regression", target, target + 0.1, target + 1, np.full(60, 225))
    assert says in " ".join(describe_comparison({**facts, "p_over_folds": p}, "A", "B"))


def test_intervals_do_not_depend_on_the_order_of_the_rows() -> None:
    rng = np.random.default_rng(0)
    target, group, order = rng.normal(size=90), np.repeat([62, 225], 45), rng.permutation(90)
    one, other = target + rng.normal(size=90), target + rng.normal(size=90)
    rows, again = ((target[at], one[at], other[at], group[at]) for at in (slice(None), order))
    intervals = [break_down("regression", true, first, space)["systems"] for true, first, _, space in (rows, again)]
    assert [system["mae_interval"] for system in intervals[0]] == [system["mae_interval"] for system in intervals[1]]
    differences = [compare("regression", *rows)["overall"]["difference_interval"] for rows in (rows, again)]
    assert differences[0] == differences[1]


@pytest.mark.parametrize("lengths", [(0, 0, 0), (2, 1, 2), (2, 2, 3)])
def test_arrays_that_do_not_belong_together_are_refused(lengths: tuple[int, int, int]) -> None:
    target, prediction = np.ones(lengths[0]), np.ones(lengths[1])
    group = np.ones(lengths[2], dtype=int)
    with pytest.raises(ValueError, match="a breakdown needs rows"):
        break_down("regression", target, prediction, group)
    with pytest.raises(ValueError, match="a comparison needs rows"):
        compare("regression", target, prediction, prediction, group)


numbers = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(data=st.data(), n=st.integers(1, 60), kind=st.sampled_from(["regression", "classification"]))
def test_any_rows_give_facts_that_json_holds_and_sentences(data: st.DataObject, n: int, kind: Any) -> None:
    group = data.draw(arrays(np.int64, n, elements=st.sampled_from([0, 1, 2, 14, 62, 166, 194, 225])))
    if kind == "regression":
        target, one, other = (data.draw(arrays(float, n, elements=numbers)) for _ in range(3))
    else:
        target = data.draw(arrays(float, n, elements=st.sampled_from([0.0, 1.0])))
        one, other = (data.draw(arrays(float, n, elements=st.floats(0, 1))) for _ in range(2))
    facts = break_down(kind, target, one, group)
    json.dumps(facts, allow_nan=False)
    assert sum(system["n"] for system in facts["systems"]) == n
    assert all(describe(facts, "eV"))
    comparison = compare(kind, target, one, other, group)
    json.dumps(comparison, allow_nan=False)
    assert all(describe_comparison(comparison, "A", "B"))


@pytest.mark.deep
@pytest.mark.parametrize("model", KNOWN)
def test_known_answers_on_published_predictions(leaderboard: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.results.statistics._RESAMPLES", 100)
    task = TASKS["matbench_mp_gap"]
    rows = read_rows_file(leaderboard / "matbench_mp_gap.rows.json.bz2", task)
    folds = read_submission(leaderboard / f"{model}.results.json.gz").tasks[task.name].folds
    at = rows.positions([name for fold in folds for name in fold.ids])
    prediction = np.concatenate([fold.prediction for fold in folds])
    facts = break_down("regression", rows.target[at], prediction, rows.space_group[at])
    found = by_group(facts)
    assert tuple(found) == SYSTEMS
    assert [found[name]["mae"] for name in SYSTEMS] == pytest.approx(KNOWN[model], abs=5e-5)
    for name in SYSTEMS:
        low, high = found[name]["mae_interval"]
        assert low < found[name]["mae"] < high
        assert (high - low) / found[name]["mae"] < 0.2
    assert sum(entry["n"] for entry in facts["space_groups"]) == 106113
