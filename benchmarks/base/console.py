"""The terminal, and the way all commands print numbers and times."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.progress import Progress

__all__ = ["count", "drawn", "duration", "figures", "make_console"]

# Width of tables in a file or a pipe, which have no width of their own.
_FILE_WIDTH = 200


def make_console() -> Console:
    """Return a console for tables; a file or a pipe gets wide lines."""
    # Names, paths and errors come from outside: rich must not read markup into them.
    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console = Console(highlight=False, markup=False, soft_wrap=True, width=max(console.width, _FILE_WIDTH))
    return console


def figures(value: float, digits: int = 4) -> str:
    """Format a number with this many significant digits, without an exponent where that is readable."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}" if value else "0"
    return f"{value:,.{max(0, digits - 1 - math.floor(math.log10(abs(value))))}f}"


def count(n: int, what: str = "row") -> str:
    """Return a number with its noun: "1 row", "1,265 rows"."""
    return f"1 {what}" if n == 1 else f"{n:,} {what}s"


def duration(seconds: float) -> str:
    """Format a time span: "12 s", "3 min 05 s", "1 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


@contextmanager
def drawn(live: Progress | Live) -> Iterator[None]:
    """Draw a live view during the block; on a terminal, warnings are logged above it."""
    handlers = [handler for handler in logging.getLogger().handlers if isinstance(handler, logging.StreamHandler)]
    to_stderr = [handler for handler in handlers if handler.stream is sys.stderr]
    live.start()
    for handler in to_stderr:
        handler.setStream(sys.stderr)  # rich has replaced it
    try:
        yield
    finally:
        live.stop()
        for handler in to_stderr:
            handler.setStream(sys.stderr)
