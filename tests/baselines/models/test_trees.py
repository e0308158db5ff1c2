from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesRegressor

from baselines.models.trees import FEATURES, Trees, TreesConfig
from sen.batch import CrystalBatch
from sen.crystal import SYMBOLS
from sen.elements import element_table
from sen.graph import build_graph
from sen.testing import ModelContracts, collate, sample_crystals

CRYSTALS = sample_crystals()
TARGET = np.array([0.3, -1.2, 0.8, 2.0, -0.4, 0.1, -1.6])


class TestTreesContracts(ModelContracts):
    model = Trees


def batch(dtype: torch.dtype = torch.float32) -> CrystalBatch:
    return collate([build_graph(crystal, cells="asymmetric", **Trees.graph) for crystal in CRYSTALS], dtype)


def fitted(target: NDArray[np.float64] = TARGET, *, is_classification: bool = False, seed: int = 0) -> Trees:
    model = Trees(TreesConfig(trees=20))
    model.fit([batch()], target, is_classification=is_classification, seed=seed)
    return model


def feature(crystal: int, name: str) -> float:
    return float(Trees(TreesConfig()).features(batch(torch.float64))[crystal, FEATURES.index(name)])


def test_nodes_predict_what_scikit_learn_predicts() -> None:
    # Features in a grid, so that many lie close to a threshold; trees that have not learnt them by heart.
    rng = np.random.default_rng(0)
    known, other = (rng.integers(0, 50, (n, len(FEATURES))).astype(np.float32) / 7 for n in (300, 1000))
    target = known[:, 0] + rng.normal(size=300)

    class Given(Trees):
        rows = known

        def features(self, _: CrystalBatch) -> torch.Tensor:
            return torch.from_numpy(self.rows)

    model = Given(TreesConfig(trees=20, leaves=40))
    model.fit([batch()], target, is_classification=False, seed=5)
    forest = ExtraTreesRegressor(20, max_leaf_nodes=40, random_state=5).fit(known, target)
    model.rows = other
    many = collate([build_graph(CRYSTALS[3], cells="asymmetric")] * len(other), torch.float32)
    np.testing.assert_allclose(model(many).prediction.numpy(), forest.predict(other), rtol=0, atol=1e-5)
    assert sum(p.numel() for p in model.parameters()) == 2 * 20 * (2 * 40 - 1)  # threshold and value of each node


def test_composition_is_described_by_statistics_weighted_by_atomic_fraction() -> None:
    titanium, oxygen = element_table()[2][[22, 8], 1].astype(float)
    mean = (titanium + 2 * oxygen) / 3
    deviation = np.sqrt(((titanium - mean) ** 2 + 2 * (oxygen - mean) ** 2) / 3)
    assert feature(0, "elements") == 2
    for name, expected in (("mean", mean), ("standard deviation", deviation), ("minimum", titanium)):
        assert feature(0, f"{name} of electronegativity") == pytest.approx(expected)
    assert feature(0, "maximum of electronegativity") == pytest.approx(oxygen)
    assert feature(0, "range of electronegativity") == pytest.approx(oxygen - titanium)


def test_bonds_are_described_by_statistics_over_atoms() -> None:
    # SrTiO3, with a = 3.9 Å: Ti has 6 O, O has 2 Ti, Sr has 12 O.
    half = 3.9 / 2
    assert feature(1, "minimum of shortest bond") == pytest.approx(half)
    assert feature(1, "maximum of shortest bond") == pytest.approx(half * 2**0.5)
    assert feature(1, "mean of shortest bond") == pytest.approx(half * (4 + 2**0.5) / 5)
    assert feature(1, "mean of close neighbours") == pytest.approx((12 + 6 + 3 * 2) / 5)
    # NaCl: the first shell of at least 12 neighbours ends with the 12 of the same element, after 6 of the other.
    sodium, chlorine = element_table()[2][[SYMBOLS.index(symbol) + 1 for symbol in ("Na", "Cl")], 1].astype(float)
    assert feature(2, "mean of mean bond") == pytest.approx(2.82 * (6 + 12 * 2**0.5) / 18)
    assert feature(2, "mean of longest bond") == pytest.approx(2.82 * 2**0.5)
    assert feature(2, "mean of difference in electronegativity") == pytest.approx((chlorine - sodium) * 6 / 18)
    # An atom without neighbours.
    assert [feature(5, f"maximum of {name}") for name in ("shortest bond", "mean bond", "longest bond")] == [0, 0, 0]


def test_trees_learn_and_depend_on_the_seed() -> None:
    np.testing.assert_allclose(fitted()(batch()).prediction.numpy(), TARGET, atol=1e-6)
    assert torch.equal(fitted(seed=1).threshold, fitted(seed=1).threshold)
    assert not torch.equal(fitted(seed=1).threshold[:5], fitted(seed=2).threshold[:5])


def test_a_classification_has_logits_that_are_finite() -> None:
    label = (TARGET > 0).astype(float)
    probability = fitted(label, is_classification=True)(batch()).prediction.sigmoid().numpy()
    np.testing.assert_allclose(probability, label, atol=1e-5)
    assert np.isfinite(fitted(np.ones(7), is_classification=True)(batch()).prediction.numpy()).all()


@pytest.mark.parametrize(("name", "value"), [("child", 0), ("child", 10**6), ("feature", 66), ("root", -1)])
def test_nodes_that_are_not_those_of_trees_are_refused(name: str, value: int) -> None:
    stored = fitted().state_dict()
    stored[name] = stored[name].clone()
    stored[name][-1] = value
    with pytest.raises(RuntimeError, match="not those of trees"):
        Trees(TreesConfig()).load_state_dict(stored)
