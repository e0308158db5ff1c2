"""What the users of CGCNN, SchNet, MEGNet, GATGNN, coGN and ALIGNN run today, for `tools.perf.models` to time.

Each is written as the code of its users is, with its sizes and its loader. Atom features are random numbers in the
width of theirs, which changes no time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torch_geometric.data import Batch, Data
from torch_geometric.loader import DataLoader
from torch_geometric.nn import MessagePassing, SchNet, global_mean_pool
from torch_geometric.utils import scatter, softmax

from baselines.models.alignn import bond_pairs
from benchmarks.base.machine import n_threads
from benchmarks.training.loader import GraphTensors
from sen.features import GaussianExpansion
from sen.graph import Graph
from tools.perf.training import graph_data

__all__ = ["PEERS", "Peer"]

_ATOM_FEATURES = 92
_GAUSSIANS = 41
_N_NEIGHBORS = 12


class Peer(Protocol):
    """A model with its optimiser and loader.

    Attributes:
        n_parameters: Its parameters.
        n_edges: Edges of all its crystals.
        frees_memory: Whether it gives memory back after a step, so that the next step shows what a step needs.
    """

    n_parameters: int
    n_edges: int
    frees_memory: bool

    def train(self, crystals: NDArray[np.int64]) -> None:
        """Take a training step for each batch of the crystals at these positions."""

    def predict(self, crystals: NDArray[np.int64]) -> None:
        """Predict the crystals at these positions."""


@dataclass
class TorchPeer:
    """A model of torch.

    Attributes:
        model: Predicts [B] from a batch of the loader.
        loader: Returns the loader of crystals at some positions.
        n_edges: Edges of all its crystals.
    """

    frees_memory = True
    model: nn.Module
    loader: Callable[[NDArray[np.int64]], Iterable[Any]]
    n_edges: int

    def __post_init__(self) -> None:
        self.n_parameters = sum(parameter.numel() for parameter in self.model.parameters())
        self._optimizer = torch.optim.Adam(self.model.parameters())

    def train(self, crystals: NDArray[np.int64]) -> None:
        """Take a training step for each batch of the crystals at these positions."""
        self.model.train()
        for batch in self.loader(crystals):
            predicted = self.model(batch)
            loss = F.l1_loss(predicted, torch.zeros_like(predicted))
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()

    @torch.no_grad()
    def predict(self, crystals: NDArray[np.int64]) -> None:
        """Predict the crystals at these positions."""
        self.model.eval()
        for batch in self.loader(crystals):
            self.model(batch)


def _geometric(model: nn.Module, crystals: Sequence[Data], size: int) -> TorchPeer:
    def loader(chosen: NDArray[np.int64]) -> DataLoader:
        return DataLoader([crystals[i] for i in chosen], batch_size=size, shuffle=True)

    return TorchPeer(model, loader, sum(data.num_edges for data in crystals))


def _all_data(graph: Graph) -> list[Data]:
    return [graph_data(graph, i) for i in range(len(graph.node_ptr) - 1)]


def _nearest(data: Data) -> Data:
    """Keep the twelve nearest neighbours of an atom, as the authors of CGCNN and GATGNN do, in order of distance."""
    center, distance = data.edge_index[1].numpy(), data.edge_attr.numpy()
    order = np.lexsort((distance, center))
    place = np.arange(len(order)) - np.searchsorted(center[order], center[order])
    kept = torch.from_numpy(order[place < _N_NEIGHBORS])
    return Data(x=data.x, edge_index=data.edge_index[:, kept], edge_attr=data.edge_attr[kept])


# CGCNN: github.com/txie-93/cgcnn, cgcnn/data.py and cgcnn/model.py. Items are held in memory after they were read once.


class CGCNNLayer(nn.Module):
    """Joins each atom, its neighbour and their bond before one linear map."""

    def __init__(self, width: int, bonds: int) -> None:
        super().__init__()
        self.full = nn.Linear(2 * width + bonds, 2 * width)
        self.message_norm, self.sum_norm = nn.BatchNorm1d(2 * width), nn.BatchNorm1d(width)

    def forward(self, atoms: Tensor, bonds: Tensor, center: Tensor, neighbor: Tensor) -> Tensor:
        """Return updated atoms [N, width]."""
        joined = torch.cat([atoms[center], atoms[neighbor], bonds], dim=1)
        gate, core = self.message_norm(self.full(joined)).chunk(2, dim=1)
        total = scatter(gate.sigmoid() * F.softplus(core), center, dim_size=len(atoms))
        return F.softplus(atoms + self.sum_norm(total))


class CGCNN(nn.Module):
    """Three convolutions of width 64 and a head of width 128."""

    def __init__(self, width: int = 64, head: int = 128) -> None:
        super().__init__()
        self.embedding = nn.Linear(_ATOM_FEATURES, width)
        self.layers = nn.ModuleList(CGCNNLayer(width, _GAUSSIANS) for _ in range(3))
        self.to_head, self.out = nn.Linear(width, head), nn.Linear(head, 1)

    def forward(self, batch: Sequence[Tensor]) -> Tensor:
        """Predict [B]."""
        features, bonds, center, neighbor, crystal = batch
        atoms = self.embedding(features)
        for layer in self.layers:
            atoms = layer(atoms, bonds, center, neighbor)
        pooled = scatter(atoms, crystal, reduce="mean")
        result: Tensor = self.out(F.softplus(self.to_head(F.softplus(pooled)))).squeeze(1)
        return result


def _collate(items: Sequence[tuple[Tensor, Tensor, Tensor, Tensor]]) -> tuple[Tensor, ...]:
    features, bonds, centers, neighbors, crystals = [], [], [], [], []
    start = 0
    for i, (atoms, bond, center, neighbor) in enumerate(items):
        features.append(atoms)
        bonds.append(bond)
        centers.append(center + start)
        neighbors.append(neighbor + start)
        crystals.extend([i] * len(atoms))
        start += len(atoms)
    joined = (torch.cat(parts) for parts in (features, bonds, centers, neighbors))
    return (*joined, torch.tensor(crystals))


def _cgcnn(graph: Graph, size: int) -> TorchPeer:
    table, expansion = torch.rand(119, _ATOM_FEATURES), GaussianExpansion(_GAUSSIANS, 8.0, 0.2)
    items = [
        (table[data.x], expansion(data.edge_attr), data.edge_index[1], data.edge_index[0])
        for data in map(_nearest, _all_data(graph))
    ]

    def loader(chosen: NDArray[np.int64]) -> Iterable[Any]:
        dataset: Any = [items[i] for i in chosen]
        return torch.utils.data.DataLoader(dataset, batch_size=size, shuffle=True, collate_fn=_collate)

    return TorchPeer(CGCNN(), loader, sum(len(bonds) for _, bonds, _, _ in items))


# SchNet: torch-geometric's own. It would search for neighbours itself, in molecules; it is given the edges of crystals.


class GeometricSchNet(nn.Module):
    """SchNet of torch-geometric in the sizes of the MatBench leaderboard."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SchNet(
            hidden_channels=128,
            num_filters=128,
            num_interactions=4,
            num_gaussians=25,
            cutoff=5.0,
            interaction_graph=lambda edges, _: edges,
            readout="mean",
        )

    def forward(self, batch: Batch) -> Tensor:
        """Predict [B]."""
        result: Tensor = self.model(batch.x, (batch.edge_index, batch.edge_attr), batch.batch).squeeze(1)
        return result


