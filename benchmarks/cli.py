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
    # Read by OpenMP when torch is loaded: threads that wait for each other sleep. Spinning, as they do otherwise, takes
    # ten times as long as soon as another process uses one of the cores.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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
