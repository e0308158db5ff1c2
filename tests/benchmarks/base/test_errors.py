from __future__ import annotations

import pytest

from benchmarks.base.errors import DataError, RunError, UnreadableError, UsageError, printable, suggest


def test_wrong_use_has_a_code_of_its_own() -> None:
    codes = [error.exit_code for error in (UsageError, DataError, UnreadableError, RunError)]
    assert codes == [2, 1, 1, 1]


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("capsul", "Did you mean capsule? Available: Egnn, capsule, mlp."),
        ("EGNN", "Did you mean Egnn? Available: Egnn, capsule, mlp."),
        ("xyz", "Available: Egnn, capsule, mlp."),
        ("", "Available: Egnn, capsule, mlp."),
    ],
)
def test_the_nearest_names_come_first(name: str, answer: str) -> None:
    assert suggest(name, ["mlp", "capsule", "Egnn"]) == answer


@pytest.mark.parametrize("name", ["training.lr", "lr", "LR"])
def test_the_initials_of_a_name_mean_it(name: str) -> None:
    known = ["training.loss", "training.learning_rate", "training.final_learning_rate", "lr_schedule"]
    assert suggest(name, known).startswith("Did you mean training.learning_rate? Available")


def test_names_that_hold_commas_stand_between_semicolons() -> None:
    assert suggest("", ["mlp, sen.rounds=1", "capsule"]) == "Available: capsule; mlp, sen.rounds=1."


def test_text_of_a_file_is_one_short_line_in_a_message() -> None:
    assert printable("a\nb\x1b[31m") == r"a b\x1b[31m"
    assert printable("word " * 10**6, 20) == "word word word ..."
