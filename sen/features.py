"""Feature extraction: from atoms and bonds to the chemical environment of each atom (paper Eq. 2, 5-7, Box 1).

All weights sum to one over the bonds of an atom, the elements of a formula or the atoms of a crystal, so the result
does not depend on how many cells of the crystal the graph has.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sen.batch import CrystalBatch
from sen.config import SENConfig
from sen.elements import ElementEmbedding
from sen.ops import attend, segment_softmax, segment_sum

__all__ = ["FeatureExtraction", "GaussianExpansion", "LSTMAttention", "StoichiometryAttention", "initialise"]


class GaussianExpansion(nn.Module):
    """Expand distances in Gaussians exp(-(d - c)^2 / w^2), the bond features of Xie and Grossman (2018)."""

    centers: Tensor

    def __init__(self, n: int, stop: float, width: float) -> None:
        super().__init__()
        self.register_buffer("centers", torch.linspace(0.0, stop, n), persistent=False)
        self.width = width
        #: Sum of the squares of all Gaussians, for a distance well inside their range.
        self.excited = width * math.sqrt(math.pi / 2) * (n - 1) / stop

    def forward(self, distance: Tensor) -> Tensor:
        """Return the values of the n Gaussians, [K, n], at distances [K] in Å."""
        return torch.exp(-(((distance.unsqueeze(-1) - self.centers) / self.width) ** 2))


def initialise(module: nn.Module) -> None:
    """Draw the weights of linear maps and convolutions below `module` so that signals keep their size (He et al. 2015).

    torch's default shrinks signals at every layer; the influence of bond lengths on atoms would all but vanish.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="linear")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class BondPooling(nn.Module):
    """What an atom takes of its bonds: messages of centre, neighbour and bond, pooled as `sen.aggregation` says.

    Linear maps of atoms are applied before atoms are gathered to bonds, which are far more numerous.

    Args:
        config: Hyper-parameters of SEN; it reads atoms and bonds of `encoder_width` channels.
        out: Width of messages and of their pooled sum; each of the `heads` has out / heads channels.
    """

    def __init__(self, config: SENConfig, out: int) -> None:
        super().__init__()
        width = config.encoder_width
        self.norm = nn.LayerNorm(width)
        self.center = nn.Linear(width, out)
        self.neighbor = nn.Linear(width, out, bias=False)
        self.bond = nn.Linear(width, out, bias=False)
        self.deeper = nn.ModuleList(nn.Linear(out, out) for _ in range(config.message_layers - 1))
        self.aggregation = config.aggregation
        is_weighted = config.aggregation in {"softmax", "gated"}
        self.logits = nn.Linear(out, config.heads, bias=False) if is_weighted else None

    def forward(self, atoms: Tensor, bonds: Tensor, graph: CrystalBatch) -> tuple[Tensor, Tensor]:
        """Return the pooled messages of each atom [N, out], zero without bonds, and the messages [K, out]."""
        normed = self.norm(atoms)
        messages = F.silu(
            self.center(normed).index_select(0, graph.center)
            + self.neighbor(normed).index_select(0, graph.neighbor)
            + self.bond(bonds)
        )
        for layer in self.deeper:
            messages = F.silu(layer(messages))
        return attend(self.weights(messages, graph, len(atoms)), messages, graph.center, len(atoms)), messages

    def weights(self, messages: Tensor, graph: CrystalBatch, n_atoms: int) -> Tensor:
        """Return the weights of the messages [K, out] in the sums of their atoms, [K, heads], or [K, 1] if equal."""
        logits = None if self.logits is None else self.logits(messages)
        if logits is not None and self.aggregation == "softmax":
            return segment_softmax(logits, graph.center, n_atoms, graph.edge_multiplicity)
        weights = graph.edge_multiplicity.unsqueeze(-1)
        if logits is not None:
            weights = weights * logits.sigmoid()
        if self.aggregation == "root":
            weights = weights * segment_sum(weights, graph.center, n_atoms).rsqrt().index_select(0, graph.center)
        return weights


class EnvironmentEncoder(nn.Module):
    """The atom and bond encoders F_c^a and F_c^b: rounds of update between atoms and bonds (Eq. 5).

    Without rounds there are no bonds.
    """

    def __init__(self, config: SENConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.residual_weight = config.residual_weight
        self.atoms = nn.Linear(config.atom_embedding, width)
        self.expansion = GaussianExpansion(config.gaussians, config.gaussian_range, config.gaussian_width)
        self.bonds = nn.Linear(config.gaussians, width) if config.rounds else None
        self.attentions = nn.ModuleList(BondPooling(config, width) for _ in range(config.rounds))
        self.updates = nn.ModuleList(nn.Linear(width, width) for _ in range(config.rounds))
        self.bond_updates = nn.ModuleList(nn.Linear(width, width) for _ in range(config.rounds * config.bond_map))
        self.dropout = nn.Dropout(config.dropout)

    def scale_bonds(self) -> None:
        """Draw the weights of the bonds again, for the few Gaussians that a bond length excites instead of for all."""
        if self.bonds is not None:
            nn.init.normal_(self.bonds.weight, std=self.expansion.excited**-0.5)

    def forward(self, embedding: Tensor, graph: CrystalBatch) -> tuple[Tensor, Tensor | None]:
        """Return encoded atoms [N, width] and bonds [K, width]."""
        atoms = F.silu(self.atoms(embedding))
        if self.bonds is None:
            return atoms, None
        bonds = F.silu(self.bonds(self.expansion(graph.distance)))
        for i, (attention, update) in enumerate(zip(self.attentions, self.updates, strict=True)):
            pooled, messages = attention(atoms, bonds, graph)
            atoms = atoms + self.residual_weight * self.dropout(F.silu(update(pooled)))
            if self.bond_updates:
                messages = F.silu(self.bond_updates[i](messages))
            bonds = bonds + self.residual_weight * messages
        return atoms, bonds


class SetPooling(nn.Module):
    """`SET`: attention pooling of an atom's bonds, each joined with the atom, then a row-wise feed-forward (Eq. 5).

    After Lee et al., ICML 2019 (pooling by multi-head attention). An atom without bonds keeps its own features, as do
    all where the encoder has no rounds.
    """

    def __init__(self, config: SENConfig) -> None:
        super().__init__()
        width = config.environment_width
        self.bonds = BondPooling(config, width) if config.rounds else None
        self.atoms = nn.Linear(config.encoder_width, width)
        self.feedforward = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU())

    def forward(self, atoms: Tensor, bonds: Tensor | None, graph: CrystalBatch) -> Tensor:
        """Return gamma^A [N, environment_width] from encoded atoms [N, width] and bonds [K, width]."""
        environment: Tensor = self.atoms(atoms)
        if self.bonds is not None:
            pooled, _ = self.bonds(atoms, bonds, graph)
            environment = environment + pooled
        update: Tensor = self.feedforward(environment)
        return environment + update


