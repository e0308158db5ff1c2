"""Methods paragraph and BibTeX of a report, made of what the runs recorded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from benchmarks.base.errors import UsageError
from benchmarks.results.recorded import variant_kind_of
from benchmarks.results.run_config import get_variant, is_fitted
from reports.page.report import Part
from reports.study.sentences import Sentences
from reports.study.study import Result, Study
from reports.study.wording import choice_of_recipe, origin_of_weights, spanned

__all__ = ["bibtex", "methods"]

# Keys of reports/references.bib: the publication of each block and model that is not the paper's own, and those of each
# task's data: what matminer's dataset_metadata.json names, and the Materials Project wherever it is the source.
_VARIANTS = {
    "alignn": "choudhary2021alignn",
    "capsule_released": "liang2023senmodel",
    "cgcnn": "xie2018cgcnn",
    "cogn": "ruff2024cogn",
    "densenet": "huang2017densenet",
    "egnn": "satorras2021egnn",
    "gatgnn": "louis2020gatgnn",
    "megnet": "chen2019megnet",
    "schnet": "schuett2018schnet",
    "se3": "fuchs2020se3",
    "tfn": "thomas2018tfn",
    "trees": "geurts2006extratrees",
}
_DATA = {
    "matbench_dielectric": ("petousis2017dielectric", "jain2013materialsproject"),
    "matbench_jdft2d": ("choudhary2017jarvis",),
    "matbench_log_gvrh": ("dejong2015elastic", "jain2013materialsproject"),
    "matbench_log_kvrh": ("dejong2015elastic", "jain2013materialsproject"),
    "matbench_mp_e_form": ("jain2013materialsproject",),
    "matbench_mp_gap": ("jain2013materialsproject",),
    "matbench_mp_is_metal": ("jain2013materialsproject",),
    "matbench_perovskites": ("castelli2012perovskites",),
    "matbench_phonons": ("petretto2018phonons",),
}
# Blocks that need no publication beside that of SEN.
_WITHOUT_PUBLICATION = {"capsule", "mlp", "none"}


def methods(parts: Sequence[Part], origin: Mapping[str, str | None], *, scores: bool = True) -> list[str]:
    """Return paragraphs on how the results of a report came about, one for each task and one on statistics.

    Without `scores` the page shows none of models, and says nothing of how they came about.
    """
    folds = [[len(result.folds) for result in part.study.results if result.has_folds] for part in parts]
    facts = {
        "studies": [_facts(part.study) for part in parts],
        "scores": scores,
        "has_spread": any(n > 1 for of_part in folds for n in of_part),
        "has_differences": any(len(part.study.results) > 1 for part in parts),
        "version": origin["sen-bench"],
    }
    return Sentences(__name__, facts).paragraphs("methods")


def _facts(study: Study) -> dict[str, Any]:
    """Collect what the runs of a study recorded of their making."""
    records = [record for run in study.runs for record in run.records.values()]
    seeds = [n for run in study.runs for n in Counter(training.fold for training in run.trainings).values()]
    data: dict[tuple[Any, ...], list[str]] = {}
    for run in study.runs:
        of_run = run.facts["data"]
        key = (of_run["rows"], bool(of_run["is_complete"]), len(of_run.get("skipped") or []))
        data.setdefault(key, []).append(run.label)
    fitted = [run.label for run in study.runs if is_fitted(str(run.variant))]
    tuned: dict[str, list[str]] = {}
    for run in study.runs:
        if run.tuned:
            tuned.setdefault(choice_of_recipe(run.tuned), []).append(run.label)
    pretrained: dict[str, list[str]] = {}
    for run in study.runs:
        if run.pretrained:
            pretrained.setdefault(origin_of_weights(run.pretrained), []).append(run.label)
    shared, recipes = _recipes([run for run in study.runs if run.label not in fitted])
    return {
        "task": study.task,
        "runs": study.runs,
        "blocks": sorted({str(run.variant) for run in study.runs if variant_kind_of(run.facts["config"]) == "block"}),
        "models": {
            str(run.variant): _publication(str(run.variant))
            for run in study.runs
            if variant_kind_of(run.facts["config"]) == "model"
        },
        "versions": sorted({str(record["provenance"]["sen-bench"]) for record in records}),
        "data": [
            {"rows": rows, "is_complete": is_complete, "skipped": skipped, "labels": labels}
            for (rows, is_complete, skipped), labels in data.items()
        ],
        "n_folds": study.n_folds,
        "lacking": [run.label for run in study.runs if len(run.folds) < study.n_folds],
        "sizes": {
            name: spanned(record["rows"].get(name, 0) for record in records)
            for name in ("train", "validation", "calibration", "test")
        },
        "seeds": spanned(seeds),
        "fitted": fitted,
        "shared": shared,
        "recipes": recipes,
        "tuned": tuned,
        "pretrained": pretrained,
        "published": study.published,
    }


def _recipes(runs: Sequence[Result]) -> tuple[list[str], dict[tuple[str, ...], list[str]]]:
    """Return what all runs have alike in their training, and the rest with the labels of the runs that have it."""
    sentences = Sentences(__name__, {})
    settings = {
        run.label: sentences.paragraphs("recipe", config=run.facts["config"], kind=run.facts["task"]["kind"])
        for run in runs
    }
    first = next(iter(settings.values()), [])
    shared = [setting for setting in first if all(setting in own for own in settings.values())]
    by_rest: dict[tuple[str, ...], list[str]] = {}
    for label, own in settings.items():
        by_rest.setdefault(tuple(setting for setting in own if setting not in shared), []).append(label)
    return shared, by_rest


def bibtex(parts: Sequence[Part], origin: Mapping[str, str | None]) -> str:
    """Return the works to cite, as BibTeX."""
    references = _references()
    results = [result for part in parts for result in part.study.results]
    entries = [references["liang2023sen"]]
    official = [part.study.task.name for part in parts if part.study.task.is_official]
    if official:
        entries.append(references["dunn2020matbench"])
    entries += [references[key] for name in official for key in _DATA[name]]
    entries.append(_software(origin))
    kinds = {str(result.variant): variant_kind_of(result.facts["config"]) for result in results if result.run}
    entries += [
        references[_VARIANTS[name]] if name in _VARIANTS else _source(kind, name)
        for name, kind in sorted(kinds.items())
        if name not in _WITHOUT_PUBLICATION
    ]
    for result in results:
        if result.run is None:
            entries += _published(result)
    return "\n\n".join(dict.fromkeys(entries))


def _references() -> dict[str, str]:
    """Return the entries of references.bib by their keys."""
    text = (files("reports.page") / "references.bib").read_text("utf-8")
    return {entry[entry.index("{") + 1 : entry.index(",")]: entry for entry in text.strip().split("\n\n")}


def _software(origin: Mapping[str, str | None]) -> str:
    commit = f",\n  note = {{commit {origin['git_commit']}}}" if origin["git_commit"] else ""
    return (
        "@software{senbench,\n  title = {sen-bench},\n  author = {{The sen-bench developers}},\n"
        f"  version = {{{origin['sen-bench']}}}{commit}\n}}"
    )


def _source(kind: str, name: str) -> str:
    """Return a comment that names the publication of a block or model for which there is no entry."""
    return f"% {kind} {name}: {_publication(name) or 'no publication named'}"


def _publication(name: str) -> str:
    """Return the publication that a block or model follows; empty if it names none or is not installed."""
    try:
        model, block = get_variant(name)
    except UsageError:
        return ""
    return _one_line(str((block or model).source))


def _published(result: Result) -> list[str]:
    """Return what a published file asks to cite."""
    citations = result.facts.get("citations") or result.facts.get("bibtex_refs") or []
    texts = [citations] if isinstance(citations, str) else citations if isinstance(citations, list) else []
    found = [text.strip() for text in texts if isinstance(text, str) and text.strip().startswith("@")]
    where = "its submission to MatBench" if result.form == "submission" else f"the file {_one_line(result.path.name)}"
    return found or [f"% {_one_line(result.label)}: see {where}"]


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()
