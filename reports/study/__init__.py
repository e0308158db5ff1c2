"""What a report is about: the results on one task, row by row, and what is known of their rows.

`read_studies` reads runs, and published predictions for comparison, into one `Study` per task; each `Result` in it has
a label that no other has, and its `PredictedRows`. A study also loads the crystals of its task, where their file is
available; a section that has nothing to show raises `Absent`. It imports `sen`, all of `benchmarks` but
`benchmarks.cli`, and no other part of `reports`.
"""

from reports.study.reading import read_studies
from reports.study.study import Absent, PredictedRows, Result, Study, fold_scores, shared_rows

__all__ = ["Absent", "PredictedRows", "Result", "Study", "fold_scores", "read_studies", "shared_rows"]
