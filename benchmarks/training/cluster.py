"""Trainings on the workers of a Dask cluster, which share the run store and the cache with this process.

All communication goes through the scheduler, so that workers need no network connection to this process.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import time
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import astuple, replace
from pathlib import Path
from threading import Lock, Thread
from typing import Any, Self
from urllib.parse import urlsplit

from benchmarks.base.cache import cache_folder
from benchmarks.base.errors import RunError, UsageError
from benchmarks.base.files import parse_json, read_file
from benchmarks.base.interrupts import Interrupted, StopRequest
from benchmarks.base.locks import Taken, lock
from benchmarks.base.machine import n_threads, pick_device, provenance
from benchmarks.results.store import Run
from benchmarks.training.plans import PlannedTraining
from benchmarks.training.train_one import Outcome, train_one
from benchmarks.training.trainer import Epoch

__all__ = ["Cluster"]

_CONNECT_SECONDS = 10.0
_CERTIFICATE = "set DASK_CONFIG to the folder of the certificate (docs/how-to/run-on-a-cluster.md)"
# Batch systems take a while to start workers.
_WORKERS_SECONDS = 60.0
_POLL_SECONDS = 0.5
# How often a training asks the scheduler whether to stop.
_ASK_SECONDS = 1.0

_ASK_WORKERS_SECONDS = 5.0
# A scheduler may briefly not know its workers.
_PATIENCE_SECONDS = 10.0
# A scheduler that does not answer a worker for this long counts as lost.
_SILENCE_SECONDS = 30.0
# How long to wait for workers that were asked to stop.
_STOP_SECONDS = 60.0

# What a client raises while it loses its scheduler; AttributeError when it briefly has none to call.
_LOST = (OSError, RuntimeError, AttributeError)

# torch has one random state for the process, so that two trainings at once would draw from the same stream.
_training = Lock()


class Cluster:
    """A Dask scheduler and its workers.

    Args:
        scheduler: Address of the scheduler, such as tls://host:8786, or the file with the address that it has written.

    Raises:
        UsageError: `distributed` is not installed, no scheduler answers at the address, or Dask's configuration lacks
            the certificate for it.
    """

    def __init__(self, scheduler: str) -> None:
        try:
            from distributed import Client
        except ModuleNotFoundError:
            raise UsageError('A cluster needs the package distributed: pip install "sen-bench[dask]".') from None
        self._scheduler = scheduler if _is_address(scheduler) else _read_address(scheduler)
        try:
            self._client = Client(
                self._scheduler, timeout=_CONNECT_SECONDS, set_as_default=False, security=_security(self._scheduler)
            )
        except (OSError, ValueError, TypeError, TimeoutError) as error:
            raise UsageError(
                f"No Dask scheduler answers at {self._scheduler} ({str(error) or type(error).__name__}): start one "
                "with `dask scheduler` and give the address that it prints to --scheduler."
            ) from None

    def __enter__(self) -> Self:
        """Stay connected."""
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect; the cluster keeps running."""
        with suppress(OSError, TimeoutError):
            self._client.close()

    def n_workers(self) -> int:
        """Return the number of workers that the scheduler has at present."""
        return len(self._workers())

    def _workers(self) -> dict[str, Any]:
        workers: dict[str, Any] = self._client.scheduler_info(n_workers=-1)["workers"]
        return workers

    def check_workers(self, store: Path) -> None:
        """Check that there are workers, and that each of them has what it needs; warn of a scheduler open to others.

        Args:
            store: Folder of the run store. The folders of the store and the cache are created if they do not exist.

        Raises:
            UsageError: There are no workers, or one lacks sen-bench or cannot write to the store or the cache.
        """
        address = self._client.scheduler_info(n_workers=0)["address"]
        if _is_open(address):
            _warn(
                f"The scheduler at {address} has no TLS, and anyone who reaches it can run code as you: start it with "
                "a certificate (docs/how-to/run-on-a-cluster.md), or on one machine with --host 127.0.0.1."
            )
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
                raise UsageError(f"The folder {folder} cannot be created ({error.strerror}).") from None
        here = provenance()
        with _marks(folders) as marks:
            answers = self._client.run(_look, marks, on_error="return")
        for worker, answer in sorted(answers.items()):
            lacks = f"sen-bench ({answer})" if isinstance(answer, Exception) else " and ".join(answer[0])
            if lacks:
                raise UsageError(
                    f"The worker {worker} of the cluster lacks {lacks}: workers need sen-bench as installed here, "
                    "and the run store (--out) and the cache (SEN_BENCH_CACHE) at the same paths as here, writable."
                )
            for name in ("sen-bench", "git_commit", "torch"):
                if answer[1][name] != here[name]:
                    _warn(f"The worker {worker} has {name} {answer[1][name]}, but this process has {here[name]}.")
        if several := [address for address, facts in self._workers().items() if facts["nthreads"] > 1]:
            _warn(
                f"{several[0]} has more than one thread, but trains one fold at a time: start workers with "
                "--nthreads 1, one for each fold that is to be trained at the same time."
            )

    def train(
        self,
        pending: Sequence[PlannedTraining],
        *,
        device: str,
        stop: StopRequest,
        on_epoch: Callable[[PlannedTraining, Epoch], None],
    ) -> Generator[tuple[PlannedTraining, Outcome]]:
        """Yield the outcome of each planned training. One whose worker is lost continues from its state on another."""
        from distributed import Event

        topic = f"sen-bench-{uuid.uuid4().hex}"
        stopped = Event(topic, client=self._client)

        def receive(event: tuple[float, tuple[int, Sequence[Any]]]) -> None:
            index, epoch = event[1]
            on_epoch(pending[index], Epoch(*epoch))

        def set_stopped() -> None:
            with suppress(*_LOST):
                stopped.set()

        def stop_workers() -> None:
            # In a thread, because a signal handler calls this, and its thread may hold the client's locks.
            Thread(target=set_stopped, daemon=True).start()

        self._client.subscribe_topic(topic, receive)
        with stop.calling(stop_workers):
            futures = {
                self._client.submit(
                    _train_on_worker, index, _for_worker(planned), device, topic, key=f"{topic}-{index}", pure=False
                ): planned
                for index, planned in enumerate(pending)
            }
            try:
                for future in self._ended(list(futures), stop):
                    yield futures.pop(future), self._outcome(future, stop)
                for planned in futures.values():
                    yield planned, self._lost_outcome(stop)
            finally:
                # A lost scheduler has nothing to stop.
                with suppress(*_LOST):
                    stopped.set()
                    self._client.cancel(list(futures))
                    self._client.unsubscribe_topic(topic)

    def _ended(self, futures: list[Any], stop: StopRequest) -> Iterator[Any]:
        """Yield futures as they end, until the others cannot end any more; warn while there are no workers."""
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
                    f"All workers of {self._scheduler} are lost. Their trainings continue from the last saved state "
                    "when the scheduler has workers again; Ctrl-C stops the waiting."
                )

    def _lost_outcome(self, stop: StopRequest) -> Outcome:
        """Return the outcome of a training that sends no messages any more."""
        if stop:
            return Interrupted("not begun, or kept in its last saved state")
        return RunError(f"the connection to the scheduler at {self._scheduler} was lost.")

    def _outcome(self, future: Any, stop: StopRequest) -> Outcome:
        from distributed import KilledWorker

        if future.cancelled():
            return self._lost_outcome(stop)
        error = future.exception()
        if error is None:
            outcome: Outcome = future.result()
            return outcome
        if isinstance(error, KilledWorker):
            return RunError("the workers that trained it died, one after the other, perhaps for lack of memory.")
        return RunError(f"its worker raised {type(error).__name__}: {error}.")


