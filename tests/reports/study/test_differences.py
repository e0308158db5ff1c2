"""Contrasts of a study: which are declared, and that they are compared as the runs themselves are."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.base.errors import UsageError
from benchmarks.results.contrasts import Compared, compare
from benchmarks.results.statistics import share_tested
from benchmarks.results.store import Run
from reports.study.differences import choose_contrasts, compare_results, contrasts_of
from reports.study.reading import read_studies
from reports.study.study import Study
from tests.reports.made_runs import make_resampled, make_run, official, own, study_of
from tests.reports.study.conftest import only


def labels(study: Study) -> list[tuple[str, str]]:
    return [(first.label, second.label) for first, second in contrasts_of(study)]


def as_compared(run: Run, label: str, metric: str) -> Compared:
    """The trainings of a run as an ablation compares them."""
    records = {training: run.read_metrics(training) for training in run.trainings()}
    return Compared(
        label,
        {training: record["metrics"][metric] for training, record in records.items()},
        {training: run.read_predictions(training) for training in records},
        share_tested(records.values()),
    )


@pytest.mark.parametrize(
    ("kind", "metric", "n"), [("regression", "mae", 60), ("classification", "matbench_rocauc", 120)]
)
def test_the_same_runs_have_the_same_differences_as_in_an_ablation(
    tmp_path: Path, kind: str, metric: str, n: int
) -> None:
    dataset = own(tmp_path / "data", kind=kind, n=n)
    noise = {"capsule": 0.35, "mlp": 0.45, "egnn": 0.36}
    grid = {
        name: as_compared(
            make_run(tmp_path / "runs", dataset, block=name, seeds=range(3), noise=noise[name]), name, metric
        )
        for name in noise
    }
    pairs = [(grid[name], grid["capsule"]) for name in ("egnn", "mlp")]
    expected = compare(pairs, kind, higher_is_better=kind == "classification")  # type: ignore[arg-type]
    assert compare_results(study_of(tmp_path)) == expected
    assert [answer.on_these_folds.verdict for answer in expected] != ["not assessable"] * 2


def test_contrasts_are_those_with_the_most_alike_capsule_or_with_the_first(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    for block in ("egnn", "mlp"):
        make_run(tmp_path / "runs", dataset, block=block)
    assert labels(study_of(tmp_path)) == [("mlp", "egnn")]
    make_run(tmp_path / "runs", dataset, block="capsule", flags={"sen.rounds": 2})
    assert labels(study_of(tmp_path)) == [("egnn", "capsule"), ("mlp", "capsule")]
    make_run(tmp_path / "runs", dataset, block="capsule")
    make_run(tmp_path / "runs", dataset, flags={"sen.rounds": 2})
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"{name},5.5\n" for name in dataset.table.ids))
    study = only(read_studies([tmp_path / "runs"], against=[file]))
    assert set(labels(study)) == {
        ("egnn", "capsule (rounds 3)"),
        ("mlp (rounds 3)", "capsule (rounds 3)"),
        ("mlp (rounds 2)", "capsule (rounds 2)"),
        ("theirs", "capsule (rounds 3)"),
    }


@pytest.mark.parametrize("stated", [False, True])
def test_a_published_file_is_of_one_training_and_may_have_folds(tmp_path: Path, stated: bool) -> None:
    run = make_run(tmp_path / "runs", official(tmp_path / "data"), block="capsule", seeds=[1, 2], noise=0.3)
    fold_of = {name: training.fold for training in run.trainings() for name in run.read_predictions(training).ids}
    file = tmp_path / "theirs.csv"
    file.write_text(
        f"id,prediction{',fold' * stated}\n"
        + "".join(f"{name},5.5{f',{fold}' * stated}\n" for name, fold in fold_of.items())
    )
    study = only(read_studies([tmp_path / "runs"], against=[file]))
    (found,) = compare_results(study)
    assert (found.first, found.second, found.seeds, found.noise) == ("theirs", "capsule", [1, 2], None)
    capsule, theirs = study.results
    by_fold = [
        (theirs.rows.error - capsule.rows.error)[capsule.rows.fold == fold].mean() for fold in range(5)
    ]  # the run's errors are means over its seeds
    assert theirs.rows.ids.tolist() == capsule.rows.ids.tolist()
    assert found.difference == pytest.approx(sum(by_fold) / 5)
    assert found.on_these_folds.reason == "a published file is of one training"
    assert (found.on_new_data.reason == "") == stated
    assert (found.on_new_data.verdict == "not assessable") != stated


def test_contrasts_are_named_by_labels(tmp_path: Path) -> None:
    for task, blocks in {"matbench_jdft2d": ("mlp", "egnn", "tfn"), "matbench_phonons": ("mlp", "capsule")}.items():
        for block in blocks:
            make_run(tmp_path / "runs", official(tmp_path / "data", task), block=block, folds=[0])
    one, other = studies = read_studies([tmp_path / "runs"])
    choose_contrasts(studies, ["tfn:mlp", "mlp:egnn"], 0.1)
    assert one.margin == other.margin == 0.1
    assert labels(one) == [("tfn", "mlp"), ("mlp", "egnn")]
    assert labels(other) == []
    for given, message in {
        ("mlp",): "--contrast mlp has no colon",
        ("mlp:egn",): "there is no variant 'egn'. Did you mean egnn?",
        ("mlp:mlp",): "has mlp on both sides",
        ("mlp:egnn", "egnn:mlp"): "are the same contrast",
        ("capsule:egnn",): "--contrast: no task has results of both capsule and egnn: nothing to compare.",
    }.items():
        with pytest.raises(UsageError, match=message):
            choose_contrasts(studies, given, 0.1)


def test_random_splits_are_compared_as_in_an_ablation(tmp_path: Path) -> None:
    dataset = own(tmp_path / "data")
    grid = {
        name: as_compared(make_resampled(tmp_path / "runs", dataset, block=name, noise=noise), name, "mae")
        for name, noise in {"capsule": 0.1, "mlp": 0.5}.items()
    }
    expected = compare([(grid["mlp"], grid["capsule"])], "regression", higher_is_better=False, resampled=True)
    assert compare_results(study_of(tmp_path)) == expected
    assert expected[0].superiority is not None
    assert expected[0].superiority.share < 0.25
