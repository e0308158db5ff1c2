"""The blocks that replace the capsule block: MLP, DenseNet, EGNN, tensor field network, SE(3)-transformer.

It imports `sen`. The command line finds the blocks by the entry points `sen_bench.blocks`.
"""
