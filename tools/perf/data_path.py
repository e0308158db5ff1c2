"""Measure time and memory from a MatBench file to cached crystals and graphs, and those of pymatgen.

    python tools/perf/data_path.py matbench_mp_gap.json.gz --target "gap pbe" --rows 106113 400000

`--rows` writes files in the official layout, including Cartesian coordinates, in which the crystals of the given file
are repeated under new row numbers; sen-bench does not recognise repeated crystals. Each measurement runs in a new
process with an empty cache. Below the table are the times of the steps that any implementation needs.

The peer is a script with matminer and pymatgen in one process: it decodes every structure of the file to an object and
searches its neighbours, without symmetry and without storing the result.
"""

from __future__ import annotations

import argparse
import gzip
import json
import logging
import multiprocessing
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np

from benchmarks.data.splitter import RowSplitter, split_file

Result = TypeVar("Result")


class Cost(NamedTuple):
    """Cost of a row of a file: wall and CPU time in seconds, and peak memory in bytes."""

    wall: float
    cpu: float
    memory: float


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("path", type=Path)
    parser.add_argument("--target", required=True, help="name of the target column")
    parser.add_argument("--rows", type=int, nargs="+", default=[], help="sizes to measure; default: the file itself")
    parser.add_argument("--peer-rows", type=int, default=2000, help="rows to measure the peer with")
    parser.add_argument("--max-neighbors", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    arguments = parser.parse_args()
    print(f"{arguments.jobs} processes on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print(
        "|    rows | file MB | crystals s | graphs s | rows/s | CPU µs/row | peak MB | own MB | largest MB | reload s |"
    )
    print(
        "|--------:|--------:|-----------:|---------:|-------:|-----------:|--------:|-------:|-----------:|---------:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "rows.json.gz"
        for n_rows in arguments.rows:
            _write_official(made, arguments.path, n_rows)
            ours = _measure(made, arguments)
        if not arguments.rows:
            ours = _measure(arguments.path, arguments)
        _write_official(made, arguments.path, arguments.peer_rows)
        parts, _ = _in_fresh_process(_parts, made)
        print("\n" + ", ".join(f"{name} {seconds * 1e6:.0f}" for name, seconds in parts.items()), "µs/row alone")
        _compare(made, arguments.peer_rows, ours)


def _measure(path: Path, arguments: argparse.Namespace) -> Cost:
    """Read a file, read it again from the cache, and print a line of the table."""
    with tempfile.TemporaryDirectory() as cache:
        work = (path, arguments.target, arguments.max_neighbors, arguments.jobs, cache)
        (n, crystals, graphs), usage = _in_fresh_process(_read, *work)
        (_, *reload), _ = _in_fresh_process(_read, *work)
    wall = crystals + graphs
    print(
        f"| {n:7d} | {path.stat().st_size / 1e6:7.1f} | {crystals:10.1f} | {graphs:8.1f} | {n / wall:6.0f} "
        f"| {usage.cpu / n * 1e6:10.0f} | {usage.peak / 1e6:7.0f} | {usage.own / 1e6:6.0f} "
        f"| {usage.largest / 1e6:10.0f} | {sum(reload):8.2f} |",
        flush=True,
    )
    return Cost(wall / n, usage.cpu / n, usage.peak / n)


def _read(path: Path, target: str, max_neighbors: int, jobs: int, cache: str) -> tuple[int, float, float]:
    """Return the number of rows of a file, and the seconds for its crystals and for their graphs."""
    from joblib.externals.loky import get_reusable_executor

    from benchmarks.data.crystal_table import read_matbench_json
    from benchmarks.data.graph_table import GraphSettings, build_graphs

    os.environ["SEN_BENCH_CACHE"] = cache
    start = time.perf_counter()
    table = read_matbench_json(path, target, row_id=str, jobs=jobs)
    read = time.perf_counter()
    build_graphs(table, GraphSettings(max_neighbors=max_neighbors), jobs=jobs)
    built = time.perf_counter()
    # Otherwise this process would wait at its end for the workers, and they for more work.
    get_reusable_executor().shutdown()
    return len(table), read - start, built - read


def _parts(path: Path) -> dict[str, float]:
    """Return the CPU seconds per row of the steps from a file to graphs that any implementation needs."""
    import moyopy
    import orjson
    from pymatgen.optimization.neighbors import find_points_in_spheres

    from benchmarks.data.structures import parse_dictionary
    from sen.crystal import SYMPREC

    logging.getLogger("moyo").setLevel(logging.ERROR)
    clock = [time.process_time()]

    def lap() -> None:
        clock.append(time.process_time())

    with gzip.open(path) as file:
        text = file.read()
    lap()
    rows = orjson.loads(text)["data"]
    lap()
    crystals = [parse_dictionary(structure) for structure, _ in rows]
    lap()
    for crystal in crystals:
        cell = moyopy.Cell(crystal.lattice.tolist(), crystal.positions.tolist(), crystal.numbers)
        moyopy.MoyoDataset(cell, symprec=SYMPREC)
    lap()
    for crystal in crystals:
        points = crystal.positions @ crystal.lattice
        find_points_in_spheres(points, points, 5.0, np.ones(3, dtype=np.int64), crystal.lattice)
    lap()
    names = ("gunzip", "JSON", "arrays and checks", "symmetry search", "neighbour search in the whole cell")
    return dict(zip(names, np.diff(clock) / len(rows), strict=True))


def _compare(path: Path, n: int, ours: Cost) -> None:
    """Print the cost of the peer for a file of n rows, and that of sen-bench."""
    (decode, search, before), usage = _in_fresh_process(_read_as_objects, path)
    # In a single thread that never waits, both times are the same.
    peer = Cost((decode + search) / n, (decode + search) / n, (usage.peak - before) / n)
    print(f"\npeer: objects {decode / n * 1e6:.0f} µs/row, neighbours {search / n * 1e6:.0f} µs/row, {n} rows\n")
    print("| a row takes | sen-bench | matminer + pymatgen | ratio |")
    print("|-------------|----------:|--------------------:|------:|")
    units = {"wall": ("wall µs", 1e6), "cpu": ("CPU µs", 1e6), "memory": ("memory kB", 1e-3)}
    for name, (unit, scale) in units.items():
        mine, theirs = getattr(ours, name) * scale, getattr(peer, name) * scale
        print(f"| {unit:11s} | {mine:9.1f} | {theirs:19.1f} | {theirs / mine:5.1f} |")


def _read_as_objects(path: Path) -> tuple[float, float, int]:
    """Decode a file as matminer's load_dataframe_from_json does, and search neighbours.

    Returns:
        The seconds of each, and the bytes of memory in use before.
    """
    import pandas as pd
    from monty.json import MontyDecoder
    from pymatgen.core import Structure

    before = _memory(os.getpid())["Pss"]
    start = time.process_time()
    with gzip.open(path) as file:
        structures: list[Structure] = pd.DataFrame(**json.load(file, cls=MontyDecoder))["structure"].tolist()
    decoded = time.process_time()
    for structure in structures:
        structure.get_all_neighbors(5.0)
    return decoded - start, time.process_time() - decoded, before


def _write_official(path: Path, source: Path, n: int) -> None:
    """Write n rows in the official layout, with crystals evenly from `source`, repeated if it has fewer."""
    from benchmarks.data.crystal_table import read_outline

    outline = read_outline(source)
    at = outline.columns.index("structure")
    columns = ["structure", *outline.columns[:at], *outline.columns[at + 1 :]]
    every = max(1, len(outline.index) // n)
    with gzip.open(path, "wt", compresslevel=6) as file:
        file.write(json.dumps({"index": list(range(n)), "columns": columns})[:-1] + ', "data": [')
        for i, row in enumerate(islice(_rows(source), 0, n * every, every)):
            structure = _with_xyz(row.pop(at))
            file.write((", " if i else "") + json.dumps([structure, *row]))
        file.write("]}")


def _rows(source: Path) -> Iterator[list[Any]]:
    """Yield the rows of a file again and again."""
    while True:
        for rows in split_file(source, RowSplitter()):
            yield from json.loads(b"[" + rows.strip(b", \t\r\n") + b"]")


def _with_xyz(structure: dict[str, Any]) -> dict[str, Any]:
    """Return a structure with the Cartesian coordinates and lattice parameters that official files have as well."""
    from pymatgen.core import Lattice

    lattice, sites = Lattice(structure["lattice"]["matrix"]), structure["sites"]
    xyz = lattice.get_cartesian_coords([site["abc"] for site in sites]).tolist()
    sites = [site | {"xyz": place} for site, place in zip(sites, xyz, strict=True)]
    return structure | {"lattice": lattice.as_dict(verbosity=1), "sites": sites}


def _in_fresh_process(function: Callable[..., Result], *arguments: Any) -> tuple[Result, Usage]:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool, Usage() as usage:
        return pool.submit(function, *arguments).result(), usage


class Usage:
    """Memory and CPU time of the child processes, sampled.

    Memory that several processes share is divided among them (proportional set size). CPU time, unlike wall time,
    hardly depends on what else the machine does.

    Attributes:
        peak: Peak memory of all of them together in bytes, with mapped files of code and cache.
        own: The same without mapped files, whose memory the system can reclaim.
        largest: Peak memory of a single process in bytes.
        cpu: CPU time in seconds.
    """

    def __init__(self) -> None:
        self.peak = self.own = self.largest = 0
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
        while True:
            last = self._stop.wait(0.2)
            processes = _descendants(os.getpid())[1:]
            memory = [_memory(process) for process in processes]
            self.peak = max(self.peak, sum(found["Pss"] for found in memory))
            self.own = max(self.own, sum(found["Pss_Anon"] for found in memory))
            self.largest = max(self.largest, *(found["Rss"] for found in memory), 0)
            self.cpu = max(self.cpu, sum(map(_cpu, processes)))
            if last:
                return


def _descendants(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for tasks in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [below for child in tasks.read_text().split() for below in _descendants(int(child))]
        except OSError:  # the process ended
            continue
    return found


def _memory(pid: int) -> dict[str, int]:
    """Return "Rss", "Pss", "Pss_Anon" and more from smaps_rollup of a process, in bytes; 0 when it has ended."""
    found = dict.fromkeys(("Rss", "Pss", "Pss_Anon"), 0)
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:
        return found
    return found | {name: int(size.split()[0]) * 1024 for name, _, size in (line.partition(":") for line in lines)}


def _cpu(pid: int) -> float:
    """Return the user and system time of a process in seconds; 0 when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
