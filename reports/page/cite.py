"""Methods paragraph and BibTeX of a report, made of what the runs recorded."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from typing import Any

from benchmarks.base.errors import UsageError
from reports.page.report import Part
from reports.study.study import Result, Study
from reports.study.wording import join

__all__ = ["bibtex", "methods"]

# Keys of reports/references.bib: the publication of each block that is not the paper's own, and those of each task's
# data: what matminer's dataset_metadata.json names, and the Materials Project wherever it is the source.
_BLOCKS = {
    "densenet": "huang2017densenet",
    "egnn": "satorras2021egnn",
    "se3": "fuchs2020se3",
    "tfn": "thomas2018tfn",
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
_BLOCKS_OF_THE_PAPER = {"capsule", "mlp"}


# Forms of files of predictions, as the methods call them.
_FORMS = {
    "submission": "submissions to MatBench",
    "sen": "the file of predictions of the authors of SEN",
    "csv": "CSV files of predictions",
}


def methods(parts: Sequence[Part], origin: Mapping[str, str | None], *, scores: bool = True) -> list[str]:
    """Return paragraphs on how the results of a report came about, one for each task and one on statistics.

    Args:
        parts: Of the report.
        origin: Versions and commit that made it.
        scores: Whether the page shows scores of models, and so has to say how they came about.
    """
    made = f"The page was made by sen-bench {origin['sen-bench']}."
    return [
        *(" ".join(_sentences(part.study, scores=scores)) for part in parts),
        f"{' '.join(_statistics(parts))} {made}" if scores else made,
    ]


def _sentences(study: Study, *, scores: bool) -> Iterator[str]:
    task, runs = study.task, study.runs
    versions = sorted({str(record["provenance"]["sen-bench"]) for run in runs for record in run.records.values()})
    blocks = join(sorted({str(run.block_name) for run in runs}))
    several = len({run.block_name for run in runs}) > 1
    yield (
        f"SEN (after Liang et al. 2023, as implemented in sen-bench {join(versions)}) was trained with the symmetry "
        f"{'blocks' if several else 'block'} {blocks} on {task.name}."
    )
    yield from _data(study)
    yield _protocol(study)
    sizes = [record["rows"] for run in runs for record in run.records.values()]
    train, test = (_range([size[key] for size in sizes]) for key in ("train", "test"))
    seeds = sorted({n for run in runs for n in Counter(training.fold for training in run.trainings).values()})
    yield (
        f"{'In each fold' if task.split == 'folds' else 'Of these'} {train} rows were trained on, "
        f"{_range([size['validation'] for size in sizes])} others held out of the training rows for choosing the "
        f"epoch, and {test} predicted once{'' if seeds == [1] else ' by the model of each seed'}."
    )
    limits = {run.facts["config"]["limit"] for run in runs} - {None}
    if limits:
        yield f"Training was limited to {join([f'{limit:,}' for limit in sorted(limits)])} rows for some or all runs."
    yield from _recipe(study)
    of = " of each fold" if task.split == "folds" else ""
    if seeds == [1]:
        yield f"One seed was run{of}."
    else:
        told = f"{_range(seeds)} seeds were run{of}"
        yield f"{told}; a fold's score is the mean over those that it has." if scores else f"{told}."
    if scores and study.published:
        by_form: dict[str, list[str]] = {}
        for result in study.published:
            by_form.setdefault(_FORMS[result.form or "csv"], []).append(result.label)
        read = "; ".join(f"those of {join(labels)} from {form}" for form, labels in by_form.items())
        yield f"Predictions of others were compared on the same rows: {read}."


def _data(study: Study) -> Iterator[str]:
    """Say on which rows the runs are, for each set of rows that any has."""
    task = study.task
    by_rows: dict[tuple[int, bool, int], list[str]] = {}
    for run in study.runs:
        data = run.facts["data"]
        key = (data["rows"], bool(data["is_complete"]), len(data.get("skipped") or []))
        by_rows.setdefault(key, []).append(run.label)
    for (rows, is_complete, skipped), labels in by_rows.items():
        whose = "" if len(by_rows) == 1 else f" of {join(labels)}"
        if task.is_official and not is_complete:
            yield f"The data{whose} were {rows:,} of the {task.n_rows:,} rows of the task (partial data)."
        elif skipped:
            yield f"The data{whose} were {rows:,} rows; {skipped:,} others could not be used and were left out."
        else:
            yield f"The data{whose} were all {rows:,} rows."


def _protocol(study: Study) -> str:
    task = study.task
    if task.split != "folds":
        return f"Rows were split once ({task.split}), with the seed of the official folds."
    how = "StratifiedKFold" if task.kind == "classification" else "KFold"
    name = "the official five folds of MatBench v0.1 (Dunn et al. 2020)" if task.is_official else "five folds"
    missing = [result.label for result in study.runs if len(result.folds) < study.n_folds]
    lacking = f" {join(missing)} {'lacks' if len(missing) == 1 else 'lack'} some of them." if missing else ""
    return f"Rows were split into {name} ({how}, shuffled, seed 18012019).{lacking}"


_LOSSES = {
    "regression": "the mean absolute error of standardised targets",
    "classification": "the binary cross-entropy",
}
_PRECISIONS = {
    "float32": "single precision",
    "tf32": "matrices multiplied in TF32 on GPUs",
    "bfloat16": "autocast to bfloat16",
}
# Not worth a word, unless other runs have something else.
_USUAL = {"no warm-up", "no averaging of the weights", _PRECISIONS["float32"]}


def _recipe(study: Study) -> Iterator[str]:
    """Say how the runs were trained: what all have alike, and the rest for each set of it that any has."""
    settings = {run.label: _settings(run.facts["config"]) for run in study.runs}
    first, *others = settings.values()
    shared = [setting for setting in first if all(setting in other for other in others)]
    by_rest: dict[tuple[str, ...], list[str]] = {}
    for label, own in settings.items():
        by_rest.setdefault(tuple(setting for setting in own if setting not in shared), []).append(label)
    told = join(setting for setting in shared if setting not in _USUAL)
    whose = "All runs were" if others else "It was"
    yield f"{whose} trained to minimise {_LOSSES[study.task.kind]} with AdamW: {told}."
    if len(by_rest) > 1:
        rest = "; ".join(f"{join(labels)} had {join(own)}" for own, labels in by_rest.items())
        yield f"Recipes differ in the rest: {rest}."


def _settings(config: Mapping[str, Any]) -> list[str]:
    """Return the recipe of a run, a phrase for each part of it."""
    training = config["training"]
    warmup, decay = training["warmup"], training["ema_decay"]
    return [
        f"at most {training['epochs']:,} epochs",
        f"batches of up to {training['batch_size']:,} crystals ({training['edge_budget']:,} neighbours)",
        f"a peak learning rate of {training['learning_rate']:g}",
        f"linear warm-up over the first {100 * warmup:g} % of the steps" if warmup else "no warm-up",
        "cosine decay",
        f"weight decay {training['weight_decay']:g}",
        f"dropout {config['sen']['dropout']:g}",
        f"gradients clipped to a norm of {training['clip_norm']:g}",
        f"an exponential moving average of the weights (decay {decay:g})" if decay else "no averaging of the weights",
        _PRECISIONS.get(training["precision"], f"precision {training['precision']}"),
        f"early stopping after {training['patience']:,} epochs without a better validation error",
    ]


def _statistics(parts: Sequence[Part]) -> Iterator[str]:
    """Say how sure scores and differences are: of what these results have."""
    folds = [[len(result.folds) for result in part.study.results if result.has_folds] for part in parts]
    if any(n > 1 for of_part in folds for n in of_part):
        yield "Scores are means over folds with their standard deviation (ddof 0, as on the leaderboard)."
    yield (
        "Intervals are 95 % percentile intervals of 2,000 bootstrap resamples of test rows (Efron 1979, "
        "10.1214/aos/1176344552), unless a table says otherwise."
    )
    if any(len(part.study.results) > 1 for part in parts):
        yield "Differences between models are paired, on the rows that both predicted."
    if any(sum(n > 1 for n in of_part) > 1 for of_part in folds):
        yield (
            "Over folds they are tested by the corrected resampled t-test (Nadeau and Bengio 2003, "
            "10.1023/A:1024068626366), with p adjusted for the number of comparisons by the method of Holm (1979)."
        )


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
    names = sorted({str(result.block_name) for result in results if result.run})
    entries += [
        references[_BLOCKS[name]] if name in _BLOCKS else _source(name)
        for name in names
        if name not in _BLOCKS_OF_THE_PAPER
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


def _source(name: str) -> str:
    """Return a comment that names the publication of a block for which there is no entry."""
    from benchmarks.results.run_config import get_block

    try:
        source = str(get_block(name).source)
    except UsageError:
        source = ""
    return f"% block {name}: {_one_line(source) or 'no publication named'}"


def _published(result: Result) -> list[str]:
    """Return what a published file asks to cite."""
    citations = result.facts.get("citations") or result.facts.get("bibtex_refs") or []
    texts = [citations] if isinstance(citations, str) else citations if isinstance(citations, list) else []
    found = [text.strip() for text in texts if isinstance(text, str) and text.strip().startswith("@")]
    where = "its submission to MatBench" if result.form == "submission" else f"the file {_one_line(result.path.name)}"
    return found or [f"% {_one_line(result.label)}: see {where}"]


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def _range(numbers: Sequence[int]) -> str:
    low, high = min(numbers), max(numbers)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"
