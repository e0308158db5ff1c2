"""The contracts of blocks on crystals from the MatBench files."""

from __future__ import annotations

import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sen.crystal import SYMBOLS, Crystal, refine
from sen.testing import BlockContracts


class ContractsOnRealCrystals(BlockContracts):
    """A block's test file has a subclass with `block` set."""

    # It has a crystal of its own.
    test_gradients_are_the_same_every_time = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True)
    def _take(self, real_crystals: list[Crystal]) -> None:
        self._crystals = real_crystals

    def crystals(self) -> Sequence[Crystal]:
        return self._crystals


def read_real_crystals(folder: Path) -> list[Crystal]:
    """Two dozen rows of phonons; of log_kvrh one-atom cells (fcc, bcc, tetragonal) and rubidium atoms all isolated."""
    rows: dict[str, Sequence[int]] = {"matbench_phonons.json.gz": range(0, 1265, 57)}
    if (folder / "matbench_log_kvrh.partial.json.gz").is_file():
        rows["matbench_log_kvrh.partial.json.gz"] = (1999, 3153, 3305, 5575, 9723)
    return [crystal for name, wanted in rows.items() for crystal in _read(folder / name, wanted)]


def _read(path: Path, rows: Sequence[int]) -> list[Crystal]:
    with gzip.open(path) as file:
        content = json.load(file)
    column = content["columns"].index("structure")
    structures = [content["data"][content["index"].index(row)][column] for row in rows]
    return [
        refine(
            structure["lattice"]["matrix"],
            np.array([site["abc"] for site in structure["sites"]]),
            [SYMBOLS.index(site["species"][0]["element"]) + 1 for site in structure["sites"]],
        )
        for structure in structures
    ]
