"""What the tests of scores and displacements share: runs with small models, and their crystals."""

from __future__ import annotations

import pytest

from benchmarks.data.dataset import Dataset
from benchmarks.results.store import Run
from tests.reports.made_models import made_dataset, mixed_rows, store_models


@pytest.fixture(scope="package")
def small_dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return made_dataset(tmp_path_factory.mktemp("data"), mixed_rows(36))


@pytest.fixture(scope="package")
def small_runs(tmp_path_factory: pytest.TempPathFactory, small_dataset: Dataset) -> dict[str, Run]:
    root = tmp_path_factory.mktemp("runs")
    return {block: store_models(root, small_dataset, variant=block, folds=(0, 1)) for block in ("mlp", "egnn")}
