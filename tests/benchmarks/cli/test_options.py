"""The options that commands share."""

from __future__ import annotations

import inspect
from dataclasses import fields
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from ablations.commands import ablate
from benchmarks.base.errors import UsageError
from benchmarks.cli.commands import run
from benchmarks.cli.options import TrainingOptions, has_results_in_files, parse_percent, with_training_options
from sen.registry import find_plugins
from tests.conftest import own_names

SHARED = [field.name for field in fields(TrainingOptions)]


def test_a_command_gets_the_shared_options_as_one_object() -> None:
    calls = []

    @with_training_options
    def command(name: str, *, options: TrainingOptions, jobs: int = 1, folds: str = "0") -> None:
        calls.append((name, options, jobs, folds))

    # An option of its own takes the place of the shared one of that name.
    others = [name for name in SHARED if name != "folds"]
    assert list(inspect.signature(command).parameters) == ["name", *others, "jobs", "folds"]
    app = typer.Typer()
    app.command()(command)
    line = ["x", "--seed", "3", "--seeds", "2", "--out", "there", "--limit", "9", "--jobs", "2", "--folds", "1"]
    answer = CliRunner().invoke(app, line)
    assert answer.exit_code == 0, answer.output
    assert calls == [("x", TrainingOptions(seed=3, seeds=2, out=Path("there"), limit=9), 2, "1")]
    assert list(calls[0][1].all_seeds) == [3, 4]
    assert list(TrainingOptions(seed=3).all_seeds) == [3]


def test_run_and_ablate_share_their_options() -> None:
    for command, own in ((run, []), (ablate, ["limit"])):  # which may be an axis of a grid
        shared = [name for name in SHARED if name not in own]
        assert [name for name in inspect.signature(command).parameters if name in shared] == shared


def test_numbers_of_seeds_that_cannot_be_planned_are_refused() -> None:
    assert len(TrainingOptions(seeds=1000, seed=2**32 - 1000).all_seeds) == 1000
    with pytest.raises(UsageError, match=r"^--seeds takes at most 1,000, not 1,001: each is a training of every fold"):
        TrainingOptions(seeds=1001)
    with pytest.raises(UsageError, match=r"^--seed 4294967295 and --seeds 2 go beyond the largest seed, 4294967295\.$"):
        TrainingOptions(seed=2**32 - 1, seeds=2)


def is_stored(command: str, **options: bool) -> bool:
    return has_results_in_files(find_plugins("sen_bench.commands")[command].load(), options)


def test_only_commands_that_write_their_results_do_without_output() -> None:
    printing = {command for command in own_names("commands") if not is_stored(command)}
    assert printing == {
        "audit",
        "blocks",
        "check-block",
        "check-model",
        "fields",
        "models",
        "predict",
        "split",
        "status",
        "tasks",
        "verify",
    }
    assert not is_stored("ablate", dry_run=True)
    assert not is_stored("study", dry_run=False, status=True)


@pytest.mark.parametrize(("text", "meant"), [("10", "10%"), ("0.02", "2%"), ("0", ""), ("100", ""), ("ten", "")])
def test_a_share_without_per_cent_is_told_as_one_with(text: str, meant: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_percent("--detect", text)
    assert str(refused.value).endswith(f"not {text!r}.{f' Did you mean {meant}?' if meant else ''}")


def test_shares_are_given_in_per_cent() -> None:
    assert parse_percent("--margin", " 2.5 % ") == 0.025
    assert parse_percent("--margin", "5%") == 0.05


@pytest.mark.parametrize("text", ["5", "0.05", "-5%", "0%", "0.0%", "100%", "1e1%", "nan%", "%", "", "5%%", "\u0665%"])
def test_other_shares_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="--margin takes a share above 0 and below 100 per cent, such as 5%"):
        parse_percent("--margin", text)
