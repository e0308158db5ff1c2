"""`sen-bench run --init-from`, from the weights of one run to the labels of another."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.benchmarks.conftest import DEFAULTS_OF_0_1, OPTIONS_OF_0_1, SMALL, Answer, Write, rocksalts

Command = Callable[..., Answer]
LABEL = "pretrained on matbench_jdft2d"


@pytest.mark.usefixtures("unlearnt")
def test_a_run_starts_from_another_and_says_so_everywhere(
    write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(40)), tmp_path / "runs"
    common = ("run", "matbench_jdft2d", "--data-dir", data, "--out", out, "--epochs", 1, *SMALL, "--folds")
    assert sen_bench(*common, 0).code == 0
    (source,) = (path.parent for path in out.rglob("config.json"))
    rest = ("--init-from", source, "--set", "training.frozen_epochs=1")
    answer = sen_bench(*common, 0, *rest)
    assert answer.code == 0, answer.err
    assert f"Every training starts from {source}/seed_0/fold_0, 100.0% of the parameters in" in answer.out
    assert "of the data, and of no test row." in answer.out
    assert f"Label: {LABEL}. So it has no rank among the published models." in answer.out
    assert f"SEN (mlp), this run ({LABEL})" in answer.out
    (run,) = (path.parent for path in out.rglob("config.json") if path.parent != source)
    assert json.loads((run / "config.json").read_text())["config"]["pretrained"]["run"] == source.name
    assert f"mlp, {LABEL}" in sen_bench("status", out).out
    again = sen_bench(*common, 0, *rest)
    assert "0 of 1 trainings to do" in again.out
    refused = sen_bench(*common, 1, *rest)
    assert (refused.code, "choose other folds or weights. --allow-overlap trains" in refused.err) == (2, True)
    allowed = sen_bench(*common, 1, *rest, "--allow-overlap")
    assert f"Label: {LABEL}, perhaps on test rows. So it has no rank" in allowed.out
    alone = sen_bench(*common, 1, "--allow-overlap")
    assert (alone.code, "--allow-overlap is for weights of another run" in alone.err) == (2, True)


@pytest.mark.usefixtures("unlearnt")
def test_weights_of_0_1_start_a_run(runs_of_0_1: Path, sen_bench: Command, tmp_path: Path) -> None:
    source = runs_of_0_1 / "prototypes" / "mlp-c82ce5750e"
    common = ("run", "prototypes", *OPTIONS_OF_0_1, "--block", "mlp", "--epochs", 1, "--init-from", source)
    answer = sen_bench(*common, *DEFAULTS_OF_0_1, "--out", tmp_path / "runs")
    assert answer.code == 0, answer.err
    assert f"starts from {source}/seed_1/fold_0, 100.0% of the parameters in" in answer.out
    refused = sen_bench(*common, "--out", tmp_path / "runs")
    assert (refused.code, "were refined to 0.01 Å, these to 0.001 Å (graph.symprec)" in refused.err) == (2, True)
