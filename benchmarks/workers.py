"""A function applied to a stream of tasks by worker processes."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

__all__ = ["stream"]

Result = TypeVar("Result")


def stream(function: Callable[..., Result], tasks: Iterable[tuple[Any, ...]], jobs: int) -> Iterator[Result]:
    """Yield `function(*task)` for each task, in order, holding only a few tasks and results at any time.

    Args:
        function: A function at the top level of a module that is quick to import.
        tasks: Its arguments.
        jobs: Worker processes; -1 is one per core, 1 does the work in this process.
    """
    from joblib import Parallel, delayed

    wanted = True
    calls = (delayed(function)(*task) for task in itertools.takewhile(lambda _: wanted, tasks))
    results = Parallel(n_jobs=jobs, return_as="generator", batch_size=1, max_nbytes=None)(calls)
    try:
        for result in results:  # noqa: UP028 - `yield from` would close the results before the wait below
            yield result
    finally:
        # joblib fills stderr with tracebacks when its tasks are abandoned; the few that are under way end soon.
        wanted = False
        for _ in results:
            pass
