"""The `sen-bench` command: subcommands of all rooms, found through the entry point group `sen_bench.commands`."""

from __future__ import annotations

import logging
import os
import sys
from importlib.metadata import entry_points

import typer

from benchmarks.errors import SenBenchError

__all__ = ["main"]


def main() -> None:
    """Run `sen-bench`; a sen-bench error becomes one sentence on stderr and its exit code."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    if os.environ.get("SEN_BENCH_DEBUG"):
        logging.getLogger("sen_bench").setLevel(logging.DEBUG)
    # Read by GNU OpenMP when torch is loaded: threads that wait for each other soon go to sleep. With its default, by
    # which they spin on, a training step took dozens of times as long once other processes used the cores.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    app = typer.Typer(
        help="Honest MatBench comparisons of SEN, the symmetry-enhanced equivariance network, with pluggable blocks.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
    )
    for command in sorted(entry_points(group="sen_bench.commands"), key=lambda command: command.name):
        app.command(command.name)(command.load())
    try:
        app(prog_name="sen-bench")
    except SenBenchError as error:
        typer.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_code)