# GATGNN: github.com/superlouis/GATGNN, whose layers are those of torch-geometric.


class GATLayer(MessagePassing):  # type: ignore[misc]
    """Attention over neighbours by four heads; atoms and neighbours, each joined with the bond, share one map."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__(aggr="add", node_dim=0)
        self.heads, self.width = heads, width
        self.weight = nn.Parameter(torch.empty(2 * width, heads * width))
        self.attention = nn.Parameter(torch.empty(1, heads, 2 * width))
        self.bias, self.norm = nn.Parameter(torch.zeros(width)), nn.BatchNorm1d(heads)
        nn.init.xavier_uniform_(self.weight)
        nn.init.xavier_uniform_(self.attention)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Return attended neighbours [N, width]."""
        attended: Tensor = self.propagate(edge_index, x=x, edge_attr=edge_attr)
        return attended.mean(1) + self.bias

    def message(self, x_i: Tensor, x_j: Tensor, edge_attr: Tensor, index: Tensor, size_i: int | None) -> Tensor:
        """Return the weighted neighbours [K, heads, width]."""
        center, neighbor = (
            F.softplus(torch.cat([x, edge_attr], dim=1) @ self.weight).view(-1, self.heads, self.width)
            for x in (x_i, x_j)
        )
        scores = F.softplus((torch.cat([center, neighbor], dim=2) * self.attention).sum(2))
        weights: Tensor = softmax(F.softplus(self.norm(scores)), index, num_nodes=size_i)
        return neighbor * weights.unsqueeze(2)


