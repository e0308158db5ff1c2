"""Fixtures that tests of study files share with those of benchmarks."""

from tests.benchmarks.conftest import _no_network, sen_bench, unlearnt, write_data

__all__ = ["_no_network", "sen_bench", "unlearnt", "write_data"]
