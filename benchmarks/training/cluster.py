"""Cells trained by the workers of a Dask cluster, which share the run store and the cache with this process.

Everything goes by way of the scheduler, so that workers need not reach this process by the network.
"""

from __future__ import annotations

import json
import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, replace
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self

from benchmarks.base.cache import cache_folder
from benchmarks.base.errors import RunError, UsageError
from benchmarks.base.interrupts import Interrupted, StopRequest
from benchmarks.base.machine import n_threads, pick_device, provenance
from benchmarks.results.store import Run
from benchmarks.training.plans import PlannedTraining
from benchmarks.training.train_one import Outcome, train_one
from benchmarks.training.trainer import Epoch

__all__ = ["Cluster"]

_CONNECT_SECONDS = 10.0
# Schedulers of batch systems take a while to start workers.
_WORKERS_SECONDS = 60.0
_POLL_SECONDS = 0.5
# How often a training asks the scheduler whether to stop.
_ASK_SECONDS = 1.0

_ASK_WORKERS_SECONDS = 5.0
# A scheduler may not know its workers for a moment.
_PATIENCE_SECONDS = 10.0
# After this long a scheduler that does not answer a worker counts as gone.
_SILENCE_SECONDS = 30.0
# After this long nobody waits for workers that were told to stop.
_STOP_SECONDS = 60.0

# What a client raises while it loses its scheduler: for a moment it has none to call (AttributeError).
_LOST = (OSError, RuntimeError, AttributeError)

# Random numbers of torch belong to the process: two trainings in it at once would draw from one stream.
_training = Lock()


