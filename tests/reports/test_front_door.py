"""Reports and audits from Python, as notebooks make them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.base.errors import UsageError
from reports import audit, make_report
from tests.benchmarks.conftest import Answer
from tests.reports.made_runs import make_run, official

Command = Callable[..., Answer]


def test_a_report_from_python_is_that_of_the_command(sen_bench: Command, tmp_path: Path) -> None:
    dataset, out = official(tmp_path / "data"), tmp_path / "page.html"
    runs = [make_run(tmp_path / "runs", dataset, block=block) for block in ("mlp", "capsule")]
    page = make_report(runs, out, sections=["overview", "learning-curves"], contrasts=["mlp:capsule"], margin=0.05)
    assert page.path == out
    assert page.sections["state"].tolist() == ["shown", "absent"]
    assert "several numbers of rows" in page.sections["reason"][1]
    assert str(out) in page._repr_html_()
    facts = json.loads(page.facts.read_text())
    answer = sen_bench(*facts["command"][1:], "--overwrite")
    assert answer.code == 0, answer.err
    again = json.loads(page.facts.read_text())
    assert again["command"] == facts["command"]
    assert again["tasks"][0]["sections"] == facts["tasks"][0]["sections"]
    single = make_report(
        runs, tmp_path / "single.html", sections="overview", contrasts="mlp:capsule", pair=["mlp", "capsule"]
    )
    assert single.sections["section"].tolist() == ["overview"]
    with pytest.raises(UsageError, match=r'^kind takes "sections" or "paper", not \'papers\'\.$'):
        make_report(runs, tmp_path / "x.html", kind="papers")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"^margin takes a share above 0 and below 1, such as 0\.02, not '2%'"):
        make_report(runs, tmp_path / "x.html", margin="2%")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"exists: name another file"):
        make_report(runs, out)
    with pytest.raises(UsageError, match=r"no section called 'overvew'.*Did you mean overview"):
        make_report(runs, tmp_path / "x.html", sections=["overvew"])
    with pytest.raises(UsageError, match=r"There is no folder or archive|no folder"):
        make_report(tmp_path / "nowhere", tmp_path / "x.html")


def test_runs_of_0_1_and_their_archive_are_reported(runs_of_0_1: Path, sen_bench: Command, tmp_path: Path) -> None:
    archive = tmp_path / "of-0.1.zip"
    assert sen_bench("archive", runs_of_0_1, "-o", archive).code == 0
    sections = ["overview", "parity", "calibration", "equivalence", "provenance"]
    page = make_report(runs_of_0_1, tmp_path / "runs.html", sections=sections)
    assert page.sections["state"].tolist() == ["shown", "shown", "absent", "shown", "shown"]
    of_archive = make_report(archive, tmp_path / "archive.html", sections=sections)
    assert of_archive.sections["state"].tolist() == ["shown", "shown", "absent", "absent", "shown"]
    assert "holds no weights" in of_archive.sections["reason"][3]
    shown, again = (
        json.loads(each.facts.read_text())["tasks"][0]["sections"]["overview"]["facts"] for each in (page, of_archive)
    )
    assert shown == again
    for name in ("mlp", "egnn"):
        recorded = next(runs_of_0_1.glob(f"prototypes/{name}-*")) / "seed_1" / "fold_0" / "metrics.json"
        assert f"{json.loads(recorded.read_text())['metrics']['mae']:.10g}"[:8] in json.dumps(shown)


def test_an_audit_from_python_has_what_the_command_prints(sen_bench: Command, tmp_path: Path) -> None:
    dataset = official(tmp_path / "data")
    run = make_run(tmp_path / "runs", dataset)
    file, rows = tmp_path / "predictions.csv", [run.read_predictions(training) for training in run.trainings()]
    lines = [f"{name},{value}" for part in rows for name, value in zip(part.ids, part.prediction, strict=True)]
    file.write_text("\n".join(["id,prediction", *lines]))
    given = {"task": "matbench_jdft2d", "data_dir": tmp_path / "data"}
    found = audit(file, against=[run], **given)
    words = ("--task", "matbench_jdft2d", "--data-dir", tmp_path / "data", "--against", run.path)
    printed = sen_bench("audit", file, *words, "--format", "json")
    assert {"verdict": found.verdict, **found.facts} == json.loads(printed.out)
    assert found.folds["n"].sum() == found.facts["n"]
    assert found.systems["group"].iloc[-1] == "all"
    assert found.models["model"].tolist() == [run.path.name]
    assert found.trained_on.empty
    assert found.verdict in found._repr_html_() or "<table" in found._repr_html_()
    formulas = tmp_path / "formulas.csv"
    formulas.write_text("formula\nNaCl\nLiO\n")
    overlap = audit(trained_on=formulas, **given)
    assert overlap.trained_on["by"].tolist() == ["formula"]
    assert overlap.folds.empty
    assert overlap.verdict
    with pytest.raises(UsageError, match="--claimed takes a score"):
        audit(file, claimed="0.3", **given)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Name a file of predictions"):
        audit()
    with pytest.raises(UsageError, match="Did you mean matbench_jdft2d"):
        audit(file, task="matbench_jdft2")
