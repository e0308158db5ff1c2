"""Tables from reports: errors by crystal system, and how well models separate atoms."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tools.results_page.formats import correlation, error_share, markdown, score, share

__all__ = ["separation", "systems"]


def systems(report: Path) -> str:
    """Return the table of errors by crystal system: MAE, and in brackets its ratio to the mean absolute deviation."""
    facts = section(report, "systems")
    shown = [result["overall"] | {"label": result["label"], "groups": result["systems"]} for result in facts["results"]]
    heading = [f"MAE ({facts['unit']}; MAE/MAD)", "test rows", *(result["label"] for result in shown)]

    def line(group: str, n: int, errors: Iterable[dict[str, Any]]) -> list[str]:
        return [group, f"{n:,}", *map(error_share, errors)]

    rows = []
    for i, group in enumerate(shown[0]["groups"]):
        errors = [result["groups"][i] for result in shown]
        if any((error["group"], error["n"]) != (group["group"], group["n"]) for error in errors):
            raise ValueError(f"{report}: the results are not on the same rows.")
        rows.append(line(group["group"], group["n"], errors))
    trends = [correlation(result["symmetry"]["loss"]) for result in facts["results"]]
    return markdown(heading, [*rows, line("all", shown[0]["n"], shown), ["rank correlation", "", *trends]])


def separation(report: Path) -> str:
    """Return the table of how well models separate atoms, before and after the block of SEN, trained and not."""
    heading = [
        *("block", "before the block, trained", "untrained", "after the block, trained", "untrained"),
        *("crystals", "resolution", "equivalent atoms after 0.02 Å of noise", "crystals of these", "resolution"),
    ]
    rows = []
    facts = section(report, "separation")
    for run in facts.get("runs") or facts["blocks"]:  # as reports of format 2 call them
        scores = run["scores"].get("ks", run["scores"])  # the one measure up to format 3
        fading = run.get("fading") or _fading(report, run["label"])
        (faded,) = (step for step in fading["steps"] if step["size"] == 0.02)
        rows.append(
            [
                f"`{run['label']}`",
                *(score(scores[state].get(at)) for at in ("before", "after") for state in ("trained", "untrained")),
                *(f"{scores['trained']['after']['n']:,}", share(scores["trained"]["after"]["resolution"])),
                f"{share(faded['relative'])} ({' to '.join(map(share, faded['interval']))})",
                *(f"{fading['n']:,}", share(fading["resolution"])),
            ]
        )
    return markdown(heading, rows)


def _fading(report: Path, label: str) -> dict[str, Any]:
    """Return how far displaced atoms of a run are apart by 2-KS; reports up to format 3 have it with the scores."""
    (run,) = (run for run in section(report, "equivalence")["displaced"]["runs"] if run["label"] == label)
    return {"n": run["n"], **run["curves"]["ks"]}


def section(report: Path, name: str) -> dict[str, Any]:
    """Read the facts of a section of a report."""
    (task,) = json.loads(report.read_text())["tasks"]
    facts: dict[str, Any] = task["sections"][name]["facts"]
    return facts
