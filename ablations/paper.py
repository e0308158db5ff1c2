"""The numbers that the paper of SEN gives in its own comparison of blocks."""

from __future__ import annotations

__all__ = ["PAPER_TASK", "SCALE", "paper_mae"]

PAPER_TASK = "paper_band_gap"
"""Name of the data set, the stem of its file, on which the paper compares blocks."""

SCALE = 11.193 / 10
"""eV in one scaled unit of the paper: its band gaps are those of its source times 10/11.193."""

# Liang et al., Nat. Commun. 14, 5198 (2023), text about Fig. 4: MAE on the test rows of an 8:1:1 split, scaled units.
_MAE = {"capsule": 0.25, "tfn": 0.49, "densenet": 0.55, "mlp": 0.58, "egnn": 0.76, "se3": 0.86}


def paper_mae(task: str, block: str) -> float | None:
    """Return the paper's MAE of a block in scaled units; None for blocks and tasks that are not in the paper."""
    return _MAE.get(block) if task == PAPER_TASK else None
