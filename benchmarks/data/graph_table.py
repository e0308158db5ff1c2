"""Graphs of a whole dataset as flat arrays, cached."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from benchmarks.base.cache import CachedArrays, digest, load_or_build
from benchmarks.base.workers import Progress, stream
from benchmarks.data.crystal_table import CrystalTable
from sen.config import Config
from sen.graph import Cells, Graph, connect

__all__ = ["GraphSettings", "GraphTable", "build_graphs", "join_graphs"]

# Raised whenever the arrays that come out of the same crystals change.
_VERSION = 3
_BATCH = 256
# Stored tables have one of them.
_OPTIONAL: dict[str, Any] = {"vector": None, "edge_multiplicity": None}


class GraphSettings(Config):
    """How crystals become graphs; see `sen.graph.build_graph`."""

    cutoff: Annotated[float, Field(gt=0, le=20)] = 5.0
    """Radius of the neighbour search in Å."""
    max_neighbors: Annotated[int, Field(gt=0)] | None = 12
    """Neighbours after which no further shell is added; None keeps all."""
    cells: Cells = "asymmetric"
    """One node per symmetry orbit ("asymmetric") or per atom, with edge vectors ("full")."""


@dataclass(frozen=True)
class GraphTable(CachedArrays):
    """Graphs of M crystals with N nodes and K directed edges in all.

    The nodes of crystal i are `node_ptr[i]` to `node_ptr[i + 1]`, the edges of node j `edge_ptr[j]` to
    `edge_ptr[j + 1]`, sorted by distance. The arrays are read-only.

    Attributes:
        numbers: Atomic number of each node, uint8 [N].
        multiplicity: Atoms of the cell that a node stands for, int32 [N].
        node_ptr: First node of each crystal, int64 [M + 1].
        edge_ptr: First edge of each node, int64 [N + 1].
        neighbor: Far end of each edge, counted from the first node of its crystal, int32 [K].
        distance: Length of each edge in Å, float32 [K].
        edge_multiplicity: Neighbours that an edge stands for, int32 [K]; None on full cells, where it is 1.
        vector: From centre to neighbour in Å, float32 [K, 3]; None for asymmetric units.
        digest: Hash of the crystals and the settings.
        asymmetric: The asymmetric units of the same crystals beside full cells; None for asymmetric units.
        orbit: Node of `asymmetric` that each atom belongs to, counted from the first one of its crystal, int32 [N];
            None for asymmetric units.
    """

    numbers: NDArray[np.uint8]
    multiplicity: NDArray[np.int32]
    node_ptr: NDArray[np.int64]
    edge_ptr: NDArray[np.int64]
    neighbor: NDArray[np.int32]
    distance: NDArray[np.float32]
    edge_multiplicity: NDArray[np.int32] | None
    vector: NDArray[np.float32] | None
    digest: str
    asymmetric: GraphTable | None = None
    orbit: NDArray[np.int32] | None = None

    def __len__(self) -> int:
        """Number of crystals M."""
        return len(self.node_ptr) - 1

    @property
    def n_edges(self) -> NDArray[np.int64]:
        """Number of edges of each crystal, int64 [M]."""
        return np.diff(self.edge_ptr[self.node_ptr])

    @property
    def n_neighbors(self) -> NDArray[np.int64]:
        """Number of neighbours of the nodes of each crystal, which its edges stand for, int64 [M]."""
        if self.edge_multiplicity is None:
            return self.n_edges
        before = np.concatenate([[0], np.cumsum(self.edge_multiplicity, dtype=np.int64)])
        return np.diff(before[self.edge_ptr[self.node_ptr]])


def build_graphs(
    table: CrystalTable, settings: GraphSettings, *, jobs: int = -1, progress: Progress | None = None
) -> GraphTable:
    """Build the graphs of all crystals and cache them by the crystals' digest and the settings.

    Full cells come with the asymmetric units that the same settings give, from the cache which those have anyway.

    Args:
        table: The crystals.
        settings: What an edge and a node are.
        jobs: Worker processes; -1 is one per core.
        progress: Told how many crystals are done, of asymmetric units and of full cells in turn; not called when the
            cache has the answer.
    """
    asymmetric = orbit = None
    if settings.cells == "full":
        of_units = settings.model_copy(update={"cells": "asymmetric"})
        asymmetric, orbit = build_graphs(table, of_units, jobs=jobs, progress=progress), table.orbit
    facts = {"crystals": table.digest, "settings": settings.model_dump(), "version": _VERSION}
    key = digest(**facts)
    arrays = load_or_build(f"graphs-{key[:32]}", lambda: _pieces(table, settings, jobs, progress), facts)
    return GraphTable(**_OPTIONAL | arrays, digest=key, asymmetric=asymmetric, orbit=orbit)


def _pieces(
    table: CrystalTable, settings: GraphSettings, jobs: int, progress: Progress | None
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the arrays of the graphs batch by batch."""
    starts = range(0, len(table), _BATCH)
    batches = ((table.slice(start, min(start + _BATCH, len(table))), settings.model_dump()) for start in starts)
    done = nodes = edges = 0
    for result in stream(_build_batch, batches, jobs):
        node_ptr = nodes + np.cumsum(result.pop("nodes"))
        edge_ptr = edges + np.cumsum(result.pop("edges"))
        first = [] if done else [0]
        result["node_ptr"] = np.concatenate([first, node_ptr]).astype(np.int64)
        result["edge_ptr"] = np.concatenate([first, edge_ptr]).astype(np.int64)
        yield result
        done, nodes, edges = done + len(node_ptr), int(node_ptr[-1]), int(edge_ptr[-1])
        if progress is not None:
            progress(done, len(table))


