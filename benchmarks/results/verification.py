"""Submission files verified by the real matbench 0.6, which cannot be installed in the environment of sen-bench."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from benchmarks.base.errors import DataError, RunError, UsageError, printable
from benchmarks.base.files import read_unpacked
from benchmarks.results.submission import FOLDS, Submission

__all__ = ["PYTHON_VARIABLE", "Verified", "matbench_python", "verify"]

PYTHON_VARIABLE = "SEN_BENCH_MATBENCH_PYTHON"
"""Environment variable that names a Python with matbench."""

# The same numbers, summed in another order.
_SAME = 1e-9
_REQUIREMENTS = Path(__file__).with_name("matbench-requirements.txt")


class Verified(NamedTuple):
    """Scores of a task, by name and for each fold: those in the file, and those that matbench computes."""

    stored: Mapping[str, Sequence[float]]
    computed: Mapping[str, Sequence[float]]

    @property
    def differing(self) -> list[str]:
        """Names of the scores that are not the same to 1e-9 of their size."""
        return [
            name
            for name, stored in self.stored.items()
            if any(
                not abs(one - other) <= _SAME * max(1, abs(other))
                for one, other in zip(stored, self.computed[name], strict=True)
            )
        ]


def matbench_python() -> str:
    """Return the Python that has matbench: the one that the environment names, or this one.

    Raises:
        UsageError: There is none; the message says in two lines how to have one.
    """
    if python := os.environ.get(PYTHON_VARIABLE):
        return python
    if find_spec("matbench") is not None:
        return sys.executable
    requirements = shlex.quote(str(_REQUIREMENTS))
    raise UsageError(
        "matbench 0.6 is not installed, and needs an environment of its own:\n"
        f"  python -m venv matbench && matbench/bin/pip install --no-deps -r {requirements}\n"
        f"  export {PYTHON_VARIABLE}=matbench/bin/python"
    )


def verify(
    path: Path, submission: Submission, targets: Mapping[str, Sequence[float]], python: str
) -> dict[str, Verified]:
    """Let matbench load, validate and score a submission file.

    Args:
        path: The file.
        submission: Its content.
        targets: The targets of all rows of tasks in it, in the official order; only these tasks are scored.
        python: The Python that has matbench.

    Raises:
        DataError: matbench refuses the file; the message has its reason.
        RunError: That Python cannot run matbench.
    """
    script = Path(__file__).with_name("matbench_script.py")
    with tempfile.TemporaryDirectory() as folder:
        # A submission is compressed, and MatbenchBenchmark.from_file opens plain text.
        results, truth = (Path(folder) / name for name in ("results.json", "targets.json"))
        results.write_bytes(read_unpacked(path))
        truth.write_text(json.dumps({name: list(values) for name, values in targets.items()}))
        try:
            done = subprocess.run(  # noqa: S603 - the Python that the user names
                [python, "-P", str(script), str(results), str(truth)], capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise RunError(f"The Python for matbench, {python}, cannot be started ({error.strerror}).") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise RunError(f"matbench cannot be run by {python} ({printable(lines[-1], 200)}).")
    scores = json.loads(done.stdout.splitlines()[-1])
    if "refused" in scores:
        raise DataError(f"matbench refuses {path}: {printable(scores['refused'], 300)}")
    verified = {}
    for name in targets:
        names = submission.tasks[name].folds[0].scores
        stored = {score: [fold.scores[score] for fold in submission.tasks[name].folds] for score in names}
        verified[name] = Verified(stored, {score: [scores[name][fold][score] for fold in FOLDS] for score in names})
    return verified
