"""The certificate and the job script of the how-to on clusters, taken literally but for SLURM and what is trained."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from tests.benchmarks.conftest import Write, rocksalts
from tests.benchmarks.training.test_cluster import Dask, grid, nothing_yet, predictions, wait_for
from tests.conftest import REPOSITORY

__all__ = ["nothing_yet"]  # a fixture

pytest.importorskip("distributed", reason="needs distributed (the extra dask)")

PROGRAMS = {
    "sen-bench": f'exec {sys.executable} -c "from benchmarks.cli.main import main; main()" "$@"',
    "dask": f'exec {sys.executable} -m dask "$@"',
    "srun": '"$@" & "$@" & wait',
}


def scripts(language: str) -> list[str]:
    """The blocks of the how-to in a language."""
    text = (REPOSITORY / "docs" / "how-to" / "run-on-a-cluster.md").read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder with the certificate of the how-to."""
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    (script,) = scripts("sh")
    subprocess.run(["/bin/bash", "-ec", script], check=True, capture_output=True)
    return home


@pytest.mark.deep
def test_a_cluster_with_the_certificate_serves_nobody_without_it(
    nothing_yet: Dask, home: Path, write_data: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert {path.stat().st_mode & 0o077 for path in (home / "dask-tls", home / "dask-tls" / "tls.pem")} == {0}
    monkeypatch.setenv("DASK_CONFIG", str(home / "dask-tls"))
    file = tmp_path / "scheduler.json"
    nothing_yet.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
    wait_for(file.is_file)
    nothing_yet.address = json.loads(file.read_text())["address"]
    assert nothing_yet.address.startswith("tls://127.0.0.1:")
    nothing_yet.workers(1)
    command = [sys.executable, "-c", "from benchmarks.cli.main import main; main()"]
    command += grid(write_data(rocksalts(60)), tmp_path / "runs", nothing_yet.address)
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "TLS" not in answer.stderr
    assert len(predictions(tmp_path / "runs")) == 2
    monkeypatch.delenv("DASK_CONFIG")
    address = nothing_yet.address.replace("tls:", "tcp:")
    answer = subprocess.run([*command[:-1], address], capture_output=True, text=True, check=False)
    assert answer.returncode == 2, answer.stderr
    assert f"No Dask scheduler answers at {address}" in answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.deep
@pytest.mark.usefixtures("home")
def test_job_script(write_data: Write, tmp_path: Path) -> None:
    (script,) = scripts("bash")
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
