from __future__ import annotations

import pytest
import torch

from baselines.blocks.se3 import SE3Block, SE3Config
from sen.testing import BlockContracts, sample_crystals


class TestSE3Contracts(BlockContracts):
    block = SE3Block


def test_logits_know_the_directions_of_edges() -> None:
    # Keys and queries of higher degree must count: only so does attention see angles.
    contracts = TestSE3Contracts()
    model, batch = contracts.build(), contracts.batch(sample_crystals())
    block, last = model.block, model.block.layers[-1]
    with torch.no_grad():
        edges = block.edges(batch)
        features = [block.inputs(model.features(batch)).unsqueeze(1)]
        for layer in block.layers[:-1]:
            features = layer(features, edges, batch)
        logits = last.logits(features, edges, batch)
        for query in last.query.degrees[1:]:
            query.weight.zero_()
        of_scalars = last.logits(features, edges, batch)
    assert logits.shape == (len(batch.neighbor), 4)
    assert float((logits - of_scalars).std() / of_scalars.std()) > 0.1


@pytest.mark.parametrize("change", [{"channels": 30}, {"key_channels": 30}])
def test_heads_that_do_not_divide_channels_are_refused(change: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="must divide"):
        SE3Block(192, SE3Config(**change))
