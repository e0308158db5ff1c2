from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from sen.batch import CrystalBatch
from sen.config import SENConfig
from sen.crystal import Crystal
from sen.features import FeatureExtraction
from sen.graph import build_graph
from sen.network import SEN
from sen.registry import load_block
from sen.testing import assert_close, collate, sample_crystals


def full_cells(crystals: Sequence[Crystal]) -> tuple[CrystalBatch, CrystalBatch]:
    """A batch in float64, and the same batch without asymmetric units, so that features are computed atom by atom."""
    batch = collate([build_graph(crystal, cells="full") for crystal in crystals])
    return batch, replace(batch, asymmetric=None, orbit=None)


def awkward(crystals: Sequence[Crystal]) -> list[Crystal]:
    """No orbit of several atoms although there is symmetry; atoms displaced; atoms in any order; all in one batch."""
    rng = np.random.default_rng(0)
    changed: list[Crystal] = []
    for crystal in crystals:
        n = len(crystal)
        apart, order = replace(crystal, orbit=np.arange(n, dtype=np.int32)), rng.permutation(n)
        changed += [
            apart,
            replace(apart, positions=crystal.positions + rng.normal(scale=0.01, size=(n, 3))),
            replace(
                crystal,
                positions=crystal.positions[order],
                numbers=crystal.numbers[order],
                orbit=crystal.orbit[order],
            ),
        ]
    return changed


@pytest.fixture(params=["samples", "awkward", "real", "real and awkward"])
def crystals(request: pytest.FixtureRequest) -> list[Crystal]:
    if request.param.startswith("real"):
        real: list[Crystal] = request.getfixturevalue("real_crystals")
        return awkward(real) if request.param.endswith("awkward") else real
    return awkward(sample_crystals()) if request.param == "awkward" else sample_crystals()


def test_features_of_full_cells_are_those_of_their_asymmetric_units(crystals: list[Crystal]) -> None:
    torch.manual_seed(0)
    features = FeatureExtraction(SENConfig()).double().eval()
    batch, atom_by_atom = full_cells(crystals)
    with torch.no_grad():
        found, expected = features(batch), features(atom_by_atom)
        assert batch.asymmetric is not None
        assert torch.equal(found, features(batch.asymmetric)[batch.orbit])
    assert found.shape == (sum(map(len, crystals)), SENConfig().environment_width)
    assert_close(found, expected, "environments", 1e-11)


@pytest.mark.parametrize("block", ["egnn", "se3", "tfn"])
def test_vector_blocks_predict_and_learn_the_same_without_asymmetric_units(
    block: str, real_crystals: list[Crystal]
) -> None:
    """In training, with dropout 0: with any other, masks are drawn for each orbit instead of each atom."""
    torch.manual_seed(0)
    config, cls = SENConfig(dropout=0), load_block(block)
    model = SEN(config, cls(config.environment_width, cls.Config())).double().train()
    results = []
    for batch in full_cells([*sample_crystals(), *real_crystals]):
        model.zero_grad()
        prediction = model(batch).prediction
        prediction.square().sum().backward()
        results.append((prediction.detach(), {n: p.grad.clone() for n, p in model.named_parameters()}))
    (found, gradients), (expected, expected_gradients) = results
    assert_close(found, expected, "predictions", 1e-11)
    for name, gradient in expected_gradients.items():
        assert_close(gradients[name], gradient, f"gradients of {name}", 1e-9)


def test_dropout_is_the_same_for_equivalent_atoms() -> None:
    torch.manual_seed(0)
    features = FeatureExtraction(SENConfig(dropout=0.5)).double().train()
    batch, _ = full_cells(sample_crystals())
    assert batch.asymmetric is not None
    torch.manual_seed(1)
    environment = features(batch)
    torch.manual_seed(1)
    assert torch.equal(environment, features(batch.asymmetric)[batch.orbit])
    assert bool((environment == 0).any())
