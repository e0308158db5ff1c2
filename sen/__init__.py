"""SEN, the symmetry-enhanced equivariance network (Liang et al., Nat. Commun. 14, 5198 (2023)).

`crystal` and `graph` describe crystals, and `batch` turns them into tensors. `models` is what every model is, and
`network` is SEN, which consists of `features`, a symmetry block (`blocks`, `capsule`) and a head. `registry` finds
models and blocks by their names, `class_hash` tells changed classes of a notebook apart, and `testing` has the
contracts that models and blocks must keep. This package imports no other package of sen-bench. Importing it alone does
not load torch.
"""

__all__ = [
    "batch",
    "blocks",
    "capsule",
    "class_hash",
    "config",
    "crystal",
    "elements",
    "features",
    "graph",
    "models",
    "network",
    "ops",
    "registry",
    "testing",
]
