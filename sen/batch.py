"""The batch of crystals that flows through SEN: flat tensors, nothing per crystal."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

__all__ = ["CrystalBatch"]


@dataclass(frozen=True)
class CrystalBatch:
    """N atoms and K directed edges of B crystals, everything sorted by crystal and edges sorted by centre.

    On an asymmetric unit a node stands for a whole symmetry orbit and `multiplicity` counts its atoms in the
    primitive cell; on a full cell every multiplicity is 1. Means over atoms are weighted by it and every softmax over
    atoms adds its logarithm, so that both kinds of graph give the same answer.

    Attributes:
        numbers: Atomic number of each node, int64 [N].
        multiplicity: Atoms of the primitive cell that a node stands for, float [N].
        crystal: Crystal of each node, int64 [N], ascending.
        node_ptr: First node of each crystal, int64 [B + 1].
        edge_ptr: First edge of each node, int64 [N + 1].
        center: Node at which an edge is felt, int64 [K], ascending.
        neighbor: Node at its other end (the orbit of the neighbouring atom), int64 [K].
        distance: Length of the edge in Å, float [K].
        vector: From centre to neighbour in Å, float [K, 3]; None on asymmetric units, where it has no meaning.
        elements: Atomic number of each entry of the crystals' formulas, int64 [E].
        fraction: Its atomic fraction in its crystal, float [E].
        element_crystal: Crystal of each entry, int64 [E], ascending.
        element: Formula entry of each node, int64 [N].
    """

    numbers: Tensor
    multiplicity: Tensor
    crystal: Tensor
    node_ptr: Tensor
    edge_ptr: Tensor
    center: Tensor
    neighbor: Tensor
    distance: Tensor
    vector: Tensor | None
    elements: Tensor
    fraction: Tensor
    element_crystal: Tensor
    element: Tensor

    @classmethod
    def from_arrays(
        cls,
        *,
        numbers: Tensor,
        multiplicity: Tensor,
        node_ptr: Tensor,
        edge_ptr: Tensor,
        neighbor: Tensor,
        distance: Tensor,
        vector: Tensor | None = None,
    ) -> CrystalBatch:
        """Complete a batch from the arrays that cannot be derived; `neighbor` indexes the nodes of the batch."""
        n_crystals, n_nodes = len(node_ptr) - 1, len(numbers)
        crystal = torch.repeat_interleave(torch.arange(n_crystals, device=numbers.device), node_ptr.diff())
        center = torch.repeat_interleave(torch.arange(n_nodes, device=numbers.device), edge_ptr.diff())
        # One key per (crystal, element); its sorted unique values are the entries of all formulas in crystal order.
        keys, element = torch.unique(crystal * 128 + numbers, return_inverse=True)
        element_crystal = keys // 128
        counts = multiplicity.new_zeros(len(keys)).index_add_(0, element, multiplicity)
        atoms = multiplicity.new_zeros(n_crystals).index_add_(0, crystal, multiplicity)
        return cls(
            numbers=numbers,
            multiplicity=multiplicity,
            crystal=crystal,
            node_ptr=node_ptr,
            edge_ptr=edge_ptr,
            center=center,
            neighbor=neighbor,
            distance=distance,
            vector=vector,
            elements=keys % 128,
            fraction=counts / atoms[element_crystal],
            element_crystal=element_crystal,
            element=element,
        )

    @property
    def n_crystals(self) -> int:
        """Number of crystals B."""
        return len(self.node_ptr) - 1

    @property
    def weight(self) -> Tensor:
        """Share of each node in its crystal, m / sum of m, float [N]."""
        total = self.multiplicity.new_zeros(self.n_crystals).index_add_(0, self.crystal, self.multiplicity)
        return self.multiplicity / total[self.crystal]

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> CrystalBatch:
        """Return the batch on another device, its floating point tensors in another precision."""
        changed = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None:
                changed[field.name] = value.to(device, dtype if value.is_floating_point() else None)
        return replace(self, **changed)
