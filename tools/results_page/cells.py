"""How numbers are written in the tables of the page, and the tables themselves."""

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
    """Return four significant digits, or a dash."""
    return "–" if value is None else figures(value)


def share(value: float) -> str:
    """Return two decimals: finer, scores say nothing."""
    return f"{value:.2f}"


def percent(value: float) -> str:
    """Return a share in per cent, with one decimal."""
    return f"{100 * value:.1f} %"


def error_share(line: dict[str, Any]) -> str:
    """Return a MAE and, in brackets, its share of the mean absolute deviation of the same rows."""
    return f"{number(line['mae'])} ({share(line['relative'])})"


def score(facts: dict[str, Any]) -> str:
    """Return a separation score with its 95 % interval."""
    low, high = facts["interval"]
    return f"{share(facts['value'])} ({share(low)} to {share(high)})"


def correlation(facts: dict[str, Any]) -> str:
    """Return a rank correlation with its 95 % interval."""
    return f"{facts['value']:+.2f} ({' to '.join(f'{end:+.2f}' for end in facts['interval'])})"


def commits(hashes: Iterable[str]) -> str:
    """Return the commits of trainings, each once."""
    return ", ".join(sorted({short(commit) for commit in hashes}))


def short(commit: str) -> str:
    """Shorten a commit, but not what follows its hash where files were not committed."""
    return commit[:7] + commit[40:]
