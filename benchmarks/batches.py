"""Batches cut from a graph table by slicing flat tensors on the device; no Python object per crystal."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.graphs import GraphTable
from sen.batch import CrystalBatch

__all__ = ["GraphTensors", "epoch_batches", "evaluation_batches"]


def _ragged(start: Tensor, count: Tensor) -> Tensor:
    """Concatenate the ranges start[i] .. start[i] + count[i] - 1."""
    ends = count.cumsum(0)
    shift = torch.repeat_interleave(start - (ends - count), count)
    return torch.arange(len(shift), device=start.device) + shift


def _offsets(count: Tensor) -> Tensor:
    """[0, count[0], count[0] + count[1], ...]."""
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


class GraphTensors:
    """A graph table held as tensors on one device, from which any set of crystals is one batch.

    Args:
        table: The graphs.
        device: Where the tensors live and batches are assembled.
    """

    def __init__(self, table: GraphTable, device: torch.device | str = "cpu") -> None:
        def tensor(array: NDArray[Any]) -> Tensor:
            # Memory-mapped tables are read-only, which torch tensors cannot express: the copy is theirs.
            return torch.from_numpy(np.array(array)).to(device)

        self.device = torch.device(device)
        self.numbers, self.multiplicity = tensor(table.numbers), tensor(table.multiplicity)
        self.node_ptr, self.edge_ptr = tensor(table.node_ptr), tensor(table.edge_ptr)
        self.neighbor, self.distance = tensor(table.neighbor), tensor(table.distance)
        self.vector = None if table.vector is None else tensor(table.vector)
        self.n_edges: NDArray[np.int64] = np.diff(np.asarray(table.edge_ptr)[np.asarray(table.node_ptr)])

    def batch(self, crystals: NDArray[np.int64]) -> CrystalBatch:
        """Return the crystals at these positions [B] of the table, in this order, as one batch."""
        chosen = torch.as_tensor(crystals, device=self.device)
        first_node = self.node_ptr[chosen]
        n_nodes = self.node_ptr[chosen + 1] - first_node
        nodes = _ragged(first_node, n_nodes)
        node_ptr = _offsets(n_nodes)
        degree = self.edge_ptr[nodes + 1] - self.edge_ptr[nodes]
        edges = _ragged(self.edge_ptr[nodes], degree)
        # Neighbours are stored as indices within their crystal.
        shift = torch.repeat_interleave(torch.repeat_interleave(node_ptr[:-1], n_nodes), degree)
        return CrystalBatch.from_arrays(
            numbers=self.numbers[nodes].long(),
            multiplicity=self.multiplicity[nodes].to(self.distance.dtype),
            node_ptr=node_ptr,
            edge_ptr=_offsets(degree),
            neighbor=self.neighbor[edges].long() + shift,
            distance=self.distance[edges],
            vector=None if self.vector is None else self.vector[edges],
        )


def _pack(order: NDArray[np.int64], n_edges: NDArray[np.int64], size: int, budget: int) -> Iterator[NDArray[np.int64]]:
    start = edges = 0
    for position, crystal in enumerate(order):
        full = position - start == size or edges + n_edges[crystal] > budget
        if full and position > start:
            yield order[start:position]
            start, edges = position, 0
        edges += int(n_edges[crystal])
    if start < len(order):
        yield order[start:]


def epoch_batches(
    crystals: NDArray[np.int64], n_edges: NDArray[np.int64], *, size: int, edge_budget: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Cut a random order of `crystals` into batches of at most `size` crystals and `edge_budget` edges.

    A crystal larger than the budget is a batch of its own, so memory is bounded by the largest crystal.
    """
    return list(_pack(rng.permutation(crystals), n_edges, size, edge_budget))


def evaluation_batches(
    crystals: NDArray[np.int64], n_edges: NDArray[np.int64], *, edge_budget: int
) -> list[NDArray[np.int64]]:
    """Cut `crystals`, ordered by their number of edges, into batches of at most `edge_budget` edges."""
    order = crystals[np.argsort(n_edges[crystals], kind="stable")]
    return list(_pack(order, n_edges, len(order), edge_budget))
