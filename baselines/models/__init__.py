"""Published models, trained beside SEN on the same folds.

Each model has a module of its own, with the graph and the recipe of its publication. The command line finds the models
by the entry points `sen_bench.models`. This package imports `sen`.
"""

__all__ = ["alignn", "cgcnn", "cogn", "gatgnn", "layers", "megnet", "schnet", "trees"]
