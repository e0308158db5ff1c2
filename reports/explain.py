"""Chosen crystals as the models of a run describe them: the work of `sen-bench explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.base.errors import DataError, RunError, UsageError, printable
from benchmarks.base.workers import Progress
from benchmarks.data.structures import form_of
from benchmarks.results.store import Training
from benchmarks.training.prediction import find_files, read_samples
from reports.environments.description import Environments, Models, predictions
from reports.environments.two_ks import (
    DIGITS,
    MEASURES,
    NAMES,
    WITH_UNIT,
    Measure,
    describe_crystal,
    element_of,
    orbit_labels,
)
from reports.page.items import Items
from reports.page.report import Outcome
from reports.page.section import Item
from reports.page.style import COLOURS, SEQUENTIAL, WIDE, heatmap, subplots
from reports.sections.equivalence import draw_bars, draw_densities, draw_pairs, draw_pearson, relation_table
from reports.study.sentences import Sentences
from reports.study.study import Absent, Study
from reports.study.wording import dashed, in_brackets, join
from sen.crystal import Crystal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

__all__ = ["Chosen", "choose", "draw_capsules", "explain", "show_crystal", "show_explanation", "title_of"]

_POSE = ("scale x", "scale y", "rotation", "shear", "translation x", "translation y")
# Formulas in the title of a page.
_TITLED = 4
# Capsules store the scales as differences from one.
_IDENTITY = (1, 1, 0, 0, 0, 0)


@dataclass(frozen=True, eq=False)
class Chosen:
    """A crystal to explain.

    Attributes:
        name: File, or id of a row.
        crystal: The crystal.
        training: The model that explains it.
        is_test_row: Whether it is a row that this model was tested on and did not see in training.
        target: Its target, where it is a row.
    """

    name: str
    crystal: Crystal
    training: Training
    is_test_row: bool
    target: float | None = None


def choose(names: Sequence[str], study: Study, models: Models, progress: Progress | None = None) -> list[Chosen]:
    """Read the crystals of these names: structure files, folders of them, or ids of rows of the run's task.

    A row is explained by the model that was tested on it; everything else, and a row whose fold is not finished, by the
    first model.

    Raises:
        UsageError: A name is neither a file nor a row, or the rows are not available.
        RunError: A file cannot be used.
    """
    if not names:
        raise UsageError("--crystals takes structure files and row ids, separated by commas.")
    found: list[Chosen] = []
    faults: list[DataError] = []
    for name in names:
        path = Path(name)
        if path.exists() or (_is_file_name(name) and name not in models.tested_by):
            samples, problems = read_samples(find_files([path]), models.config.graph)
            faults += problems
            first = models.trainings[0]
            found += [Chosen(str(sample.source), sample.crystal, first, is_test_row=False) for sample in samples]
        else:
            found.append(_choose_row(name, study, models, progress))
    if faults:
        listed = "\n".join(f"  {fault}" for fault in faults)
        raise RunError(f"Nothing is explained, because structures cannot be used:\n{listed}")
    return found


def _choose_row(name: str, study: Study, models: Models, progress: Progress | None) -> Chosen:
    try:
        table = study.crystals(progress)
    except Absent as absent:
        raise UsageError(f"{printable(name)} is no file, and could only be a row. {absent}") from None
    if name not in table.ids:
        raise UsageError(
            f"{printable(name)} is neither a structure file nor a row of {study.task.name}, whose ids run from "
            f"{table.ids[0]} to {table.ids[-1]}."
        )
    row = int(np.flatnonzero(table.ids == name)[0])
    tested_by = models.tested_by.get(name)
    return Chosen(
        name,
        table.crystal(row),
        tested_by or models.trainings[0],
        is_test_row=tested_by is not None,
        target=float(table.target[row]),
    )


def _is_file_name(name: str) -> bool:
    return "/" in name or form_of(Path(name)) is not None


def explain(chosen: Sequence[Chosen], study: Study, models: Models, progress: Progress) -> list[Outcome]:
    """Describe crystals, each as a section of a page."""
    outcomes = []
    for done, one in enumerate(chosen, start=1):
        model = models.load(one.training)
        environments = models.describe([one.crystal], model, exact=True)
        if "after" not in environments.stages:
            raise RunError(f"{study.runs[0].label} cannot be explained: the model gives no environments of atoms.")
        facts = {
            "name": one.name,
            "fold": one.training.fold,
            "fold_label": study.fold_label(one.training.fold),
            "seed": one.training.seed,
            "is_test_row": one.is_test_row,
            "target": one.target,
            "prediction": float(predictions(model, environments, study.task.kind)[0]),
            "target_name": study.task.target,
            "unit": study.task.unit,
            "run": {"label": study.runs[0].label},
            "problems": [*models.problems, *(study.on_other_content() if one.target is not None else [])],
            **describe_crystal(one.crystal, environments),
            "capsules": _capsules(one.crystal, environments),
        }
        facts["summary"] = _summary(facts)
        outcome = Outcome(f"crystal-{done}", f"{facts['formula']} ({Path(one.name).name})", facts=facts)
        outcome.items = list(show_crystal(facts))
        outcomes.append(outcome)
        progress(done, len(chosen))
    return outcomes


def title_of(outcomes: Sequence[Outcome], study: Study) -> str:
    """Return the title of a page of crystals: "NaCl and MoS2 by capsule on matbench_phonons"."""
    formulas = list(dict.fromkeys(outcome.facts["formula"] for outcome in outcomes if outcome.facts))
    if len(formulas) > _TITLED:
        formulas = [*formulas[: _TITLED - 1], f"{len(formulas) - _TITLED + 1} others"]
    return f"{join(formulas)} by {study.runs[0].label} on {study.task.name}"


def _capsules(crystal: Crystal, environments: Environments) -> dict[str, Any] | None:
    """Poses, presences and shares of the capsule block; None of another block or model."""
    extras = environments.extras
    if not {"pose", "presence", "share"} <= set(extras):
        return None
    share = extras["share"][environments.orbit_nodes(0)]
    return {
        "pose": extras["pose"][0].tolist(),
        "presence": extras["presence"][0].tolist(),
        "orbits": orbit_labels(crystal),
        "share": share.tolist(),
    }


def _summary(facts: Mapping[str, Any]) -> dict[Measure, dict[str, float | None]]:
    """The numbers of a crystal in one line: three of each measure."""
    elements = np.array([element_of(orbit["label"]) for orbit in facts["orbits"]])
    i, j = np.triu_indices(len(elements), k=1)
    same = elements[i] == elements[j]
    has_equivalent = any(group["n"] > 1 for group in facts["groups"])
    summary: dict[Measure, dict[str, float | None]] = {}
    for measure in MEASURES:
        values = np.array(facts["orbit_matrix"][measure]["after"])[i, j]
        summary[measure] = {
            "equivalent": max(facts[measure]["within_after"]) if has_equivalent else None,
            "inequivalent": float(np.median(values[same])) if same.any() else None,
            "elements": float(np.median(values[~same])) if (~same).any() else None,
        }
    return summary


def show_crystal(facts: Mapping[str, Any]) -> Iterator[Item]:
    """Return what to show of the facts of a crystal."""
    # Whoever reads the page elsewhere has not the folders of the one who made it.
    name = facts["name"] if facts["target"] is not None else Path(facts["name"]).name
    items = Items(__name__, {**facts, "name": name, "digits": DIGITS})
    capsules, pairs = facts["capsules"], facts["element_pairs"]
    yield items.text("summary")
    if len(facts["orbits"]) > 1:
        yield items.figure("atoms", lambda: draw_bars([facts]))
    if any(group["relations"] for group in facts["groups"]):
        yield relation_table(items, [facts])
    if pairs["after"]:
        bars = [{"formula": name, "pairs": pairs[stage]} for stage, name in NAMES.items() if stage in pairs]
        yield items.figure("element-pairs", lambda: draw_pairs(bars))
    labels = [orbit["label"] for orbit in facts["orbits"]]
    panels = [
        {"label": name, "labels": labels, "components": facts["components"][stage]}
        for stage, name in NAMES.items()
        if stage in facts["components"]
    ]
    yield items.figure("densities", lambda: draw_densities(panels))
    if facts["pearson"] is None:
        yield items.text("nothing_before")
        return
    if facts["atoms_primitive"] > 1:
        yield items.figure("pearson", lambda: draw_pearson(facts["pearson"]))
    if capsules is None:
        yield items.text("no_capsules")
        return
    yield items.figure("capsules", lambda: draw_capsules(capsules))
    records = [
        {"capsule": str(i), "presence": presence, **dict(zip(_POSE, np.add(pose, _IDENTITY).tolist(), strict=True))}
        for i, (presence, pose) in enumerate(zip(capsules["presence"], capsules["pose"], strict=True), start=1)
    ]
    yield items.table("poses", records, [(name, name) for name in ("capsule", "presence", *_POSE)])


def draw_capsules(capsules: Mapping[str, Any]) -> Canvas:
    """Draw presences of capsules above their shares in the orbits."""
    presence, share = capsules["presence"], np.array(capsules["share"])
    n = len(presence)
    height = 1.6 + min(4.5, 0.5 + 0.2 * len(share))
    ratios = [1.0, max(0.5, 0.2 * len(share))]
    figure, (top, bottom) = subplots(2, 1, width=WIDE * 0.8, height=height, sharex=True, height_ratios=ratios)
    # As seaborn places the columns of a heatmap.
    top.bar(np.arange(n) + 0.5, presence, width=0.75, color=COLOURS[0])
    top.set(ylim=(0, 1), ylabel="presence")
    heatmap(bottom, share, capsules["orbits"], range(1, n + 1), "share", scale=(SEQUENTIAL, 0, None))
    bottom.tick_params(axis="x", rotation=0)
    bottom.set_xlabel("capsule")
    return figure


def show_explanation(outcomes: Sequence[Outcome], study: Study, console: Console) -> None:
    """Print a line for each crystal: the model, its prediction, and how far apart three kinds of pairs are."""
    unit = in_brackets(study.task.unit)
    lines = Table(title=f"{study.task.name}, {study.runs[0].label}", title_justify="left")
    for column in ("crystal", "formula", "space group"):
        lines.add_column(column)
    for column in ("atoms", "orbits", "fold", f"predicted{unit}", f"target{unit}"):
        lines.add_column(column, justify="right")
    kinds = ("equivalent", "inequivalent", "elements")
    for kind in kinds:
        lines.add_column(f"{kind}: {' / '.join(WITH_UNIT.values())}", justify="right")
    every = [outcome.facts for outcome in outcomes if outcome.facts is not None]
    for facts in every:
        lines.add_row(
            printable(Path(facts["name"]).name),
            facts["formula"],
            facts["symbol"],
            str(facts["atoms_primitive"]),
            str(len(facts["orbits"])),
            facts["fold_label"] + ("" if facts["is_test_row"] else "*"),
            *(dashed(facts[name]) for name in ("prediction", "target")),
            *(" / ".join(dashed(facts["summary"][measure][kind], 2) for measure in MEASURES) for kind in kinds),
        )
    console.print(lines)
    sentences = Sentences(__name__, {})
    console.print("\n".join(sentences.paragraphs("columns")))
    if not all(facts["is_test_row"] for facts in every):
        console.print(sentences("unknown_rows"))
