"""Write the crystals for the study of recipes: 2,500 of the paper's formation energies, with at most 8 atoms in a cell.

    python tools/small_cells.py DATA/paper_formation_energy.json.gz small_cells.json.gz

Formation energies have little noise, and small cells keep a training short.
"""

from __future__ import annotations

import argparse
import gzip
import json
import sys
from pathlib import Path

import numpy as np

from benchmarks.base.files import write_bytes

N_ROWS, MOST_ATOMS = 2500, 8


def main() -> None:
    """Read the arguments and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("source", type=Path, help="the paper's formation energies")
    parser.add_argument("destination", type=Path, help="the file to write")
    arguments = parser.parse_args()
    try:
        write_small_cells(arguments.source, arguments.destination)
    except (OSError, EOFError, ValueError, KeyError) as error:
        sys.exit(f"{arguments.destination} cannot be made from {arguments.source} ({type(error).__name__}: {error}).")


def write_small_cells(source: Path, destination: Path) -> None:
    """Write a file of the same layout with randomly chosen rows of small cells."""
    content = json.loads(gzip.decompress(source.read_bytes()))
    small = [i for i, (_, structure, _) in enumerate(content["data"]) if len(structure["sites"]) <= MOST_ATOMS]
    chosen = np.sort(np.random.default_rng(0).choice(small, N_ROWS, replace=False))
    for part in ("index", "data"):
        content[part] = [content[part][i] for i in chosen]
    write_bytes(destination, gzip.compress(json.dumps(content).encode(), mtime=0))


if __name__ == "__main__":
    main()
