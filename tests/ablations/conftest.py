"""The small data sets and the command line of the tests of runs."""

from tests.benchmarks.conftest import _no_network, install, sen_bench, unlearnt, write_data

__all__ = ["_no_network", "install", "sen_bench", "unlearnt", "write_data"]
