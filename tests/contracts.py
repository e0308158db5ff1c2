"""Published structures, and the contracts of blocks and models on them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import pytest

from sen.crystal import SYMBOLS, Crystal, refine
from sen.testing import ModelContracts

#: Elements, compounds and minerals of all crystal systems, each with the publication it is taken from.
STRUCTURES = Path(__file__).parent / "known_structures.json"


@cache
def known_crystals() -> list[Crystal]:
    """The crystals of `known_structures.json`, refined as the rows of a data set are."""
    return [
        refine(
            structure["lattice"],
            [position for _, *position in structure["sites"]],
            [SYMBOLS.index(symbol) + 1 for symbol, *_ in structure["sites"]],
        )
        for structure in json.loads(STRUCTURES.read_text())["structures"]
    ]


class OnRealCrystals(ModelContracts):
    """The contracts on known crystals: those of a model, or before `BlockContracts` among the bases those of a block.

    Quick tests take the crystals of at most ten atoms, deep tests the others.
    """

    # It has a crystal of its own.
    test_gradients_are_the_same_every_time = None  # type: ignore[assignment]

    @pytest.fixture(autouse=True, params=["small", pytest.param("large", marks=pytest.mark.deep)])
    def _size(self, request: pytest.FixtureRequest) -> None:
        self.is_large = request.param == "large"

    def crystals(self) -> Sequence[Crystal]:
        return [crystal for crystal in known_crystals() if (len(crystal) > 10) == self.is_large]
