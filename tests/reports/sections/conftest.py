"""What the tests of the sections on environments share: runs with small models, their study and its facts."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from benchmarks.base.files import plain
from benchmarks.data.dataset import Dataset
from reports.page.section import Figure, Section, Table, Text
from reports.page.svg import draw_svg
from reports.sections.elements import Elements
from reports.sections.equivalence import Equivalence
from reports.sections.fit import Fit
from reports.sections.maps import Maps
from reports.sections.separation import Separation
from reports.study.reading import read_studies
from reports.study.study import Study
from tests.reports.made_models import made_dataset, mixed_rows, store_models

SECTIONS: list[type[Section]] = [Equivalence, Separation, Maps, Elements, Fit]


def quiet(_done: int, _total: int | None) -> None:
    pass


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return made_dataset(tmp_path_factory.mktemp("data"), mixed_rows(130))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, dataset: Dataset) -> Path:
    root = tmp_path_factory.mktemp("runs")
    store_models(root, dataset, variant="mlp", folds=(0, 1))
    store_models(root, dataset, variant="capsule", folds=(0, 1))
    store_models(root, dataset, variant="egnn", folds=(0,))
    return root


def study_of(root: Path, folder: Path) -> Study:
    return read_studies([root], data_dir=folder)[0]


@pytest.fixture(scope="session")
def study(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    folder = tmp_path_factory.mktemp("again")
    made_dataset(folder, mixed_rows(130))
    return study_of(runs, folder)


@pytest.fixture(scope="session")
def facts(study: Study) -> dict[str, dict[str, Any]]:
    return {kind.name: plain(kind().analyse(study, quiet)) for kind in SECTIONS}


def words_of(kind: type[Section], facts: dict[str, Any]) -> str:
    """All that a section says, after its figures were drawn."""
    words = []
    for block in kind().show(json.loads(json.dumps(plain(facts), allow_nan=False))):
        if isinstance(block, Figure):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                assert "<svg" in draw_svg(block.draw, "x")
            words += [block.caption, block.method, block.alt]
        elif isinstance(block, Table):
            words += [block.caption, block.method]
        elif isinstance(block, Text):
            words.append(block.text)
    return " ".join(words)


@pytest.fixture
def own_runs(tmp_path: Path, dataset: Dataset) -> Path:
    """Runs of two blocks that a test may damage, in a folder next to that of their data."""
    made_dataset(tmp_path / "data", mixed_rows(130))
    for block in ("capsule", "mlp"):
        store_models(tmp_path / "runs", dataset, variant=block, folds=(0, 1))
    return tmp_path / "runs"
