"""What commands print, and what happens where nobody reads it."""

from __future__ import annotations

import subprocess
import sys


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
