"""What `sen-bench study --status` shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import JustifyMethod

from ablations.ablation import Grid
from benchmarks.base.console import count, make_console, print_table

__all__ = ["show_status"]


def show_status(path: Path, grids: Mapping[str, Grid], waiting: Mapping[str, str], files: Sequence[Path]) -> None:
    """Print how far the trainings of a study file are, and which of its files are written.

    Args:
        path: The study file.
        grids: Its ablations.
        waiting: The ablation from whose weights each of those starts that cannot begin yet.
        files: The files that it ends with.
    """
    console = make_console()
    columns: dict[str, JustifyMethod] = dict.fromkeys(("run", "ablation", "variant"), "left")
    columns |= dict.fromkeys(("finished", "begun", "failed"), "right")
    rows = []
    finished, trainings = set(), set()
    for name, grid in grids.items():
        for variant in grid.variants:
            plan = variant.plan
            of_run = {(plan.run.path, training) for training in plan.trainings}
            missing = {(plan.run.path, training) for training in plan.missing}
            trainings |= of_run
            finished |= of_run - missing
            pending = [] if plan.run.is_archived else plan.missing
            failed = [each for each in pending if plan.run.read_failure(each) is not None]
            rows.append(
                [
                    "" if name in waiting else plan.run.path.name,
                    name,
                    str(variant),
                    f"{len(of_run) - len(missing)} of {len(of_run)}",
                    str(len(plan.under_way) or ""),
                    str(len(failed) or ""),
                ]
            )
    print_table(console, f"{path.name}: trainings", columns, rows, ("begun", "ablation"))
    console.print(f"{len(finished)} of {count(len(trainings), 'training')} finished, each counted once.")
    for name, source in waiting.items():
        console.print(f"{name}: starts when {source} is finished; its runs get their names then.", soft_wrap=True)
    for name, grid in grids.items():
        if left := sum(len(tuning.left) for tuning in grid.tunings):
            console.print(f"{name}: {count(left, 'trial')} of recipes to do before; runs may get other names by them.")
    for file in files:
        console.print(f"{file}: {'written' if file.exists() else 'not written'}", soft_wrap=True)