class Cluster:
    """A Dask scheduler and its workers.

    Args:
        scheduler: Address of the scheduler, such as tcp://host:8786, or the file that it has written its address into.

    Raises:
        UsageError: `distributed` is not installed, or there is no scheduler at the address.
    """

    def __init__(self, scheduler: str) -> None:
        try:
            from distributed import Client
        except ModuleNotFoundError:
            raise UsageError('A cluster needs the package distributed: pip install "sen-bench[dask]".') from None
        self._scheduler = scheduler if _is_address(scheduler) else _read_address(scheduler)
        try:
            self._client = Client(self._scheduler, timeout=_CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            raise UsageError(
                f"No Dask scheduler answers at {self._scheduler} ({str(error) or type(error).__name__}): start one "
                "with `dask scheduler` and name the address that it prints with --scheduler."
            ) from None

    def __enter__(self) -> Self:
        """Stay connected."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the cluster as it is, and disconnect."""
        with suppress(OSError, TimeoutError):
            self._client.close()

    def n_workers(self) -> int:
        """Number of workers that the scheduler has now."""
        return len(self._workers())

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return workers

    def check_workers(self, store: Path) -> None:
        """Check that there are workers, and that each sees what it needs.

        Args:
            store: Folder of the run store; it and the cache are made where they are not there.

        Raises:
            UsageError: There are no workers, or one lacks sen-bench or cannot see the store or the cache.
        """
        try:
            self._client.wait_for_workers(1, timeout=_WORKERS_SECONDS)
        except TimeoutError:
            raise UsageError(
                f"The scheduler at {self._scheduler} has no workers: start some, such as "
                f"`OMP_NUM_THREADS=1 dask worker {self._scheduler} --nthreads 1 --nworkers 2`."
            ) from None
        folders = [folder.resolve() for folder in (store, cache_folder())]
        for folder in folders:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UsageError(f"The folder {folder} cannot be made ({error.strerror}).") from None
        here = provenance()
        with _marks(folders) as marks:
            answers = self._client.run(_look, marks, on_error="return")
        for worker, answer in sorted(answers.items()):
            lacks = f"sen-bench ({answer})" if isinstance(answer, Exception) else " and ".join(answer[0])
            if lacks:
                raise UsageError(
                    f"The worker {worker} of the cluster lacks {lacks}: workers need sen-bench as installed here, "
                    "and the run store (--out) and the cache (SEN_BENCH_CACHE) at the same paths as here, to write in."
                )
            for name in ("sen-bench", "git_commit", "torch"):
                if answer[1][name] != here[name]:
                    _warn(f"The worker {worker} has {name} {answer[1][name]}, and this process {here[name]}.")
        if several := [address for address, facts in self._workers().items() if facts["nthreads"] > 1]:
            _warn(
                f"{several[0]} has more than one thread, but trains one fold at a time: start workers with "
                "--nthreads 1, and as many of them as folds are to be trained at once."
            )

    def train(
        self,
        pending: Sequence[PlannedTraining],
        *,
        device: str,
        stop: StopRequest,
        on_epoch: Callable[[PlannedTraining, Epoch], None],
    ) -> Generator[tuple[PlannedTraining, Outcome]]:
        """Yield what becomes of each planned; a planned whose worker is lost goes on from its state on another."""
        from distributed import Event

        topic = f"sen-bench-{uuid.uuid4().hex}"
        word = Event(topic, client=self._client)

        def hear(event: tuple[float, tuple[int, Sequence[Any]]]) -> None:
            index, epoch = event[1]
            on_epoch(pending[index], Epoch(*epoch))

        def tell() -> None:
            with suppress(*_LOST):
                word.set()

        def tell_to_stop() -> None:
            # In a thread, because this is called from a signal handler, whose thread may hold the client's locks.
            Thread(target=tell, daemon=True).start()

        self._client.subscribe_topic(topic, hear)
        with stop.calling(tell_to_stop):
            futures = {
                self._client.submit(
                    _train_on_worker, index, _elsewhere(planned), device, topic, key=f"{topic}-{index}", pure=False
                ): planned
                for index, planned in enumerate(pending)
            }
            try:
                for future in self._ended(list(futures), stop):
                    yield futures.pop(future), self._outcome(future, stop)
                for planned in futures.values():
                    yield planned, self._unended(stop)
            finally:
                # A scheduler that is gone needs no telling.
                with suppress(*_LOST):
                    word.set()
                    self._client.cancel(list(futures))
                    self._client.unsubscribe_topic(topic)

    def _ended(self, futures: list[Any], stop: StopRequest) -> Iterator[Any]:
        """Yield futures as they end, until there is no hope for the rest; say so while no worker is left to end one."""
        alone, asked, stopped, seen = False, time.monotonic(), 0.0, time.monotonic()
        while futures and self._client.status == "running":
            if ended := [future for future in futures if future.done()]:
                futures = [future for future in futures if future not in ended]
                yield from ended
                continue
            time.sleep(_POLL_SECONDS)
            now = time.monotonic()
            stopped = stopped or (now if stop else 0.0)
            if stopped and (alone or now - stopped > _STOP_SECONDS):
                return
            if now - asked < _ASK_WORKERS_SECONDS and not stopped:
                continue
            asked = now
            try:
                n_workers = self.n_workers()
            except (KeyError, *_LOST):
                continue
            if n_workers:
                alone, seen = False, now
            elif now - seen > _PATIENCE_SECONDS and not alone:
                alone = True
                _warn(
                    f"All workers of {self._scheduler} are lost. What they had begun goes on from its last saved "
                    "state when the scheduler has workers again; Ctrl-C stops the waiting."
                )

    def _unended(self, stop: StopRequest) -> Outcome:
        """What became of a planned of which nothing is heard any more."""
        if stop:
            return Interrupted("not begun, or kept as it was last saved")
        return RunError(f"the connection to the scheduler at {self._scheduler} was lost.")

    def _outcome(self, future: Any, stop: StopRequest) -> Outcome:
        from distributed import KilledWorker

        if future.cancelled():
            return self._unended(stop)
        error = future.exception()
        if error is None:
            outcome: Outcome = future.result()
            return outcome
        if isinstance(error, KilledWorker):
            return RunError("the workers that trained it died, one after the other, perhaps for lack of memory.")
        return RunError(f"its worker raised {type(error).__name__}: {error}.")


def _is_address(scheduler: object) -> bool:
    return isinstance(scheduler, str) and scheduler.startswith(("tcp://", "tls://"))


def _read_address(path: str) -> str:
    """Return the address in a file that `dask scheduler --scheduler-file` wrote.

    Read here, because distributed waits without end for a file that is not there.

    Raises:
        UsageError: It is no such file.
    """
    try:
        content = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UsageError(
            "--scheduler takes an address such as tcp://host:8786, or the file of `dask scheduler --scheduler-file`; "
            f"{path!r} is neither."
        ) from None
    except OSError as error:
        raise UsageError(f"{path} (--scheduler) cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        content = None
    address = content.get("address") if isinstance(content, dict) else None
    if not _is_address(address):
        raise UsageError(
            f"{path} (--scheduler) is not what `dask scheduler --scheduler-file` writes: no address is in it."
        )
    return str(address)


def _warn(sentence: str) -> None:
    logging.getLogger("sen_bench").warning(sentence)


def _elsewhere(planned: PlannedTraining) -> PlannedTraining:
    """Return the planned as a process in another folder understands it."""
    plan, training = planned
    return PlannedTraining(replace(plan, run=Run(plan.run.path.resolve())), training)


@contextmanager
def _marks(folders: Sequence[Path]) -> Iterator[list[str]]:
    """Put a file into each folder that only who sees the same folder can see."""
    marks = [folder / f".sen-bench-{uuid.uuid4().hex}" for folder in folders]
    try:
        for mark in marks:
            mark.touch()
        yield [str(mark) for mark in marks]
    finally:
        for mark in marks:
            mark.unlink(missing_ok=True)


def _look(marks: list[str]) -> tuple[list[str], dict[str, str | None]]:
    """Return the folders that this worker does not share, and what it runs."""
    shared = (os.path.exists(mark) and os.access(os.path.dirname(mark), os.W_OK) for mark in marks)  # noqa: PTH110, PTH120
    return [os.path.dirname(mark) for mark, is_there in zip(marks, shared, strict=True) if not is_there], provenance()  # noqa: PTH120


def _train_on_worker(index: int, planned: PlannedTraining, device: str, topic: str) -> Outcome:
    from distributed import get_worker

    worker = get_worker()
    with _training:
        try:
            device = pick_device(device)
        except UsageError as error:
            return error
        return train_one(
            planned,
            device,
            n_threads(),
            lambda epoch: worker.log_event(topic, (index, astuple(epoch))),
            _asking(topic),
        )


def _asking(topic: str) -> Callable[[], bool]:
    """Return what asks the scheduler whether to stop, once in a while; one that is long gone is a reason to stop."""
    from distributed import Event

    word, stopped = Event(topic), False
    asked, answered = -math.inf, time.monotonic()

    def stop() -> bool:
        nonlocal asked, answered, stopped
        now = time.monotonic()
        if not stopped and now - asked > _ASK_SECONDS:
            asked = now
            try:
                stopped = bool(word.is_set())
                answered = now
            except (OSError, TimeoutError):
                stopped = now - answered > _SILENCE_SECONDS
        return stopped

    return stop
