"""Worker processes that apply a function to a stream of arguments and end with the process that started them."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import Any, TypeVar

from benchmarks.base.errors import RunError

__all__ = ["Progress", "held_alive", "in_worker", "stream"]

Result = TypeVar("Result")

#: Called with the amount done and the total amount, mostly in rows; the total is None where it is not known.
Progress = Callable[[int, int | None], None]

_POLL_SECONDS = 1.0
_work = Lock()
_watched: set[int] = set()


def stream(function: Callable[..., Result], arguments: Iterable[tuple[Any, ...]], jobs: int) -> Iterator[Result]:
    """Yield `function(*each)` for each tuple of arguments, in order, with only a few of them in memory at any time.

    Args:
        function: A function at the top level of a module that is quick to import.
        arguments: Tuples of its arguments.
        jobs: Worker processes; -1 is one per core, 1 does the work in this process.

    Raises:
        RunError: A worker process died.
    """
    from joblib import Parallel, delayed
    from joblib.externals.loky.process_executor import BrokenProcessPool

    wanted = True
    process = os.getpid()
    calls = (delayed(_apply)(process, function, each) for each in itertools.takewhile(lambda _: wanted, arguments))
    results = Parallel(n_jobs=jobs, return_as="generator", batch_size=1, max_nbytes=None)(calls)
    try:
        for result in results:  # noqa: UP028 - `yield from` would close the results before the wait below
            yield result
    except BrokenProcessPool:
        raise RunError(
            "A worker process died; a system that runs out of memory kills the largest process. `sen-bench prepare` "
            "with --jobs 1 reads crystals and builds graphs one after the other; other commands then find them in the "
            "cache."
        ) from None
    finally:
        # joblib fills stderr with tracebacks when its calls are abandoned; the few that have begun end soon.
        wanted = False
        with suppress(BrokenProcessPool):
            for _ in results:
                pass


def _apply(process: int, function: Callable[..., Result], arguments: tuple[Any, ...]) -> Result:
    _watch(process)
    return function(*arguments)


@contextmanager
def held_alive(process: int) -> Iterator[None]:
    """Let this worker process end with the one that started it, but not before the end of the block."""
    _watch(process)
    with _work:
        yield


def in_worker() -> bool:
    """Whether this is a worker process, which another process of the same command has started."""
    return bool(_watched)


def _watch(process: int) -> None:
    """End this process when the one that started it ends: joblib's workers would wait for it for ever."""
    if process in {os.getpid(), *_watched}:
        return
    _watched.add(process)

    def watch() -> None:
        while os.getppid() == process:
            time.sleep(_POLL_SECONDS)
        with _work:
            os._exit(1)

    Thread(target=watch, daemon=True).start()
