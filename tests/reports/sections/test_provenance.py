"""The section on the origin of the numbers."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.base.files import plain
from reports.page.section import Table, Text
from reports.sections.provenance import Provenance
from tests.reports.made_runs import PRETRAINED, make_run, no_progress, official, study_of, tuned_by


def test_provenance_tells_where_one_run_has_trainings_of_different_code(tmp_path: Path) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0, 1], name="sphere")
    study = study_of(tmp_path)
    records = study.results[0].records
    assert isinstance(records, dict)
    for mixed, of_fold in ((False, ("sphere 1.0",) * 2), (True, ("sphere 1.0", "sphere 1.1"))):
        for (training, record), code in zip(records.items(), of_fold, strict=True):
            records[training] = {**record, "block_code": code}
        facts = plain(Provenance().analyse(study, no_progress))
        words, *_ = (block.text for block in Provenance().show(facts) if isinstance(block, Text))
        assert ("sphere: not all trainings ran the same code of sphere, which" in words) is mixed


@pytest.mark.parametrize("other", ["AVX2", "AVX512"])
def test_provenance_tells_the_instructions_of_every_session(tmp_path: Path, other: str) -> None:
    make_run(tmp_path / "runs", official(tmp_path / "data"), folds=[0, 1])
    study = study_of(tmp_path)
    records = study.results[0].records
    assert isinstance(records, dict)
    older = {"device": "cpu", "threads": 1, "python": "3.11.7"}
    sessions = ([older], [older | {"cpu_capability": "AVX512"}, older | {"cpu_capability": other}])
    for (training, record), of_fold in zip(records.items(), sessions, strict=True):
        records[training] = {**record, "sessions": of_fold}
    blocks = list(Provenance().show(plain(Provenance().analyse(study, no_progress))))
    (versions,) = (block for block in blocks if isinstance(block, Table) and block.name == "versions")
    told = ", ".join(sorted({"AVX512", other}))
    assert versions.rows == [["python", "all", "3.11.7"], ["cpu_capability", "all", told]]
    words, *_ = (block.text for block in blocks if isinstance(block, Text))
    assert ("CPUs with different instructions (AVX2, AVX512)" in words) is (other == "AVX2")


def test_provenance_tells_what_chose_a_recipe_and_how_to_make_the_run_again(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0], block="none")

    def tables() -> dict[str, Table]:
        facts = plain(Provenance().analyse(study_of(tmp_path), no_progress))
        return {block.name: block for block in Provenance().show(facts) if isinstance(block, Table)}

    assert not {"recipe chosen by", "starts from"} & set(tables()["runs"].columns)
    make_run(tmp_path / "runs", dataset, folds=[0], flags=tuned_by(3))
    runs, commands = (tables()[name] for name in ("runs", "commands"))
    chosen = [row[runs.columns.index("recipe chosen by")] for row in runs.rows]
    told = "3 trials judged by rows held out of the training rows of fold 0 of matbench_jdft2d"
    assert sorted(chosen, key=str) == [told, None]
    (command,) = (str(row[1]) for row in commands.rows if "mlp" in str(row[0]))
    assert all(f"--set {field}=" in command or f"--set '{field}=" in command for field in tuned_by(3))


def test_provenance_tells_which_weights_a_run_started_from(tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    make_run(tmp_path / "runs", dataset, folds=[0], pretrained=PRETRAINED)
    study = study_of(tmp_path)
    facts = plain(Provenance().analyse(study, no_progress))
    tables = {block.name: block for block in Provenance().show(facts) if isinstance(block, Table)}
    ((*_, origin),) = tables["runs"].rows
    assert origin == "fold 0, seed 2 of mlp-0 on gaps, which may know test rows"
    command = facts["runs"][0]["command"]
    assert "--init-from there/mlp-0/seed_2/fold_0 --allow-overlap" in command
    assert "pretrained." not in command
    assert study.results[0].label == "mlp (pretrained on gaps, perhaps on test rows)"
