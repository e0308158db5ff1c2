"""ALIGNN: messages between atoms along bonds, and between bonds along the angles that they form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from baselines.models.layers import BatchNorm, element_categories
from sen.batch import CrystalBatch
from sen.config import Config, Space
from sen.features import GaussianExpansion
from sen.graph import Graph
from sen.models import CrystalModel, ModelOutput
from sen.ops import ragged, segment_sum

__all__ = ["ALIGNN", "ALIGNNConfig", "EdgeGatedConvolution", "bond_pairs"]


class ALIGNNConfig(Config):
    """Defaults are those of the MatBench leaderboard's ALIGNN (matbench_v0.1_alignn/config_example.json)."""

    width: int = Field(256, ge=1, description="Width of atoms, bonds and angles.")
    embedding_width: int = Field(64, ge=1, description="Hidden width of the embeddings of bonds and angles.")
    alignn_layers: int = Field(4, ge=1, description="Layers that update atoms, bonds and angles.")
    gcn_layers: int = Field(4, ge=1, description="Layers after them that update atoms and bonds.")
    bond_gaussians: int = Field(80, ge=2, description="Gaussians that expand a bond length, from 0 to 8 Å.")
    angle_gaussians: int = Field(40, ge=2, description="Gaussians that expand the cosine of an angle, from -1 to 1.")


