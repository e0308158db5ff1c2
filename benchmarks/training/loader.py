"""Batches cut from a graph table by slicing flat tensors on the device; no Python object per crystal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.data.graph_table import GraphTable
from sen.batch import CrystalBatch, Formulas

__all__ = ["GraphTensors", "epoch_batches", "evaluation_batches"]


def _ragged(start: Tensor, count: Tensor, total: int) -> Tensor:
    """Concatenate the ranges start[i] .. start[i] + count[i] - 1, of `total` numbers in all."""
    ends = count.cumsum(0)
    shift = torch.repeat_interleave(start - (ends - count), count, output_size=total)
    return torch.arange(total, device=start.device) + shift


def _offsets(count: Tensor) -> Tensor:
    """[0, count[0], count[0] + count[1], ...]."""
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


class GraphTensors:
    """A graph table held as tensors on one device, from which any set of crystals is one batch.

    The host knows how large each crystal is, so that a batch is made without waiting for the device.

    Args:
        table: The graphs.
        device: Where the tensors live and batches are assembled.

    Attributes:
        n_neighbors: Neighbours of the nodes of each crystal, int64 [M]: what budgets count.
    """

    def __init__(self, table: GraphTable, device: torch.device | str = "cpu") -> None:
        def tensor(array: NDArray[Any]) -> Tensor:
            # Memory-mapped tables are read-only, which torch tensors cannot express: the copy is theirs.
            return torch.from_numpy(np.array(array)).to(device)

        self.device = torch.device(device)
        self.numbers, self.multiplicity = tensor(table.numbers), tensor(table.multiplicity)
        self.node_ptr, self.edge_ptr = tensor(table.node_ptr), tensor(table.edge_ptr)
        self.neighbor, self.distance = tensor(table.neighbor), tensor(table.distance)
        multiplicity = table.edge_multiplicity
        self.edge_multiplicity = None if multiplicity is None else tensor(multiplicity)
        self.vector = None if table.vector is None else tensor(table.vector)
        self.asymmetric = None if table.asymmetric is None else GraphTensors(table.asymmetric, device)
        self.orbit = None if table.orbit is None else tensor(table.orbit)
        formulas = Formulas.of(self.numbers, self.multiplicity.to(self.distance.dtype), self.node_ptr)
        self.entry_ptr, self.elements, self.fraction = formulas.ptr, formulas.elements, formulas.fraction
        self.element = formulas.element
        self.n_neighbors = table.n_neighbors
        self._n_nodes: NDArray[np.int64] = np.asarray(table.node_ptr[1:] - table.node_ptr[:-1])
        self._n_edges: NDArray[np.int64] = table.n_edges
        self._n_entries: NDArray[np.int64] = formulas.ptr.diff().cpu().numpy()

    def __len__(self) -> int:
        """Number of crystals."""
        return len(self.n_neighbors)

    def batch(self, crystals: NDArray[np.int64]) -> CrystalBatch:
        """Return the crystals at these positions [B] of the table, in this order, as one batch."""
        chosen = torch.from_numpy(crystals).to(self.device, non_blocking=True)
        total_nodes, total_edges, total_entries = (
            int(sizes[crystals].sum()) for sizes in (self._n_nodes, self._n_edges, self._n_entries)
        )
        first_node, first_entry = self.node_ptr[chosen], self.entry_ptr[chosen]
        n_nodes, n_entries = self.node_ptr[chosen + 1] - first_node, self.entry_ptr[chosen + 1] - first_entry
        nodes = _ragged(first_node, n_nodes, total_nodes)
        entries = _ragged(first_entry, n_entries, total_entries)
        node_ptr, entry_ptr = _offsets(n_nodes), _offsets(n_entries)
        degree = self.edge_ptr[nodes + 1] - self.edge_ptr[nodes]
        edges = _ragged(self.edge_ptr[nodes], degree, total_edges)
        # Neighbours are stored as indices within their crystal, formula entries as indices within the table.
        to_node = torch.repeat_interleave(node_ptr[:-1], n_nodes, output_size=total_nodes)
        to_entry = torch.repeat_interleave(entry_ptr[:-1] - first_entry, n_nodes, output_size=total_nodes)
        distance = self.distance[edges]
        asymmetric = orbit = None
        if self.asymmetric is not None and self.orbit is not None:
            asymmetric = self.asymmetric.batch(crystals)
            orbit = self.orbit[nodes].long() + torch.repeat_interleave(
                asymmetric.node_ptr[:-1], n_nodes, output_size=total_nodes
            )
        return CrystalBatch.from_arrays(
            numbers=self.numbers[nodes].long(),
            multiplicity=self.multiplicity[nodes].to(self.distance.dtype),
            node_ptr=node_ptr,
            edge_ptr=_offsets(degree),
            neighbor=self.neighbor[edges].long() + torch.repeat_interleave(to_node, degree, output_size=total_edges),
            distance=distance,
            edge_multiplicity=(
                torch.ones_like(distance)
                if self.edge_multiplicity is None
                else self.edge_multiplicity[edges].to(distance.dtype)
            ),
            formulas=Formulas(
                ptr=entry_ptr,
                elements=self.elements[entries],
                fraction=self.fraction[entries],
                element=self.element[nodes] + to_entry,
                n_pairs=int(np.square(self._n_entries[crystals]).sum()),
            ),
            vector=None if self.vector is None else self.vector[edges],
            asymmetric=asymmetric,
            orbit=orbit,
        )


def _pack(
    order: NDArray[np.int64], n_neighbors: NDArray[np.int64], size: int, budget: int
) -> Iterator[NDArray[np.int64]]:
    start = neighbors = 0
    for position, crystal in enumerate(order):
        full = position - start == size or neighbors + n_neighbors[crystal] > budget
        if full and position > start:
            yield order[start:position]
            start, neighbors = position, 0
        neighbors += int(n_neighbors[crystal])
    if start < len(order):
        yield order[start:]


def epoch_batches(
    crystals: NDArray[np.int64],
    n_neighbors: NDArray[np.int64],
    *,
    size: int,
    edge_budget: int,
    rng: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Cut a random order of `crystals` into batches of at most `size` crystals and `edge_budget` neighbours.

    A crystal larger than the budget is a batch of its own, so memory is bounded by the largest crystal.
    """
    return list(_pack(rng.permutation(crystals), n_neighbors, size, edge_budget))


def evaluation_batches(
    crystals: NDArray[np.int64], n_neighbors: NDArray[np.int64], *, edge_budget: int
) -> list[NDArray[np.int64]]:
    """Cut `crystals`, ordered by their number of neighbours, into batches of at most `edge_budget` of them."""
    order = crystals[np.argsort(n_neighbors[crystals], kind="stable")]
    return list(_pack(order, n_neighbors, len(order), edge_budget))