class StoichiometryAttention(nn.Module):
    """`Att_Sto`: weighted attention between the elements of a formula, on atomic fractions (Eq. 6).

    After Goodall and Lee, Nat. Commun. 11, 6280 (2020): a partner's weight is its fraction times the exponential of a
    learned score. Returns V^E, a softmax over the elements of each crystal in every channel.
    """

    def __init__(self, config: SENConfig) -> None:
        super().__init__()
        width = config.environment_width
        self.inputs = nn.Linear(config.atom_embedding, width)
        self.target = nn.ModuleList(nn.Linear(width, width) for _ in range(config.stoichiometry_rounds))
        self.partner = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(config.stoichiometry_rounds))
        self.score = nn.ModuleList(nn.Linear(width, 1, bias=False) for _ in range(config.stoichiometry_rounds))
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, embedding: Tensor, graph: CrystalBatch) -> Tensor:
        """Map element embeddings [E, embedding] to V^E [E, width]."""
        target, partner = graph.element_pairs
        values = self.inputs(embedding)
        for to_target, to_partner, to_score in zip(self.target, self.partner, self.score, strict=True):
            messages = F.silu(to_target(values).index_select(0, target) + to_partner(values).index_select(0, partner))
            weights = segment_softmax(to_score(messages), target, len(values), graph.fraction[partner])
            values = values + attend(weights, messages, target, len(values))
        return segment_softmax(self.output(values), graph.element_crystal, graph.n_crystals)


class LSTMAttention(nn.Module):
    """`Att_LSTM`: an LSTM reads all atoms of its crystal T times and returns what it has read to them (Eq. 7).

    It reads by Set2Set (Vinyals et al., ICLR 2016), whose cost is linear in the number of atoms.
    """

    def __init__(self, width: int, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.norm = nn.LayerNorm(width)
        self.lstm = nn.LSTMCell(2 * width, width)
        self.atom = nn.Linear(width, width)
        self.answer = nn.Linear(width, width, bias=False)

    def forward(self, atoms: Tensor, graph: CrystalBatch) -> Tensor:
        """Update environments [N, width] and return them, [N, width]."""
        atoms = self.norm(atoms)
        width = atoms.shape[1]
        hidden = cell = atoms.new_zeros(graph.n_crystals, width)
        read = torch.zeros_like(hidden)
        for _ in range(self.rounds):
            hidden, cell = self.lstm(torch.cat([hidden, read], dim=1), (hidden, cell))
            logits = (atoms * hidden.index_select(0, graph.crystal)).sum(1, keepdim=True) / width**0.5
            weights = segment_softmax(logits, graph.crystal, graph.n_crystals, graph.multiplicity)
            read = segment_sum(weights * atoms, graph.crystal, graph.n_crystals)
            atoms = atoms + F.silu(self.atom(atoms) + self.answer(read).index_select(0, graph.crystal))
        return atoms


class FeatureExtraction(nn.Module):
    """Feature extraction: the chemical environments x^c [N, environment_width] of a batch of crystals."""

    def __init__(self, config: SENConfig) -> None:
        super().__init__()
        self.embedding = ElementEmbedding(config.atom_embedding)
        self.encoder = EnvironmentEncoder(config)
        self.pooling = SetPooling(config)
        self.stoichiometry = StoichiometryAttention(config)
        self.attention = LSTMAttention(config.environment_width, config.lstm_rounds)
        self.dropout = nn.Dropout(config.dropout)
        initialise(self)
        self.encoder.scale_bonds()

    def forward(self, graph: CrystalBatch) -> Tensor:
        """Return x^c [N, environment_width] of a batch with N nodes."""
        # Equivalent atoms have equal environments: those of a full cell are computed once for each orbit.
        nodes = graph if graph.asymmetric is None else graph.asymmetric
        atoms, bonds = self.encoder(self.embedding(nodes.numbers), nodes)
        gamma = self.pooling(atoms, bonds, nodes)
        elements = self.stoichiometry(self.embedding(nodes.elements), nodes)
        environment: Tensor = self.attention(gamma * elements.index_select(0, nodes.element), nodes)
        environment = self.dropout(environment)
        return environment if graph.orbit is None else environment.index_select(0, graph.orbit)
