"""Segments of rows and reductions over them: atoms of a crystal, bonds of an atom, elements of a formula."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["attend", "ragged", "segment_softmax", "segment_sum"]


def ragged(start: Tensor, count: Tensor, total: int) -> Tensor:
    """Concatenate the ranges from start[i] to start[i] + count[i] - 1, of `total` numbers in all."""
    ends = count.cumsum(0)
    shift = torch.repeat_interleave(start - (ends - count), count, output_size=total)
    return torch.arange(total, device=start.device) + shift


def segment_sum(values: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Sum `values` [R, ...] over the rows of each segment, [n_segments, ...]; `segment` [R] is the segment of a row."""
    return values.new_zeros(n_segments, *values.shape[1:]).index_add(0, segment, values)


def segment_softmax(logits: Tensor, segment: Tensor, n_segments: int, multiplicity: Tensor | None = None) -> Tensor:
    """Return the softmax of `logits` [R, H] over the rows of each segment, [R, H].

    A row of multiplicity m counts as m equal rows: log m is added to its logits, and its weight is the sum of the m
    weights. This makes asymmetric units and full cells agree.
    """
    from torch_geometric.utils import softmax  # not at the top: it takes seconds to load

    if multiplicity is not None:
        logits = logits + multiplicity.log().unsqueeze(-1)
    weights: Tensor = softmax(logits, segment, num_nodes=n_segments)
    return weights


def attend(weights: Tensor, values: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Sum values [R, C] by multi-head weights [R, H] in S segments, [S, C]; each head over its own C / H channels."""
    heads, channels = weights.shape[1], values.shape[1]
    weighted = weights.unsqueeze(-1) * values.unflatten(1, (heads, channels // heads))
    return segment_sum(weighted.flatten(1), segment, n_segments)
