"""Cells trained one after the other, by worker processes, or by the workers of a cluster, each stored when finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from functools import partial
from multiprocessing import AuthenticationError
from typing import TYPE_CHECKING, Any

from filelock import BaseFileLock, Timeout

from benchmarks.base.channel import Address, Hub, Line
from benchmarks.base.errors import RunError, SenBenchError, printable
from benchmarks.base.interrupts import Interrupted, StopRequest, ignore_signals
from benchmarks.base.machine import n_cores, n_threads
from benchmarks.base.workers import held_alive
from benchmarks.training.jobs import Outcome, train_cell
from benchmarks.training.plans import Cell
from benchmarks.training.summary import summarise
from benchmarks.training.trainer import Epoch

if TYPE_CHECKING:
    from benchmarks.training.cluster import Cluster

__all__ = ["execute", "n_workers"]

_POLL_SECONDS = 1.0

OnEpoch = Callable[[Cell, Epoch], None]
Outcomes = Generator[tuple[Cell, Outcome]]


def n_workers(jobs: int, n_cells: int) -> int:
    """Number of trainings at the same time: as many as asked for, -1 for one per core, but no more than cells."""
    return max(1, min(n_cores() if jobs < 0 else jobs, n_cells))


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
        Interrupted: Somebody asked to stop before all had ended; the message says what is saved.
    """
    failures: dict[Cell, SenBenchError] = {}
    plans = {cell.plan for cell in cells}
    waiting = list(cells)
    while waiting:
        taken, stopped, n_ended = [], [], 0
        if cluster is not None:
            train = partial(cluster.train, device=device)
        elif n_workers(jobs, len(waiting)) == 1:
            train = partial(_in_turn, device=device)
        else:
            train = partial(_in_parallel, device=device, jobs=jobs)
        with closing(train(waiting, stop=stop, on_epoch=on_epoch)) as outcomes:
            for cell, outcome in outcomes:
                if outcome is None:
                    taken.append(cell)
                elif isinstance(outcome, Interrupted) and stop:
                    run = f"{cell.plan.run.path.name}, " if len(plans) > 1 else ""
                    stopped.append(f"{run}{cell.unit}: {outcome}")
                else:
                    ended = _ended(cell, outcome)
                    n_ended += 1
                    if isinstance(ended, SenBenchError):
                        failures[cell] = ended
                    cell.plan.run.write_summary(partial(summarise, cell.plan))
                    on_cell(cell, ended)
        if stop and n_ended < len(waiting):
            raise Interrupted("; ".join(stopped))
        if taken:
            on_wait(taken)
        _wait(taken, stop)
        waiting = taken
    return failures


def _ended(cell: Cell, outcome: dict[str, Any] | SenBenchError | Interrupted) -> dict[str, Any] | SenBenchError:
    if isinstance(outcome, Interrupted):
        return RunError(f"It was interrupted ({outcome}), and nobody asked for it.")
    if isinstance(outcome, dict) and not cell.plan.run.is_finished(cell.unit):
        return RunError(f"Its result did not reach {cell.plan.run.path}: do all workers write to the same folder?")
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
    """Train in processes of joblib.

    When one dies, the others die with it. Those not begun are given new ones; those under way are tried once more, each
    by itself, because nobody knows which it was.
    """
    groups = [list(cells)]
    while groups and not stop:
        group = groups.pop(0)
        lost, untouched, reason = yield from _in_pool(group, device, jobs, stop, on_epoch)
        for cell in lost:
            if cell.plan.run.is_finished(cell.unit):
                yield cell, cell.plan.run.read_metrics(cell.unit)
            elif stop:
                yield cell, Interrupted("its worker was stopped")
            elif len(group) == 1:
                yield cell, RunError(f"{_DIED} ({reason}).")
            else:
                groups.append([cell])
        if len(untouched) < len(group):
            groups[:0] = [untouched] if untouched else []
        else:
            # Ctrl-C also kills workers that are still being loaded, before they can ignore it.
            why = Interrupted("not begun") if stop else RunError(f"{_DIED} ({reason}).")
            yield from ((cell, why) for cell in untouched)


_DIED = "its worker process died; a system that runs out of memory kills the largest: try fewer --jobs"


def _in_pool(
    cells: Sequence[Cell], device: str, jobs: int, stop: StopRequest, on_epoch: OnEpoch
) -> Generator[tuple[Cell, Outcome], None, tuple[list[Cell], list[Cell], str]]:
    """Yield the outcomes of cells until all are done or a process dies.

    Returns:
        The cells that were under way then, those that were not begun, and what joblib says.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    begun: set[int] = set()
    ended: set[int] = set()

    def hear(message: tuple[int, Epoch | None]) -> None:
        index, epoch = message
        begun.add(index)
        if epoch is not None:
            on_epoch(cells[index], epoch)

    workers, reason = n_workers(jobs, len(cells)), ""
    threads = max(1, n_threads() // workers)
    with Hub(hear).listening() as hub, stop.calling(hub.stop):
        tasks = (
            delayed(_train_in_worker)(index, cell, device, threads, hub.address) for index, cell in enumerate(cells)
        )
        results: Iterable[tuple[int, Outcome]] = ()
        try:
            # With one job joblib would train in this process, which a dying training would take along.
            results = Parallel(n_jobs=max(2, workers), return_as="generator_unordered", batch_size=1)(tasks)
            for index, outcome in results:
                ended.add(index)
                yield cells[index], outcome
        except BrokenProcessPool as error:
            reason = printable(error, 200).rstrip(".")
        except OSError as error:
            raise RunError(f"Worker processes cannot be started ({error.strerror}): try fewer --jobs.") from error
        finally:
            # Whatever ends this, joblib would kill its workers: let them save their state first.
            hub.stop()
            with suppress(BrokenProcessPool):
                for _ in results:
                    pass
    left = [index for index in range(len(cells)) if index not in ended]
    return [cells[i] for i in left if i in begun], [cells[i] for i in left if i not in begun], reason


def _train_in_worker(index: int, cell: Cell, device: str, threads: int, hub: Address) -> tuple[int, Outcome]:
    ignore_signals()  # the word to stop comes by the line
    try:
        line = Line(hub)
    except (OSError, EOFError, AuthenticationError):  # the process that started this one is gone
        return index, Interrupted("not begun")
    with held_alive(hub.process), line:
        line.send((index, None))
        return index, train_cell(cell, device, threads, lambda epoch: line.send((index, epoch)), line.stopped)
