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
from benchmarks.training.plans import PlannedTraining
from benchmarks.training.summary import summarise
from benchmarks.training.train_one import Outcome, train_one
from benchmarks.training.trainer import Epoch

if TYPE_CHECKING:
    from benchmarks.training.cluster import Cluster

__all__ = ["execute", "n_workers"]

_POLL_SECONDS = 1.0

OnEpoch = Callable[[PlannedTraining, Epoch], None]
Outcomes = Generator[tuple[PlannedTraining, Outcome]]


def n_workers(jobs: int, n_cells: int) -> int:
    """Number of trainings at the same time: as many as asked for, -1 for one per core, but no more than pending."""
    return max(1, min(n_cores() if jobs < 0 else jobs, n_cells))


def execute(
    pending: Sequence[PlannedTraining],
    *,
    device: str,
    stop: StopRequest,
    jobs: int = 1,
    cluster: Cluster | None = None,
    on_epoch: OnEpoch = lambda *_: None,
    on_end: Callable[[PlannedTraining, dict[str, Any] | SenBenchError], None] = lambda *_: None,
    on_wait: Callable[[Sequence[PlannedTraining]], None] = lambda *_: None,
) -> dict[PlannedTraining, SenBenchError]:
    """Train pending, several at a time where `jobs` says so, and store each when it is finished.

    A planned that another process is training is left to it; when it is done, its result is taken.

    Args:
        pending: What to train, of one plan or several.
        device: "cpu", "cuda" (any GPU that is free) or "cuda:N"; on a cluster also "auto".
        stop: Whether to stop; the pending under way then save their state.
        jobs: Processes; the cores are divided among them. With one, training takes place in this process.
        cluster: Its workers train instead, as many as there are.
        on_epoch: Called after every epoch of every planned, in this process.
        on_end: Called with a planned's record, or with why it failed.
        on_wait: Called with the pending that others are training, when nothing else is left to do.

    Returns:
        The pending that failed, with the reason; one failure stops no other planned.

    Raises:
        Interrupted: Somebody asked to stop before all had ended; the message says what is saved.
    """
    failures: dict[PlannedTraining, SenBenchError] = {}
    plans = {planned.plan for planned in pending}
    waiting = list(pending)
    while waiting:
        taken, stopped, n_ended = [], [], 0
        if cluster is not None:
            train = partial(cluster.train, device=device)
        elif n_workers(jobs, len(waiting)) == 1:
            train = partial(_in_turn, device=device)
        else:
            train = partial(_in_parallel, device=device, jobs=jobs)
        with closing(train(waiting, stop=stop, on_epoch=on_epoch)) as outcomes:
            for planned, outcome in outcomes:
                if outcome is None:
                    taken.append(planned)
                elif isinstance(outcome, Interrupted) and stop:
                    run = f"{planned.plan.run.path.name}, " if len(plans) > 1 else ""
                    stopped.append(f"{run}{planned.training}: {outcome}")
                else:
                    ended = _ended(planned, outcome)
                    n_ended += 1
                    if isinstance(ended, SenBenchError):
                        failures[planned] = ended
                    planned.plan.run.write_summary(partial(summarise, planned.plan))
                    on_end(planned, ended)
        if stop and n_ended < len(waiting):
            raise Interrupted("; ".join(stopped))
        if taken:
            on_wait(taken)
        _wait(taken, stop)
        waiting = taken
    return failures


def _ended(
    planned: PlannedTraining, outcome: dict[str, Any] | SenBenchError | Interrupted
) -> dict[str, Any] | SenBenchError:
    if isinstance(outcome, Interrupted):
        return RunError(f"It was interrupted ({outcome}), and nobody asked for it.")
    if isinstance(outcome, dict) and not planned.plan.run.is_finished(planned.training):
        return RunError(f"Its result did not reach {planned.plan.run.path}: do all workers write to the same folder?")
    return outcome


def _wait(taken: Sequence[PlannedTraining], stop: StopRequest) -> None:
    """Wait until at least one of the pending that others are training is free.

    Raises:
        Interrupted: Somebody asked to stop.
    """
    locks = [plan.run.lock(training) for plan, training in taken]
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


def _in_turn(pending: Sequence[PlannedTraining], *, device: str, stop: StopRequest, on_epoch: OnEpoch) -> Outcomes:
    for planned in pending:
        if not stop:
            yield planned, train_one(planned, device, n_threads(), partial(on_epoch, planned), lambda: bool(stop))


def _in_parallel(
    pending: Sequence[PlannedTraining], *, device: str, jobs: int, stop: StopRequest, on_epoch: OnEpoch
) -> Outcomes:
    """Train in processes of joblib.

    When one dies, the others die with it. Those not begun are given new ones; those under way are tried once more, each
    by itself, because nobody knows which it was.
    """
    groups = [list(pending)]
    while groups and not stop:
        group = groups.pop(0)
        lost, untouched, reason = yield from _in_pool(group, device, jobs, stop, on_epoch)
        for planned in lost:
            if planned.plan.run.is_finished(planned.training):
                yield planned, planned.plan.run.read_metrics(planned.training)
            elif stop:
                yield planned, Interrupted("its worker was stopped")
            elif len(group) == 1:
                yield planned, RunError(f"{_DIED} ({reason}).")
            else:
                groups.append([planned])
        if len(untouched) < len(group):
            groups[:0] = [untouched] if untouched else []
        else:
            # Ctrl-C also kills workers that are still being loaded, before they can ignore it.
            why = Interrupted("not begun") if stop else RunError(f"{_DIED} ({reason}).")
            yield from ((planned, why) for planned in untouched)


_DIED = "its worker process died; a system that runs out of memory kills the largest: try fewer --jobs"


def _in_pool(
    pending: Sequence[PlannedTraining], device: str, jobs: int, stop: StopRequest, on_epoch: OnEpoch
) -> Generator[tuple[PlannedTraining, Outcome], None, tuple[list[PlannedTraining], list[PlannedTraining], str]]:
    """Yield the outcomes of pending until all are done or a process dies.

    Returns:
        The pending that were under way then, those that were not begun, and what joblib says.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    begun: set[int] = set()
    ended: set[int] = set()

    def hear(message: tuple[int, Epoch | None]) -> None:
        index, epoch = message
        begun.add(index)
        if epoch is not None:
            on_epoch(pending[index], epoch)

    workers, reason = n_workers(jobs, len(pending)), ""
    threads = max(1, n_threads() // workers)
    with Hub(hear).listening() as hub, stop.calling(hub.stop):
        tasks = (
            delayed(_train_in_worker)(index, planned, device, threads, hub.address)
            for index, planned in enumerate(pending)
        )
        results: Iterable[tuple[int, Outcome]] = ()
        try:
            # With one job joblib would train in this process, which a dying training would take along.
            results = Parallel(n_jobs=max(2, workers), return_as="generator_unordered", batch_size=1)(tasks)
            for index, outcome in results:
                ended.add(index)
                yield pending[index], outcome
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
    left = [index for index in range(len(pending)) if index not in ended]
    return [pending[i] for i in left if i in begun], [pending[i] for i in left if i not in begun], reason


def _train_in_worker(
    index: int, planned: PlannedTraining, device: str, threads: int, hub: Address
) -> tuple[int, Outcome]:
    ignore_signals()  # the word to stop comes by the line
    try:
        line = Line(hub)
    except (OSError, EOFError, AuthenticationError):  # the process that started this one is gone
        return index, Interrupted("not begun")
    with held_alive(hub.process), line:
        line.send((index, None))
        return index, train_one(planned, device, threads, lambda epoch: line.send((index, epoch)), line.stopped)
