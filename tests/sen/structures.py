"""Known crystals, as the arguments of `sen.crystal.refine`."""

from __future__ import annotations

import numpy as np

CUBE = np.eye(3)
FCC = np.array([[0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])
ROCKSALT = (5.64 * CUBE, np.concatenate([FCC, FCC + 0.5 * CUBE[0]]), [11] * 4 + [17] * 4)
U = 0.305
RUTILE = (
    np.diag([4.594, 4.594, 2.959]),
    np.array(
        [[0, 0, 0], [0.5, 0.5, 0.5], [U, U, 0], [1 - U, 1 - U, 0], [0.5 + U, 0.5 - U, 0.5], [0.5 - U, 0.5 + U, 0.5]]
    ),
    [22, 22, 8, 8, 8, 8],
)
