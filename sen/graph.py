"""Crystals as graphs: nodes are atoms or symmetry orbits, edges lead to their neighbours."""

from __future__ import annotations

from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass, field, fields, replace
from typing import Any, Generic, Literal, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from sen.crystal import Crystal

__all__ = ["Cells", "Graph", "GraphArrays", "build_graph", "connect", "join_graphs"]

Cells = Literal["asymmetric", "full"]
Level = Literal["node", "edge"]
Array = TypeVar("Array", bound=Sized)
Other = TypeVar("Other", bound=Sized)

_SHELL_GAP = 0.01
# Lengths that symmetry makes equal differ by rounding, some 1e-14 Å.
_SAME_LENGTH = 1e-9
_PERIODIC = np.ones(3, dtype=np.int64)
_NODE, _EDGE = {"level": "node"}, {"level": "edge"}


@dataclass(frozen=True, kw_only=True)
class GraphArrays(Generic[Array]):
    """The quantities of the graphs of B crystals, which have N nodes and K directed edges in all.

    Nodes are sorted by crystal, edges by centre and then by distance. Everything that holds graphs names and orders its
    arrays as here: `Graph`, the cached table of a dataset, the tensors on a device, the batch that a model reads.

    Attributes:
        numbers: Atomic number of each node, uint8 [N].
        multiplicity: Atoms of the cell that a node stands for, int32 [N].
        node_ptr: First node of each crystal, int64 [B + 1].
        edge_ptr: First edge of each node, int64 [N + 1].
        neighbor: Node at the far end of each edge, counted from the first node of its crystal, int32 [K].
        distance: Length of each edge in Å, float64 [K].
        edge_multiplicity: Neighbours that an edge stands for, int32 [K]; None on full cells, where it is 1.
        vector: From centre to neighbour in Å, float64 [K, 3]; None on asymmetric units, where it has no meaning.
        asymmetric: The asymmetric units of the same crystals, which accompany full cells; None on asymmetric units.
        orbit: Node of `asymmetric` that each atom belongs to, counted from the first node of its crystal, int32 [N];
            None without `asymmetric`.
    """

    numbers: Array = field(metadata=_NODE)
    multiplicity: Array = field(metadata=_NODE)
    node_ptr: Array
    edge_ptr: Array
    neighbor: Array = field(metadata=_EDGE)
    distance: Array = field(metadata=_EDGE)
    edge_multiplicity: Array | None = field(default=None, metadata=_EDGE)
    vector: Array | None = field(default=None, metadata=_EDGE)
    asymmetric: Self | None = None
    orbit: Array | None = field(default=None, metadata=_NODE)

    @property
    def n_crystals(self) -> int:
        """Number of crystals B."""
        return len(self.node_ptr) - 1

    def arrays(self, level: Level) -> dict[str, Any]:
        """Return by name the arrays with one row per node or per edge, except those that are None."""
        names = [quantity.name for quantity in fields(GraphArrays) if quantity.metadata.get("level") == level]
        return {name: array for name in names if (array := getattr(self, name)) is not None}

    def map(self, function: Callable[[Array], Other]) -> GraphArrays[Other]:
        """Return the graphs, without their asymmetric units, with a function applied to every array."""
        changed: dict[str, Any] = {
            name: function(array) for name, array in (self.arrays("node") | self.arrays("edge")).items()
        }
        return GraphArrays(node_ptr=function(self.node_ptr), edge_ptr=function(self.edge_ptr), **changed)


@dataclass(frozen=True, kw_only=True)
class Graph(GraphArrays[NDArray[Any]]):
    """The graph of a crystal, or the graphs of several one after the other, as NumPy arrays."""

    @property
    def n_edges(self) -> NDArray[np.int64]:
        """Number of edges of each crystal, int64 [B]."""
        n_edges: NDArray[np.int64] = np.diff(self.edge_ptr[self.node_ptr])
        return n_edges

    @property
    def n_neighbors(self) -> NDArray[np.int64]:
        """Number of neighbours that the edges of each crystal stand for, int64 [B]."""
        if self.edge_multiplicity is None:
            return self.n_edges
        before = np.concatenate([[0], np.cumsum(self.edge_multiplicity, dtype=np.int64)])
        n_neighbors: NDArray[np.int64] = np.diff(before[self.edge_ptr[self.node_ptr]])
        return n_neighbors


def join_graphs(graphs: Sequence[Graph]) -> Graph:
    """Return graphs, at least one and all of one kind of cells, one after the other."""
    names = [*graphs[0].arrays("node"), *graphs[0].arrays("edge")]
    asymmetric = [graph.asymmetric for graph in graphs if graph.asymmetric is not None]
    return Graph(
        **{name: np.concatenate([getattr(graph, name) for graph in graphs]) for name in names},
        node_ptr=_join_pointers([graph.node_ptr for graph in graphs]),
        edge_ptr=_join_pointers([graph.edge_ptr for graph in graphs]),
        asymmetric=join_graphs(asymmetric) if asymmetric else None,
    )


