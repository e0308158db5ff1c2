from __future__ import annotations

import numpy as np
import pytest
import torch

from sen.capsule import CapsuleBlock, CapsuleConfig, affine, transform
from sen.config import SENConfig
from sen.network import SEN
from sen.testing import BlockContracts, sample_crystals
from tests.contracts import OnRealCrystals


class TestCapsuleContracts(BlockContracts):
    block = CapsuleBlock


class TestNormalisedCapsuleContracts(BlockContracts):
    block = CapsuleBlock

    def construct(self) -> SEN:
        return SEN(SENConfig(), CapsuleBlock(192, CapsuleConfig(normalise=True)))


class TestCapsuleOnRealCrystals(OnRealCrystals, BlockContracts):
    block = CapsuleBlock


def pose_of(matrix: np.ndarray, translation: np.ndarray) -> torch.Tensor:
    """The pose whose affine map is (matrix, translation), by QR decomposition: R(angle) @ upper triangular."""
    angle = np.arctan2(matrix[1, 0], matrix[0, 0])
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    triangular = rotation.T @ matrix
    scale_x, scale_y = triangular[0, 0], triangular[1, 1]
    return torch.tensor([scale_x - 1, scale_y - 1, angle, triangular[0, 1] / scale_y, *translation])


@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, -1)])
def test_geometric_transform_of_composed_poses_is_composition(signs: tuple[int, int]) -> None:
    # Paper Eq. 3: T(p1 o p2) = T(p1) T(p2).
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 6, dtype=torch.float64, generator=generator)
    first[0] = signs[0] * 1.3 - 1
    second[1] = signs[1] * 0.7 - 1
    chemistry = torch.randn(128, dtype=torch.float64, generator=generator)
    (a1, t1), (a2, t2) = affine(first), affine(second)
    composed = pose_of((a1 @ a2).numpy(), (a1 @ t2 + t1).numpy())
    torch.testing.assert_close(transform(composed, chemistry), transform(first, transform(second, chemistry)))


def test_zero_pose_is_the_identity_and_reflections_exist() -> None:
    chemistry = torch.arange(6.0)
    torch.testing.assert_close(transform(torch.zeros(6), chemistry), chemistry)
    mirror = torch.tensor([-2.0, 0, 0, 0, 0, 0])
    torch.testing.assert_close(transform(mirror, chemistry), torch.tensor([-0.0, 1, -2, 3, -4, 5]))
    assert torch.det(affine(mirror)[0]) < 0


def test_each_convolution_halves_the_map() -> None:
    block = CapsuleBlock(192, CapsuleConfig())
    sizes = []
    x = torch.randn(1, 1, 12, 16)
    for layer in block.convolutions:
        x = layer(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes[::2] == [(256, 6, 8), (256, 3, 4), (256, 2, 2)]


def test_extras_have_the_shapes_the_reports_read() -> None:
    contracts = TestCapsuleContracts()
    crystals = sample_crystals()
    output = contracts.output(crystals)
    n_atoms = len(contracts.batch(crystals).numbers)
    assert output.extras["pose"].shape == (len(crystals), 16, 6)
    assert output.extras["presence"].shape == (len(crystals), 16)
    assert output.extras["capsules"].shape == (len(crystals), 16, 128)
    assert output.extras["share"].shape == (n_atoms, 16)
    torch.testing.assert_close(output.extras["share"].sum(1), torch.ones(n_atoms, dtype=torch.float64))
    assert bool(((output.extras["presence"] > 0) & (output.extras["presence"] < 1)).all())


def test_share_is_the_attention_transposed() -> None:
    contracts = TestCapsuleContracts()
    model, batch = contracts.build(), contracts.batch(sample_crystals())
    with torch.no_grad():
        env = model.features(batch)
        expected = model.block(env, batch)
        attention, _ = model.block.part_capsules(env, batch)
        # The same number added to all scores of a capsule changes no attention, so it must not change the shares.
        model.block.logits.register_forward_hook(lambda _module, _input, scores: scores + torch.arange(16.0))
        found = model.block(env, batch)
    torch.testing.assert_close(found.extras["share"], expected.extras["share"])
    for crystal in range(batch.n_crystals):
        assert attention[batch.crystal == crystal].sum((0, 1)).numpy() == pytest.approx(np.ones(16))


@pytest.mark.parametrize("normalise", [False, True])
def test_the_size_of_environments_matters_unless_they_are_normalised(normalise: bool) -> None:
    batch = TestCapsuleContracts().batch(sample_crystals())
    block = CapsuleBlock(192, CapsuleConfig(normalise=normalise)).double()
    env = torch.randn(len(batch.numbers), 192, dtype=torch.float64)
    material = block(env, batch).material
    near = torch.isclose(block(3 * env, batch).material, material, rtol=1e-3, atol=1e-3)
    assert bool(near.all()) == normalise
    assert ("environment_norm.weight" in block.state_dict()) == normalise


@pytest.mark.parametrize("change", [{"map_height": 7}, {"heads": 5}])
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must divide"):
        CapsuleBlock(192, CapsuleConfig(**change))
