"""The proxies of a recipe share no formula with the rows that are left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.folds import official_folds
from benchmarks.data.tasks import TASKS
from tools.proxies import LEFT_OUT, N_ROWS, SOURCES, main, read_rows


@pytest.mark.deep
def test_proxies_share_no_formula_with_rows_that_are_left_out(data_dir: Path, tmp_path: Path) -> None:
    files = [*LEFT_OUT, *(name for name, _ in SOURCES.values())]
    if missing := [name for name in files if not (data_dir / name).exists()]:
        pytest.skip(f"needs {', '.join(missing)} in {data_dir}")
    main(data_dir, tmp_path)
    gaps = read_rows(data_dir / "matbench_mp_gap.partial.json.gz")
    task = TASKS["matbench_mp_gap"]
    assert task.n_rows is not None
    (trained, tested), *_ = official_folds(task.kind, task.n_rows)
    left_out = set(gaps.formulas[np.isin(gaps.ids, tested)].tolist())
    left_out |= {formula for name in LEFT_OUT for formula in read_rows(data_dir / name).formulas.tolist()}
    for proxy, (_, target) in SOURCES.items():
        rows = read_rows(tmp_path / f"{proxy}.json.gz")
        assert rows.columns == ["structure", target]
        assert len(np.unique(rows.ids)) == N_ROWS
        assert not left_out & set(rows.formulas.tolist())
    assert np.isin(rows.ids, trained).all()  # of mp_gap, the last
