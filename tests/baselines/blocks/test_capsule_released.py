from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from baselines.blocks.capsule_released import CapsuleReleasedBlock, CapsuleReleasedConfig, affine
from sen.testing import BlockContracts, sample_crystals
from tests.contracts import OnRealCrystals


class TestCapsuleReleasedContracts(BlockContracts):
    block = CapsuleReleasedBlock


class TestCapsuleReleasedOnRealCrystals(OnRealCrystals, BlockContracts):
    block = CapsuleReleasedBlock


def build(width: int = 192, **fields: Any) -> CapsuleReleasedBlock:
    torch.manual_seed(0)
    return CapsuleReleasedBlock(width, CapsuleReleasedConfig(**fields)).double()


def test_affine_map_is_shear_after_scales_after_a_rotation() -> None:
    pose = torch.randn(6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    pose[0] = -1.0
    scale_x, scale_y = F.selu(pose[:2]).numpy() + 0.01
    shear, shift_x, shift_y = np.tanh(5 * pose[3:].numpy())
    angle = 2 * np.pi * float(pose[2])
    turned = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = np.array([[1, shear], [0, 1]]) @ np.diag([scale_x, scale_y]) @ turned
    np.testing.assert_allclose(affine(pose).numpy(), np.column_stack([expected, [shift_x, shift_y]]), atol=1e-12)
    assert np.linalg.det(expected) * pose[1] < 0, "a negative scale reflects"


def test_two_of_four_convolutions_halve_the_map() -> None:
    sizes, maps = [], torch.randn(1, 1, 16, 16, dtype=torch.float64)
    for layer in build().convolutions:
        maps = layer(maps)
        sizes.append(tuple(maps.shape[1:]))
    assert sizes[::2] == [(256, 8, 8), (256, 4, 4), (256, 4, 4), (256, 4, 4)]


def part_capsules(block: CapsuleReleasedBlock, seed: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    vector = torch.linspace(-1, 1, 3 * 256, dtype=torch.float64).view(3, 256)
    if seed is not None:
        torch.manual_seed(seed)
    with torch.no_grad():
        return block.part_capsules(vector)


def test_a_capsule_is_pooled_by_its_own_attention() -> None:
    block = build().eval()
    pose, features, _ = part_capsules(block)
    with torch.no_grad():
        block.logits.weight[5] += 1
    changed_pose, changed_features, _ = part_capsules(block)
    for before, after in ((pose, changed_pose), (features, changed_features)):
        differs = (before != after).any(dim=2)
        assert differs.all(dim=0).tolist() == differs.any(dim=0).tolist() == [k == 5 for k in range(16)]


def test_presences_are_noisy_in_training_alone_and_by_the_generator_of_torch() -> None:
    block = build()
    pose, features, presence = part_capsules(block.eval())
    assert torch.equal(part_capsules(block)[2], presence)
    noisy_pose, noisy_features, noisy = part_capsules(block.train(), seed=1)
    assert torch.equal(noisy_pose, pose)
    assert torch.equal(noisy_features, features)
    assert torch.equal(part_capsules(block, seed=1)[2], noisy)
    assert not torch.equal(part_capsules(block, seed=2)[2], noisy)
    # The noise on logits is what is left of their logarithms but for one constant of each crystal.
    noise = (noisy / presence).log()
    assert 2 < float((noise.amax(1) - noise.amin(1)).max()) < 4
    assert torch.equal(part_capsules(build(noise=0.0).train())[2], presence)


def test_material_vector_has_scores_their_weighted_values_and_the_map() -> None:
    contracts = TestCapsuleReleasedContracts()
    batch, model = contracts.batch(sample_crystals()), contracts.build()
    with torch.no_grad():
        environment = model.features(batch)
        output = model.block(environment, batch)
    score, weighted, vector = output.material.split([16, 16, 256], dim=1)
    presence, matrix = output.extras["presence"], output.extras["matrix"]
    torch.testing.assert_close(weighted, score * presence)
    torch.testing.assert_close(presence.sum(1), torch.ones(len(presence), dtype=torch.float64))
    pose, features, _ = model.block.part_capsules(vector)
    torch.testing.assert_close(affine(pose), matrix)
    reduced = model.block.poses(matrix.view(-1, 1, 16, 6)).squeeze(1)
    torch.testing.assert_close(model.block.score(torch.cat([reduced, features], dim=2)).squeeze(2), score)
    assert output.atoms is environment


@pytest.mark.parametrize(
    ("width", "fields"), [(40, {}), (192, {"map_size": 7, "capsules": 3, "features": 2}), (192, {"map_size": 1})]
)
def test_any_width_and_size_of_the_map_will_do(width: int, fields: dict[str, int]) -> None:
    block = build(width, **fields)
    batch = TestCapsuleReleasedContracts().batch(sample_crystals())
    output = block(torch.randn(len(batch.numbers), width, dtype=torch.float64), batch)
    assert output.material.shape == (batch.n_crystals, block.material_width)
