"""What commands print."""

from __future__ import annotations

import logging

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn
from rich.table import Table

from benchmarks.base.console import LogFormatter, NotebookLines, make_console, print_table, say

HOSTILE = "\x1b[31m[red]:smile:[/]\u202e"
SHOWN = r"\x1b[31m[red]:smile:[/]\u202e"


def test_no_name_controls_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    console, table = make_console(), Table(HOSTILE, title=HOSTILE)
    table.add_row(HOSTILE)
    bar = Progress(TextColumn("{task.description}", markup=False), console=console)
    bar.add_task(HOSTILE)
    for each in (HOSTILE, table, bar):
        console.print(each)
    say(f"{HOSTILE}\nError: forged\n  listed")
    out = capsys.readouterr().out
    assert out.count(SHOWN) == 5  # the bar has no space for all of it
    assert r"\x1b[31m[red]:s" in out.splitlines()[-3]
    assert out.endswith(f"{SHOWN}\\nError: forged\n  listed\n")
    assert out.replace("\n", "").isprintable()
    # The frame of the table fits around the name.
    (title, *lines) = out.splitlines()[1:6]
    assert SHOWN in title
    assert len(set(map(len, lines))) == 1


def test_no_name_forges_a_line_of_the_log() -> None:
    record = logging.LogRecord("sen_bench", logging.WARNING, __file__, 1, "row %s\n  of two", ("a\nb\x1b",), None)
    assert LogFormatter().format(record) == "row a\\nb\\x1b\n  of two"


LONG = "matbench_perovskites-0123456789"


@pytest.mark.parametrize(
    ("width", "expected", "dropped"),
    [
        (120, {LONG, "run", "mean", "unit", "eV"}, {"Too narrow"}),
        (45, {LONG, "run", "mean", "Too narrow for: unit."}, {"eV"}),
        (20, {LONG, "mean: 1", "unit: eV"}, {"┃", "Too narrow"}),
    ],
)
def test_a_narrow_terminal_gets_fewer_columns_or_a_line_per_fact(
    width: int, expected: set[str], dropped: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(force_terminal=True, width=width, color_system=None)
    print_table(console, "Runs", {"run": "left", "unit": "left", "mean": "right"}, [(LONG, "eV", "1")], ["unit"])
    out = capsys.readouterr().out
    assert all(each in out for each in expected)
    assert not any(each in out for each in dropped)


def test_a_file_gets_all_columns(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(make_console(), "Runs", {"run": "left", "unit": "left"}, [(LONG * 9, "eV")], ["unit"])
    assert f"{LONG * 9} │ eV" in capsys.readouterr().out


def test_lines_of_a_notebook_take_the_place_of_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []

    class Handle:
        def update(self, content: dict[str, str], *, raw: bool) -> None:
            assert raw
            shown[-1] = content["text/plain"]

    def display(content: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert raw
        assert display_id
        shown.append(content["text/plain"])
        return Handle()

    monkeypatch.setattr("IPython.display.display", display)
    assert NotebookLines.find() is None
    lines = NotebookLines()
    lines.show("a", "epoch 1")
    lines.show("a", f"epoch 2{HOSTILE}")  # a moment later, and not shown yet
    assert shown == ["epoch 1"]
    monkeypatch.setattr("benchmarks.base.console._MOMENT", 0)
    lines.show("b", "epoch 1")
    assert shown == [f"epoch 2{SHOWN}\nepoch 1"]
    lines.drop("a")
    assert shown == ["epoch 1"]
    lines.drop()
    assert shown == [""]
