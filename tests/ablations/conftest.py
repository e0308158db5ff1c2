"""Fixtures that tests of ablations share with those of benchmarks."""

from tests.benchmarks.conftest import _no_network, install, sen_bench, unlearnt, write_data

__all__ = ["_no_network", "install", "sen_bench", "unlearnt", "write_data"]
