"""What happens to a process whose output cannot be written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import sys
from benchmarks.base.output import open_output
output = open_output()
if sys.stdin.read():
    sys.exit("input")
for line in range(3):
    print("Δ分", line, flush=True)
    print("warned", file=sys.stderr)
open("file", "w").write("kept")
print("unflushed")
refusal = output.refusal
open("file", "a").write(f" {refusal and refusal.strerror}")
"""


@pytest.mark.parametrize(
    ("streams", "refusal"),
    [
        ("> /dev/full", "No space left on device"),
        ("> /dev/full 2> /dev/full", "No space left on device"),
        (">&-", "Bad file descriptor"),
        ("<&- >&- 2>&-", "Bad file descriptor"),
        ("2>&-", "None"),
        ("| true", "Broken pipe"),
    ],
)
def test_a_process_goes_on_and_knows_why_nothing_was_written(tmp_path: Path, streams: str, refusal: str) -> None:
    # The reader of the pipe has gone before the first line.
    shell = f'set -o pipefail; (sleep {int("|" in streams)}; exec "$0" -c "$1") {streams}'
    command = ["bash", "-c", shell, sys.executable, CODE]
    ended = subprocess.run(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == 0
    assert ended.stderr in {b"", b"warned\n" * 3}
    assert (tmp_path / "file").read_text() == f"kept {refusal}"


def test_what_an_encoding_lacks_is_escaped() -> None:
    code = "from benchmarks.base.output import open_output; open_output(); print('\\xc5\\u0394\\u5206\\udcff')"
    for encoding, expected in (("latin-1", b"\xc5\\u0394\\u5206\\udcff\n"), ("utf-8:strict", "ÅΔ分\\udcff\n".encode())):
        command = ["env", f"PYTHONIOENCODING={encoding}", sys.executable, "-c", code]
        assert subprocess.run(command, capture_output=True, check=True).stdout == expected
