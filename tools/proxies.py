"""Write the proxies on which a recipe is chosen: rows that share no formula with four sets of reported rows.

    python -m tools.proxies DATA OUT
    sen-bench ablate --task OUT/proxy_gap.json.gz --folds 0 --limit 1000 --blocks mlp --set training.epochs=60,200

Left out are the formulas of phonons, of log_kvrh, of the paper's gaps, and of the test rows of fold 0 of mp_gap, and
nothing else. So a proxy may hold formulas of other reported rows, such as the test rows of the paper's formation
energies, from which one proxy is drawn.

DATA is a folder with the files named in `SOURCES` and `LEFT_OUT`. Each proxy has 10,000 rows: fold 0 judges by 2,000 of
them what was trained on the other 8,000, or on as many as `--limit` names.
"""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import typer
from numpy.typing import NDArray
from pymatgen.core import Composition

from benchmarks.base.files import write_bytes
from benchmarks.data.folds import official_folds
from benchmarks.data.tasks import TASKS

N_ROWS = 10_000
SOURCES = {
    "proxy_formation_energy": ("paper_formation_energy.json.gz", "e_form (eV/atom)"),
    "proxy_gap": ("matbench_mp_gap.partial.json.gz", "gap pbe"),
}
"""File and target of each proxy."""
LEFT_OUT = ("matbench_phonons.json.gz", "matbench_log_kvrh.partial.json.gz", "paper_band_gap.json.gz")
"""Files whose formulas are all left out; of mp_gap those of the test rows of fold 0 are."""


class Rows(NamedTuple):
    """The rows of a file: columns, ids [n], values and reduced formulas [n]."""

    columns: list[str]
    ids: NDArray[np.int64]
    data: list[list[Any]]
    formulas: NDArray[np.str_]


def read_rows(path: Path) -> Rows:
    """Return the rows of a file in the layout of MatBench."""
    content = orjson.loads(gzip.decompress(path.read_bytes()))
    at = content["columns"].index("structure")
    formulas = [_formula(row[at]) for row in content["data"]]
    return Rows(content["columns"], np.array(content["index"]), content["data"], np.array(formulas))


def _formula(structure: dict[str, Any]) -> str:
    """Return the reduced formula of a pymatgen dictionary."""
    amounts: dict[str, float] = {}
    for site in structure["sites"]:
        for species in site["species"]:
            amounts[species["element"]] = amounts.get(species["element"], 0.0) + species["occu"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that noble gases have no electronegativity
        return str(Composition(amounts).reduced_formula)


def main(data: Path, out: Path) -> None:
    """Write a proxy of each source: 10,000 rows, drawn with seed 0 from those whose formula is not left out."""
    gaps = read_rows(data / SOURCES["proxy_gap"][0])
    task = TASKS["matbench_mp_gap"]
    assert task.n_rows is not None
    (_, tested), *_ = official_folds(task.kind, task.n_rows)
    left_out = {*gaps.formulas[np.isin(gaps.ids, tested)].tolist()}
    for name in LEFT_OUT:
        left_out |= set(read_rows(data / name).formulas.tolist())
    out.mkdir(parents=True, exist_ok=True)
    for proxy, (name, target) in SOURCES.items():
        rows = gaps if proxy == "proxy_gap" else read_rows(data / name)
        free = np.flatnonzero(~np.isin(rows.formulas, list(left_out)))
        chosen = np.sort(np.random.default_rng(0).choice(free, N_ROWS, replace=False))
        columns = ["structure", target]
        at = [rows.columns.index(column) for column in columns]
        content = {
            "index": rows.ids[chosen].tolist(),
            "columns": columns,
            "data": [[rows.data[row][column] for column in at] for row in chosen.tolist()],
        }
        write_bytes(out / f"{proxy}.json.gz", gzip.compress(orjson.dumps(content), mtime=0))
        typer.echo(
            f"{proxy}: {N_ROWS:,} of {len(free):,} rows whose formula is not left out ({len(rows.data):,} in all)"
        )


if __name__ == "__main__":
    typer.run(main)
