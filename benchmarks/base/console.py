"""The terminal, and the way all commands print texts, numbers and times."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderableType
from rich.live import Live
from rich.measure import Measurement
from rich.progress import Progress
from rich.segment import Segment
from rich.table import Table
from rich.text import Text

from benchmarks.base.text import visible

__all__ = [
    "LogFormatter",
    "NotebookLines",
    "count",
    "drawn",
    "duration",
    "figures",
    "make_console",
    "print_table",
    "say",
]

# Width of tables in a file or a pipe, which have no width of their own.
_FILE_WIDTH = 200
_ENDLESS = 10_000
# Seconds between two pictures of a line that changes.
_MOMENT = 0.5
# Messages indent the lines that they consist of: any other line break came with a name.
_FOREIGN_BREAK = re.compile(r"\n(?!  )")


class _Console(Console):
    def render_str(self, text: str, **options: Any) -> Text:
        """Make text visible before its width is measured."""
        return super().render_str(visible(text), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Make what else has text, such as a progress bar, visible."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=visible(segment.text))


def make_console() -> Console:
    """Return a console for tables; a file or a pipe gets wide lines."""
    # Names, paths and errors come from outside: rich must not read markup into them. A notebook gets text, because in
    # HTML every line would be an output of its own, and what moves the cursor of a terminal has no meaning there.
    given: dict[str, Any] = {"highlight": False, "markup": False, "emoji": False, "force_jupyter": False}
    if _is_in_notebook():
        given["force_terminal"] = False  # a kernel has FORCE_COLOR, which rich takes for a terminal
    console = _Console(**given)
    if not console.is_terminal:
        console = _Console(**given, soft_wrap=True, width=max(console.width, _FILE_WIDTH))
    return console


def _is_in_notebook() -> bool:
    return "ipykernel" in sys.modules and Console().is_jupyter


class NotebookLines:
    """Lines in an output of a notebook that take the place of what they said before.

    Without ipywidgets, which a notebook would not keep, rich draws no bars there.
    """

    def __init__(self) -> None:
        self._lines: dict[object, str] = {}
        self._handle: Any = None
        self._shown = -math.inf

    @classmethod
    def find(cls) -> NotebookLines | None:
        """Return new lines in the notebook that this process serves; None where it serves none."""
        return cls() if _is_in_notebook() else None

    def show(self, key: object, line: str) -> None:
        """Show a line in place of the one with the same key, unless something was shown a moment ago."""
        self._lines[key] = line
        if time.monotonic() - self._shown >= _MOMENT:
            self._draw()

    def drop(self, *keys: object) -> None:
        """Take lines away; all of them without a key."""
        for key in keys or [*self._lines]:
            self._lines.pop(key, None)
        if self._handle is not None:
            self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        self._shown = time.monotonic()
        content = {"text/plain": visible("\n".join(self._lines.values()))}
        if self._handle is None:
            self._handle = display(content, raw=True, display_id=True)
        else:
            self._handle.update(content, raw=True)


def print_table(
    console: Console,
    title: str,
    columns: Mapping[str, JustifyMethod],
    rows: Sequence[Sequence[str]],
    drop: Sequence[str],
) -> None:
    """Print a table in which nothing is shortened or broken, or on a very narrow terminal a line for each fact.

    Args:
        console: Where to print; a file or a pipe gets all columns, however wide they are.
        title: Title of the table.
        columns: Heading of each column, and to which side its cells stand.
        rows: The cells of each row.
        drop: Headings of the columns that a terminal may be too narrow for; the first is left out first.
    """
    for n_dropped in range(len(drop) + 1):
        table = _table(title, columns, rows, drop[:n_dropped])
        width = Measurement.get(console, console.options.update(max_width=_ENDLESS), table).maximum
        if not console.is_terminal:
            console.width = max(width, console.width)
        if width <= console.width:
            console.print(table)
            if n_dropped:
                console.print(f"Too narrow for: {', '.join(drop[:n_dropped])}. A wider terminal or a file has all.")
            return
    console.print(title)
    for first, *others in rows:
        console.print(f"\n{first}", soft_wrap=True)
        for name, cell in zip(list(columns)[1:], others, strict=True):
            if cell:
                console.print(f"  {name}: {cell}", soft_wrap=True)


def _table(
    title: str, columns: Mapping[str, JustifyMethod], rows: Sequence[Sequence[str]], left_out: Sequence[str]
) -> Table:
    table = Table(title=title, title_justify="left")
    for name, side in columns.items():
        if name not in left_out:
            table.add_column(name, justify=side, no_wrap=True)
    for row in rows:
        table.add_row(*(cell for name, cell in zip(columns, row, strict=True) if name not in left_out))
    return table


def say(message: object, *, err: bool = False) -> None:
    """Print a message on stdout or stderr, each of its lines after the first indented, everything else on one line."""
    typer.echo(_in_lines(str(message)), err=err)


class LogFormatter(logging.Formatter):
    """Formats records as `say` prints messages; a traceback keeps its lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name in logging
        """Return the message of a record."""
        return _in_lines(super().formatMessage(record).rstrip("\n"))

    def format(self, record: logging.LogRecord) -> str:
        """Return the message of a record, and its traceback."""
        return visible(super().format(record))


def _in_lines(message: str) -> str:
    return visible(_FOREIGN_BREAK.sub(r"\\n", message))


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
