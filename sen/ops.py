"""Segments of rows and reductions over them: atoms of a crystal, bonds of an atom, elements of a formula."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Set2Set", "attend", "first_lstm_step", "ragged", "segment_softmax", "segment_sum"]


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
    if multiplicity is not None:
        logits = logits + multiplicity.log().unsqueeze(-1)
    # The largest logit of a segment cancels, and so passes no gradient; without it exp would overflow.
    index = segment.unsqueeze(-1).expand_as(logits)
    largest = logits.new_zeros(n_segments, logits.shape[1])
    largest = largest.scatter_reduce(0, index, logits.detach(), "amax", include_self=False)
    weights = (logits - largest.index_select(0, segment)).exp()
    return weights / segment_sum(weights, segment, n_segments).index_select(0, segment)


def attend(weights: Tensor, values: Tensor, segment: Tensor, n_segments: int) -> Tensor:
    """Sum values [R, C] by multi-head weights [R, H] in S segments, [S, C]; each head over its own C / H channels."""
    heads, channels = weights.shape[1], values.shape[1]
    weighted = weights.unsqueeze(-1) * values.unflatten(1, (heads, channels // heads))
    return segment_sum(weighted.flatten(1), segment, n_segments)


def first_lstm_step(gates: Tensor) -> Tensor:
    """Return what an LSTM answers from a hidden state and a cell of zero, [..., C].

    It needs neither recurrent weights nor a forget gate.

    Args:
        gates: Input gate, candidate and output gate before their activations, [..., 3C].
    """
    input_gate, candidate, output_gate = gates.chunk(3, dim=-1)
    return output_gate.sigmoid() * (input_gate.sigmoid() * candidate.tanh()).tanh()


class Set2Set(nn.Module):
    """Attention whose query follows from what the last one has read (Vinyals et al., ICLR 2016), without a memory.

    kgcnn and the authors of SEN call its LSTM anew in each round, from a hidden state and a cell of zero.

    Args:
        width: Width of the rows.
        rounds: Number of queries.
    """

    def __init__(self, width: int, rounds: int) -> None:
        super().__init__()
        self.rounds = rounds
        self.gates = nn.Linear(2 * width, 3 * width)

    def forward(self, rows: Tensor, segment: Tensor, n_segments: int, multiplicity: Tensor) -> Tensor:
        """Read the rows [R, width] of each segment, each counting `multiplicity` [R] times, as [n_segments, 2 width].

        The result is the last query and what it has read, which is zero where a segment has no rows.
        """
        read = rows.new_zeros(n_segments, 2 * rows.shape[1])
        for _ in range(self.rounds):
            query = first_lstm_step(self.gates(read))
            logits = (rows * query.index_select(0, segment)).sum(1, keepdim=True)
            weights = segment_softmax(logits, segment, n_segments, multiplicity)
            read = torch.cat([query, segment_sum(weights * rows, segment, n_segments)], dim=1)
        return read
