"""SEN, the symmetry-enhanced equivariance network (Liang et al., Nat. Commun. 14, 5198 (2023)).

`crystal` and `graph` describe crystals, and `batch` turns them into tensors. `model` is the network, which consists of
`features`, a symmetry block (`blocks`, `capsule`) and a head. `registry` finds blocks by their names, and `testing` has
the contracts that every block must keep. This package imports no other package of sen-bench. Importing it alone does
not load torch.
"""

__all__ = [
    "batch",
    "blocks",
    "capsule",
    "config",
    "crystal",
    "elements",
    "features",
    "graph",
    "model",
    "ops",
    "registry",
    "testing",
]