class GATGNN(nn.Module):
    """Three layers of attention of width 64, and attention over the atoms that reads the composition."""

    def __init__(self, width: int = 64, columns: int = 103) -> None:
        super().__init__()
        self.columns = columns
        self.register_buffer("table", torch.rand(119, _ATOM_FEATURES))
        self.atoms, self.bonds = nn.Linear(_ATOM_FEATURES, width), nn.Linear(_GAUSSIANS, width)
        self.layers = nn.ModuleList(GATLayer(width) for _ in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) for _ in range(3))
        self.score = nn.Sequential(nn.Linear(width + columns, 32), nn.Softplus(), nn.Linear(32, 1))
        self.head = nn.Sequential(
            nn.Linear(width, width), nn.Softplus(), nn.Linear(width, width), nn.Softplus(), nn.Linear(width, 1)
        )

    def forward(self, batch: Batch) -> Tensor:
        """Predict [B]."""
        atoms = self.atoms(self.table[batch.x])  # type: ignore[index]
        bonds = F.leaky_relu(self.bonds(batch.edge_attr), 0.2)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            atoms = F.softplus(norm(layer(atoms, batch.edge_index, bonds)))
        composition = global_mean_pool(F.one_hot((batch.x - 1).clamp(max=102), self.columns).float(), batch.batch)
        weights = softmax(self.score(torch.cat([atoms, composition[batch.batch]], dim=1)), batch.batch)
        result: Tensor = self.head(scatter(weights * atoms, batch.batch)).squeeze(1)
        return result


def _gatgnn(graph: Graph, size: int) -> TorchPeer:
    expansion = GaussianExpansion(_GAUSSIANS, 8.0, 0.2)
    crystals = [_nearest(data) for data in _all_data(graph)]
    for data in crystals:
        data.edge_attr = expansion(data.edge_attr)
    return _geometric(GATGNN(), crystals, size)


# coGN: it is in kgcnn 3, not in kgcnn 4, of which only one can be installed; so this is torch-geometric.


class CoGNLayer(MessagePassing):  # type: ignore[misc]
    """Messages are a network of five layers on the joined bond, atom and neighbour."""

    def __init__(self, width: int) -> None:
        super().__init__(aggr="add")
        sizes = [3 * width, *[width] * 5]
        layers = [layer for i in range(5) for layer in (nn.Linear(sizes[i], sizes[i + 1]), nn.SiLU())]
        self.network, self.update_network = nn.Sequential(*layers), nn.Linear(width, width)

    def forward(self, x: Tensor, edge_index: Tensor, edge_attr: Tensor) -> Tensor:
        """Return updated atoms [N, width]."""
        messages = self.propagate(edge_index, x=x, edge_attr=edge_attr)
        return x + F.silu(self.update_network(messages))

    def message(self, x_i: Tensor, x_j: Tensor, edge_attr: Tensor) -> Tensor:
        """Return the messages [K, width]."""
        messages: Tensor = self.network(torch.cat([edge_attr, x_i, x_j], dim=1))
        return messages


