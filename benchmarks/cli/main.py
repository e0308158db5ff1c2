"""The `sen-bench` command, whose subcommands are found through the entry point group `sen_bench.commands`."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import signal
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any

import typer
from rich.markup import escape

from benchmarks.base.console import LogFormatter, say
from benchmarks.base.errors import RunError, SenBenchError, UsageError
from benchmarks.base.interrupts import raise_at_signals
from benchmarks.base.output import Output, open_output
from benchmarks.base.text import visible
from benchmarks.cli.options import TaskCommand, has_results_in_files
from sen.registry import find_plugins

__all__ = ["main"]

# What a shell makes of a program that SIGPIPE ends, as it ends other programs.
_BROKEN_PIPE = 128 + signal.SIGPIPE


def _stoppable(command: Callable[..., None], output: Output) -> Callable[..., None]:
    """Turn Ctrl-C in a command into a sentence and the exit code of a stopped program."""

    @functools.wraps(command)
    def call(*arguments: Any, **options: Any) -> None:
        output.is_needed = not has_results_in_files(command, options)
        try:
            command(*arguments, **options)
        except KeyboardInterrupt:
            say("Stopped. Finished work is kept; the same command does the rest.", err=True)
            raise typer.Exit(130) from None

    return call


def _show_version(asked: bool) -> None:
    if asked:
        say(f"sen-bench {version('sen-bench')}")
        raise typer.Exit


def _sen_bench(
    asked: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Honest MatBench comparisons of SEN, the symmetry-enhanced equivariance network, its blocks, and other models."""


def _check(output: Output) -> None:
    """End a command that has succeeded, but could not write all of its output.

    Raises:
        RunError: The output is its result.
        SystemExit: The same, but the reader of a pipe has gone, as `head` does: nothing is said about it.
    """
    refusal = output.refusal
    if refusal is None:
        return
    is_pipe = isinstance(refusal, BrokenPipeError)
    if output.is_needed and is_pipe:
        sys.exit(_BROKEN_PIPE)
    if output.is_needed:
        raise RunError(f"The output cannot be written ({refusal.strerror}).")
    if not is_pipe:
        message = "The output cannot be written (%s); the results are in their files."
        logging.getLogger("sen_bench").warning(message, refusal.strerror)


def main() -> None:
    """Run `sen-bench`. Its errors, and what the system refuses, become a sentence on stderr and an exit code."""
    output = open_output()
    raise_at_signals()
    handler = logging.StreamHandler()
    handler.setFormatter(LogFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.captureWarnings(capture=True)
    if os.environ.get("SEN_BENCH_DEBUG"):
        logging.getLogger("sen_bench").setLevel(logging.DEBUG)
    # GNU OpenMP reads this when torch is loaded: threads that wait for each other soon go to sleep. By default they
    # spin, and a training step took dozens of times as long when other processes used the cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    app = typer.Typer(
        callback=_sen_bench,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    for name, command in find_plugins("sen_bench.commands").items():
        function = command.load()
        text = escape(visible(inspect.getdoc(function) or ""))
        app.command(name, cls=TaskCommand, help=text)(_stoppable(function, output))
    try:
        try:
            app(prog_name="sen-bench")
        except SystemExit as end:
            if not end.code:
                _check(output)
            raise
    except SenBenchError as error:
        say(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        # Any access to any path may fail so, such as one to the folder of another user.
        logging.getLogger("sen_bench").debug("The system refused this access:", exc_info=True)
        if error.filename is None:
            say(f"Error: The system refuses what the command needs ({error.strerror or error}).", err=True)
            sys.exit(RunError.exit_code)
        say(f"Error: {error.filename} cannot be used ({error.strerror}).", err=True)
        sys.exit(UsageError.exit_code)
