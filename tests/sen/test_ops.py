from __future__ import annotations

import pytest
import torch
from torch import nn

from sen.ops import Set2Set, ragged, segment_softmax


def test_ragged_joins_ranges_and_skips_empty_ones() -> None:
    start, count = torch.tensor([5, 9, 0, 7]), torch.tensor([2, 0, 3, 1])
    assert ragged(start, count, 6).tolist() == [5, 6, 0, 1, 2, 7]
    assert ragged(start[:0], count[:0], 0).tolist() == []


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_softmax_is_that_of_torch_geometric_to_the_last_bit(kind: torch.dtype) -> None:
    from torch_geometric.utils import softmax

    torch.manual_seed(0)
    # Segment 3 has no rows; logits of a hundred overflow exp in float32 where they are not shifted.
    segment, weight = torch.tensor([0, 0, 1, 2, 2, 2, 4, 4]), torch.randn(8, 3, dtype=kind)
    multiplicity = torch.tensor([1, 3, 2, 1, 1, 4, 6, 1], dtype=kind)
    found = []
    for function in (
        lambda x: segment_softmax(x, segment, 5, multiplicity),
        lambda x: softmax(x + multiplicity.log().unsqueeze(-1), segment, num_nodes=5),
    ):
        logits = (100 * torch.linspace(-1, 1, 24, dtype=kind)).view(8, 3).requires_grad_()
        answer = function(logits)
        found.append((answer, *torch.autograd.grad((answer * weight).sum(), logits)))
    (answer, gradient), (expected, expected_gradient) = found
    assert torch.equal(answer, expected)
    assert torch.equal(gradient, expected_gradient)


def test_set2set_reads_as_an_lstm_that_forgets_everything_between_rounds() -> None:
    width, segment = 4, torch.tensor([0, 0, 2, 2, 2])
    pooling, lstm = Set2Set(width, rounds=3).double(), nn.LSTMCell(2 * width, width).double()
    rows = torch.randn(5, width, dtype=torch.float64)
    counts = torch.tensor([1, 2, 1, 1, 3])
    with torch.no_grad():
        for given, learned in ((lstm.weight_ih, pooling.gates.weight), (lstm.bias_ih, pooling.gates.bias)):
            from_input, candidate, output = learned.chunk(3)
            given.copy_(torch.cat([from_input, torch.randn_like(from_input), candidate, output]))
        lstm.bias_hh.zero_()
        found = pooling(rows, segment, 3, counts.double())
        repeated, of = rows.repeat_interleave(counts, 0), segment.repeat_interleave(counts)
        for s in range(3):
            read = torch.zeros(1, 2 * width, dtype=torch.float64)
            for _ in range(3):
                query, _ = lstm(read)
                own = repeated[of == s]
                read = torch.cat([query, (own @ query[0]).softmax(0).unsqueeze(0) @ own], dim=1)
            torch.testing.assert_close(found[s], read[0], rtol=1e-9, atol=1e-9)
