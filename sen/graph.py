"""One crystal as a graph: atoms, or symmetry orbits, and their neighbours."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sen.crystal import Crystal

__all__ = ["Cells", "Graph", "build_graph", "connect"]

Cells = Literal["asymmetric", "full"]

_SHELL_GAP = 0.01
# Lengths that symmetry makes equal differ by rounding, some 1e-14 Å.
_SAME_LENGTH = 1e-9
_PERIODIC = np.ones(3, dtype=np.int64)


@dataclass(frozen=True)
class Graph:
    """N nodes and K directed edges, sorted by centre and then by distance.

    Attributes:
        numbers: Atomic number of each node, uint8 [N].
        multiplicity: Atoms of the cell that a node stands for, int32 [N].
        edge_ptr: First edge of each node, int64 [N + 1].
        neighbor: Node at the far end of each edge, int32 [K].
        distance: Length of each edge in Å, float64 [K].
        edge_multiplicity: Neighbours that an edge stands for, int32 [K]; 1 on full cells.
        vector: From centre to neighbour in Å, float64 [K, 3]; None for asymmetric units.
        asymmetric: The asymmetric unit of the same crystal, where `build_graph` made a full cell.
        orbit: Node of `asymmetric` that each atom belongs to, int32 [N]; None without them.
    """

    numbers: NDArray[np.uint8]
    multiplicity: NDArray[np.int32]
    edge_ptr: NDArray[np.int64]
    neighbor: NDArray[np.int32]
    distance: NDArray[np.float64]
    edge_multiplicity: NDArray[np.int32]
    vector: NDArray[np.float64] | None
    asymmetric: Graph | None = None
    orbit: NDArray[np.int32] | None = None


def build_graph(crystal: Crystal, *, cutoff: float = 5.0, max_neighbors: int | None = 12, cells: Cells) -> Graph:
    """Return the graph of a crystal; a full cell has the asymmetric unit beside it, see `connect` for the rest.

    Args:
        crystal: The crystal; its orbits must be those of its symmetry.
        cutoff: Radius of the search in Å.
        max_neighbors: Neighbours after which no further shell is added; None keeps all.
        cells: "asymmetric" or "full".
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

    `cells="full"` has one node per atom. `cells="asymmetric"` has one node per symmetry orbit, whose edges are those of
    the orbit's first atom; the neighbour of an edge is the orbit of the neighbouring atom. Neighbours of one orbit at
    the same distance, which nothing on such a graph tells apart, are one edge with their number as its multiplicity.

    The neighbours of a node, sorted by distance (neighbours at equal distance in the order in which the search finds
    them), form shells: a gap of more than 0.01 Å ends a shell. Whole shells are kept until there are at least
    `max_neighbors` neighbours, so that the cap breaks no symmetry. A node without neighbours has no edges.

    Args:
        crystal: The crystal; for asymmetric units its orbits must be those of its symmetry.
        cutoff: Radius of the search in Å.
        max_neighbors: Neighbours after which no further shell is added; None keeps all.
        cells: "asymmetric" or "full".
    """
    from pymatgen.optimization.neighbors import find_points_in_spheres

    node: NDArray[Any]
    orbit = crystal.orbit if cells == "asymmetric" else np.arange(len(crystal))
    _, representative, node, multiplicity = np.unique(orbit, return_index=True, return_inverse=True, return_counts=True)
    lattice = np.ascontiguousarray(crystal.lattice)
    # The search takes time and memory for the space between atoms that are written down far from each other.
    positions = crystal.positions - np.floor(crystal.positions)
    points = positions @ lattice
    center, atom, image, distance = find_points_in_spheres(points, points[representative], cutoff, _PERIODIC, lattice)

    order = np.lexsort((distance, center))
    order = order[image[order].any(axis=1) | (atom[order] != representative[center[order]])]
    if max_neighbors is not None:
        order = order[_whole_shells(center[order], distance[order], max_neighbors)]
    edge_multiplicity = np.ones(len(order), dtype=np.int32)
    vector = None
    if cells == "full":
        vector = (positions[atom[order]] + image[order] - positions[center[order]]) @ lattice
    else:
        first, edge_multiplicity = _equal_edges(center[order], node[atom[order]], distance[order])
        order = order[first]
    center, atom = center[order], atom[order]
    return Graph(
        numbers=crystal.numbers[representative],
        multiplicity=multiplicity.astype(np.int32),
        edge_ptr=np.searchsorted(center, np.arange(len(representative) + 1)),
        neighbor=node[atom].astype(np.int32),
        distance=distance[order],
        edge_multiplicity=edge_multiplicity,
        vector=vector,
    )


def _whole_shells(center: NDArray[Any], distance: NDArray[Any], max_neighbors: int) -> NDArray[np.bool_]:
    """Tell which edges, sorted by centre and distance, lie in a shell that begins among the first `max_neighbors`."""
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
    """Return the first of each set of edges equal in all three, in the order of the edges, and the size of each set."""
    order = np.lexsort((distance, neighbor, center))
    new = np.ones(len(order), dtype=bool)
    new[1:] = np.diff(distance[order]) > _SAME_LENGTH
    new[1:] |= (np.diff(center[order]) != 0) | (np.diff(neighbor[order]) != 0)
    start = np.flatnonzero(new)
    # lexsort is stable, so that the first of a set is its first in the order of the edges, too.
    first, count = order[start], np.diff(start, append=len(order))
    by_edge = np.argsort(first)
    return first[by_edge], count[by_edge].astype(np.int32)