class CoGN(nn.Module):
    """Five rounds of width 128; the mean over atoms counts the multiplicity of each."""

    def __init__(self, width: int = 128, gaussians: int = 32, features: int = 18) -> None:
        super().__init__()
        self.register_buffer("table", torch.rand(119, features))
        self.embedding, self.atoms = nn.Embedding(119, width), nn.Linear(width + features, width)
        self.expansion, self.bonds = GaussianExpansion(gaussians, 8.0, 0.7), nn.Linear(gaussians, width)
        self.layers = nn.ModuleList(CoGNLayer(width) for _ in range(5))
        self.head = nn.Linear(width, 1)

    def forward(self, batch: Batch) -> Tensor:
        """Predict [B]."""
        atoms = self.atoms(torch.cat([self.embedding(batch.x), self.table[batch.x]], dim=1))  # type: ignore[index]
        bonds = self.bonds(self.expansion(batch.edge_attr))
        for layer in self.layers:
            atoms = layer(atoms, batch.edge_index, bonds)
        count = scatter(batch.multiplicity, batch.batch)
        material = scatter(batch.multiplicity[:, None] * atoms, batch.batch) / count[:, None]
        result: Tensor = self.head(material).squeeze(1)
        return result


def _cogn(graph: Graph, size: int) -> TorchPeer:
    crystals = _all_data(graph)
    for data in crystals:
        data.multiplicity = torch.ones(len(data.x))
    return _geometric(CoGN(), crystals, size)


def _cogn_on_units(graph: Graph, size: int) -> TorchPeer:
    """As the package does: one atom of each orbit, with all its edges; equal ones are not merged."""
    assert graph.orbit is not None
    crystals = []
    for data, start in zip(_all_data(graph), graph.node_ptr, strict=False):
        orbit = torch.from_numpy(graph.orbit[start : start + len(data.x)].astype(np.int64))
        _, first, count = np.unique(orbit, return_index=True, return_counts=True)
        kept = torch.isin(data.edge_index[1], torch.from_numpy(first))
        crystals.append(
            Data(
                x=data.x[first],
                edge_index=orbit[data.edge_index[:, kept]],
                edge_attr=data.edge_attr[kept],
                multiplicity=torch.from_numpy(count).float(),
            )
        )
    return _geometric(CoGN(), crystals, size)


# MEGNet: kgcnn with TensorFlow, the package of the MatBench leaderboard's MEGNet.


