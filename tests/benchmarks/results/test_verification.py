"""`sen-bench verify`, with the real matbench where the environment names a Python that has it."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.errors import DataError, RunError, UsageError
from benchmarks.data.folds import official_folds
from benchmarks.results.metrics import matbench_scores
from benchmarks.results.submission import FOLDS, read_submission
from benchmarks.results.verification import PYTHON_VARIABLE, matbench_python, verify
from tests.benchmarks.conftest import Answer, Write, rocksalts
from tests.benchmarks.results.made_submissions import regression

Command = Callable[..., Answer]


@pytest.fixture
def file(run: object, sen_bench: Command, tmp_path: Path) -> Path:
    """A submission for matbench_jdft2d whose predictions are made up."""
    assert sen_bench("export", run.path, "-o", tmp_path / "results.json.gz").code == 0  # type: ignore[attr-defined]
    return tmp_path / "results.json.gz"


def answering(folder: Path, answer: object, code: int = 0) -> str:
    """A Python that prints this answer in place of matbench's."""
    program = folder / "python"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint({json.dumps(answer)!r})\nsys.exit({code})\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def scores(targets: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, float]]:
    folds = official_folds("regression", len(targets))
    return {
        name: matbench_scores("regression", targets[test], predicted[test])
        for name, (_, test) in zip(FOLDS, folds, strict=True)
    }


def test_scores_are_compared_fold_by_fold(file: Path, tmp_path: Path) -> None:
    targets, (predicted,) = regression()
    found = scores(targets, predicted)
    submission, given = read_submission(file), {"matbench_jdft2d": targets.tolist()}
    same = verify(file, submission, given, answering(tmp_path, {"matbench_jdft2d": found}))
    assert same["matbench_jdft2d"].differing == []
    assert same["matbench_jdft2d"].computed["mae"] == [found[fold]["mae"] for fold in FOLDS]
    found["fold_3"]["mae"] *= 1 + 1e-6
    other = verify(file, submission, given, answering(tmp_path, {"matbench_jdft2d": found}))
    assert other["matbench_jdft2d"].differing == ["mae"]


def test_what_matbench_refuses_and_a_python_that_cannot_run_it_are_errors(file: Path, tmp_path: Path) -> None:
    submission = read_submission(file)
    with pytest.raises(DataError, match=r"^matbench refuses .*results\.json\.gz: ValueError: no$"):
        verify(file, submission, {}, answering(tmp_path, {"refused": "ValueError: no"}))
    with pytest.raises(RunError, match=r"^matbench cannot be run by .*python \(no reason given\)\.$"):
        verify(file, submission, {}, answering(tmp_path, {}, code=1))
    with pytest.raises(RunError, match=r"cannot be started \(No such file or directory\)"):
        verify(file, submission, {}, str(tmp_path / "nowhere"))


def test_without_matbench_two_lines_say_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(PYTHON_VARIABLE, raising=False)
    monkeypatch.setattr("benchmarks.results.verification.find_spec", lambda _: None)
    with pytest.raises(UsageError) as missing:
        matbench_python()
    _, *lines = str(missing.value).splitlines()
    assert len(lines) == 2
    (requirements,) = (word for word in lines[0].split() if word.endswith(".txt"))
    assert "matbench==0.6" in Path(requirements).read_text()
    monkeypatch.setattr("benchmarks.results.verification.find_spec", lambda _: object())
    assert matbench_python() == sys.executable


def test_rows_that_are_not_available_are_named(
    file: Path, sen_bench: Command, write_data: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PYTHON_VARIABLE, sys.executable)
    answer = sen_bench("verify", file, "--data-dir", write_data(rocksalts(20)))
    assert answer.code == 2
    assert "matbench needs the targets of all rows of matbench_jdft2d: name the folder of" in answer.err


def test_the_real_matbench_verifies_a_file(file: Path) -> None:
    python = os.environ.get(PYTHON_VARIABLE)
    if python is None:
        pytest.skip(f"needs a Python with benchmarks/results/matbench-requirements.txt (set {PYTHON_VARIABLE})")
    targets, _ = regression()
    submission = read_submission(file)
    verified = verify(file, submission, {"matbench_jdft2d": targets.tolist()}, python)
    assert verified["matbench_jdft2d"].differing == []
    other = verify(file, submission, {"matbench_jdft2d": (targets + 1).tolist()}, python)
    assert "mae" in other["matbench_jdft2d"].differing
