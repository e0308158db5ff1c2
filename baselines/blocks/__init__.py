"""The blocks that replace the capsule block: none, MLP, DenseNet, EGNN, tensor field network, SE(3)-transformer.

Each block has a module of its own, which is loaded when it is asked for: those that use e3nn take a second or two to
load. The command line finds the blocks by the entry points `sen_bench.blocks`. This package imports `sen`.
"""

__all__ = ["densenet", "egnn", "mlp", "none", "se3", "tfn"]
