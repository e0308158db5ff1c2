from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.batches import GraphTensors, epoch_batches, evaluation_batches
from benchmarks.graphs import join_graphs
from sen.graph import Cells, build_graph
from sen.testing import collate, sample_crystals


@pytest.mark.parametrize("cells", ["asymmetric", "full"])
@pytest.mark.parametrize("chosen", [[0], [5], [3, 0, 6, 0], [6, 5, 4, 3, 2, 1, 0]])
def test_batch_is_the_chosen_graphs_one_after_the_other(cells: Cells, chosen: list[int]) -> None:
    graphs = [build_graph(crystal, cells=cells) for crystal in sample_crystals()]
    batch = GraphTensors(join_graphs(graphs)).batch(np.array(chosen))
    expected = collate([graphs[i] for i in chosen], dtype=torch.float32)
    for name in expected.__dataclass_fields__:
        found, wanted = getattr(batch, name), getattr(expected, name)
        if wanted is None:
            assert found is None
        else:
            torch.testing.assert_close(found, wanted)


def test_epoch_has_every_crystal_once_within_size_and_budget() -> None:
    rng = np.random.default_rng(0)
    n_edges = rng.integers(0, 100, 1000)
    n_edges[17] = 5000
    crystals = np.arange(0, 1000, 2)
    crystals = np.append(crystals, 17)
    batches = epoch_batches(crystals, n_edges, size=32, edge_budget=1600, rng=rng)
    assert sorted(np.concatenate(batches)) == sorted(crystals)
    assert max(map(len, batches)) == 32
    too_large = [batch for batch in batches if n_edges[batch].sum() > 1600]
    assert [list(batch) for batch in too_large] == [[17]]


def test_evaluation_packs_crystals_of_similar_size() -> None:
    n_edges = np.array([50, 10, 40, 20, 30, 500])
    batches = evaluation_batches(np.arange(6), n_edges, edge_budget=70)
    assert [list(batch) for batch in batches] == [[1, 3, 4], [2], [0], [5]]


def test_empty_choice_gives_no_batches() -> None:
    assert evaluation_batches(np.array([], dtype=np.int64), np.array([3]), edge_budget=10) == []
