"""`sen-bench ablate` on a Dask cluster: a real scheduler and real worker processes, some of which die."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any
from unittest.mock import Mock

import pytest

from benchmarks.base.errors import UsageError
from benchmarks.base.interrupts import StopRequest
from benchmarks.results.contrasts import Noise
from tests.benchmarks.conftest import SMALL, Answer, Write, rocksalts

pytest.importorskip("distributed", reason="needs distributed (the extra dask)")

Command = Callable[..., Answer]


@dataclass
class Dask:
    """A scheduler, its address, and the workers and commands that a test starts."""

    folder: Path
    processes: list[subprocess.Popen[Any]] = field(default_factory=list)
    address: str = ""

    def start(self, *arguments: str) -> tuple[subprocess.Popen[bytes], Path]:
        log = self.folder / f"dask-{len(self.processes)}.log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:], "--no-dashboard"]
            process = subprocess.Popen(command, stdout=file, stderr=file, start_new_session=True)
        self.processes.append(process)
        return process, log

    def workers(self, n: int, preparation: str = "") -> list[subprocess.Popen[bytes]]:
        # Soon there is a state to continue from, and saving it is not most of the work.
        preload = self.folder / "preload.py"
        preload.write_text(f"from benchmarks.training import trainer\ntrainer.CHECKPOINT_SECONDS = 0.2\n{preparation}")
        options = ("--nthreads", "1", "--no-nanny", "--preload", str(preload))
        started = [self.start("worker", self.address, *options) for _ in range(n)]
        wait_for(lambda: all("Registered to:" in log.read_text() for _, log in started))
        return [process for process, _ in started]


@pytest.fixture
def nothing_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Dask]:
    """Neither scheduler nor workers; whatever is left in the end is killed."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    cluster = Dask(tmp_path)
    yield cluster
    for process in cluster.processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def dask(nothing_yet: Dask) -> Dask:
    """A scheduler without workers."""
    _, log = nothing_yet.start("scheduler", "--host", "127.0.0.1", "--port", "0")
    nothing_yet.address = wait_for(lambda: re.search(r"tcp://127\.0\.0\.1:\d+", log.read_text()))[0]
    return nothing_yet


def wait_for(condition: Callable[[], Any], seconds: float = 120) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.05)
    return found


def grid(data: Path, out: Path, address: str, *more: object) -> list[str]:
    """Two small runs of the mlp block, one fold each, on the cluster."""
    axis = ("--task", "matbench_jdft2d", "--blocks", "mlp", "--set", "sen.rounds=1,2", "--folds", "0", "--epochs", 10)
    cluster = ("--backend", "dask", "--scheduler", address) if address else ()
    return [*map(str, ("ablate", *axis, *SMALL[2:], "--data-dir", data, "--out", out, *cluster, *more))]


def states(out: Path) -> list[Path]:
    return list(out.rglob("*.state.safetensors"))


def predictions(out: Path) -> dict[str, list[list[str]]]:
    files = sorted(out.rglob("predictions.csv"))
    return {f"{file.parents[2].name}/{file.parent.name}": list(csv.reader(file.open())) for file in files}


