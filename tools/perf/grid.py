"""Time a grid of equal trainings with one and with two one-thread workers of Dask, and of loky.

    OMP_NUM_THREADS=1 python tools/perf/grid.py

Each way runs the same twelve trainings with `sen-bench ablate` in a separate run store: on a scheduler with one worker,
then with two, then with `--jobs 1` and `--jobs 2`. Scheduler and workers are the processes that a user would start. A
small grid before, which loads torch on the workers and builds the graph cache for all, is not timed.

The time is that of the whole command. The time when nothing is left to train is measured as well: it cannot be divided
among workers, and so limits the ratio.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

from distributed import Client

_SEEDS, _FOLDS = 4, (0, 1, 2)
_WAIT_SECONDS = 60.0


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--task", default="prototypes")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--block", default="mlp")
    parser.add_argument("--limit", type=int, default=600, help="training rows of each fold")
    parser.add_argument("--epochs", type=int, default=10)
    arguments = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SEN_BENCH_CACHE"] = str(folder / "cache")
        measure(folder, arguments)


def measure(folder: Path, arguments: argparse.Namespace) -> None:
    """Run the grid in each way, with all files below a folder."""
    n_trainings = _SEEDS * len(_FOLDS)
    print(f"{n_trainings} trainings: {arguments.block} on {arguments.task}, {arguments.limit} rows,")
    print(f"{arguments.epochs} epochs; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before")
    command = _command(arguments)
    ways: list[tuple[str, int, float, float, float]] = []
    mapped: set[Path] = set()

    def run(way: str, workers: int, options: Sequence[str], look: Callable[[], object] = lambda: None) -> None:
        out = folder / way.replace(" ", "-")
        whole = _seconds([*command, "--out", str(out), *options], look)
        rest = _seconds([*command, "--out", str(out), *options])
        records = [json.loads(path.read_text()) for path in out.rglob("metrics.json")]
        if len(records) != n_trainings:
            raise SystemExit(f"{way}: {len(records)} of {n_trainings} trainings are in the store")
        ways.append((way, workers, whole, rest, statistics.median(record["wall_seconds"] for record in records)))

    with Cluster(folder) as cluster:
        options = ("--backend", "dask", "--scheduler", cluster.address)

        def warm_up(seed: int) -> None:
            small = ("--epochs", "1", "--seed", str(seed), "--seeds", "1", "--folds", "0,1")
            _seconds([*command, *small, "--out", str(folder / "small"), *options])

        cluster.add_worker()
        warm_up(0)
        before = _state(folder / "cache")
        graphs = [path for path in before if path.parent.name.startswith("graphs-")]
        run("dask 1", 1, options)
        pids = cluster.add_worker()
        warm_up(1)

        def look() -> None:
            maps = [Path(f"/proc/{pid}/maps").read_text() for pid in pids]
            mapped.update(path for path in graphs if all(str(path) in text for text in maps))

        run("dask 2", 2, options, look)
    for n in (1, 2):
        run(f"loky {n}", n, ("--jobs", str(n)))
    unchanged = _state(folder / "cache") == before

    print(f"load {os.getloadavg()[0]:.1f} after")
    print("             whole   nothing  training,      times as fast as one:    efficiency")
    print("           command   to train    median       measured    at most")
    for kind in ("dask", "loky"):
        one = next(way for way in ways if way[0] == f"{kind} 1")
        for way, workers, whole, rest, seconds in ways:
            if way.startswith(kind):
                ratio, most = one[2] / whole, one[2] / (rest + (one[2] - rest) / workers)
                print(
                    f"{way:8} {whole:8.1f} s {rest:8.1f} s {seconds:8.1f} s {ratio:14.2f} {most:10.2f}"
                    f" {ratio / workers:12.0%}"
                )
    print(
        f"graph caches: {len({path.parent for path in graphs})}, {'unchanged' if unchanged else 'CHANGED'} since built;"
    )
    print(f"{len(mapped)} of its files were mapped by both workers at once")


def _command(arguments: argparse.Namespace) -> list[str]:
    words = [sys.executable, "-c", "from benchmarks.cli.main import main; main()", "ablate", "--task", arguments.task]
    words += ["--blocks", arguments.block, "--device", "cpu", "--limit", str(arguments.limit)]
    words += ["--folds", ",".join(map(str, _FOLDS)), "--seeds", str(_SEEDS), "--epochs", str(arguments.epochs)]
    # So that no training stops early.
    words += ["--set", f"training.patience={arguments.epochs}"]
    return [*words, *(["--data-dir", str(arguments.data_dir)] if arguments.data_dir else [])]


def _seconds(command: Sequence[str], look: Callable[[], object] = lambda: None) -> float:
    """Return the time of a command; `look` is called every two seconds while it runs."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
    while True:
        try:
            code = process.wait(2)
        except subprocess.TimeoutExpired:
            look()
            continue
        if code:
            raise SystemExit(f"the command failed with exit code {code}")
        return time.perf_counter() - start


class Cluster:
    """A scheduler and its workers, started as a user starts them."""

    def __init__(self, folder: Path) -> None:
        self.address = ""
        self._folder = folder
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> Self:
        """Start the scheduler."""
        file = self._folder / "scheduler.json"
        self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", str(file))
        end = time.monotonic() + _WAIT_SECONDS
        while not file.exists() and time.monotonic() < end:
            time.sleep(0.1)
        self.address = json.loads(file.read_text())["address"]
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the workers and then the scheduler, for which they would look otherwise."""
        for process in reversed(self._processes):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(_WAIT_SECONDS)

    def add_worker(self) -> list[int]:
        """Start a worker and return the process ids of all workers."""
        local = str(self._folder / f"worker-{len(self._processes)}")
        self._start("worker", self.address, "--nworkers", "1", "--nthreads", "1", "--local-directory", local)
        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(len(self._processes) - 1, timeout=_WAIT_SECONDS)
            return sorted(client.run(os.getpid).values())

    def _start(self, *arguments: str) -> None:
        command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
        quiet = subprocess.DEVNULL
        process = subprocess.Popen(command, stdout=quiet, stderr=quiet, start_new_session=True)  # noqa: S603
        self._processes.append(process)


def _state(folder: Path) -> dict[Path, tuple[int, int]]:
    """Return the inode and modification time of each file, which change when it is written again."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


if __name__ == "__main__":
    main()