def _is_address(scheduler: object) -> bool:
    return isinstance(scheduler, str) and scheduler.startswith(("tcp://", "tls://"))


def _security(scheduler: str) -> Any:
    """Return what Dask's configuration says about TLS, after checking that it fits the address of the scheduler.

    It is not left to the client, which leaves threads that print tracebacks at the end of the process.

    Raises:
        UsageError: It does not, or its certificate cannot be used.
    """
    from distributed import Security

    security = Security()
    try:
        certificate = security.get_connection_args("client")["ssl_context"]
    except OSError as error:
        raise UsageError(
            f"The certificate that Dask's configuration names cannot be used ({error}): {_CERTIFICATE}."
        ) from None
    if scheduler.startswith("tls://") and certificate is None:
        raise UsageError(f"{scheduler} needs a certificate, and Dask's configuration names none: {_CERTIFICATE}.")
    if scheduler.startswith("tcp://") and security.require_encryption:
        raise UsageError(
            f"Dask's configuration refuses {scheduler}, which has no TLS: start the scheduler with it, too."
        )
    return security


def _is_open(address: str) -> bool:
    """Whether other machines reach this address of a scheduler without TLS."""
    try:
        is_loopback = ipaddress.ip_address(urlsplit(address).hostname or "").is_loopback
    except ValueError:  # a name
        is_loopback = urlsplit(address).hostname == "localhost"
    return not address.startswith("tls://") and not is_loopback


