"""Print the false positives and the power of comparisons, and write them to docs/statistics.md.

    python -m tools.power            # after a change of benchmarks.results.contrasts, or of the archives of phonons
    python -m tools.power --check    # exit code 1 if the page differs from what would be written

Studies are simulated with the noise of the archived trainings, in about half a minute on one core. A table of the page
stands between `<!-- NAME results -->` and `<!-- end -->`, where NAME is a function of `tools.power.tables`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.power.tables import TABLES
from tools.results_page.page import render


def main() -> None:
    """Print the tables, and write or check the page."""
    parser = argparse.ArgumentParser(prog="python -m tools.power", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if the page would change")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder with statistics.md and results/")
    arguments = parser.parse_args()
    page = arguments.docs / "statistics.md"
    for name, table in TABLES.items():
        print(f"{name}\n\n{table(arguments.docs / 'results')}\n", flush=True)
    made = render(page.read_text(), arguments.docs, TABLES)
    if not arguments.check:
        page.write_text(made)
    elif made != page.read_text():
        sys.exit(f"{page} is not what the archives give: run `python -m tools.power` and commit.")


if __name__ == "__main__":
    main()
