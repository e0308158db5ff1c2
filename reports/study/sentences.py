"""Sentences kept in Jinja templates, apart from the modules that compute what they say."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined

from benchmarks.base.console import count, duration
from reports.study.wording import after_number, dashed, in_brackets, interval, join, rounded, signed, spanned

__all__ = ["Sentences"]


# Filters of the templates. Jinja2 has `join` as well, which takes a separator, and `format`: `"%.1f"|format(x)`.
_FILTERS = {
    "after_number": after_number,
    "count": count,
    "duration": duration,
    "figures": dashed,
    "in_brackets": in_brackets,
    "interval": interval,
    "listed": join,
    "median": statistics.median,
    "percent": "{:.1%}".format,
    "rounded": rounded,
    "signed": signed,
    "spanned": spanned,
    "thousands": "{:,}".format,
}


class Sentences:
    """The texts of a module about some facts: macros of the template `text/NAME.jinja` beside `NAME.py`.

    The macros see the facts by their names, and take as parameters what differs between calls. Line breaks in a macro
    are spaces; an empty line begins a new paragraph. Texts are plain: whoever shows them escapes them.
    """

    def __init__(self, module: str, facts: Mapping[str, Any]) -> None:
        """Load the template of a module.

        Args:
            module: Its `__name__`: "reports.sections.worst" has its texts in `reports/sections/text/worst.jinja`.
            facts: What the texts are about.
        """
        self._module = module
        self._macros = _environment().get_template(module).make_module(dict(facts))

    def __call__(self, macro: str, **values: Any) -> str:
        """Return the text of a macro.

        Raises:
            AttributeError: The template has no such macro.
            jinja2.UndefinedError: The text needs a fact or a parameter that is not given.
            TypeError: A value is given that the macro does not take.
        """
        return "\n\n".join(self.paragraphs(macro, **values))

    def paragraphs(self, macro: str, **values: Any) -> list[str]:
        """Return the paragraphs of a macro, those without words left out; see `__call__`."""
        text = str(getattr(self._macros, macro)(**values))
        return [" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", text) if paragraph.strip()]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FunctionLoader(_source),
        # Nothing is escaped here: the page does that, and other readers, such as the terminal, must not see it.
        autoescape=False,  # noqa: S701
        undefined=StrictUndefined,
        # A macro in a sentence is a part of its line.
        finalize=lambda value: value.strip("\n") if isinstance(value, str) else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= _FILTERS
    return environment


def _source(module: str) -> tuple[str, str, None]:
    """Return the text of the template of a module, and its path for messages."""
    package, _, name = module.rpartition(".")
    path = files(package) / "text" / f"{name}.jinja"
    return path.read_text("utf-8"), str(path), None