class EdgeGatedConvolution(nn.Module):
    """Nodes add the mean of their sources, weighted by gates made from both nodes and their link (Eq. 2 to 4).

    The nodes are atoms and the links bonds, or the nodes bonds and the links angles.

    Args:
        width: Width of nodes and links.
        updates_links: Whether links are updated too, which the last layer that reads them does not need.
    """

    def __init__(self, width: int, *, updates_links: bool) -> None:
        super().__init__()
        self.source_gate, self.target_gate, self.link_gate = (nn.Linear(width, width) for _ in range(3))
        self.source_update, self.target_update = nn.Linear(width, width), nn.Linear(width, width)
        self.node_norm = BatchNorm(width)
        self.link_norm = BatchNorm(width) if updates_links else None

    def forward(self, nodes: Tensor, links: Tensor, source: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Update nodes [N, width] and links [L, width], and return them.

        Args:
            nodes: The nodes.
            links: The links.
            source: Node that each link leads from, int64 [L].
            target: Node that each link leads to, int64 [L].
        """
        gates = (
            self.source_gate(nodes).index_select(0, source)
            + self.target_gate(nodes).index_select(0, target)
            + self.link_gate(links)
        )
        weights = gates.sigmoid()
        total = segment_sum(weights * self.source_update(nodes).index_select(0, source), target, len(nodes))
        mean = total / (segment_sum(weights, target, len(nodes)) + 1e-6)
        nodes = nodes + F.silu(self.node_norm(self.target_update(nodes) + mean))
        return nodes, links if self.link_norm is None else links + F.silu(self.link_norm(gates))


class _Embedding(nn.Module):
    """A linear map, a batch norm, SiLU."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(width, out), BatchNorm(out)

    def forward(self, rows: Tensor) -> Tensor:
        """Embed rows [R, width] as [R, out]."""
        return F.silu(self.norm(self.linear(rows)))


def bond_pairs(batch: CrystalBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return the pairs of bonds (i, j) and (j, k) of a batch of full cells, which the angle at atom j belongs to.

    A bond (i, j) has the centre i and the neighbour j. The way back, where k is i itself, is a pair as well.

    Returns:
        Of each pair: its bond (j, k), int64 [P]; its bond (i, j), int64 [P], ascending; and the cosine of the angle
        between the directions from j to i and from j to k, [P].
    """
    assert batch.vector is not None
    start = batch.edge_ptr.index_select(0, batch.neighbor)
    count = batch.edge_ptr.index_select(0, batch.neighbor + 1) - start
    n_pairs = int(count.sum())
    source = ragged(start, count, n_pairs)
    target = torch.repeat_interleave(torch.arange(len(count), device=count.device), count, output_size=n_pairs)
    direction = batch.vector / batch.distance.unsqueeze(1)
    cosine = -(direction.index_select(0, target) * direction.index_select(0, source)).sum(1)
    return source, target, cosine


class ALIGNN(CrystalModel):
    """ALIGNN (Choudhary and DeCost 2021), on full cells, where batch norms see what the reference's see.

    It differs in the neighbours. Both keep whole shells until there are 12 neighbours; the reference gives every bond
    its reverse, too, where an atom is not among the neighbours of its neighbour, and searches beyond 8 Å for the atoms
    with fewer. The properties of elements come from other tables than the authors'. For a classification it has one
    logit instead of two. Two batch norms whose results the reference drops are left out.
    """

    Config = ALIGNNConfig
    cells = "full"
    source = "Choudhary and DeCost, npj Comput. Mater. 7, 185 (2021); github.com/usnistgov/alignn"
    space: ClassVar[Space] = {"width": (128, 256, 384)}
    # config_example.json and run.py in matbench_v0.1_alignn of github.com/materialsproject/matbench, as is the recipe.
    # For mp_is_metal it has 40 epochs. All training rows train there, also those that it calls validation rows.
    graph: ClassVar[Mapping[str, Any]] = {"cutoff": 8.0, "max_neighbors": 12}
    recipe: ClassVar[Mapping[str, Any]] = {
        "optimizer": "adamw",
        "epochs": 500,
        "batch_size": 32,
        "edge_budget": 1 << 17,  # pairs of bonds, see `cost`: some 7 GB at the default sizes
        "learning_rate": 1e-3,
        "schedule": "one-cycle",
        "warmup": 0.3,
        "hold": 0.0,
        "final_learning_rate": 4e-9,
        "weight_decay": 1e-5,
        "loss": "mse",
        "clip_norm": None,
        "ema_decay": 0.0,
        "validation": 0.0,
    }

    elements: Tensor

    @classmethod
    def cost(cls, graph: Graph) -> NDArray[np.int64]:
        """Return the number of pairs of bonds of each crystal, int64 [B]: the model computes an angle for each."""
        degree = np.diff(graph.edge_ptr)
        first_node = np.repeat(graph.node_ptr[:-1], graph.n_edges)
        before = np.concatenate([[0], np.cumsum(degree[first_node + graph.neighbor])])
        n_pairs: NDArray[np.int64] = np.diff(before[graph.edge_ptr[graph.node_ptr]])
        return n_pairs

    def __init__(self, config: ALIGNNConfig) -> None:
        super().__init__(config)
        width, hidden = config.width, config.embedding_width

        def embedding(gaussians: int, span: float) -> nn.Sequential:
            # The reference's factor in the exponent is the inverse of the distance between centres, not of its square.
            expansion = GaussianExpansion(gaussians, span, math.sqrt(span / (gaussians - 1)))
            return nn.Sequential(expansion, _Embedding(gaussians, hidden), _Embedding(hidden, width))

        self.register_buffer("elements", torch.from_numpy(element_categories()))
        self.atoms = _Embedding(self.elements.shape[1], width)
        self.bonds, self.angles = embedding(config.bond_gaussians, 8.0), embedding(config.angle_gaussians, 2.0)
        last = config.alignn_layers - 1
        self.atom_layers = nn.ModuleList(
            EdgeGatedConvolution(width, updates_links=True) for _ in range(config.alignn_layers)
        )
        self.bond_layers = nn.ModuleList(
            EdgeGatedConvolution(width, updates_links=i < last) for i in range(config.alignn_layers)
        )
        self.gcn_layers = nn.ModuleList(
            EdgeGatedConvolution(width, updates_links=i < config.gcn_layers - 1) for i in range(config.gcn_layers)
        )
        self.head = nn.Linear(width, 1)

    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Predict the crystals of a batch of full cells."""
        source, target, cosine = bond_pairs(batch)
        atoms = self.atoms(self.elements.index_select(0, batch.numbers))
        bonds, angles = self.bonds(batch.distance), self.angles(cosine + 1)
        for of_atoms, of_bonds in zip(self.atom_layers, self.bond_layers, strict=True):
            atoms, bonds = of_atoms(atoms, bonds, batch.neighbor, batch.center)
            bonds, angles = of_bonds(bonds, angles, source, target)
        for layer in self.gcn_layers:
            atoms, bonds = layer(atoms, bonds, batch.neighbor, batch.center)
        material = batch.mean(atoms)
        return ModelOutput(prediction=self.head(material).squeeze(1), atoms=atoms, material=material)
