"""Methods paragraph and BibTeX of a report."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.data.tasks import TASKS, Task
from benchmarks.results.run_config import TrainingConfig, build_config
from reports.page.cite import bibtex, methods
from reports.page.report import Part
from reports.study.reading import read_studies
from reports.study.sentences import Sentences
from reports.study.study import Study
from sen.network import SEN
from tests.benchmarks.conftest import change_facts
from tests.conftest import own_names
from tests.reports.made_runs import PRETRAINED, make_run, official, own, study_of, tuned_by
from tests.reports.page.conftest import methods_of


def test_methods_and_citations(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset)
    make_run(tmp_path / "runs", dataset, block="egnn", folds=[0])
    report(sections="overview")
    html = (tmp_path / "report.html").read_text()
    cited = ("10.1038/s41467-023-40756-2", "10.1038/s41524-020-00406-3", "10.1038/s41598-017-05402-0", "2102.09844")
    for what in (*cited, "@software{senbench"):
        assert what in html
    assert "10.1038/sdata.2018.65" not in html
    text = methods_of(html)
    assert "60 of the 636 rows of the task (partial data)" in text
    assert "official five folds of MatBench v0.1" in text
    assert "egnn lacks some of them" in text


@pytest.mark.parametrize("task", [task for task in TASKS.values() if task.is_official], ids=lambda task: task.name)
def test_the_data_of_every_official_task_are_cited(task: Task) -> None:
    entries = bibtex([Part(Study(task, [], []), [])], {"sen-bench": "1.2", "git_commit": None}).split("\n\n")
    keys = [entry[entry.index("{") + 1 : entry.index(",")] for entry in entries]
    assert keys[:2] == ["liang2023sen", "dunn2020matbench"]
    assert keys[2:-1]
    assert len(set(keys)) == len(keys)
    assert all(re.search(r"\n  doi = \{10\.", entry) for entry in entries[:-1])


def test_methods_say_which_rows_files_and_seeds(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, seeds=[0, 1])
    other = make_run(tmp_path / "runs", dataset, block="egnn")
    facts = other.read_config()
    change_facts(other, {**facts, "data": {**facts["data"], "rows": 636, "is_complete": True, "coverage": 1.0}})
    file = tmp_path / "theirs.csv"
    file.write_text("id,prediction\n" + "".join(f"mb-jdft2d-{i:03d},5\n" for i in range(1, 61)))
    report("--against", file, sections="overview")
    html = (tmp_path / "report.html").read_text()
    text = methods_of(html)
    assert "The data of mlp were 60 of the 636 rows of the task (partial data)." in text
    assert "The data of egnn were all 636 rows." in text
    assert "predicted once by the model of each seed." in text
    assert "1 to 2 seeds were run of each fold; a fold" in text
    assert "those of theirs from CSV files of predictions." in text
    assert "submission" not in text
    assert "% theirs: see the file theirs.csv" in html


@pytest.mark.parametrize(
    "name", sorted({*own_names("blocks"), *own_names("models")} - {"capsule", "mlp", "none", "sen"})
)
def test_every_block_and_model_that_is_not_of_the_paper_is_cited(tmp_path: Path, name: str) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), block=name, folds=[0])
    entries = bibtex([Part(study_of(tmp_path), [])], {"sen-bench": "1.2", "git_commit": None}).split("\n\n")
    assert re.search(r"\n  (doi = \{10\.|eprint = )", entries[-1])
    assert entries[-1].startswith("@")
    assert "senbench" not in entries[-1]


def test_methods_of_a_page_without_scores_do_not_speak_of_them(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), seeds=[0, 1])
    (study,) = read_studies([tmp_path / "runs"])
    text = " ".join(methods([Part(study, [])], {"sen-bench": "1.2"}, scores=False))
    assert "2 seeds were run of each fold." in text
    assert not [word for word in ("leaderboard", "score", "t-test", "bootstrap") if word in text]
    assert "leaderboard" in " ".join(methods([Part(study, [])], {"sen-bench": "1.2"}))


def methods_text(runs: Path) -> str:
    (study,) = read_studies([runs])
    return " ".join(methods([Part(study, [])], {"sen-bench": "1.2"}))


def test_methods_count_the_seeds_of_each_fold(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset)
    make_run(tmp_path / "runs", dataset, folds=[0], seeds=[1])
    assert "1 to 2 seeds were run of each fold;" in methods_text(tmp_path / "runs")


OTHER_RECIPES: dict[str, Any] = {
    "training.epochs": 7,
    "training.batch_size": 8,
    "training.edge_budget": 999,
    "training.loss": "mse",
    "training.optimizer": "adam",
    "training.learning_rate": 1e-3,
    "training.schedule": "linear",
    "training.hold": 0.1,
    "training.final_learning_rate": 1e-5,
    "training.weight_decay": 0.5,
    "training.warmup": 0,
    "training.clip_norm": 2.5,
    "training.ema_decay": 0.5,
    "training.validation": 0.2,
    "training.calibration": 0.25,
    "training.patience": 3,
    "training.precision": "bfloat16",
    "training.frozen_epochs": 3,
    "sen.dropout": 0.05,
}


@pytest.mark.parametrize(("field", "value"), OTHER_RECIPES.items())
def test_methods_tell_every_setting_in_which_recipes_differ(tmp_path: Path, field: str, value: object) -> None:
    dataset = official(tmp_path / "data")
    held_out = {"training.validation": 0.1}
    make_run(tmp_path / "runs", dataset, folds=[0], flags=held_out)
    assert "Recipes differ" not in methods_text(tmp_path / "runs")
    make_run(tmp_path / "runs", dataset, folds=[0], block="egnn", flags=held_out | {field: value})
    text = methods_text(tmp_path / "runs")
    (told,) = re.findall(r"Recipes differ in the rest: egnn had ([^;]+); mlp had ([^;]+?)\. One seed", text)
    assert told[0] != told[1]


def test_all_of_the_recipe_is_tried() -> None:
    assert {f"training.{name}" for name in TrainingConfig.model_fields} < set(OTHER_RECIPES)


def test_recipes_of_other_models_are_described_as_they_are() -> None:
    def recipe(variant: str, **flags: Any) -> list[str]:
        config = build_config("mine", variant, flags=flags).model_dump(mode="json")
        return Sentences("reports.page.cite", {}).paragraphs("recipe", config=config, kind="regression")

    every_row = recipe("megnet")
    assert {"1,000 epochs", "the last epoch counts"} < set(every_row)
    assert not [words for words in every_row if "dropout" in words]
    assert {"200 epochs", "the last epoch counts"} < set(recipe("mlp"))
    cycle = recipe("mlp", **{"training.schedule": "one-cycle", "training.validation": 0.1})
    assert {"at most 200 epochs", "warm-up along half a cosine over the first 10 % of the steps"} < set(cycle)


def test_recipes_without_anything_in_common_and_what_is_fitted_at_once(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0], block="trees")
    text = methods_text(tmp_path / "runs")
    assert "trees was fitted to all training rows at once. One seed was run" in text
    assert "AdamW" not in text
    for name in ("mlp", "megnet", "cgcnn", "cogn"):
        make_run(tmp_path / "runs", dataset, folds=[0], block=name)
    text = methods_text(tmp_path / "runs")
    assert re.search(r"fitted to all training rows at once\. Recipes differ: .*mlp had AdamW on .*One seed", text)


def test_a_block_that_is_not_installed_is_cited_as_a_block(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0], name="gone")
    (study,) = read_studies([tmp_path / "runs"])
    assert "% block gone: no publication named" in bibtex([Part(study, [])], {"sen-bench": "1.2", "git_commit": None})


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        (
            "cluster:3",
            "Rows were split into 3 folds by groups (cluster:3): no row of a group that a fold tests was trained",
        ),
        ("folds", "Rows were split into the official five folds of MatBench v0.1 (Dunn et al. 2020) (KFold, shuffled"),
    ],
)
def test_methods_say_how_rows_were_split(
    tmp_path: Path, report: Callable[..., dict[str, Any]], split: str, expected: str
) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", replace(dataset, task=replace(dataset.task, split=split)), folds=[0, 1])
    report(sections="overview")
    text = methods_of((tmp_path / "report.html").read_text())
    assert expected in text
    assert "mlp lacks some of them." in text
    assert "In each fold" in text


def test_methods_of_one_run_with_validation_rows(
    tmp_path: Path, report: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SEN, "recipe", {})
    make_run(tmp_path / "runs", own(tmp_path / "data", split="holdout:0.6/0.2/0.2"), folds=[0])
    report(sections="overview")
    text = methods_of((tmp_path / "report.html").read_text())
    assert (
        "It was trained with AdamW on the mean absolute error of standardised targets, at most 60 epochs, "
        "batches of up to 32 crystals (65,536 neighbours), a peak learning rate of 0.0007, linear warm-up over the "
        "first 10 % of the steps, cosine decay, weight decay 3, dropout 0.3, gradients clipped to a norm of 1, an "
        "exponential moving average of the weights (decay 0.99), early stopping after 30 epochs without a better "
        "validation error and 50 % of the validation rows kept for calibrating intervals. One seed was run. Intervals "
        "are 95 % percentile intervals"
    ) in text
    for what in ("Scores", "standard deviation", "Differences", "t-test", "Holm"):
        assert what not in text
    assert "The data were all 60 rows." in text
    assert (
        "Of these 36 rows were used for training, 6 others held out of the training rows for choosing the epoch, 6 for "
        "calibrating intervals, and 12 predicted once. "
    ) in text
    assert "Predictions of others" not in text


def test_methods_of_one_run(tmp_path: Path, report: Callable[..., dict[str, Any]]) -> None:
    make_run(tmp_path / "runs", own(tmp_path / "data", split="holdout:0.6/0.2/0.2"), folds=[0])
    report(sections="overview")
    text = methods_of((tmp_path / "report.html").read_text())
    assert "standardised targets, 200 epochs, batches of up to 32 crystals" in text
    assert "moving average of the weights (decay 0.99) and the last epoch counts. One seed was run." in text
    assert (
        "Of these 48 rows were used for training, no others held out of the training rows for choosing the epoch, and "
        "12 predicted once. "
    ) in text


def test_methods_of_a_classification_without_what_is_not_done(tmp_path: Path) -> None:
    dataset = own(tmp_path / "data", kind="classification")
    make_run(tmp_path / "runs", dataset, folds=[0], flags={"training.warmup": 0, "training.ema_decay": 0})
    text = methods_text(tmp_path / "runs")
    assert "trained with AdamW on the binary cross-entropy" in text
    assert not [word for word in ("warm-up", "average", "averaging", "precision") if word in text]


def test_methods_tell_which_weights_a_run_started_from(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0], pretrained=PRETRAINED)
    assert re.search(
        r"mlp [^.]* started from the weights of fold 0, seed 2 of mlp-0 on gaps, which may know test rows\.",
        methods_text(tmp_path / "runs"),
    )


def test_methods_tell_which_recipes_were_tuned(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0], block="none")
    for block in ("egnn", "mlp"):
        make_run(tmp_path / "runs", dataset, folds=[0], block=block, flags=tuned_by(3, block))
    assert re.search(
        r"`sen-bench tune` chose the recipes of egnn .* and mlp [^.]* by 3 trials judged by rows held out of the "
        r"training rows of fold 0 of matbench_jdft2d, for each of them\.",
        methods_text(tmp_path / "runs"),
    )
