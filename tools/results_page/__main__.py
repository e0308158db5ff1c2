"""Write the tables of docs/results.md and docs/recipe.md, and CSV files, from the archives and files in docs/results.

    python -m tools.results_page            # after a new archive, which `sen-bench study` writes
    python -m tools.results_page --check    # exit code 1 if a file or the page differs from what would be written

No number is typed by hand. `docs/results/TASK.csv` has a line for each training on a task in the archives, except those
of second trainings (`*-again.zip`). `tools.results_page.page` describes the tables of the page.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tools.results_page.page import render
from tools.results_page.trainings import export

PAGES = ("results.md", "recipe.md")


def main() -> None:
    """Write the files, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.results_page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a file would change")
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder with the pages and results/")
    arguments = parser.parse_args()
    results = arguments.docs / "results"
    made = {results / f"{task}.csv": text for task, text in export(results).items()}
    if stale := sorted(set(results.glob("*.csv")) - set(made)):
        sys.exit(f"No archive in {results} has trainings on the task of {stale[0].name}: remove it.")
    pages = [page for name in PAGES if (page := arguments.docs / name).is_file()]
    made |= {page: render(page.read_text(), arguments.docs) for page in pages}
    for path, text in made.items():
        if not arguments.check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            sys.exit(
                f"{path.name} is not what is made from the files behind it: run `python -m tools.results_page` and "
                "commit."
            )


if __name__ == "__main__":
    main()
