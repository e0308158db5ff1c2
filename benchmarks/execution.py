"""Cells trained one after the other, by worker processes, or by the workers of a cluster, each stored when finished."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing, suppress
from functools import partial
from multiprocessing import AuthenticationError
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, Timeout

from benchmarks.channel import Address, Hub, Line
from benchmarks.errors import RunError, SenBenchError
from benchmarks.interrupts import SIGNALS, Interrupted, StopRequest
from benchmarks.machine import n_cores, n_threads
from benchmarks.plans import Cell
from benchmarks.summary import summarise
from benchmarks.training import Epoch
from benchmarks.units import Outcome, train_cell
from benchmarks.workers import held_alive

if TYPE_CHECKING:
    from benchmarks.cluster import Cluster

__all__ = ["execute"]

_POLL_SECONDS = 1.0

OnEpoch = Callable[[Cell, Epoch], None]
Outcomes = Generator[tuple[Cell, Outcome]]


def execute(
    cells: Sequence[Cell],
    *,
    device: str,
    stop: StopRequest,
    jobs: int = 1,
    cluster: Cluster | None = None,
    on_epoch: OnEpoch = lambda *_: None,
    on_cell: Callable[[Cell, dict[str, Any] | SenBenchError], None] = lambda *_: None,
    on_wait: Callable[[Sequence[Cell]], None] = lambda *_: None,
) -> dict[Cell, SenBenchError]:
    """Train cells, several at a time where `jobs` says so, and store each when it is finished.

    A cell that another process is training is left to it; when it is done, its result is taken.

    Args:
        cells: What to train, of one plan or several.
        device: "cpu", "cuda" (any GPU that is free) or "cuda:N"; on a cluster also "auto".
        stop: Whether to stop; the cells under way then save their state.
        jobs: Processes; the cores are divided among them. With one, training takes place in this process.
        cluster: Its workers train instead, as many as there are.
        on_epoch: Called after every epoch of every cell, in this process.
        on_cell: Called with a cell's record, or with why it failed.
        on_wait: Called with the cells that others are training, when nothing else is left to do.

    Returns:
        The cells that failed, with the reason; one failure stops no other cell.

    Raises:
        Interrupted: Somebody asked to stop; the message says what is saved.
    """
    if cluster is not None:
        train = partial(cluster.train, device=device)
    elif jobs == 1 or len(cells) < 2:
        train = partial(_in_turn, device=device)
    else:
        train = partial(_in_parallel, device=device, jobs=jobs)
    failures: dict[Cell, SenBenchError] = {}
    plans = {cell.plan for cell in cells}
    waiting = list(cells)
    while waiting:
        taken, stopped = [], []
        with closing(train(waiting, stop=stop, on_epoch=on_epoch)) as outcomes:
            for cell, outcome in outcomes:
                if outcome is None:
                    taken.append(cell)
                elif isinstance(outcome, Interrupted) and stop:
                    run = f"{cell.plan.run.path.name}, " if len(plans) > 1 else ""
                    stopped.append(f"{run}{cell.unit}: {outcome}")
                else:
                    ended = _ended(outcome)
                    if isinstance(ended, SenBenchError):
                        failures[cell] = ended
                    cell.plan.run.write_summary(partial(summarise, cell.plan))
                    on_cell(cell, ended)
        if stop:
            raise Interrupted("; ".join(stopped))
        if taken:
            on_wait(taken)
        _wait(taken, stop)
        waiting = taken
    return failures


def _ended(outcome: dict[str, Any] | SenBenchError | Interrupted) -> dict[str, Any] | SenBenchError:
    if isinstance(outcome, Interrupted):
        return RunError(f"It was interrupted ({outcome}), and nobody asked for it.")
    return outcome


def _wait(taken: Sequence[Cell], stop: StopRequest) -> None:
    """Wait until at least one of the cells that others are training is free.

    Raises:
        Interrupted: Somebody asked to stop.
    """
    locks = [plan.run.lock(unit) for plan, unit in taken]
    while locks and not any(map(_is_free, locks)):
        time.sleep(_POLL_SECONDS)
        if stop:
            raise Interrupted


def _is_free(lock: BaseFileLock) -> bool:
    try:
        with lock.acquire(timeout=0):
            return True
    except Timeout:
        return False


def _in_turn(cells: Sequence[Cell], *, device: str, stop: StopRequest, on_epoch: OnEpoch) -> Outcomes:
    for cell in cells:
        if not stop:
            yield cell, train_cell(cell, device, n_threads(), partial(on_epoch, cell), lambda: bool(stop))


def _in_parallel(cells: Sequence[Cell], *, device: str, jobs: int, stop: StopRequest, on_epoch: OnEpoch) -> Outcomes:
    """Train in processes of joblib; when one dies it takes the others with it, and those not begun get new ones."""
    left = list(cells)
    while left:
        ended: set[int] = set()
        begun: set[int] = set()
        for index, outcome in _in_pool(left, device, jobs, stop, on_epoch, begun):
            ended.add(index)
            yield left[index], outcome
        lost = RunError("a worker process died; a system that runs out of memory kills the largest: try fewer --jobs.")
        for index in sorted(begun - ended):
            yield left[index], Interrupted("its worker was stopped") if stop else lost
        left = [] if stop else [cell for index, cell in enumerate(left) if index not in ended | begun]


def _in_pool(
    cells: Sequence[Cell], device: str, jobs: int, stop: StopRequest, on_epoch: OnEpoch, begun: set[int]
) -> Generator[tuple[int, Outcome]]:
    """Yield the outcomes of cells by their number, until all are done or a process dies; note which were begun."""
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    def hear(message: tuple[int, Epoch | None]) -> None:
        index, epoch = message
        begun.add(index)
        if epoch is not None:
            on_epoch(cells[index], epoch)

    jobs = min(n_cores() if jobs < 0 else jobs, len(cells))
    threads = max(1, n_threads() // jobs)
    with Hub(hear).listening() as hub, stop.calling(hub.stop):
        tasks = (
            delayed(_train_in_worker)(index, cell, device, threads, hub.address) for index, cell in enumerate(cells)
        )
        results = Parallel(n_jobs=jobs, return_as="generator_unordered", batch_size=1)(tasks)
        try:
            with suppress(BrokenProcessPool):
                yield from results
        finally:
            # Whatever ends this, joblib would kill its workers: let them save their state first.
            hub.stop()
            with suppress(BrokenProcessPool):
                for _ in results:
                    pass


def _train_in_worker(index: int, cell: Cell, device: str, threads: int, hub: Address) -> tuple[int, Outcome]:
    # Signals reach all processes of a terminal or a job; the word to stop comes from the one that started them.
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    try:
        line = Line(hub)
    except (OSError, EOFError, AuthenticationError):  # the process that started this one is gone
        return index, Interrupted("not begun")
    with held_alive(hub.process), line:
        line.send((index, None))
        return index, train_cell(cell, device, threads, lambda epoch: line.send((index, epoch)), line.stopped)