def _join_pointers(pointers: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    sizes = np.concatenate([np.diff(pointer) for pointer in pointers])
    return np.concatenate([[0], np.cumsum(sizes)])


def build_graph(crystal: Crystal, *, cutoff: float = 5.0, max_neighbors: int | None = 12, cells: Cells) -> Graph:
    """Return the graph of a crystal, which for a full cell includes the asymmetric unit.

    See `connect` for what is an edge.

    Args:
        crystal: The crystal; its orbits must be those of its symmetry.
        cutoff: Radius of the neighbour search in Å.
        max_neighbors: Neighbours after which no further shell is added; None keeps all.
        cells: One node per symmetry orbit ("asymmetric"), or one per atom and edge vectors ("full").
    """
    graph = connect(crystal, cutoff=cutoff, max_neighbors=max_neighbors, cells=cells)
    if cells == "asymmetric":
        return graph
    asymmetric = connect(crystal, cutoff=cutoff, max_neighbors=max_neighbors, cells="asymmetric")
    orbit: NDArray[Any]
    _, orbit = np.unique(crystal.orbit, return_inverse=True)
    return replace(graph, asymmetric=asymmetric, orbit=orbit.astype(np.int32))


def connect(crystal: Crystal, *, cutoff: float, max_neighbors: int | None, cells: Cells) -> Graph:
    """Connect every node of a crystal with its neighbours within `cutoff`.

    With `cells="full"`, each atom is a node. With `cells="asymmetric"`, each symmetry orbit is a node: its edges are
    those of the orbit's first atom, and the neighbour of an edge is the orbit of the neighbouring atom. Neighbours of
    one orbit at the same distance cannot be distinguished on such a graph; they share one edge, whose multiplicity is
    their number.

    The neighbours of a node, sorted by distance (at equal distance in the order in which the search finds them), form
    shells, which are separated by gaps of more than 0.01 Å. Whole shells are kept until there are at least
    `max_neighbors` neighbours, so the cap breaks no symmetry. A node without neighbours has no edges.

    Args:
        crystal: The crystal; for asymmetric units its orbits must be those of its symmetry.
        cutoff: Radius of the neighbour search in Å.
        max_neighbors: Neighbours after which no further shell is added; None keeps all.
        cells: "asymmetric" or "full".
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    node: NDArray[Any]
    orbit = crystal.orbit if cells == "asymmetric" else np.arange(len(crystal))
    _, representative, node, multiplicity = np.unique(orbit, return_index=True, return_inverse=True, return_counts=True)
    lattice = np.ascontiguousarray(crystal.lattice)
    # Coordinates are wrapped into the cell: the search spends time and memory on any space between distant atoms.
    positions = crystal.positions - np.floor(crystal.positions)
    points = positions @ lattice
    center, atom, image, distance = find_points_in_spheres(points, points[representative], cutoff, _PERIODIC, lattice)

    order = np.lexsort((distance, center))
    order = order[image[order].any(axis=1) | (atom[order] != representative[center[order]])]
    if max_neighbors is not None:
        order = order[_whole_shells(center[order], distance[order], max_neighbors)]
    vector = edge_multiplicity = None
    if cells == "full":
        vector = (positions[atom[order]] + image[order] - positions[center[order]]) @ lattice
    else:
        first, edge_multiplicity = _equal_edges(center[order], node[atom[order]], distance[order])
        order = order[first]
    center, atom = center[order], atom[order]
    return Graph(
        numbers=crystal.numbers[representative],
        multiplicity=multiplicity.astype(np.int32),
        node_ptr=np.array([0, len(representative)]),
        edge_ptr=np.searchsorted(center, np.arange(len(representative) + 1)),
        neighbor=node[atom].astype(np.int32),
        distance=distance[order],
        edge_multiplicity=edge_multiplicity,
        vector=vector,
    )


def _whole_shells(center: NDArray[Any], distance: NDArray[Any], max_neighbors: int) -> NDArray[np.bool_]:
    """Mark the edges, sorted by centre and distance, whose shell begins among the first `max_neighbors` of a centre."""
    edge = np.arange(len(center))
    new_center = np.ones(len(edge), dtype=bool)
    new_center[1:] = center[1:] != center[:-1]
    new_shell = new_center.copy()
    new_shell[1:] |= distance[1:] - distance[:-1] > _SHELL_GAP
    first_of_center = np.maximum.accumulate(np.where(new_center, edge, 0))
    first_of_shell = np.maximum.accumulate(np.where(new_shell, edge, 0))
    return first_of_shell - first_of_center < max_neighbors


def _equal_edges(
    center: NDArray[Any], neighbor: NDArray[Any], distance: NDArray[Any]
) -> tuple[NDArray[np.intp], NDArray[np.int32]]:
    """Group edges that are equal in all three; return the first edge of each group, in their order, and its size."""
    order = np.lexsort((distance, neighbor, center))
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.diff(distance[order]) > _SAME_LENGTH
    new[1:] |= (np.diff(center[order]) != 0) | (np.diff(neighbor[order]) != 0)
    start = np.flatnonzero(new)
    # lexsort is stable: the first edge of a group here is also its first in the order of the edges.
    first, count = order[start], np.diff(start, append=len(order))
    by_edge = np.argsort(first)
    return first[by_edge], count[by_edge].astype(np.int32)
