"""The environments of atoms by the models of a run: computed, compared by 2-KS, and related by symmetry.

`description` loads the models of a study and describes crystals with them; `two_ks` is the statistic that compares two
environments, and chooses the crystals that show it; `operations` finds which operations of the space group map one atom
of a crystal onto another. The package returns numbers and knows nothing of the page. It imports `reports.study`,
`sen`, and all of `benchmarks` but `benchmarks.cli`.
"""

from reports.environments.description import DescribedRows, Environments, Models, describe_test_rows, open_models
from reports.environments.operations import conventional_cell
from reports.environments.two_ks import describe_crystal, ks_matrix, ks_of_subsets, ks_statistic

__all__ = [
    "DescribedRows",
    "Environments",
    "Models",
    "conventional_cell",
    "describe_crystal",
    "describe_test_rows",
    "ks_matrix",
    "ks_of_subsets",
    "ks_statistic",
    "open_models",
]
