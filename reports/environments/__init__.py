"""The environments of atoms by the models of a run: computed, compared, and related by symmetry.

`description` loads the models of a study and describes crystals with them; `two_ks` has the measures that compare two
environments, and chooses the crystals that show them; `operations` finds which operations of the space group map one
atom of a crystal onto another; `pairs` scores how far apart inequivalent atoms are, and `displacement` measures how the
agreement of equivalent ones fades when atoms move. The package returns numbers and knows nothing of the page. It
imports `reports.study`, `sen`, and all of `benchmarks` but `benchmarks.cli`.
"""

from reports.environments.description import DescribedRows, Environments, Models, describe_test_rows, open_models
from reports.environments.operations import conventional_cell
from reports.environments.two_ks import angles, describe_crystal, ks_of_subsets, ks_statistic, matrix_of

__all__ = [
    "DescribedRows",
    "Environments",
    "Models",
    "angles",
    "conventional_cell",
    "describe_crystal",
    "describe_test_rows",
    "ks_of_subsets",
    "ks_statistic",
    "matrix_of",
    "open_models",
]
