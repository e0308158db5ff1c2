"""Formats of the numbers in the tables of the page, and of the tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from benchmarks.base.console import figures

__all__ = ["commits", "correlation", "error_share", "markdown", "number", "percent", "score", "share", "short"]


def markdown(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def number(value: float | None) -> str:
    """Format with four significant digits; None becomes a dash."""
    return "–" if value is None else figures(value)


def share(value: float) -> str:
    """Format with two decimals; more would not be significant."""
    return f"{value:.2f}"


def percent(value: float) -> str:
    """Format a share in per cent with one decimal."""
    return f"{100 * value:.1f} %"


def error_share(line: dict[str, Any]) -> str:
    """Format a MAE and, in brackets, its ratio to the mean absolute deviation of the same rows."""
    return f"{number(line['mae'])} ({share(line['relative'])})"


def score(facts: dict[str, Any] | None) -> str:
    """Format a separation score with its 95 % interval; None becomes a dash."""
    if facts is None:
        return "–"
    low, high = facts["interval"]
    return f"{share(facts['value'])} ({share(low)} to {share(high)})"


def correlation(facts: dict[str, Any]) -> str:
    """Format a rank correlation with its 95 % interval."""
    return f"{facts['value']:+.2f} ({' to '.join(f'{end:+.2f}' for end in facts['interval'])})"


def commits(hashes: Iterable[str]) -> str:
    """Format the commits of trainings, each once."""
    return ", ".join(sorted({short(commit) for commit in hashes}))


def short(commit: str) -> str:
    """Shorten the hash of a commit, and keep the suffix for files that were not committed."""
    return commit[:7] + commit[40:]
