"""Errors that are part of the interface: each has a clear sentence and the exit code of the command that raises it."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable

from benchmarks.base.text import visible

__all__ = [
    "DataError",
    "RunError",
    "SenBenchError",
    "UnlearntError",
    "UnreadableError",
    "UsageError",
    "printable",
    "suggest",
]


class SenBenchError(Exception):
    """Base of the errors that sen-bench reports in one sentence instead of a traceback."""

    exit_code = 1


class UsageError(SenBenchError):
    """The command was used wrongly: an unknown name, a missing file, an impossible option (exit code 2)."""

    exit_code = 2


class DataError(SenBenchError):
    """A data file cannot be obtained or is not what it claims to be; the message names it and, if known, the row."""


class UnreadableError(DataError):
    """The system refuses to read a file, which says nothing about its content: it must not be taken for damaged."""


class RunError(SenBenchError):
    """A run started and could not finish, for example because training diverged."""


class UnlearntError(RunError):
    """A training diverged or collapsed; repeated with the same settings it would again."""


def printable(text: object, length: int = 60) -> str:
    """Return text from a file in a form for messages: on one line, shortened, `visible`."""
    return textwrap.shorten(visible(str(text)[: 4 * length]), length, placeholder=" ...")


def _initials(name: str) -> set[str]:
    """Return abbreviations of a name of several words: training.lr and lr of training.learning_rate."""
    table, dot, field = name.lower().rpartition(".")
    words = field.split("_")
    short = "".join(word[:1] for word in words)
    return {short, f"{table}{dot}{short}"} if len(words) > 1 else set()


def suggest(name: str, known: Iterable[str]) -> str:
    """Return the end of an error message about an unknown name: the nearest known names, then all of them."""
    known = sorted(known)
    lower = {each.lower(): each for each in known}
    near = [each for each in known if name.lower() in _initials(each)]
    near = near or [lower[each] for each in difflib.get_close_matches(name.lower(), lower, n=3, cutoff=0.5)]
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    separator = "; " if any("," in each for each in known) else ", "
    return f"{hint}Available: {separator.join(known)}."
