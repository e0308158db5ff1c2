"""Section: the origin of every number: commands, seeds, data, versions, machines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from benchmarks.base.workers import Progress
from reports.page.items import Column, Items
from reports.page.section import Item, Section
from reports.study.study import Result, Study
from reports.study.wording import choice_of_recipe, origin_of_weights

__all__ = ["Provenance"]

_COMMIT = 10


class Provenance(Section):
    """What is needed to repeat everything."""

    name: ClassVar[str] = "provenance"
    title: ClassVar[str] = "Provenance"
    place: ClassVar[int] = 900

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Collect the records of the runs, and the hashes of the published files."""
        from benchmarks.base.files import file_digest

        runs = []
        for i, run in enumerate(study.runs):
            runs.append(_run_facts(run))
            progress(i + 1, len(study.runs))
        published = [
            {
                "label": result.label,
                "file": result.path.name,
                "sha256": file_digest(result.path),
                "rows": len(result.rows),
            }
            for result in study.published
        ]
        return {"task": study.task.facts(), "runs": runs, "published": published}

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """Tables of runs, data and versions."""
        items, runs = Items(__name__, facts), facts["runs"]
        yield items.text("summary", **_caveats(runs))
        columns = [*_RUN_COLUMNS, *(column for key, column in _RARE_COLUMNS.items() if any(run[key] for run in runs))]
        yield items.table("runs", runs, columns)
        yield items.table("commands", runs, [("model", "label"), ("command", "command")])
        yield items.table("versions", _versions(runs), [("what", "name"), ("model", "model"), ("version", "version")])
        if facts["published"]:
            columns = [("model", "label"), ("file", "file"), ("rows used", "rows"), ("sha256", "sha256")]
            yield items.table("published", facts["published"], columns)


def _run_facts(run: Result) -> dict[str, Any]:
    records = list(run.records.values())
    sessions = [session for record in records for session in record["sessions"]]
    return {
        "label": run.label,
        "path": str(run.path),
        "command": run.command(),
        "tuned": dict(run.tuned) if run.tuned else None,
        "pretrained": dict(run.pretrained) if run.pretrained else None,
        "folds": run.folds,
        "seeds": run.seeds,
        "trainings": len(records),
        "data": {key: run.facts["data"].get(key) for key in ("source", "digest", "rows", "coverage", "is_complete")},
        "read_as_hydrogen": len(run.facts["data"].get("read_as_hydrogen", ())),
        "skipped": len(run.facts["data"].get("skipped", ())),
        "devices": sorted({record["device"] for record in records}),
        "threads": sorted({session["threads"] for session in sessions if session.get("threads")}),
        "sessions": len(sessions),
        "variant": run.variant,
        "codes": len({record.get("block_code", record.get("model_code")) for record in records}),
        "versions": {
            name: sorted({str(session[name]) for session in sessions if session.get(name)})
            for name in dict.fromkeys(name for session in sessions for name in session)
            if name not in {"device", "threads"}
        },
    }


def _caveats(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what a reader must know of the data, the code and the machines of runs."""
    commits, instructions = (
        {run["label"]: run["versions"].get(name, []) for run in runs} for name in ("git_commit", "cpu_capability")
    )
    return {
        "n_data": len({run["data"]["digest"] for run in runs}),
        "changed": [label for label, found in commits.items() if any("dirty" in commit for commit in found)],
        "without_commit": [label for label, found in commits.items() if not found],
        "n_commits": len(set().union(*commits.values())),
        "instructions": sorted(set().union(*instructions.values())),
    }


_RUN_COLUMNS: list[Column] = [
    ("model", "label"),
    ("folds", lambda run: _span(run["folds"])),
    ("seeds", lambda run: _span(run["seeds"])),
    ("trainings", "trainings"),
    ("sessions", "sessions"),
    ("device", "devices"),
    ("threads", "threads"),
    ("rows", "data.rows"),
    ("data hash", lambda run: (run["data"]["digest"] or "")[:16]),
    ("folder", "path"),
]


_RARE_COLUMNS: dict[str, Column] = {
    "tuned": ("recipe chosen by", lambda run: choice_of_recipe(run["tuned"]) if run["tuned"] else None),
    "pretrained": ("starts from", lambda run: origin_of_weights(run["pretrained"]) if run["pretrained"] else None),
}


def _versions(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return the versions that runs recorded; where all have the same, once."""
    found = []
    for name in dict.fromkeys(name for run in runs for name in run["versions"]):
        versions = {run["label"]: _shown(name, run["versions"].get(name, ())) for run in runs}
        if len(set(versions.values())) == 1:
            versions = {"all": next(iter(versions.values()))}
        found += [{"name": name, "model": model, "version": version} for model, version in versions.items()]
    return found


def _shown(name: str, versions: Sequence[str]) -> str:
    short = [version[:_COMMIT] + ("-dirty" if "dirty" in version else "") for version in versions]
    return ", ".join(short if name == "git_commit" else versions) or "not recorded"


def _span(numbers: Sequence[int]) -> str:
    """Write whole numbers in ascending order: "0–4", "0, 2"."""
    whole = len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}–{numbers[-1]}" if whole else ", ".join(map(str, numbers))
