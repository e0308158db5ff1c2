from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from baselines.blocks.densenet import DenseNetBlock, DenseNetConfig
from sen.capsule import CapsuleBlock
from sen.testing import BlockContracts, sample_crystals
from tests.contracts import OnRealCrystals


class TestDenseNetContracts(BlockContracts):
    block = DenseNetBlock


class TestDenseNetOnRealCrystals(OnRealCrystals, BlockContracts):
    block = DenseNetBlock


def test_convolutions_cost_at_most_twice_capsules() -> None:
    def flop(layers: nn.Module) -> int:
        with FlopCounterMode(display=False) as counter:
            layers(torch.randn(3, 1, 12, 16)).sum().backward()
        return int(counter.get_total_flops())

    dense, capsule = DenseNetBlock(192, DenseNetConfig()), CapsuleBlock(192, CapsuleBlock.Config())
    assert flop(dense.layers) < 2 * flop(capsule.convolutions)


def test_every_layer_of_a_dense_block_reads_all_before_it_and_transitions_halve_the_maps() -> None:
    config = DenseNetConfig(layers=(2, 1, 1), growth=16)
    block = DenseNetBlock(192, config)
    shapes: list[tuple[int, ...]] = []
    for stage in block.layers[:6]:
        stage.register_forward_hook(lambda _stage, _input, maps: shapes.append(tuple(maps.shape[1:])))
    read = [layer[2].in_channels for layer in block.layers[1].layers]
    block.layers(torch.randn(2, 1, 12, 16))
    assert read == [32, 48]
    assert shapes == [(32, 6, 8), (64, 6, 8), (32, 3, 4), (48, 3, 4), (32, 2, 2), (48, 2, 2)]
    assert block.material_width == 48


def test_nothing_in_the_block_is_normalised_over_the_batch() -> None:
    assert not [module for module in DenseNetBlock(192, DenseNetConfig()).modules() if "BatchNorm" in str(module)]


def test_material_vector_is_the_mean_over_the_atoms_of_the_cell() -> None:
    contracts = TestDenseNetContracts()
    crystals = sample_crystals()[:1]  # rutile: two titanium and four oxygen atoms in one orbit each
    output = contracts.output(crystals)
    titanium, oxygen = output.atoms
    torch.testing.assert_close(output.material[0], (2 * titanium + 4 * oxygen) / 6)


@pytest.mark.parametrize(("change", "field"), [({"map_height": 7}, "map_height"), ({"growth": 24}, "group")])
def test_sizes_that_do_not_fit_are_refused(change: dict[str, int], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        DenseNetBlock(192, DenseNetConfig(**change))


@pytest.mark.parametrize("layers", [(), (3, 0), 4])
def test_layers_that_cannot_be_are_refused(layers: object) -> None:
    with pytest.raises(ValidationError, match="layers"):
        DenseNetConfig.model_validate({"layers": layers})
