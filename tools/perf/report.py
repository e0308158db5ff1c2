"""Time `sen-bench report` on a run store, stage by stage, and a plain script on the same predictions.

    python tools/perf/report.py runs/ --data-dir DATA

The script runs the command as a user does, and takes the time of each line that it prints when a section is done.
Before the first section the command starts up, and reads and checks the runs. With only the section `provenance` it
does little else: that is the floor. After the last section it draws all figures and writes the page.

The peer is a short script in a new interpreter: pandas reads the same predictions and groups their errors by model and
fold, and matplotlib draws as many figures as the report shows, each a scatter plot in SVG. It checks nothing, computes
no intervals and tests, reads no crystals, and loads no model. If chromium is on the PATH, it opens the page, and an
empty page to compare with.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

_REPORT = (sys.executable, "-u", "-c", "from benchmarks.cli.main import main; main()", "report")
_BROWSER = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--dump-dom")

_PEER = """
import sys
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

out, n_figures, *stores = sys.argv[1:]
parts = []
for path in (path for store in stores for path in Path(store).rglob("predictions.csv")):
    *_, model, _, fold, _ = path.parts
    parts.append(pd.read_csv(path).assign(model=model, fold=fold))
table = pd.concat(parts)
table["error"] = (table["prediction"] - table["target"]).abs()
table.groupby(["model", "fold"])["error"].agg(["mean", "std", "max"]).to_csv(Path(out) / "errors.csv")
models = [part for _, part in table.groupby("model")]
for i in range(int(n_figures)):
    part = models[i % len(models)]
    figure = Figure(figsize=(7.2, 3.0), layout="constrained")
    figure.subplots().scatter(part["target"], part["prediction"], s=4)
    figure.savefig(Path(out) / f"{i}.svg")
"""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    stores = list(map(str, arguments.runs))
    data = ["--data-dir", str(arguments.data_dir)] if arguments.data_dir else []
    stages: dict[str, list[float]] = {}
    ratios: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        page, little = folder / "report.html", folder / "little.html"
        for _ in range(arguments.repeats):
            found = _report_stages([*stores, *data, "--overwrite", "-o", str(page)])
            n_figures = page.read_text().count("<figure id=")
            found["floor: provenance alone"] = _seconds(
                [*_REPORT, *stores, *data, "--overwrite", "-o", str(little), "--sections", "provenance"]
            )
            found["peer: pandas and plots"] = _seconds([sys.executable, "-c", _PEER, name, str(n_figures), *stores])
            if browser := shutil.which("chromium") or shutil.which("chromium-browser"):
                found["page in chromium"] = _seconds([browser, *_BROWSER, page.as_uri()])
                found["empty page in it"] = _seconds([browser, *_BROWSER, "about:blank"])
            ratios.append(found["the whole command"] / found["peer: pandas and plots"])
            for stage, seconds in found.items():
                stages.setdefault(stage, []).append(seconds)
        size = page.stat().st_size
    print(f"{' '.join(stores)}: {n_figures} figures, {size / 1e6:.1f} MB; {arguments.repeats} repeats,")
    print(f"{os.environ.get('OMP_NUM_THREADS') or os.cpu_count()} threads, load {os.getloadavg()[0]:.1f}")
    whole = statistics.median(stages["the whole command"])
    for stage, times in stages.items():
        middle = statistics.median(times)
        print(f"  {stage:44} {middle:7.2f} s ({min(times):.2f} to {max(times):.2f}) {middle / whole:7.0%}")
    print(f"  report over peer: {statistics.median(ratios):.1f} times as long")
    if "page in chromium" not in stages:
        print("  the page was not opened: there is no chromium on the PATH")


def _report_stages(arguments: list[str]) -> dict[str, float]:
    """Return the seconds of each stage of the command, which ends with a line of output."""
    stages: dict[str, float] = {}
    start = last = time.perf_counter()
    with subprocess.Popen([*_REPORT, *arguments], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        for line in process.stdout or ():
            now = time.perf_counter()
            stage = "drawing and writing" if line.startswith("Written") else line.rpartition(":")[0]
            stages[f"start, reading, {stage}" if not stages else stage] = now - last
            last = now
    if process.returncode:
        raise SystemExit(f"the report failed with exit code {process.returncode}")
    return {**stages, "the whole command": time.perf_counter() - start}


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
