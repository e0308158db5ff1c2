from __future__ import annotations

import torch

from sen.ops import ragged


def test_ragged_joins_ranges_and_skips_empty_ones() -> None:
    start, count = torch.tensor([5, 9, 0, 7]), torch.tensor([2, 0, 3, 1])
    assert ragged(start, count, 6).tolist() == [5, 6, 0, 1, 2, 7]
    assert ragged(start[:0], count[:0], 0).tolist() == []
