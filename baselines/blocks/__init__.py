"""The blocks that replace the capsule block: none, the one that SEN's authors released, MLP, DenseNet, EGNN, and so on.

Each block has a module of its own, which is loaded when it is asked for: those that use e3nn take a second or two to
load. The command line finds the blocks by the entry points `sen_bench.blocks`. This package imports `sen`.
"""

__all__ = ["capsule_released", "densenet", "egnn", "mlp", "none", "se3", "tfn"]
