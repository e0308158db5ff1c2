"""The proxies of a recipe share no formula with what is reported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.folds import official_folds
from benchmarks.data.tasks import TASKS
from tools.proxies import N_ROWS, REPORTED, SOURCES, main, read_rows


@pytest.mark.deep
def test_proxies_share_no_formula_with_what_is_reported(data_dir: Path, tmp_path: Path) -> None:
    files = [*REPORTED, *(name for name, _ in SOURCES.values())]
    if missing := [name for name in files if not (data_dir / name).exists()]:
        pytest.skip(f"needs {', '.join(missing)} in {data_dir}")
    main(data_dir, tmp_path)
    gaps = read_rows(data_dir / "matbench_mp_gap.partial.json.gz")
    task = TASKS["matbench_mp_gap"]
    assert task.n_rows is not None
    (trained, tested), *_ = official_folds(task.kind, task.n_rows)
    reported = set(gaps.formulas[np.isin(gaps.ids, tested)].tolist())
    reported |= {formula for name in REPORTED for formula in read_rows(data_dir / name).formulas.tolist()}
    for proxy, (_, target) in SOURCES.items():
        rows = read_rows(tmp_path / f"{proxy}.json.gz")
        assert rows.columns == ["structure", target]
        assert len(np.unique(rows.ids)) == N_ROWS
        assert not reported & set(rows.formulas.tolist())
    assert np.isin(rows.ids, trained).all()  # of mp_gap, the last
