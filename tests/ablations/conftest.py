"""Fixtures that tests of ablations share with those of benchmarks."""

from tests.benchmarks.conftest import _no_network, install, runs_of_0_1, sen_bench, unlearnt, write_data

__all__ = ["_no_network", "install", "runs_of_0_1", "sen_bench", "unlearnt", "write_data"]
