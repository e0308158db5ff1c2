"""What commands print, and what happens where nobody reads it."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from rich.progress import Progress, TextColumn
from rich.table import Table

from benchmarks.base.console import LogFormatter, make_console, say

HOSTILE = "\x1b[31m[red]:smile:[/]\u202e"
SHOWN = r"\x1b[31m[red]:smile:[/]\u202e"


def test_a_reader_that_hangs_up_ends_nothing() -> None:
    code = (
        "import sys; from benchmarks.base.console import make_console; console = make_console(); sys.stdin.read();\n"
        "for i in range(3): console.print('epoch', i)\n"
        "print('finished', file=sys.stderr)"
    )
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    process.stdout.close()
    process.stdout = None
    _, err = process.communicate("")
    assert (process.returncode, err) == (0, "finished\n")


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
