"""The batch of crystals that a model reads: flat tensors, no object per crystal."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sen.graph import Graph, GraphArrays
from sen.ops import ragged, segment_sum

__all__ = ["CrystalBatch", "Formulas", "to_tensors"]


@dataclass(frozen=True)
class Formulas:
    """The formulas of B crystals with N nodes, E entries in all, sorted by crystal.

    Attributes:
        ptr: First entry of each crystal, int64 [B + 1].
        elements: Atomic number of each entry, int64 [E], ascending within a crystal.
        fraction: Atomic fraction of each entry in its crystal, float [E].
        element: Entry of each node, int64 [N].
        n_pairs: Number of ordered pairs of entries of one formula.
    """

    ptr: Tensor
    elements: Tensor
    fraction: Tensor
    element: Tensor
    n_pairs: int

    @classmethod
    def of(cls, numbers: Tensor, multiplicity: Tensor, node_ptr: Tensor) -> Formulas:
        """Return the formulas of crystals from the arrays of their graphs."""
        n_crystals = len(node_ptr) - 1
        crystal = _spread(node_ptr, len(numbers))
        # One key per (crystal, element); its sorted unique values are the entries of all formulas in crystal order.
        keys, element = torch.unique(crystal * 128 + numbers, return_inverse=True)
        entry_crystal = keys // 128
        counts = multiplicity.new_zeros(len(keys)).index_add_(0, element, multiplicity)
        atoms = multiplicity.new_zeros(n_crystals).index_add_(0, crystal, multiplicity)
        sizes = torch.bincount(entry_crystal, minlength=n_crystals)
        ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
        return cls(ptr, keys % 128, counts / atoms[entry_crystal], element, int(sizes.square().sum()))


def _spread(ptr: Tensor, n: int) -> Tensor:
    """Return the segment [n] of each of the `n` rows, where `ptr` [S + 1] has the first row of each segment."""
    segments = torch.arange(len(ptr) - 1, device=ptr.device)
    return torch.repeat_interleave(segments, ptr.diff(), output_size=n)


def _pairs(formulas: Formulas, crystal: Tensor) -> Tensor:
    """Return all ordered pairs of entries of one formula, [2, P], from the crystal of each entry [E]."""
    partners = formulas.ptr.diff()[crystal]
    i = torch.repeat_interleave(
        torch.arange(len(crystal), device=crystal.device), partners, output_size=formulas.n_pairs
    )
    return torch.stack([i, ragged(formulas.ptr[crystal], partners, formulas.n_pairs)])


@dataclass(frozen=True, kw_only=True)
class CrystalBatch(GraphArrays[Tensor]):
    """N nodes and K directed edges of B crystals: the quantities of `sen.graph.GraphArrays` and what follows from them.

    Tensors are int64 or floating point. `neighbor` and `orbit` count the nodes of the whole batch, and
    `edge_multiplicity` is never None.

    On an asymmetric unit a node stands for a whole symmetry orbit and `multiplicity` counts its atoms in the primitive
    cell; an edge stands for `edge_multiplicity` neighbours, which are of one orbit and at the same distance. On a full
    cell every multiplicity is 1. Means are weighted by multiplicity and every softmax adds its logarithm, so both kinds
    of graph give the same answer.

    Attributes:
        crystal: Crystal of each node, int64 [N], ascending.
        center: Node that an edge belongs to, int64 [K], ascending.
        elements: Atomic number of each entry of the crystals' formulas, int64 [E].
        fraction: Its atomic fraction in its crystal, float [E].
        element_crystal: Crystal of each entry, int64 [E], ascending.
        element: Formula entry of each node, int64 [N].
        element_pairs: All ordered pairs (i, j) of entries of one formula, i = j included, int64 [2, P].
    """

    edge_multiplicity: Tensor
    crystal: Tensor
    center: Tensor
    elements: Tensor
    fraction: Tensor
    element_crystal: Tensor
    element: Tensor
    element_pairs: Tensor

    @classmethod
    def from_graphs(
        cls, graphs: GraphArrays[Tensor], formulas: Formulas, asymmetric: CrystalBatch | None = None
    ) -> CrystalBatch:
        """Make a batch of graphs.

        Args:
            graphs: The graphs as tensors; distances and vectors have the precision of the batch.
            formulas: Their formulas.
            asymmetric: The batch of the asymmetric units, which accompanies full cells.
        """
        distance = graphs.distance
        crystal = _spread(graphs.node_ptr, len(graphs.numbers))
        center = _spread(graphs.edge_ptr, len(distance))
        orbit = None
        if asymmetric is not None and graphs.orbit is not None:
            orbit = graphs.orbit.long() + asymmetric.node_ptr[crystal]
        multiplicity = graphs.edge_multiplicity
        element_crystal = _spread(formulas.ptr, len(formulas.elements))
        return cls(
            numbers=graphs.numbers.long(),
            multiplicity=graphs.multiplicity.to(distance.dtype),
            crystal=crystal,
            node_ptr=graphs.node_ptr,
            edge_ptr=graphs.edge_ptr,
            center=center,
            neighbor=graphs.neighbor.long() + graphs.node_ptr[crystal][center],
            distance=distance,
            edge_multiplicity=torch.ones_like(distance) if multiplicity is None else multiplicity.to(distance.dtype),
            vector=graphs.vector,
            elements=formulas.elements,
            fraction=formulas.fraction,
            element_crystal=element_crystal,
            element=formulas.element,
            element_pairs=_pairs(formulas, element_crystal),
            asymmetric=asymmetric,
            orbit=orbit,
        )

    @property
    def weight(self) -> Tensor:
        """Share of each node in the atoms of its crystal, float [N]."""
        total = self.multiplicity.new_zeros(self.n_crystals).index_add_(0, self.crystal, self.multiplicity)
        return self.multiplicity / total[self.crystal]

    def mean(self, values: Tensor) -> Tensor:
        """Average `values` [N, D] over the atoms of each crystal, [B, D]."""
        return segment_sum(self.weight.unsqueeze(-1) * values, self.crystal, self.n_crystals)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> CrystalBatch:
        """Return the batch on another device, its floating point tensors in another precision."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, CrystalBatch):
                changed[field.name] = value.to(device, dtype)
            elif value is not None:
                changed[field.name] = value.to(device, dtype if value.is_floating_point() else None)
        return replace(self, **changed)


def to_tensors(
    graph: Graph, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[GraphArrays[Tensor], Formulas]:
    """Copy graphs, without their asymmetric units, to tensors.

    Returns:
        The quantities of the graphs, integers in the types that they have there and floating point numbers in `dtype`;
        and the formulas of the crystals.
    """

    def tensor(array: NDArray[Any]) -> Tensor:
        # A copy, because cached arrays are read-only, which tensors cannot be.
        copied = torch.from_numpy(np.array(array))
        return copied.to(device, dtype if copied.is_floating_point() else copied.dtype)

    graphs = graph.map(tensor)
    return graphs, Formulas.of(graphs.numbers, graphs.multiplicity.to(dtype), graphs.node_ptr)
