"""The numbers that the paper of SEN gives for its own comparison of blocks."""

from __future__ import annotations

__all__ = ["PAPER_TASK", "SCALE", "paper_mae"]

PAPER_TASK = "paper_band_gap"
"""Name of the data set, the file's stem, beside which the paper's numbers stand."""

SCALE = 11.193 / 10
"""eV in one of the paper's units: its band gaps are those of its source times 10/11.193."""

# Liang et al., Nat. Commun. 14, 5198 (2023), text about Fig. 4: MAE on the test part, 8:1:1, scaled units.
_MAE = {"capsule": 0.25, "tfn": 0.49, "densenet": 0.55, "mlp": 0.58, "egnn": 0.76, "se3": 0.86}


def paper_mae(task: str, block: str) -> float | None:
    """Return the paper's MAE of a block, scaled units, on the paper's own data; None for anything else."""
    return _MAE.get(block) if task == PAPER_TASK else None