class KerasMEGNet:
    """MEGNet of kgcnn 4 in the sizes of the leaderboard; it is given distances instead of positions and images.

    Raises:
        ImportError: kgcnn is not installed.
    """

    frees_memory = False

    def __init__(self, graph: Graph, size: int) -> None:
        os.environ |= {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
        import keras
        import tensorflow as tf
        from kgcnn.literature.Megnet import make_crystal_model, model_crystal_default

        tf.config.threading.set_intra_op_parallelism_threads(n_threads())
        tf.config.threading.set_inter_op_parallelism_threads(1)
        self._size = size
        crystals = _all_data(graph)
        atoms, edges = [len(data.x) for data in crystals], [data.num_edges for data in crystals]

        def ragged(parts: Iterator[Tensor], lengths: list[int]) -> Any:
            return tf.RaggedTensor.from_row_lengths(torch.cat(list(parts)).numpy(), lengths)

        self._inputs = [
            ragged((data.x for data in crystals), atoms),
            ragged((data.edge_attr[:, None] for data in crystals), edges),
            ragged((data.edge_index.flip(0).T for data in crystals), edges),
            tf.zeros((len(crystals), 1)),
            ragged((torch.zeros(n, 3, dtype=torch.int64) for n in edges), edges),
            tf.zeros((len(crystals), 3, 3)),
        ]
        shapes = {
            "node_number": ((None,), "int64"),
            "range_attributes": ((None, 1), "float32"),
            "edge_indices": ((None, 2), "int64"),
            "charge": ((1,), "float32"),
            "edge_image": ((None, 3), "int64"),
            "graph_lattice": ((3, 3), "float32"),
        }
        inputs = [
            {"name": name, "shape": shape, "dtype": dtype, "ragged": None in shape}
            for name, (shape, dtype) in shapes.items()
        ]
        changed = {
            "inputs": inputs,
            "make_distance": False,
            "gauss_args": {"bins": 25, "distance": 5, "offset": 0.0, "sigma": 0.4},
        }
        self._model = make_crystal_model(**model_crystal_default | changed)
        self._model.compile(loss="mean_absolute_error", optimizer=keras.optimizers.Adam(5e-4))
        self._gather = tf.gather
        self.n_parameters, self.n_edges = self._model.count_params(), sum(edges)

    def train(self, crystals: NDArray[np.int64]) -> None:
        """Take a training step for each batch of the crystals at these positions."""
        target = np.zeros((len(crystals), 1), dtype=np.float32)
        self._model.fit(self._of(crystals), target, batch_size=self._size, verbose=0)

    def predict(self, crystals: NDArray[np.int64]) -> None:
        """Predict the crystals at these positions."""
        self._model.predict(self._of(crystals), batch_size=self._size, verbose=0)

    def _of(self, crystals: NDArray[np.int64]) -> list[Any]:
        return [self._gather(values, crystals) for values in self._inputs]


# ALIGNN: its authors' package, which has the model without DGL since 2026.8, with layer norms instead of batch norms.


class PackagedALIGNN(nn.Module):
    """The package's ALIGNN in the sizes of the MatBench leaderboard, without forces.

    Raises:
        ImportError: The package is not installed.
    """

    def __init__(self) -> None:
        super().__init__()
        from alignn.models.alignn_atomwise_pure import ALIGNNAtomWisePure, ALIGNNAtomWisePureConfig

        self.model = ALIGNNAtomWisePure(
            ALIGNNAtomWisePureConfig(
                name="alignn_atomwise_pure",
                alignn_layers=4,
                gcn_layers=4,
                atom_input_features=_ATOM_FEATURES,
                hidden_features=256,
                calculate_gradient=False,
                gradwise_weight=0.0,
            )
        )

    def forward(self, batch: Sequence[Any]) -> Tensor:
        """Predict [B] from graphs of atoms and of bonds."""
        result: Tensor = self.model((*batch, None))["out"]
        return result


def _alignn(graph: Graph, size: int) -> TorchPeer:
    """As the package does: the graph of the bonds is made once, kept, and joined to batches by its own function."""
    model = PackagedALIGNN()
    from alignn.torch_graph_builder import TorchGraph, batch_torch_graph_pairs

    table, graphs = torch.rand(119, _ATOM_FEATURES), GraphTensors(graph)
    items = []
    for i in range(len(graphs)):
        crystal = graphs.batch(np.array([i]))
        second, first, cosine = bond_pairs(crystal)
        atoms, bonds = {"atom_features": table[crystal.numbers]}, {"r": crystal.vector}
        n_bonds = len(crystal.center)
        items.append(
            (
                TorchGraph(len(crystal.numbers), crystal.center, crystal.neighbor, atoms, bonds),
                TorchGraph(n_bonds, first, second, bonds, {"h": cosine}),
            )
        )

    def loader(chosen: NDArray[np.int64]) -> Iterable[Any]:
        dataset: Any = [items[i] for i in chosen]
        return torch.utils.data.DataLoader(dataset, batch_size=size, shuffle=True, collate_fn=batch_torch_graph_pairs)

    return TorchPeer(model, loader, int(graph.n_edges.sum()))


#: What is timed beside each model, by its description: made from the graphs of full cells and the size of a batch.
PEERS: dict[str, dict[str, Callable[[Graph, int], Peer]]] = {
    "cgcnn": {"its authors' loader and layer": _cgcnn},
    "schnet": {"torch-geometric's SchNet": lambda graph, size: _geometric(GeometricSchNet(), _all_data(graph), size)},
    "megnet": {"kgcnn's MEGNet, TensorFlow": KerasMEGNet},
    "gatgnn": {"torch-geometric, as its authors": _gatgnn},
    "cogn": {
        "torch-geometric, asymmetric units as its authors": _cogn_on_units,
        "torch-geometric, full cells": _cogn,
    },
    "alignn": {"its authors' package": _alignn},
}
