"""Batches made by slicing flat tensors on the device, and which crystals go into one batch."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sen.batch import CrystalBatch, Formulas, to_tensors
from sen.graph import Graph, GraphArrays
from sen.ops import ragged

__all__ = ["GraphTensors", "epoch_batches", "evaluation_batches"]


def _offsets(count: Tensor) -> Tensor:
    """Return [0, count[0], count[0] + count[1], ...]."""
    return torch.cat([count.new_zeros(1), count.cumsum(0)])


class GraphTensors:
    """Graphs held as tensors on one device, from which any set of crystals becomes a batch.

    The host knows the size of each crystal, so it does not wait for the device when it makes a batch.

    Args:
        graph: The graphs.
        device: Where the tensors are stored and batches are made.
        dtype: Floating point type of the batches.

    Attributes:
        device: The device.
        graph: The graphs on the host.
    """

    def __init__(self, graph: Graph, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32) -> None:
        self.device = torch.device(device)
        self.graph = graph
        graphs, self._formulas = to_tensors(graph, device, dtype)
        self._node_ptr, self._edge_ptr = graphs.node_ptr, graphs.edge_ptr
        self._of_nodes, self._of_edges = graphs.arrays("node"), graphs.arrays("edge")
        self._asymmetric = None if graph.asymmetric is None else GraphTensors(graph.asymmetric, device, dtype)
        self._n_nodes: NDArray[np.int64] = np.diff(graph.node_ptr)
        self._n_edges = graph.n_edges
        self._n_entries: NDArray[np.int64] = self._formulas.ptr.diff().cpu().numpy()

    def __len__(self) -> int:
        """Number of crystals M."""
        return self.graph.n_crystals

    def batch(self, crystals: NDArray[np.int64]) -> CrystalBatch:
        """Return the crystals at these positions [B], in this order, as one batch."""
        chosen = torch.from_numpy(crystals).to(self.device, non_blocking=True)
        total_nodes, total_edges, total_entries = (
            int(sizes[crystals].sum()) for sizes in (self._n_nodes, self._n_edges, self._n_entries)
        )
        formulas = self._formulas
        first_node, first_entry = self._node_ptr[chosen], formulas.ptr[chosen]
        n_nodes, n_entries = self._node_ptr[chosen + 1] - first_node, formulas.ptr[chosen + 1] - first_entry
        nodes = ragged(first_node, n_nodes, total_nodes)
        entries = ragged(first_entry, n_entries, total_entries)
        entry_ptr = _offsets(n_entries)
        first_edge = self._edge_ptr[nodes]
        degree = self._edge_ptr[nodes + 1] - first_edge
        edges = ragged(first_edge, degree, total_edges)
        # Formula entries are stored as positions among those of all crystals.
        to_entry = torch.repeat_interleave(entry_ptr[:-1] - first_entry, n_nodes, output_size=total_nodes)
        return CrystalBatch.from_graphs(
            GraphArrays(
                **{name: array[nodes] for name, array in self._of_nodes.items()},
                **{name: array[edges] for name, array in self._of_edges.items()},
                node_ptr=_offsets(n_nodes),
                edge_ptr=_offsets(degree),
            ),
            Formulas(
                ptr=entry_ptr,
                elements=formulas.elements[entries],
                fraction=formulas.fraction[entries],
                element=formulas.element[nodes] + to_entry,
                n_pairs=int(np.square(self._n_entries[crystals]).sum()),
            ),
            None if self._asymmetric is None else self._asymmetric.batch(crystals),
        )


def _pack(order: NDArray[np.int64], cost: NDArray[np.int64], size: int, budget: int) -> Iterator[NDArray[np.int64]]:
    start = total = 0
    for position, crystal in enumerate(order):
        full = position - start == size or total + cost[crystal] > budget
        if full and position > start:
            yield order[start:position]
            start, total = position, 0
        total += int(cost[crystal])
    if start < len(order):
        yield order[start:]


def epoch_batches(
    crystals: NDArray[np.int64],
    cost: NDArray[np.int64],
    *,
    size: int,
    edge_budget: int,
    rng: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Cut a random order of `crystals` into batches of at most `size` crystals that cost `edge_budget` at most.

    A crystal larger than the budget is alone in its batch, so the largest crystal bounds memory.

    Args:
        crystals: Positions of the crystals, [n].
        cost: Of each crystal of the task, int64 [M], see `CrystalModel.cost`.
        size: Crystals in a batch.
        edge_budget: What the crystals of a batch may cost.
        rng: Draws the order.
    """
    return list(_pack(rng.permutation(crystals), cost, size, edge_budget))


def evaluation_batches(
    crystals: NDArray[np.int64], cost: NDArray[np.int64], *, edge_budget: int
) -> list[NDArray[np.int64]]:
    """Cut `crystals`, ordered by their cost [M], into batches that cost `edge_budget` at most."""
    order = crystals[np.argsort(cost[crystals], kind="stable")]
    return list(_pack(order, cost, len(order), edge_budget))
