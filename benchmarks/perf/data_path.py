"""How fast a MatBench file becomes cached crystals and graphs, and what that takes in memory.

    python benchmarks/perf/data_path.py matbench_mp_gap.json.gz --target "gap pbe"

Uses a cache of its own. The peer, measured in the same run on a sample of the rows, is what a script
would do with pymatgen: `Structure.from_dict`, then `get_all_neighbors`, without any symmetry.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

from benchmarks.crystals import read_matbench_json
from benchmarks.graphs import GraphSettings, build_graphs
from benchmarks.splitter import RowSplitter, split_file
from sen.crystal import SYMBOLS, refine

_SAMPLE = 200


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--target", required=True, help="name of the target column")
    parser.add_argument("--max-neighbors", type=int, default=12)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    settings = GraphSettings(max_neighbors=arguments.max_neighbors)

    with tempfile.TemporaryDirectory() as cache:
        os.environ["SEN_BENCH_CACHE"] = cache
        with Usage() as usage:
            start = time.perf_counter()
            table = read_matbench_json(arguments.path, arguments.target, row_id=str, jobs=arguments.jobs)
            read = time.perf_counter()
            graphs = build_graphs(table, settings, jobs=arguments.jobs)
            built = time.perf_counter()
        n = len(table)
        print(f"{n} rows, {len(table.numbers)} atoms, {len(graphs.numbers)} nodes, {len(graphs.neighbor)} edges")
        print(f"{arguments.jobs} processes, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print(f"crystals   {n / (read - start):8.0f} rows/s ({read - start:.1f} s)")
        print(f"graphs     {n / (built - read):8.0f} rows/s ({built - read:.1f} s)")
        print(
            f"both       {n / (built - start):8.0f} rows/s, peak memory {usage.peak / 2**30:.2f} GiB in all processes"
        )
        print(f"again      {_seconds_of_a_second_call(arguments):8.2f} s, interpreter and all")

    rows = _sample(arguments.path)
    ours, peer, symmetry = usage.cpu / n, _time_peer(rows), _time_refine(rows)
    print(f"sen-bench  {ours * 1e6:8.0f} µs of CPU per row, {symmetry / ours:.0%} of it the symmetry search")
    print(f"pymatgen   {peer * 1e6:8.0f} µs of CPU per row, {peer / ours:.1f} times as much, without symmetry")


class Usage:
    """What this process and its descendants use, sampled: `peak` memory in bytes and `cpu` time in seconds.

    Memory that several processes share counts in parts (proportional set size). CPU time, unlike wall time, says the
    same on a busy machine.
    """

    def __init__(self) -> None:
        self.peak = 0
        self.cpu = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample_until_stopped, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample_until_stopped(self) -> None:
        before = _cpu(os.getpid())
        while True:
            last = self._stop.wait(0.2)
            processes = _descendants(os.getpid())
            self.peak = max(self.peak, sum(map(_memory, processes)))
            self.cpu = max(self.cpu, sum(map(_cpu, processes)) - before)
            if last:
                return


def _descendants(pid: int) -> list[int]:
    """Return a process and all below it."""
    found = [pid]
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [below for child in tasks.read_text().split() for below in _descendants(int(child))]
        except OSError:  # the process ended
            continue
    return found


def _memory(pid: int) -> int:
    """Return the proportional set size of a process in bytes; 0 when it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _cpu(pid: int) -> float:
    """Return the user and system time of a process in seconds; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _seconds_of_a_second_call(arguments: argparse.Namespace) -> float:
    """Return the time of a fresh interpreter that asks for the same tables."""
    code = (
        "import sys; from benchmarks.crystals import read_matbench_json; "
        "from benchmarks.graphs import GraphSettings, build_graphs; "
        "table = read_matbench_json(sys.argv[1], sys.argv[2], row_id=str); "
        "build_graphs(table, GraphSettings(max_neighbors=int(sys.argv[3])))"
    )
    start = time.perf_counter()
    command = [sys.executable, "-c", code, str(arguments.path), arguments.target, str(arguments.max_neighbors)]
    subprocess.run(command, check=True)  # noqa: S603 - our own interpreter and code
    return time.perf_counter() - start


def _sample(path: Path) -> list[dict[str, Any]]:
    """Return structure dictionaries from all over a file."""
    splitter = RowSplitter()
    batches = [rows for rows in split_file(path, splitter) if rows.strip()]
    outline: Any = splitter.close()
    at = outline["columns"].index("structure")
    every = max(1, splitter.n_rows // _SAMPLE)
    rows = json.loads(b"[" + b"".join(batches) + b"]")
    return [row[at] for row in rows[::every]]


def _time_peer(structures: list[dict[str, Any]]) -> float:
    """Return the CPU seconds per row of pymatgen's own way."""
    from pymatgen.core import Structure

    start = time.process_time()
    for structure in structures:
        Structure.from_dict(structure).get_all_neighbors(5.0)
    return (time.process_time() - start) / len(structures)


def _time_refine(structures: list[dict[str, Any]]) -> float:
    """Return the CPU seconds per row of the symmetry search and refinement."""
    numbers = {symbol: z for z, symbol in enumerate(SYMBOLS, start=1)}
    crystals = [
        (
            structure["lattice"]["matrix"],
            [site["abc"] for site in structure["sites"]],
            [numbers[site["species"][0]["element"]] for site in structure["sites"]],
        )
        for structure in structures
    ]
    refine(*crystals[0])
    start = time.process_time()
    for crystal in crystals:
        refine(*crystal)
    return (time.process_time() - start) / len(crystals)


if __name__ == "__main__":
    main()