def join_graphs(graphs: Sequence[Graph], dtype: type[np.floating[Any]] = np.float32) -> GraphTable:
    """Return graphs as one table that stands by itself: no cache holds it, and its digest is empty.

    Args:
        graphs: The graphs, at least one, all of one kind.
        dtype: Type of distances and vectors; cached tables have float32.
    """
    arrays = _flatten(graphs, dtype)
    node_ptr, edge_ptr = (np.concatenate([[0], np.cumsum(arrays.pop(name))]) for name in ("nodes", "edges"))
    asymmetric = [graph.asymmetric for graph in graphs if graph.asymmetric is not None]
    orbits = [graph.orbit for graph in graphs if graph.orbit is not None]
    return GraphTable(
        **_OPTIONAL | arrays,
        node_ptr=node_ptr,
        edge_ptr=edge_ptr,
        digest="",
        asymmetric=join_graphs(asymmetric, dtype) if asymmetric else None,
        orbit=np.concatenate(orbits) if orbits else None,
    )


def _build_batch(table: CrystalTable, settings: dict[str, Any]) -> dict[str, NDArray[Any]]:
    """Build the graphs of some crystals and join their arrays (in a worker process)."""
    # Full cells without the asymmetric units beside them: those are a table of their own.
    return _flatten([connect(table.crystal(i), **settings) for i in range(len(table))], np.float32)


def _flatten(graphs: Sequence[Graph], dtype: type[np.floating[Any]]) -> dict[str, NDArray[Any]]:
    """Join the arrays of graphs, with "nodes" (of each graph) and "edges" (of each node) in place of the pointers."""
    arrays = {
        "numbers": np.concatenate([graph.numbers for graph in graphs]),
        "multiplicity": np.concatenate([graph.multiplicity for graph in graphs]),
        "nodes": np.array([len(graph.numbers) for graph in graphs]),
        "edges": np.concatenate([np.diff(graph.edge_ptr) for graph in graphs]),
        "neighbor": np.concatenate([graph.neighbor for graph in graphs]),
        "distance": np.concatenate([graph.distance for graph in graphs]).astype(dtype),
    }
    vectors = [graph.vector for graph in graphs if graph.vector is not None]
    if vectors:
        return arrays | {"vector": np.concatenate(vectors).astype(dtype)}
    return arrays | {"edge_multiplicity": np.concatenate([graph.edge_multiplicity for graph in graphs])}
