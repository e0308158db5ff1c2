"""Trainings one after the other, in worker processes or on a cluster; each is stored when it is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, suppress
from functools import partial
from multiprocessing import AuthenticationError
from pickle import PicklingError
from typing import TYPE_CHECKING, Any

from benchmarks.base.channel import Address, Hub, Line
from benchmarks.base.errors import DataError, RunError, SenBenchError, printable
from benchmarks.base.interrupts import Interrupted, StopRequest, ignore_signals
from benchmarks.base.locks import Taken
from benchmarks.base.machine import n_cores, n_threads
from benchmarks.base.workers import held_alive
from benchmarks.training.plans import PlannedTraining
from benchmarks.training.summary import summarise
from benchmarks.training.train_one import Outcome, halted, train_one
from benchmarks.training.trainer import Epoch
from sen.registry import GivenClass, adopt, given_class

if TYPE_CHECKING:
    from benchmarks.training.cluster import Cluster

__all__ = ["execute", "n_workers"]

_POLL_SECONDS = 1.0

OnEpoch = Callable[[PlannedTraining, Epoch], None]
Outcomes = Generator[tuple[PlannedTraining, Outcome]]


def n_workers(jobs: int, n_pending: int) -> int:
    """Return the number of trainings at the same time: `jobs`, or one per core for -1, but at most all pending ones."""
    return max(1, min(n_cores() if jobs < 0 else jobs, n_pending))


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
    """Train, up to `jobs` at the same time, and store each training when it is finished.

    Trainings that another process is working on are left to it; their results are read when it has finished. Where its
    training has failed, that is the outcome here as well; the same command, given again, tries it.

    Args:
        pending: The trainings to do, of one plan or several.
        device: "cpu", "cuda" (any GPU that is free) or "cuda:N"; on a cluster also "auto".
        stop: Whether to stop; the trainings under way then save their state.
        jobs: Number of processes, which share the cores. With one, training takes place in this process.
        cluster: Cluster whose workers train in place of processes on this machine, all at the same time.
        on_epoch: Called after every epoch of every training, in this process.
        on_end: Called with each training that ends, and its record or the reason why it failed.
        on_wait: Called with the trainings that other processes are working on, when nothing else is left to do.

    Returns:
        The trainings that failed, with the reason. A failure does not stop the others.

    Raises:
        Interrupted: A stop was requested before all trainings had ended; the message says what is saved.
    """
    failures: dict[PlannedTraining, SenBenchError] = {}

    def end(planned: PlannedTraining, ended: dict[str, Any] | SenBenchError) -> None:
        if isinstance(ended, SenBenchError):
            failures[planned] = ended
        planned.plan.run.write_summary(partial(summarise, planned.plan))
        on_end(planned, ended)

    plans = {planned.plan for planned in pending}
    waiting = list(pending)
    # Where the file system has no locks, this warns before anything is trained, and workers need not.
    with suppress(OSError, SenBenchError):  # which the training itself reports
        any(map(_is_free, waiting))
    while waiting:
        taken, stopped, n_ended = [], [], 0
        with closing(_way(cluster, device, jobs, len(waiting))(waiting, stop=stop, on_epoch=on_epoch)) as outcomes:
            for planned, outcome in outcomes:
                if outcome is None:
                    taken.append(planned)
                elif isinstance(outcome, Interrupted) and stop:
                    run = f"{planned.plan.run.path.name}, " if len(plans) > 1 else ""
                    stopped.append(f"{run}{planned}: {outcome}")
                else:
                    n_ended += 1
                    end(planned, _ended(planned, outcome))
        if stop and n_ended < len(waiting):
            raise Interrupted("; ".join(stopped))
        if taken:
            on_wait(taken)
        _wait(taken, stop)
        for planned, failure in _failed_elsewhere(taken).items():
            end(planned, failure)
        waiting = [planned for planned in taken if planned not in failures]
    return failures


def _way(cluster: Cluster | None, device: str, jobs: int, n_pending: int) -> Callable[..., Outcomes]:
    """Return the function that trains on the cluster, in this process or in others."""
    if cluster is not None:
        return partial(cluster.train, device=device)
    if n_workers(jobs, n_pending) == 1:
        return partial(_in_turn, device=device)
    return partial(_in_parallel, device=device, jobs=jobs)


def _ended(
    planned: PlannedTraining, outcome: dict[str, Any] | SenBenchError | Interrupted
) -> dict[str, Any] | SenBenchError:
    if isinstance(outcome, Interrupted):
        return RunError(f"It was interrupted ({outcome}), although no stop was requested.")
    try:
        if isinstance(outcome, dict) and not planned.plan.run.is_finished(planned.training):
            return RunError(
                f"Its result did not reach {planned.plan.run.path}: do all workers write to the same folder?"
            )
    except DataError as error:  # it cannot be read now
        return error
    return outcome


def _wait(taken: Sequence[PlannedTraining], stop: StopRequest) -> None:
    """Wait until another process has let go of at least one of the trainings that it had taken.

    Raises:
        Interrupted: A stop was requested.
    """
    while taken and not any(map(_is_free, taken)):
        time.sleep(_POLL_SECONDS)
        if stop:
            raise Interrupted


def _failed_elsewhere(taken: Sequence[PlannedTraining]) -> dict[PlannedTraining, RunError]:
    """Return those of the trainings that have failed in the process that had taken them, with the reason.

    Tried again, they would take as long and end in the same way.
    """
    reasons = {planned: planned.plan.run.read_failure(planned.training) for planned in taken}
    return {
        planned: RunError(f"The process that this one waited for has failed: {reason}")
        for planned, reason in reasons.items()
        if reason is not None
    }


def _is_free(planned: PlannedTraining) -> bool:
    try:
        with planned.plan.run.lock(planned.training):
            return True
    except Taken:
        return False


def _in_turn(pending: Sequence[PlannedTraining], *, device: str, stop: StopRequest, on_epoch: OnEpoch) -> Outcomes:
    for planned in pending:
        if not stop:
            yield planned, train_one(planned, device, n_threads(), partial(on_epoch, planned), lambda: bool(stop))


def _in_parallel(
    pending: Sequence[PlannedTraining], *, device: str, jobs: int, stop: StopRequest, on_epoch: OnEpoch
) -> Outcomes:
    """Train in processes of joblib.

    When one process dies, joblib ends the others. The trainings that had not begun get new processes. Those under way
    are tried once more, one at a time, because it is not known which of them made its process die.
    """
    groups = [list(pending)]
    while groups and not stop:
        group = groups.pop(0)
        lost, untouched, reason = yield from _in_pool(group, device, jobs, stop, on_epoch)
        for planned in lost:
            if planned.plan.run.is_finished(planned.training):
                yield planned, planned.plan.run.read_metrics(planned.training)
            elif stop:
                yield planned, halted(planned, "its worker was stopped")
            elif len(group) == 1:
                yield planned, RunError(f"{_DIED} ({reason}).")
            else:
                groups.append([planned])
        if len(untouched) < len(group):
            groups[:0] = [untouched] if untouched else []
        else:
            # Ctrl-C also kills workers that are starting and do not ignore it yet.
            died = RunError(f"{_DIED} ({reason}).")
            yield from ((planned, halted(planned) if stop else died) for planned in untouched)


_DIED = "its worker process died; a system that runs out of memory kills the largest: try fewer --jobs"


def _in_pool(
    pending: Sequence[PlannedTraining], device: str, jobs: int, stop: StopRequest, on_epoch: OnEpoch
) -> Generator[tuple[PlannedTraining, Outcome], None, tuple[list[PlannedTraining], list[PlannedTraining], str]]:
    """Yield the outcomes of trainings until all have ended or a process dies.

    Returns:
        The trainings that were under way then, those that had not begun, and the message of joblib.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    begun: set[int] = set()
    ended: set[int] = set()

    def receive(message: tuple[int, Epoch | None]) -> None:
        index, epoch = message
        begun.add(index)
        if epoch is not None:
            on_epoch(pending[index], epoch)

    workers, reason = n_workers(jobs, len(pending)), ""
    threads = max(1, n_threads() // workers)
    with Hub(receive).listening() as hub, stop.calling(hub.stop):
        tasks = (
            delayed(_train_in_worker)(
                index, planned, device, threads, hub.address, given_class(planned.plan.config.variant)
            )
            for index, planned in enumerate(pending)
        )
        results: Iterable[tuple[int, Outcome]] = ()
        try:
            # With one job joblib would train in this process, which would die with the training.
            results = Parallel(n_jobs=max(2, workers), return_as="generator_unordered", batch_size=1)(tasks)
            for index, outcome in results:
                ended.add(index)
                yield pending[index], outcome
        except BrokenProcessPool as error:
            reason = printable(error, 200).rstrip(".")
        except PicklingError as error:
            # The cause is a traceback as text, whose last line says what cannot be pickled.
            why = str(error.__cause__).strip('"\n').rpartition("\n")[2]
            raise RunError(
                f"A training cannot be sent to a worker process ({printable(why, 200)}): train with jobs=1, or define "
                "the class in a module."
            ) from error
        except OSError as error:
            raise RunError(f"Worker processes cannot be started ({error.strerror}): try fewer --jobs.") from error
        finally:
            # Let the workers save their state before joblib kills them, whatever ends this block.
            hub.stop()
            with suppress(BrokenProcessPool):
                for _ in results:
                    pass
    left = [index for index in range(len(pending)) if index not in ended]
    return [pending[i] for i in left if i in begun], [pending[i] for i in left if i not in begun], reason


def _train_in_worker(
    index: int,
    planned: PlannedTraining,
    device: str,
    threads: int,
    hub: Address,
    given: dict[str, GivenClass],
) -> tuple[int, Outcome]:
    adopt(given)
    ignore_signals()  # the request to stop comes through the line
    try:
        line = Line(hub)
    except (OSError, EOFError, AuthenticationError):  # the process that started this one has ended
        return index, halted(planned)
    with held_alive(hub.process), line:
        line.send((index, None))
        return index, train_one(planned, device, threads, lambda epoch: line.send((index, epoch)), line.stopped)
