"""Time whole commands: a run with nothing left to do, the prediction of one file, a report, and the import of packages.

    OMP_NUM_THREADS=1 python -m tools.perf.commands docs/results/phonons-blocks.zip --data-dir DATA --before CHECKOUT

CHECKOUT is a folder with another version, which takes turns with this one. The time is that of the processors, user and
system, because others may use the machine; the medians are those of the turns, and the ratio is the median of the
ratios within a turn. The run, of `mlp` on prototypes, is trained by this version before; the report is that of the
runs given, of which archives hold no weights, so that no section loads a model.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

_HERE = Path(__file__).resolve().parents[2]
_SEN_BENCH = "import sys; sys.argv[0] = 'sen-bench'; from benchmarks.cli.main import main; main()"
_RUN = ("run", "prototypes", "--block", "mlp", "--limit", "200", "--epochs", "12", "--device", "cpu")
_CRYSTAL = "Si\n1.0\n0 2.715 2.715\n2.715 0 2.715\n2.715 2.715 0\nSi\n2\nDirect\n0 0 0\n.25 .25 .25\n"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("runs", type=Path, help="runs or an archive to report on")
    parser.add_argument("--data-dir", type=Path)
    parser.add_argument("--before", type=Path, help="folder with another version of the code")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    versions = [_HERE, *([arguments.before.resolve()] if arguments.before else [])]
    data = ["--data-dir", str(arguments.data_dir.resolve())] if arguments.data_dir else []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["SEN_BENCH_CACHE"] = str(folder / "cache")
        run = [*_RUN, "--out", str(folder / "runs")]
        report = ["report", str(arguments.runs.resolve()), *data, "--overwrite", "-o", str(folder / "report.html")]
        for words in (run, report):  # which fills the cache
            _seconds(_HERE, folder, [_SEN_BENCH, *words])
        (folder / "Si.vasp").write_text(_CRYSTAL)
        (trained,) = (path.parent for path in (folder / "runs").rglob("config.json"))
        commands = {
            "run, nothing left": [_SEN_BENCH, *run],
            "predict, one file": [_SEN_BENCH, "predict", str(trained), str(folder / "Si.vasp")],
            f"report, {arguments.runs.name}": [_SEN_BENCH, *report],
            **{f"import {package}": [f"import {package}"] for package in ("benchmarks", "ablations", "reports")},
        }
        print(f"{arguments.repeats} turns, load {os.getloadavg()[0]:.1f} before")
        print("| command | CPU s | wall s |" + (" CPU s before | ratio |" if arguments.before else ""))
        print("|---|---|---|" + ("---|---|" if arguments.before else ""))
        for command, words in commands.items():
            turns = [[_seconds(version, folder, words) for version in versions] for _ in range(arguments.repeats)]
            now = [turn[0] for turn in turns]
            cells = [command, *(f"{statistics.median(column):.2f}" for column in zip(*now, strict=True))]
            if arguments.before:
                before = [turn[1][0] for turn in turns]
                ratio = statistics.median(old / new for old, (new, _) in zip(before, now, strict=True))
                cells += [f"{statistics.median(before):.2f}", f"{ratio:.2f}"]
            print(f"| {' | '.join(cells)} |")
        print(f"load {os.getloadavg()[0]:.1f} after")


def _seconds(version: Path, folder: Path, words: Sequence[str]) -> tuple[float, float]:
    """Return the processor time and the time of a command, by the code in the folder of a version."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(  # noqa: S603
        [sys.executable, "-c", *words],
        check=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(version)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, time.perf_counter() - start


if __name__ == "__main__":
    main()
