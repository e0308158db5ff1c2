"""The cached graphs of a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.base.cache import CachedArrays, digest, load_or_build
from benchmarks.base.errors import DataError, printable
from benchmarks.base.workers import Progress, stream
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.raw_crystal import BadRow, any_error_is_bad
from sen.config import Config
from sen.crystal import SYMPREC
from sen.graph import Cells, Graph, connect, join_graphs

__all__ = ["GraphSettings", "GraphTable", "build_graphs"]

# Increased whenever the same crystals would give other arrays.
_VERSION = 3
_CHUNK = 256


class GraphSettings(Config):
    """How crystals are refined and become graphs; see `sen.crystal.refine` and `sen.graph.build_graph`."""

    cutoff: Annotated[float, Field(gt=0, le=20)] = 5.0
    """Radius of the neighbour search in Å."""
    max_neighbors: Annotated[int, Field(gt=0)] | None = 12
    """Neighbours after which no further shell is added; None keeps all."""
    cells: Cells = "asymmetric"
    """One node per symmetry orbit ("asymmetric"), or one per atom and edge vectors ("full")."""
    symprec: Annotated[float, Field(ge=1e-5, le=0.1)] = SYMPREC
    """Tolerance in Å of the symmetry search, and the farthest that the refinement may move an atom."""

    @property
    def edges(self) -> dict[str, Any]:
        """The settings of the graph of a crystal that is already refined, as `sen.graph.build_graph` takes them."""
        return self.model_dump(exclude={"symprec"})


@dataclass(frozen=True, kw_only=True)
class GraphTable(CachedArrays, Graph):
    """Graphs of the crystals of a dataset; the arrays are read-only, and distances and vectors are float32.

    Attributes:
        digest: Hash of the crystals and the settings.
    """

    digest: str


def build_graphs(
    table: CrystalTable, settings: GraphSettings, *, jobs: int = -1, progress: Progress | None = None
) -> GraphTable:
    """Return the graphs of all crystals from the cache, after building them where they are not in it.

    Full cells include the asymmetric units that the same settings give, which have a cache of their own.

    Args:
        table: The crystals.
        settings: What an edge and a node are.
        jobs: Worker processes; -1 is one per core.
        progress: Called with the number of crystals done, first for asymmetric units and then for full cells; not
            called for graphs that are in the cache.

    Raises:
        DataError: A crystal has no graph with these settings; the message names its row.
    """
    asymmetric = orbit = None
    if settings.cells == "full":
        reduced = settings.model_copy(update={"cells": "asymmetric"})
        asymmetric, orbit = build_graphs(table, reduced, jobs=jobs, progress=progress), table.orbit
    facts = {"crystals": table.digest, "settings": settings.edges, "version": _VERSION}
    key = digest(**facts)
    arrays = load_or_build(f"graphs-{key[:32]}", lambda: _pieces(table, settings, jobs, progress), facts)
    return GraphTable(**arrays, digest=key, asymmetric=asymmetric, orbit=orbit)


def _pieces(
    table: CrystalTable, settings: GraphSettings, jobs: int, progress: Progress | None
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the arrays of the graphs, some crystals at a time."""
    starts = range(0, len(table), _CHUNK)
    chunks = ((table.slice(start, min(start + _CHUNK, len(table))), settings.edges) for start in starts)
    done, ends = 0, {"node_ptr": 0, "edge_ptr": 0}
    for piece in stream(_build_chunk, chunks, jobs):
        n_crystals = len(piece["node_ptr"]) - 1
        for name, end in ends.items():
            # Only the first piece has the 0 with which a pointer begins.
            piece[name] = piece[name][min(done, 1) :] + end
            ends[name] = int(piece[name][-1])
        yield piece
        done += n_crystals
        if progress is not None:
            progress(done, len(table))


def _build_chunk(table: CrystalTable, settings: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Build the graphs of some crystals (in a worker process), without asymmetric units, which have their own table."""
    graphs = []
    for i, name in enumerate(table.ids.tolist()):
        try:
            with any_error_is_bad():
                graphs.append(connect(table.crystal(i), **settings))
        except BadRow as problem:
            given = ", ".join(f"graph.{field}={value}" for field, value in settings.items())
            raise DataError(
                f"Row {printable(name)} {problem}, with {given}: change these settings, or leave out that row."
            ) from problem
    arrays = {name: array for name, array in vars(join_graphs(graphs)).items() if array is not None}
    return {name: array.astype(np.float32) if array.dtype == np.float64 else array for name, array in arrays.items()}