@pytest.mark.deep
def test_both_stages_of_a_detection_take_place_on_the_workers(
    dask: Dask, write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    dask.workers(2)
    monkeypatch.setattr(Noise, "seeds_for", lambda *_: 3)
    answer = sen_bench(*grid(data, out, dask.address, "--detect", "20%", "--seeds", 2))
    assert answer.code == 0, answer.out + answer.err
    assert "4 of 4 trainings ended" in answer.out
    assert "2 of 2 trainings ended" in answer.out
    (content,) = (json.loads(file.read_text()) for file in out.rglob("ablation.json"))
    assert [row["seeds"] for row in content["table"]] == [[0, 1, 2], [0, 1, 2]]


# A training that has saved its state waits for a file.
HELD = """
import time
from pathlib import Path
from benchmarks.training.checkpoints import write_checkpoint

def save_and_wait(*arguments):
    write_checkpoint(*arguments)
    while not Path({!r}).exists():
        time.sleep(0.05)

trainer.write_checkpoint = save_and_wait
"""


@pytest.mark.deep
def test_grid_on_two_workers_of_which_one_is_killed(
    dask: Dask, write_data: Write, sen_bench: Command, tmp_path: Path
) -> None:
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    go_on = tmp_path / "go-on"
    workers = dask.workers(2, HELD.format(str(go_on)))

    def kill_one_when_both_are_at_work() -> None:
        try:
            wait_for(lambda: len(states(out)) == 2)
            workers[0].kill()
        finally:
            go_on.touch()

    with ThreadPoolExecutor() as pool:
        killing = pool.submit(kill_one_when_both_are_at_work)
        answer = sen_bench(*grid(data, out, dask.address))
    assert answer.code == 0, answer.out + answer.err
    killing.result()
    found = predictions(out)
    assert len(found) == 2
    assert not states(out)
    assert not [path for path in out.rglob(".*") if not path.name.endswith(".lock")]
    (content,) = (json.loads(file.read_text()) for file in out.rglob("ablation.json"))
    assert [row["trainings"] for row in content["table"]] == [1, 1]
    assert content["failures"] == []
    assert "2 of 2 trainings ended" in answer.out
    sessions = sorted(len(json.loads(file.read_text())["sessions"]) for file in out.rglob("metrics.json"))
    assert sessions == [1, 2], "the killed training did not continue from its state"

    # What the cluster made is what one machine makes.
    answer = sen_bench(*grid(data, tmp_path / "here", ""))
    assert answer.code == 0, answer.err
    assert predictions(tmp_path / "here") == found


LONG = ("--set", "training.epochs=100000", "--set", "training.patience=100000")


# So that workers are soon missed.
IMPATIENT = "import benchmarks.training.cluster as c; c._ASK_WORKERS_SECONDS = c._PATIENCE_SECONDS = 0.1; "


def start_long(dask: Dask, data: Path, out: Path, preparation: str = "") -> subprocess.Popen[str]:
    """Begin a grid that would take hours; return when a training is under way."""
    code = f"{preparation}from benchmarks.cli.main import main; main()"
    command = [sys.executable, "-c", code, *grid(data, out, dask.address, *LONG)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    dask.processes.append(process)
    wait_for(lambda: states(out))
    return process


@pytest.mark.deep
def test_ctrl_c_saves_the_state_on_the_workers(dask: Dask, write_data: Write, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    dask.workers(1)
    process = start_long(dask, write_data(rocksalts(60)), out)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=120)
    assert process.returncode == 130, error
    assert "its state is saved" in error
    assert "Traceback" not in error
    assert len(states(out)) == 1


@pytest.mark.deep
def test_lost_workers_are_reported_and_ctrl_c_ends_the_waiting(dask: Dask, write_data: Write, tmp_path: Path) -> None:
    (worker,) = dask.workers(1)
    process = start_long(dask, write_data(rocksalts(60)), tmp_path / "runs", IMPATIENT)
    worker.kill()
    assert process.stderr is not None
    line = process.stderr.readline()
    assert f"All workers of {dask.address} are lost." in line
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "or kept in its last saved state" in error
    assert "Traceback" not in error


@pytest.mark.deep
def test_lost_scheduler_ends_the_grid_with_its_reason(dask: Dask, write_data: Write, tmp_path: Path) -> None:
    dask.workers(1)
    process = start_long(dask, write_data(rocksalts(60)), tmp_path / "runs")
    dask.processes[0].kill()
    _, error = process.communicate(timeout=120)
    assert process.returncode == 1, error
    assert "2 trainings failed, and the same command tries again:" in error
    assert f"the connection to the scheduler at {dask.address} was lost" in error
    assert "Traceback" not in error


@pytest.mark.deep
def test_lost_scheduler_is_not_called_any_more(dask: Dask) -> None:
    from benchmarks.training.cluster import Cluster

    with Cluster(dask.address) as cluster:

        def lose(*_: object) -> Iterator[object]:
            cluster._client.close()
            return iter(())

        cluster._ended = lose  # type: ignore[assignment, method-assign]
        assert list(cluster.train([], device="cpu", stop=StopRequest(), on_epoch=lambda *_: None)) == []


def test_scheduler_that_does_not_answer_is_reported(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.cluster._CONNECT_SECONDS", 0.5)
    data = write_data(rocksalts(60))
    for address in ("tcp://127.0.0.1:1", "tcp://nowhere.invalid:8786"):
        answer = sen_bench(*grid(data, tmp_path / "runs", address))
        assert answer.code == 2, answer.err
        assert f"No Dask scheduler answers at {address}" in answer.err
        assert answer.err.count("\n") == 1
    for address in ("nonsense", "http://127.0.0.1:1"):
        answer = sen_bench(*grid(data, tmp_path / "runs", address))
        assert answer.code == 2
        assert "--scheduler takes an address such as tls://host:8786, or the file" in answer.err
        assert f"'{address}' is neither" in answer.err


def test_tls_without_a_certificate_and_none_where_it_is_required_are_reported(tmp_path: Path) -> None:
    from dask import config

    from benchmarks.training.cluster import Cluster

    with pytest.raises(
        UsageError, match=r"tls://127\.0\.0\.1:1 needs a certificate, and Dask's configuration names none"
    ):
        Cluster("tls://127.0.0.1:1")
    with (
        config.set({"distributed.comm.require-encryption": True}),
        pytest.raises(UsageError, match=r"configuration refuses tcp://127\.0\.0\.1:1, which has no TLS"),
    ):
        Cluster("tcp://127.0.0.1:1")
    missing = str(tmp_path / "none.pem")
    with (
        config.set({"distributed.comm.tls.ca-file": missing, "distributed.comm.tls.client.cert": missing}),
        pytest.raises(UsageError, match=r"names cannot be used \(.*No such file.*\): set DASK_CONFIG to the folder"),
    ):
        Cluster("tls://127.0.0.1:1")


@pytest.mark.deep
def test_scheduler_is_found_by_its_file(
    nothing_yet: Dask, write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scheduler.json"
    scheduler, _ = nothing_yet.start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(path))
    nothing_yet.start("worker", "--scheduler-file", str(path), "--nthreads", "1", "--no-nanny")
    wait_for(path.is_file)
    content = path.read_text()
    address = json.loads(content)["address"]
    data = write_data(rocksalts(60))
    answer = sen_bench(*grid(data, tmp_path / "runs", str(path), "--log", "tensorboard"))
    assert answer.code == 0, answer.err
    assert len(predictions(tmp_path / "runs")) == len(list((tmp_path / "runs").rglob("*.tensorboard"))) == 2
    # A scheduler that is killed leaves its file behind.
    scheduler.kill()
    scheduler.wait()
    path.write_text(content)
    monkeypatch.setattr("benchmarks.training.cluster._CONNECT_SECONDS", 0.5)
    answer = sen_bench(*grid(data, tmp_path / "more", str(path)))
    assert answer.code == 2
    assert f"No Dask scheduler answers at {address}" in answer.err


@pytest.mark.parametrize(
    "content", [b"", b"\xff", b"[1]", b"{}", b'{"address": 1}', b'{"address": "x"}', b"[" * 100000]
)
def test_file_that_is_not_of_a_scheduler_is_reported(
    write_data: Write, sen_bench: Command, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "scheduler.json"
    path.write_bytes(content)
    answer = sen_bench(*grid(write_data(rocksalts(60)), tmp_path / "runs", str(path)))
    assert answer.code == 2
    assert f"{path} (--scheduler) is not what `dask scheduler --scheduler-file` writes" in answer.err
    answer = sen_bench(*grid(tmp_path / "data", tmp_path / "runs", str(tmp_path)))
    assert answer.code == 2
    assert f"{tmp_path} (--scheduler) cannot be read (Is a directory)" in answer.err


@pytest.mark.deep
def test_scheduler_without_workers_is_reported(
    dask: Dask, write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.cluster._WORKERS_SECONDS", 0.5)
    answer = sen_bench(*grid(write_data(rocksalts(60)), tmp_path / "runs", dask.address))
    assert answer.code == 2
    assert f"The scheduler at {dask.address} has no workers: start some, such as `OMP_NUM_THREADS=1 dask" in answer.err


@pytest.mark.parametrize(
    ("address", "is_open"),
    [
        ("tcp://192.0.2.1:8786", True),
        ("tcp://0.0.0.0:8786", True),
        ("tcp://[2001:db8::1]:8786", True),
        ("tcp://host:8786", True),
        ("tcp://127.0.0.1:8786", False),
        ("tcp://[::1]:8786", False),
        ("tcp://localhost:8786", False),
        ("tls://192.0.2.1:8786", False),
    ],
)
def test_scheduler_that_others_reach_without_tls_draws_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str, is_open: bool
) -> None:
    from benchmarks.training.cluster import Cluster

    client = Mock()
    client.scheduler_info.return_value = {"address": address, "workers": {}}
    client.run.return_value = {}
    monkeypatch.setattr("distributed.Client", lambda *_, **__: client)
    # The address that was given may be another one of the same scheduler.
    Cluster("tcp://127.0.0.1:8786").check_workers(tmp_path)
    warning = f"The scheduler at {address} has no TLS, and anyone who reaches it can run code as you"
    assert (warning in caplog.text) == is_open


@pytest.mark.deep
def test_scheduler_on_all_interfaces_draws_a_warning(
    nothing_yet: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from benchmarks.training.cluster import Cluster

    monkeypatch.setattr("benchmarks.training.cluster._WORKERS_SECONDS", 0.1)
    _, log = nothing_yet.start("scheduler", "--port", "0")
    found = wait_for(lambda: re.search(r"Scheduler at: +(tcp://(\S+):(\d+))", log.read_text()))
    if found[2] == "127.0.0.1":
        pytest.skip("needs a network interface beside the loopback")
    with Cluster(f"tcp://127.0.0.1:{found[3]}") as cluster, pytest.raises(UsageError, match="has no workers"):
        cluster.check_workers(tmp_path)
    assert f"The scheduler at {found[1]} has no TLS" in caplog.text


def test_what_killed_commands_left_to_find_shared_folders_is_removed(tmp_path: Path) -> None:
    from benchmarks.training.cluster import _marks

    (tmp_path / ".sen-bench-left").touch()
    with _marks([tmp_path]) as (first,), _marks([tmp_path]) as (second,):
        assert {str(path) for path in tmp_path.iterdir()} == {first, second}
    assert not list(tmp_path.iterdir())


@pytest.mark.deep
def test_worker_that_lacks_something_is_reported(dask: Dask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import benchmarks.training.cluster as cluster_module
    from benchmarks.training.cluster import Cluster

    def not_installed(_marks: list[str]) -> None:
        raise ModuleNotFoundError("No module named 'benchmarks'")

    dask.workers(1)
    with Cluster(dask.address) as cluster:
        cluster.check_workers(tmp_path / "store")
        assert cluster.n_workers() == 1
        # Functions of tests are sent by value, so that they run on the worker in place of what looks there.
        look = cluster_module._look
        monkeypatch.setattr(
            "benchmarks.training.cluster._look", lambda marks: look([f"{marks[0]}-of-another-disk", marks[1]])
        )
        with pytest.raises(UsageError, match=r"The worker tcp://\S+ of the cluster lacks \S+/store: workers need"):
            cluster.check_workers(tmp_path / "store")
        monkeypatch.setattr("benchmarks.training.cluster._look", not_installed)
        with pytest.raises(UsageError, match=r"lacks sen-bench \(No module named 'benchmarks'\)"):
            cluster.check_workers(tmp_path / "store")


@pytest.mark.usefixtures("unlearnt")
def test_training_whose_workers_all_died_is_given_up_and_begun_anew_by_the_same_command(
    write_data: Write, sen_bench: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dask import config
    from distributed import KilledWorker

    allowed = config.get("distributed.scheduler.allowed-failures")
    assert allowed + 1 == 4, "docs/how-to/run-on-a-cluster.md says how many workers may die"
    killed = {"cancelled.return_value": False, "exception.return_value": KilledWorker("key", Mock(), allowed)}
    client = Mock(status="running")
    client.scheduler_info.return_value = {
        "address": "tcp://127.0.0.1:1",
        "workers": {"tcp://127.0.0.1:2": {"nthreads": 1}},
    }
    client.run.return_value = {}
    client.submit.side_effect = lambda *_, **__: Mock(**killed)
    monkeypatch.setattr("distributed.Client", lambda *_, **__: client)
    monkeypatch.setattr("distributed.Event", Mock())
    data, out = write_data(rocksalts(60)), tmp_path / "runs"
    answer = sen_bench(*grid(data, out, "tcp://127.0.0.1:1", "--epochs", 1))
    assert answer.code == 1
    assert "2 trainings failed, and the same command tries again:" in answer.err
    assert answer.err.count("the workers that trained it died, one after the other, perhaps for lack of memory") == 2
    assert predictions(out) == {}
    answer = sen_bench(*grid(data, out, "", "--epochs", 1))
    assert answer.code == 0, answer.err
    assert len(predictions(out)) == 2


def test_worker_of_several_threads_trains_one_fold_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks.training.cluster import _train_on_worker

    two, met = Barrier(2), []

    def train(cell: str, *_: object) -> str:
        with suppress(BrokenBarrierError):
            two.wait(0.3)
            met.append(cell)
        return cell

    monkeypatch.setattr("distributed.get_worker", object)
    monkeypatch.setattr("benchmarks.training.cluster._asking", lambda _: lambda: False)
    monkeypatch.setattr("benchmarks.training.cluster.train_one", train)
    cells: list[Any] = ["first", "second"]
    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(lambda cell: _train_on_worker(0, cell, "cpu", "topic"), cells))
    assert outcomes == cells
    assert met == [], "two trainings were under way at once"
