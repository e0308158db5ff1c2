"""The batch of crystals that flows through SEN: flat tensors, nothing per crystal."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

__all__ = ["CrystalBatch", "Formulas"]


@dataclass(frozen=True)
class Formulas:
    """Which elements B crystals with N nodes are made of, E entries in all, sorted by crystal.

    Attributes:
        ptr: First entry of each crystal, int64 [B + 1].
        elements: Atomic number of each entry, int64 [E], ascending within a crystal.
        fraction: Its atomic fraction in its crystal, float [E].
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
        """Find them from the atomic number and multiplicity of each node and the first node of each crystal."""
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
    """Segment of each of the `n` rows that `ptr` [S + 1] divides."""
    segments = torch.arange(len(ptr) - 1, device=ptr.device)
    return torch.repeat_interleave(segments, ptr.diff(), output_size=n)


def _pairs(formulas: Formulas, crystal: Tensor) -> Tensor:
    """All ordered pairs of entries of one formula, [2, P], from the crystal of each entry [E]."""
    partners = formulas.ptr.diff()[crystal]
    i = torch.repeat_interleave(
        torch.arange(len(crystal), device=crystal.device), partners, output_size=formulas.n_pairs
    )
    within = torch.arange(formulas.n_pairs, device=crystal.device) - (partners.cumsum(0) - partners)[i]
    return torch.stack([i, formulas.ptr[crystal[i]] + within])


@dataclass(frozen=True)
class CrystalBatch:
    """N atoms and K directed edges of B crystals, everything sorted by crystal and edges sorted by centre.

    On an asymmetric unit a node stands for a whole symmetry orbit and `multiplicity` counts its atoms in the
    primitive cell; `edge_multiplicity` does the same for edges. On a full cell every multiplicity is 1. Means are
    weighted by it and every softmax adds its logarithm, so that both kinds of graph give the same answer.

    Attributes:
        numbers: Atomic number of each node, int64 [N].
        multiplicity: Atoms of the primitive cell that a node stands for, float [N].
        crystal: Crystal of each node, int64 [N], ascending.
        node_ptr: First node of each crystal, int64 [B + 1].
        edge_ptr: First edge of each node, int64 [N + 1].
        center: Node at which an edge is felt, int64 [K], ascending.
        neighbor: Node at its other end (the orbit of the neighbouring atom), int64 [K].
        distance: Length of the edge in Å, float [K].
        edge_multiplicity: Neighbours that an edge stands for, float [K]; on an asymmetric unit those of one orbit at
            the same distance are one edge.
        vector: From centre to neighbour in Å, float [K, 3]; None on asymmetric units, where it has no meaning.
        elements: Atomic number of each entry of the crystals' formulas, int64 [E].
        fraction: Its atomic fraction in its crystal, float [E].
        element_crystal: Crystal of each entry, int64 [E], ascending.
        element: Formula entry of each node, int64 [N].
        element_pairs: All ordered pairs (i, j) of entries of one formula, i = j included, int64 [2, P].
        asymmetric: The asymmetric units of the same crystals, from which the features of full cells are computed; None
            on asymmetric units themselves.
        orbit: Node of `asymmetric` that each atom belongs to, int64 [N]; None without them.
    """

    numbers: Tensor
    multiplicity: Tensor
    crystal: Tensor
    node_ptr: Tensor
    edge_ptr: Tensor
    center: Tensor
    neighbor: Tensor
    distance: Tensor
    edge_multiplicity: Tensor
    vector: Tensor | None
    elements: Tensor
    fraction: Tensor
    element_crystal: Tensor
    element: Tensor
    element_pairs: Tensor
    asymmetric: CrystalBatch | None = None
    orbit: Tensor | None = None

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
        edge_multiplicity: Tensor,
        formulas: Formulas,
        vector: Tensor | None = None,
        asymmetric: CrystalBatch | None = None,
        orbit: Tensor | None = None,
    ) -> CrystalBatch:
        """Complete a batch from the arrays that cannot be derived; `neighbor` indexes the nodes of the batch."""
        crystal = _spread(node_ptr, len(numbers))
        element_crystal = _spread(formulas.ptr, len(formulas.elements))
        return cls(
            numbers=numbers,
            multiplicity=multiplicity,
            crystal=crystal,
            node_ptr=node_ptr,
            edge_ptr=edge_ptr,
            center=_spread(edge_ptr, len(neighbor)),
            neighbor=neighbor,
            distance=distance,
            edge_multiplicity=edge_multiplicity,
            vector=vector,
            elements=formulas.elements,
            fraction=formulas.fraction,
            element_crystal=element_crystal,
            element=formulas.element,
            element_pairs=_pairs(formulas, element_crystal),
            asymmetric=asymmetric,
            orbit=orbit,
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
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, CrystalBatch):
                changed[field.name] = value.to(device, dtype)
            elif value is not None:
                changed[field.name] = value.to(device, dtype if value.is_floating_point() else None)
        return replace(self, **changed)
