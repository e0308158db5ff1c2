"""The job script of the how-to on clusters, taken literally but for SLURM and for what it trains."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.benchmarks.conftest import Write, rocksalts
from tests.benchmarks.training.test_cluster import grid, predictions, wait_for
from tests.conftest import REPOSITORY

pytest.importorskip("distributed", reason="needs distributed (the extra dask)")

PROGRAMS = {
    "sen-bench": f'exec {sys.executable} -c "from benchmarks.cli.main import main; main()" "$@"',
    "dask": f'exec {sys.executable} -m dask "$@" --no-dashboard',
    "srun": '"$@" & "$@" & wait',
}


@pytest.mark.deep
def test_job_script(write_data: Write, tmp_path: Path) -> None:
    text = (REPOSITORY / "docs" / "how-to" / "run-on-a-cluster.md").read_text()
    (script,) = re.findall(r"^```bash\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    small = shlex.join(grid(write_data(rocksalts(60)), tmp_path / "runs", ""))
    script, n = re.subn(r"ablate --blocks \S+ --out runs", small.replace("\\", r"\\"), script)
    assert n == 1
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, line in PROGRAMS.items():
        (programs / name).write_text(f"#!/bin/bash\n{line}\n")
        (programs / name).chmod(0o755)
    (programs / "activate").write_text(f"PATH={programs}:$PATH\n")
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(
            ["/bin/bash", "-c", script],
            cwd=tmp_path,
            env={**os.environ, "SLURM_JOB_ID": "7", "PYTHONPATH": str(REPOSITORY)},
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        assert process.wait(300) == 0, (tmp_path / "log").read_text()
        assert len(predictions(tmp_path / "runs")) == 2
        # What SLURM does with the rest of a job.
        os.killpg(process.pid, signal.SIGTERM)
        wait_for(lambda: not list(tmp_path.glob("scheduler-*.json")), 60)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
