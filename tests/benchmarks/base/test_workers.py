from __future__ import annotations

import math
import os
import signal

import pytest

from benchmarks.base.errors import RunError
from benchmarks.base.workers import in_worker, stream


@pytest.mark.parametrize("jobs", [1, 2])
def test_results_come_in_the_order_of_the_tasks(jobs):
    assert list(stream(pow, ((n, 2) for n in range(50)), jobs)) == [n**2 for n in range(50)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_few_tasks_are_taken_ahead_and_none_after_the_end(jobs, capfd, recwarn):
    taken = []
    results = stream(math.sqrt, ((taken.append(n) or n,) for n in range(10_000)), jobs)
    assert next(results) == 0
    results.close()
    assert len(taken) < 1000
    assert capfd.readouterr() == ("", "")
    assert not recwarn.list


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_in_a_task_is_raised(jobs):
    with pytest.raises(ValueError, match=r"math domain|nonnegative"):
        list(stream(math.sqrt, [(1,), (-1,), (4,)], jobs))


def test_a_worker_that_is_killed_is_reported_in_one_sentence():
    with pytest.raises(RunError, match=r"A worker process died; .* --jobs 1"):
        list(stream(_die, [(1,), (2,)], jobs=2))


def test_a_worker_knows_that_it_is_one():
    assert list(stream(in_worker, [()] * 2, jobs=2)) == [True, True]
    assert list(stream(in_worker, [()], jobs=1)) == [False]


def _die(_number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)
