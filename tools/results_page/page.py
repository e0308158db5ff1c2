"""The pages of results: their tables, each made from the file that its place names.

A table of a page stands between `<!-- WHAT FILE -->` and `<!-- end -->`. FILE is relative to docs and may be in an
archive, such as results/phonons-blocks.zip/matbench_phonons/ablation-2537d822eb. WHAT is

- `results`, `comparisons` or `leaderboard`: an ablation, alone or among the published models; FILE is its folder;
- `recipes`: recipes that were tried; FILE is a folder with ablations judged by validation rows;
- `tried`: recipes that were trained on the proxies; FILE is a pattern for archives;
- `reproduced`: models trained here, each beside what was published of it; FILE is a folder of runs;
- `repeated` or `apart`: configurations that were trained again with the same seed on all five folds, and how far apart
  the predictions of any two trainings lie; FILE is a pattern for archives;
- `systems` or `separation`: errors by crystal system, and how well blocks separate atoms; FILE is the JSON file of a
  report;
- `published` or `unlike`: errors of published predictions by crystal system, for all rows or for those that do not
  have the most common target; FILE is a pattern for files of `sen-bench audit --format json`;
- `same_rows`: published predictions and others for the same rows; FILE is a pattern for files of
  `sen-bench audit --against`;
- `claims`: what the paper claims on MatBench, the leaderboard, and the score of the authors' published predictions;
  FILE is the folder of these audits;
- `parted`: errors of the authors' predictions of band gaps in the two parts that the order of their rows separates;
  FILE holds the predictions in that order.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.results_page.ablations import comparisons, leaderboard, recipes, results
from tools.results_page.audits import claims, parted, published_systems, same_rows, unlike
from tools.results_page.models import reproduced
from tools.results_page.proxies import tried
from tools.results_page.reports import separation, systems
from tools.results_page.trainings import apart, repeated

__all__ = ["render"]

_PLACE = re.compile(r"<!-- (?P<what>\w+) (?P<file>\S+) -->\n(?:(?!<!-- ).)*?<!-- end -->", re.DOTALL)
_TABLES: dict[str, Callable[[Path], str]] = {
    "published": published_systems,
    **{table.__name__: table for table in (results, comparisons, leaderboard, recipes, repeated, apart, reproduced)},
    "tried": tried,
    **{table.__name__: table for table in (systems, separation, unlike, same_rows, claims, parted)},
}


def render(page: str, docs: Path, tables: Mapping[str, Callable[[Path], str]] = _TABLES) -> str:
    """Return the page with its tables made from the files in docs.

    Args:
        page: Its text.
        docs: Folder that FILE is relative to.
        tables: What makes each WHAT from its FILE.

    Raises:
        ValueError: A place does not end before the next begins, or names no table.
    """
    places = [(place["what"], place["file"]) for place in _PLACE.finditer(page)]
    if len(places) != page.count("<!-- end -->") or 2 * len(places) != page.count("<!-- "):
        raise ValueError("each <!-- WHAT FILE --> needs an <!-- end --> of its own.")

    def table(place: re.Match[str]) -> str:
        if place["what"] not in tables:
            raise ValueError(f"{place['what']} is no table; there are {', '.join(tables)}.")
        made = tables[place["what"]](docs / place["file"])
        return f"<!-- {place['what']} {place['file']} -->\n\n{made}\n\n<!-- end -->"

    return _PLACE.sub(table, page)