def _read_address(path: str) -> str:
    """Return the address in a file that `dask scheduler --scheduler-file` wrote.

    It is not left to distributed, which waits without end for a file that does not exist.

    Raises:
        UsageError: The file does not exist, cannot be read or holds no address.
    """
    try:
        content = parse_json(read_file(Path(path)))
    except FileNotFoundError:
        raise UsageError(
            "--scheduler takes an address such as tls://host:8786, or the file of `dask scheduler --scheduler-file`; "
            f"{path!r} is neither."
        ) from None
    except OSError as error:
        raise UsageError(f"{path} (--scheduler) cannot be read ({error.strerror}).") from None
    except ValueError:
        content = None
    address = content.get("address") if isinstance(content, dict) else None
    if not _is_address(address):
        raise UsageError(
            f"{path} (--scheduler) is not what `dask scheduler --scheduler-file` writes: no address is in it."
        )
    return str(address)


def _warn(sentence: str) -> None:
    logging.getLogger("sen_bench").warning(sentence)


def _for_worker(planned: PlannedTraining) -> PlannedTraining:
    """Return a planned training for a process in another working directory."""
    plan, training = planned
    start = plan.start
    if start is not None:
        start = replace(start, weights=replace(start.weights, run=Run(start.weights.run.path.resolve())))
    return PlannedTraining(replace(plan, run=Run(plan.run.path.resolve()), start=start), training)


@contextmanager
def _marks(folders: Sequence[Path]) -> Iterator[list[str]]:
    """Put a file into each folder, by which a worker can see whether it shares the folder."""
    marks = [folder / f".sen-bench-{uuid.uuid4().hex}" for folder in folders]
    with ExitStack() as stack:
        for mark in marks:
            for left in mark.parent.glob(".sen-bench-*"):  # by commands that were killed: nobody holds its lock
                with suppress(OSError, Taken), lock(left) as is_held:
                    if is_held:
                        left.unlink()
            stack.enter_context(lock(mark, f"looking at {mark.parent}"))
            stack.callback(mark.unlink, missing_ok=True)
        yield [str(mark) for mark in marks]


def _look(marks: list[str]) -> tuple[list[str], dict[str, str | None]]:
    """Return the folders that this worker does not share or cannot write to, and its software."""
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
    """Return a function that regularly asks the scheduler whether to stop, which is also true once it is lost."""
    from distributed import Event

    event, stopped = Event(topic), False
    asked, answered = -math.inf, time.monotonic()

    def stop() -> bool:
        nonlocal asked, answered, stopped
        now = time.monotonic()
        if not stopped and now - asked > _ASK_SECONDS:
            asked = now
            try:
                stopped = bool(event.is_set())
                answered = now
            except (OSError, TimeoutError):
                stopped = now - answered > _SILENCE_SECONDS
        return stopped

    return stop
