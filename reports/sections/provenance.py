"""Section: how every number came about: commands, seeds, data, versions, machines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

from benchmarks.base.workers import Progress
from reports.page.section import Item, Section, Table, Text, Value
from reports.study.study import Result, Study

__all__ = ["Provenance"]

_COMMIT = 10


class Provenance(Section):
    """What is needed to do it all again."""

    name: ClassVar[str] = "provenance"
    title: ClassVar[str] = "Provenance"
    place: ClassVar[int] = 900

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Collect what the runs recorded, and the hashes of the published files."""
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
        yield Text("\n\n".join(_words(facts)))
        yield _run_table(facts)
        yield _command_table(facts)
        yield _version_table(facts)
        if facts["published"]:
            yield Table(
                name="published",
                columns=["model", "file", "rows used", "sha256"],
                rows=[[entry["label"], entry["file"], entry["rows"], entry["sha256"]] for entry in facts["published"]],
                caption="Published predictions.",
            )


def _run_facts(run: Result) -> dict[str, Any]:
    records = list(run.records.values())
    sessions = [session for record in records for session in record["sessions"]]
    return {
        "label": run.label,
        "path": str(run.path),
        "command": run.command(),
        "folds": run.folds,
        "seeds": run.seeds,
        "trainings": len(records),
        "data": {key: run.facts["data"].get(key) for key in ("source", "digest", "rows", "coverage", "is_complete")},
        "read_as_hydrogen": len(run.facts["data"].get("read_as_hydrogen", ())),
        "skipped": len(run.facts["data"].get("skipped", ())),
        "devices": sorted({record["device"] for record in records}),
        "threads": sorted({session["threads"] for session in sessions if session.get("threads")}),
        "sessions": len(sessions),
        "block_codes": len({record.get("block_code") for record in records}),
        "versions": {
            name: sorted({str(session[name]) for session in sessions if session.get(name)})
            for name in dict.fromkeys(name for session in sessions for name in session)
            if name not in {"device", "threads"}
        },
    }


def _words(facts: Mapping[str, Any]) -> Iterator[str]:
    task = facts["task"]
    yield f"Data: {task['description'].removesuffix('.')}. Licence: {task['licence']}."
    digests = {run["data"]["digest"] for run in facts["runs"]}
    if len(digests) > 1:
        yield "The runs were trained on different data: their hashes differ in the table."
    dirty = [run["label"] for run in facts["runs"] if any("dirty" in c for c in run["versions"].get("git_commit", ()))]
    if dirty:
        yield f"Code that was changed after its last commit trained {', '.join(dirty)}: the commit does not tell all."
    lacking = [run["label"] for run in facts["runs"] if not run["versions"].get("git_commit")]
    if lacking:
        yield f"No commit is recorded for {', '.join(lacking)}: installed from a package, the version tells the code."
    commits, instructions = (
        {value for run in facts["runs"] for value in run["versions"].get(name, ())}
        for name in ("git_commit", "cpu_capability")
    )
    if len(commits) > 1:
        yield "The trainings ran on different commits of sen-bench, listed below."
    if len(instructions) > 1:
        yield (
            f"The trainings ran on CPUs with different instructions ({', '.join(sorted(instructions))}), which round "
            "differently: the same training gives other numbers on each."
        )
    for run in facts["runs"]:
        if run["block_codes"] > 1:
            yield f"{run['label']}: not all trainings ran the same code of the block, which is a plug-in."
        if run["skipped"]:
            yield f"{run['label']}: {run['skipped']:,} rows that could not be used were left out (see its config.json)."
        if run["read_as_hydrogen"]:
            yield f"{run['label']}: deuterium or tritium in {run['read_as_hydrogen']:,} rows was read as hydrogen."


def _run_table(facts: Mapping[str, Any]) -> Table:
    rows: list[list[Value]] = [
        [
            run["label"],
            _numbers(run["folds"]),
            _numbers(run["seeds"]),
            run["trainings"],
            run["sessions"],
            ", ".join(run["devices"]),
            ", ".join(map(str, run["threads"])),
            run["data"]["rows"],
            (run["data"]["digest"] or "")[:16],
            run["path"],
        ]
        for run in facts["runs"]
    ]
    return Table(
        name="runs",
        columns=[
            "model",
            "folds",
            "seeds",
            "trainings",
            "sessions",
            "device",
            "threads",
            "rows",
            "data hash",
            "folder",
        ],
        rows=rows,
        caption="The runs.",
        method=(
            "Sessions: a training that was interrupted and went on has several. Data: first 16 digits of the hash "
            "of the crystals and their targets; in full in the JSON file beside this page."
        ),
    )


def _command_table(facts: Mapping[str, Any]) -> Table:
    return Table(
        name="commands",
        columns=["model", "command"],
        rows=[[run["label"], run["command"]] for run in facts["runs"]],
        caption="Commands that make the same runs again, or go on with them.",
        method=(
            "Put together from what the runs recorded; --data-dir and --out are as you have them. Where not every seed "
            "was run, or not every fold of each, they run the others as well."
        ),
    )


def _version_table(facts: Mapping[str, Any]) -> Table:
    names = list(dict.fromkeys(name for run in facts["runs"] for name in run["versions"]))
    rows: list[list[Value]] = []
    for name in names:
        values = [_versions(name, run["versions"].get(name, ())) for run in facts["runs"]]
        if len(set(values)) == 1:
            rows.append([name, "all", values[0]])
        else:
            rows += [[name, run["label"], value] for run, value in zip(facts["runs"], values, strict=True)]
    return Table(
        name="versions",
        columns=["what", "model", "version"],
        rows=rows,
        caption="Versions and machines that trained the models.",
    )


def _versions(name: str, values: Sequence[str]) -> str:
    short = [value[:_COMMIT] + ("-dirty" if "dirty" in value else "") for value in values]
    return ", ".join(short if name == "git_commit" else values) or "not recorded"


def _numbers(numbers: Sequence[int]) -> str:
    whole = len(numbers) > 1 and list(numbers) == list(range(numbers[0], numbers[-1] + 1))
    return f"{numbers[0]}–{numbers[-1]}" if whole else ", ".join(map(str, numbers))
