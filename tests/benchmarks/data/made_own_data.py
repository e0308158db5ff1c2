"""Own data in every layout."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.data.dataset import Dataset, load_dataset
from benchmarks.data.own_data import own_task
from tests.benchmarks.conftest import rocksalts, structure, write_packed

Rows = list[tuple[str, Any, Any]]
Write = Callable[[Path, Rows], Path]

CUBE = np.eye(3)
GOOD = structure(4.12 * CUBE, ["Cs", "Cl"], np.array([[0, 0, 0], [0.5, 0.5, 0.5]]))


def cif(crystal: dict[str, Any]) -> str:
    """A CIF as simple as possible, with any values."""
    lattice = np.array(crystal["lattice"]["matrix"])
    a, b, c = np.linalg.norm(lattice, axis=1)
    with np.errstate(invalid="ignore"):
        alpha, beta, gamma = (
            np.degrees(np.arccos(np.clip(x @ y / np.linalg.norm(x) / np.linalg.norm(y), -1, 1)))
            for x, y in ((lattice[1], lattice[2]), (lattice[0], lattice[2]), (lattice[0], lattice[1]))
        )
    lines = ["data_x"]
    lines += [f"_cell_length_{name} {value}" for name, value in zip("abc", (a, b, c), strict=True)]
    lines += [f"_cell_angle_{n} {v}" for n, v in zip(("alpha", "beta", "gamma"), (alpha, beta, gamma), strict=True)]
    lines += ["loop_", *(f"_atom_site_{name}" for name in ("label", "fract_x", "fract_y", "fract_z", "occupancy"))]
    for site in crystal["sites"]:
        for species in site["species"]:
            lines.append(f"{species['element']} {' '.join(map(str, site['abc']))} {species['occu']}")
    return "\n".join(lines) + "\n"


def write_folder(path: Path, rows: Rows) -> Path:
    path.mkdir()
    with (path / "id_prop.csv").open("w") as file:
        for name, crystal, value in rows:
            file.write(f"{name},{value}\n")
            (path / f"{name}.cif").write_text(crystal if isinstance(crystal, str) else cif(crystal))
    return path


def write_csv(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".csv")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["note", "cif", "id", "gap"])
        writer.writerows(("x,\ny", c if isinstance(c, str) else cif(c), name, value) for name, c, value in rows)
    return path


def write_json(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".json.gz")
    content = {
        "index": [name for name, _, _ in rows],
        "columns": ["structure", "gap"],
        "data": [[crystal, value] for _, crystal, value in rows],
    }
    write_packed(path, content)
    return path


def write_parquet(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".parquet")
    columns = {
        "material_id": [name for name, _, _ in rows],
        "structure": [crystal if isinstance(crystal, str) else json.dumps(crystal) for _, crystal, _ in rows],
        "gap": [value for _, _, value in rows],
    }
    pd.DataFrame(columns).to_parquet(path)
    return path


def atoms(crystal: dict[str, Any], *, cartesian: bool = False) -> dict[str, Any]:
    """A crystal as JARVIS writes it."""
    matrix, sites = crystal["lattice"]["matrix"], crystal["sites"]
    coords = np.array([site["abc"] for site in sites])
    return {
        "lattice_mat": matrix,
        "coords": (coords @ np.array(matrix) if cartesian else coords).tolist(),
        "elements": [site["species"][0]["element"] for site in sites],
        "cartesian": cartesian,
    }


def write_documents(path: Path, rows: Rows) -> Path:
    path = path.with_suffix(".json")
    documents = [
        {"material_id": name, "structure": crystal, "symmetry": {"number": 225}, "origins": ["]", "}"], "gap": value}
        for name, crystal, value in rows
    ]
    path.write_text(json.dumps(documents))
    return path


LAYOUTS = {
    "folder": write_folder,
    "csv": write_csv,
    "json": write_json,
    "parquet": write_parquet,
    "documents": write_documents,
}


def load(path: Path, *, on_bad_row: str = "fail", jobs: int = 1, progress: Any = None, **options: Any) -> Dataset:
    task = own_task(path, **{"target": "gap"} | options)
    return load_dataset(task, on_bad_row=on_bad_row, jobs=jobs, progress=progress)


def rows_of(n: int) -> Rows:
    return [(f"mp-{i}", crystal, round(a, 6)) for i, (crystal, a) in enumerate(rocksalts(n))]
