"""Time the breakdown of a whole submission, and a plain mean by group.

    python tools/perf/breakdown.py LEADERBOARD --task matbench_mp_gap --model coNGN

LEADERBOARD is a folder with MODEL.results.json.gz and TASK.rows.json.bz2. The script times in turn: reading the rows
and the submission, errors by crystal system and space group with their intervals, the mean error by both with pandas,
and the whole command `sen-bench audit`. It prints medians; shared machines are noisy, so look at the ratio.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.data.tasks import get_task
from reports.auditing.breakdown import break_down
from reports.study.published import read_predictions
from reports.study.row_facts import read_rows_file


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("leaderboard", type=Path)
    parser.add_argument("--task", default="matbench_mp_gap")
    parser.add_argument("--model", default="coNGN")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    task = get_task(arguments.task)
    rows_path = arguments.leaderboard / f"{task.name}.rows.json.bz2"
    path = arguments.leaderboard / f"{arguments.model}.results.json.gz"
    rows = read_rows_file(rows_path, task)
    _, entry = read_predictions(path).find(task)
    at = rows.positions(entry.ids)
    target, space_group = rows.target[at], rows.space_group[at]
    table = pd.DataFrame({"system": rows.crystal_system[at], "group": space_group})

    def plain() -> None:
        table["error"] = np.abs(entry.prediction - target)
        for by in ("system", "group"):
            table.groupby(by)["error"].mean()

    def command() -> None:
        words = [sys.executable, "-c", "from benchmarks.cli.main import main; main()", "audit", str(path)]
        options = ["--task", task.name, "--rows", str(rows_path)]
        subprocess.run([*words, *options], check=True, stdout=subprocess.DEVNULL)  # noqa: S603

    works: dict[str, Callable[[], object]] = {
        "reading the rows": lambda: read_rows_file(rows_path, task),
        "reading the submission": lambda: read_predictions(path),
        "breakdown with intervals": lambda: break_down(task.kind, target, entry.prediction, space_group),
        "pandas groupby means": plain,
        "the whole command": command,
    }
    seconds: dict[str, list[float]] = {name: [] for name in works}
    processor = []
    for _ in range(arguments.repeats):
        for name, work in works.items():
            start, start_processor = time.perf_counter(), time.process_time()
            work()
            seconds[name].append(time.perf_counter() - start)
            if name == "breakdown with intervals":
                processor.append(time.process_time() - start_processor)
    print(f"{path.name}, {task.name}: {len(entry):,} rows, {len(np.unique(space_group))} space groups;")
    print(f"{arguments.repeats} repeats, load {os.getloadavg()[0]:.1f}")
    for name, times in seconds.items():
        print(f"  {name:26} {statistics.median(times):8.3f} s ({min(times):.3f} to {max(times):.3f})")
    ratios = [a / b for a, b in zip(seconds["breakdown with intervals"], seconds["pandas groupby means"], strict=True)]
    print(f"  breakdown: {statistics.median(processor):.2f} s of processor time")
    print(
        f"  breakdown over pandas means: {statistics.median(ratios):.0f} times as long, for 4,000 resamples of each row"
    )


if __name__ == "__main__":
    main()
