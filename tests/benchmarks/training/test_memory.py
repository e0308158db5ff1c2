from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from baselines.models.alignn import ALIGNN, ALIGNNConfig
from benchmarks.base.errors import UsageError
from benchmarks.training.loader import GraphTensors
from benchmarks.training.memory import check_memory, kept_memory
from sen.crystal import Crystal
from sen.graph import build_graph, join_graphs

SIZES = [8, 4, 8, 2000, 1]


@pytest.fixture(scope="module")
def graphs() -> GraphTensors:
    rng = np.random.default_rng(0)

    def crystal(n: int) -> Crystal:
        lattice, numbers = ((15 * n) ** (1 / 3) if n > 1 else 20) * np.eye(3), rng.integers(1, 90, n).astype(np.uint8)
        return Crystal(lattice, rng.random((n, 3)), numbers, np.arange(n), 1)

    return GraphTensors(join_graphs([build_graph(crystal(n), cells="full", **ALIGNN.graph) for n in SIZES]))


def test_a_crystal_that_needs_more_memory_than_there_is_is_foreseen(
    graphs: GraphTensors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.training.memory.memory", lambda _: 4 << 30)
    ids = np.array(["a", "b", "c", "huge"], dtype=object)
    check = partial(check_memory, ALIGNN(ALIGNNConfig()), graphs, ids=ids, variant="alignn")
    with pytest.raises(UsageError, match=r"'alignn' on the crystal huge alone takes \d+ GiB of memory, and cpu has 4"):
        check(np.arange(4))
    check(np.arange(3))
    check(np.array([4, 4]))  # an atom without neighbours


def test_memory_grows_with_the_cost_and_holds_what_the_gradient_needs(graphs: GraphTensors) -> None:
    width = 16
    model = ALIGNN(ALIGNNConfig(width=width, embedding_width=width))
    cost = model.cost(graphs.graph)
    small, large = (kept_memory(model, graphs, crystal) for crystal in (0, 3))
    assert large / cost[3] == pytest.approx(small / cost[0], rel=0.05)
    # Per pair at least the gates and angles of four layers, and at most as much as was measured once.
    assert 4 * 3 * width * 4 < large / cost[3] < 40 * width * 4


def test_counting_changes_neither_the_model_nor_the_random_state(graphs: GraphTensors) -> None:
    model = ALIGNN(ALIGNNConfig(width=4, embedding_width=4)).train()
    before, state = {name: tensor.clone() for name, tensor in model.state_dict().items()}, torch.get_rng_state()
    kept_memory(model, graphs, 0)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
