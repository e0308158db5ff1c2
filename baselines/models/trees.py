"""The `trees` model: randomised trees on statistics of elements and bonds, the floor for every network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from sen.batch import CrystalBatch
from sen.config import Config, Space
from sen.elements import element_table
from sen.models import FittedModel, ModelOutput
from sen.ops import segment_sum

__all__ = ["FEATURES", "Trees", "TreesConfig"]

_STATISTICS = ("mean", "standard deviation", "minimum", "maximum", "range")
_OF_ELEMENTS = (
    "group",
    "period",
    "log mass",
    "electronegativity",
    "radius",
    "ionisation energy",
    "electron affinity",
    "molar volume",
)
_OF_ATOMS = (
    "shortest bond",
    "mean bond",
    "longest bond",
    "close neighbours",
    "difference in electronegativity",
)
#: Names of the features of a crystal, in order.
FEATURES = (
    "elements",
    *(f"{statistic} of {name}" for names in (_OF_ELEMENTS, _OF_ATOMS) for statistic in _STATISTICS for name in names),
)
# Neighbours count as close up to this multiple of the shortest bond.
_CLOSE = 1.2
_ELECTRONEGATIVITY = _OF_ELEMENTS.index("electronegativity")


class TreesConfig(Config):
    """Sizes of the trees."""

    trees: int = Field(100, ge=1, description="Number of trees, whose predictions are averaged.")
    leaves: int = Field(4096, ge=2, description="Largest number of leaves of a tree.")


class Trees(FittedModel):
    """Extremely randomised trees of scikit-learn on statistics over the elements and the bonds of a crystal.

    The nodes of the fitted trees are kept as arrays, which predict what scikit-learn predicts. The trees of a
    classification are fitted to 0 and 1: the mean of their leaves is the probability of 1.
    """

    Config = TreesConfig
    source = "Geurts et al., Mach. Learn. 63, 3 (2006); scikit-learn"
    space: ClassVar[Space] = {"trees": (50, 100, 200), "leaves": (256, 1024, 4096)}
    # Graph and recipe are our own. All rows train, because nothing is chosen by validation rows.
    graph: ClassVar[Mapping[str, Any]] = {"cutoff": 8.0, "max_neighbors": 12}
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 1, "weight_decay": 0.0, "validation": 0.0}

    elements: Tensor
    root: Tensor
    feature: Tensor
    child: Tensor
    is_probability: Tensor

    def __init__(self, config: TreesConfig) -> None:
        super().__init__(config)
        self.config = config
        self.register_buffer("elements", torch.from_numpy(np.column_stack(element_table()).astype(np.float32)))
        # Nodes of all trees, one after the other. Both children of a leaf are the leaf itself.
        self.register_buffer("root", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("feature", torch.zeros(0, dtype=torch.int16))
        self.register_buffer("child", torch.zeros(0, 2, dtype=torch.int32))
        self.threshold = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.value = nn.Parameter(torch.zeros(0), requires_grad=False)
        self.register_buffer("is_probability", torch.zeros((), dtype=torch.bool))

    def fit(
        self, batches: Iterable[CrystalBatch], target: NDArray[np.float64], *, is_classification: bool, seed: int
    ) -> None:
        """Grow the trees; the random choices are drawn from `seed`."""
        from sklearn.ensemble import ExtraTreesRegressor

        features = torch.cat([self.features(batch).float() for batch in batches]).cpu().numpy()
        # One job, because several jobs share memory with the trainings beside this one.
        forest = ExtraTreesRegressor(
            self.config.trees, max_leaf_nodes=self.config.leaves, random_state=seed % (1 << 32), n_jobs=1
        ).fit(features, target)
        trees = [estimator.tree_ for estimator in forest.estimators_]
        ends = np.cumsum([tree.node_count for tree in trees])
        child = np.concatenate(
            [
                np.stack([tree.children_left, tree.children_right], axis=1) + end - tree.node_count
                for tree, end in zip(trees, ends, strict=True)
            ]
        )
        feature, threshold, value = (
            np.concatenate([getattr(tree, name).reshape(-1) for tree in trees])
            for name in ("feature", "threshold", "value")
        )
        is_leaf = feature < 0
        child[is_leaf] = np.flatnonzero(is_leaf)[:, None]
        fitted = {
            "root": ends - [tree.node_count for tree in trees],
            "feature": np.where(is_leaf, 0, feature).astype(np.int16),
            "child": child.astype(np.int32),
            "threshold": _round_down(threshold),
            "value": value.astype(np.float32),
            "is_probability": np.array(is_classification),
        }
        self.load_state_dict({"elements": self.elements} | {name: torch.from_numpy(a) for name, a in fitted.items()})

    def _load_from_state_dict(self, state_dict: Mapping[str, Tensor], prefix: str, *arguments: Any) -> None:
        """Take as many nodes as are stored.

        Raises:
            RuntimeError: They are not those of trees: a walk would leave them, or never end.
        """
        stored = {name: state_dict.get(prefix + name) for name in ("root", "feature", "child", "threshold", "value")}
        for name, tensor in stored.items():
            if tensor is not None:
                like = torch.empty_like(tensor, device=self.elements.device)
                setattr(self, name, nn.Parameter(like, requires_grad=False) if name in self._parameters else like)
        super()._load_from_state_dict(state_dict, prefix, *arguments)
        n = len(self.value)
        own = torch.arange(n, device=self.child.device).unsqueeze(1)
        fits = (
            self.child.shape == (n, 2)
            and self.feature.shape == self.threshold.shape == (n,)
            and bool(((self.child >= own) & (self.child < n)).all())
            and bool(((self.root >= 0) & (self.root < n)).all())
            and bool(((self.feature >= 0) & (self.feature < len(FEATURES))).all())
        )
        if not fits:
            raise RuntimeError("the nodes are not those of trees")

    def features(self, batch: CrystalBatch) -> Tensor:
        """Return what the trees read of the crystals of a batch, [B, 66], in the order of `FEATURES`.

        The number of elements; statistics of the elements' properties, which are those of `sen.elements.element_table`,
        weighted by atomic fraction; and statistics over the atoms of their shortest, mean and longest bond in Å, 0
        without bonds, of the number of neighbours up to 1.2 times as far as the nearest, and of the mean absolute
        difference in electronegativity from their neighbours.
        """
        n_atoms, weight, center = len(batch.numbers), batch.edge_multiplicity, batch.center
        shortest, longest = (
            batch.distance.new_zeros(n_atoms).scatter_reduce(0, center, batch.distance, reduce, include_self=False)
            for reduce in ("amin", "amax")
        )
        properties = self.elements.to(batch.distance.dtype)
        electronegativity = properties[:, _ELECTRONEGATIVITY].index_select(0, batch.numbers)
        is_close = batch.distance < _CLOSE * shortest.index_select(0, center)
        difference = electronegativity.index_select(0, center) - electronegativity.index_select(0, batch.neighbor)
        of_bonds = torch.stack(
            [torch.ones_like(weight), batch.distance, is_close.to(weight.dtype), difference.abs()], 1
        )
        degree, length, close, polarity = segment_sum(weight.unsqueeze(1) * of_bonds, center, n_atoms).unbind(1)
        degree = degree.clamp(min=1)
        atoms = torch.stack([shortest, length / degree, longest, close, polarity / degree], 1)
        n, entry_crystal = batch.n_crystals, batch.element_crystal
        return torch.cat(
            [
                segment_sum(torch.ones_like(batch.fraction), entry_crystal, n).unsqueeze(1),
                _statistics(properties.index_select(0, batch.elements), batch.fraction, entry_crystal, n),
                _statistics(atoms, batch.weight, batch.crystal, n),
            ],
            dim=1,
        )

    def forward(self, batch: CrystalBatch) -> ModelOutput:
        """Predict the crystals of a batch; `material` is what the trees read of them."""
        features = self.features(batch)
        read = features.float()
        node = self.root.expand(batch.n_crystals, -1)
        while True:
            is_right = read.gather(1, self.feature[node].long()) > self.threshold[node]
            following = self.child[node, is_right.long()].long()
            if torch.equal(following, node):
                break
            node = following
        mean = self.value[node].mean(1)
        # Never certain: no logit is infinite.
        prediction = torch.where(self.is_probability, mean.clamp(1e-6, 1 - 1e-6).logit(), mean)
        return ModelOutput(prediction=prediction, material=features)


def _statistics(values: Tensor, weight: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Return the statistics of values [R, C] in each segment, [n_segments, 5 C]; its weights add up to 1."""
    weight, index = weight.unsqueeze(1), segment.unsqueeze(1).expand_as(values)
    mean = segment_sum(weight * values, segment, n_segments)
    deviation = segment_sum(weight * (values - mean.index_select(0, segment)).square(), segment, n_segments).sqrt()
    low, high = (
        torch.zeros_like(mean).scatter_reduce(0, index, values, reduce, include_self=False)
        for reduce in ("amin", "amax")
    )
    return torch.cat([mean, deviation, low, high, high - low], dim=1)


def _round_down(threshold: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return the largest single-precision number up to each threshold: features are compared in that precision."""
    rounded = threshold.astype(np.float32)
    return np.where(rounded > threshold, np.nextafter(rounded, np.float32(-np.inf)), rounded)
