"""What the models of a run make of chosen crystals: the work of `sen-bench explain`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.base.console import figures
from benchmarks.base.errors import DataError, RunError, UsageError, printable
from benchmarks.base.workers import Progress
from benchmarks.data.structures import form_of
from benchmarks.results.store import Training
from benchmarks.training.prediction import find_files, read_samples
from benchmarks.training.trainer import probabilities
from reports.environments.description import Environments, Models, show_problems
from reports.environments.two_ks import describe_crystal, orbit_labels
from reports.page.report import Outcome
from reports.page.section import Figure, Item, Table, Text
from reports.page.style import COLOURS, SEQUENTIAL, WIDE, subplots
from reports.sections.equivalence import METHOD, draw_bars, draw_densities, draw_pairs, draw_pearson, relation_table
from reports.study.study import Absent
from reports.study.wording import after_number, in_brackets
from sen.crystal import Crystal

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas
    from rich.console import Console

    from reports.study.study import Study
    from sen.model import SEN

__all__ = ["Chosen", "choose", "draw_capsules", "explain", "show_crystal", "show_explanation"]

_POSE = ("scale x", "scale y", "rotation", "shear", "translation x", "translation y")


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
        UsageError: A name is neither a file nor a row, or the rows are not at hand.
        RunError: A file cannot be used.
    """
    if not names:
        raise UsageError("--crystals takes structure files and row ids, separated by commas.")
    table, place = None, {}
    found: list[Chosen] = []
    faults: list[DataError] = []
    for name in names:
        path = Path(name)
        if path.exists() or (_is_file_name(name) and name not in models.tested_by):
            for file in find_files([path]):
                samples, problems = read_samples([file])
                faults += problems
                found += [
                    Chosen(str(file), sample.crystal, models.trainings[0], is_test_row=False) for sample in samples
                ]
            continue
        if table is None:
            try:
                table = study.crystals(progress)
            except Absent as absent:
                raise UsageError(f"{printable(name)} is no file, and could only be a row. {absent}") from None
            place = {row: i for i, row in enumerate(table.ids.tolist())}
        if name not in place:
            raise UsageError(
                f"{printable(name)} is neither a structure file nor a row of {study.task.name}, whose ids run from "
                f"{table.ids[0]} to {table.ids[-1]}."
            )
        row = place[name]
        tested_by = models.tested_by.get(name)
        found.append(
            Chosen(
                name,
                table.crystal(row),
                tested_by or models.trainings[0],
                is_test_row=tested_by is not None,
                target=float(table.target[row]),
            )
        )
    if faults:
        told = "\n".join(f"  {fault}" for fault in faults)
        raise RunError(f"Nothing is explained, because structures cannot be used:\n{told}")
    return found


def _is_file_name(name: str) -> bool:
    return "/" in name or form_of(Path(name)) is not None


def explain(chosen: Sequence[Chosen], study: Study, models: Models, progress: Progress) -> list[Outcome]:
    """Describe crystals, each as a section of a page."""
    outcomes = []
    for done, one in enumerate(chosen, start=1):
        model = models.load(one.training)
        environments = models.describe([one.crystal], model, exact=True)
        facts = {
            "name": one.name,
            "fold": one.training.fold,
            "seed": one.training.seed,
            "is_test_row": one.is_test_row,
            "target": one.target,
            "prediction": _predict(model, environments, study.task.kind),
            "target_name": study.task.target,
            "unit": study.task.unit,
            "run": {"label": study.runs[0].label},
            "problems": [*models.problems, *(study.on_other_content() if one.target is not None else [])],
            **describe_crystal(one.crystal, environments),
            "capsules": _capsules(one.crystal, environments),
        }
        facts["summary"] = _summary(facts)
        outcome = Outcome(f"crystal-{done}", f"{facts['formula']} ({Path(one.name).name})", facts=facts)
        outcome.blocks = list(show_crystal(facts))
        outcomes.append(outcome)
        progress(done, len(chosen))
    return outcomes


def _predict(model: SEN, environments: Environments, kind: str) -> float:
    import torch

    # Environments are on the CPU, and the model may be on a GPU.
    weight = next(model.head.parameters())
    material = torch.as_tensor(environments.material).to(device=weight.device, dtype=weight.dtype)
    with torch.no_grad():
        value = (model.shift + model.scale * model.head(material).squeeze(-1)).cpu().numpy()
    return float((probabilities(value) if kind == "classification" else value)[0])


def _capsules(crystal: Crystal, environments: Environments) -> dict[str, Any] | None:
    """Poses, presences and shares of the capsule block; None of another block."""
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


def _summary(facts: Mapping[str, Any]) -> dict[str, float | None]:
    """The numbers of a crystal in one line."""
    matrix = np.array(facts["orbit_matrix"]["after"])
    labels = [orbit["label"].rstrip("0123456789") for orbit in facts["orbits"]]
    i, j = np.triu_indices(len(labels), k=1)
    same = np.array([labels[a] == labels[b] for a, b in zip(i, j, strict=True)], dtype=bool)
    values = matrix[i, j]
    has_equivalent = any(group["n"] > 1 for group in facts["groups"])
    return {
        "equivalent": max(facts["ks"]["within_after"]) if has_equivalent else None,
        "inequivalent": float(np.median(values[same])) if same.any() else None,
        "elements": float(np.median(values[~same])) if (~same).any() else None,
    }


def show_crystal(facts: Mapping[str, Any]) -> Iterator[Item]:
    """Return what to show of the facts of a crystal."""
    label = facts["run"]["label"]
    which = f"fold {facts['fold']}, seed {facts['seed']}"
    unit = after_number(facts["unit"])
    honest = (
        f"It is a test row of {which}, and explained by that model, which did not see it in training."
        if facts["is_test_row"]
        else f"It is explained by the model of {which}, the first of the run, which may have been trained on it."
    )
    told = f" Its target is {facts['target']:.4g}{unit}." if facts["target"] is not None else ""
    orbits = ", ".join(f"{orbit['multiplicity']} {orbit['label']}" for orbit in facts["orbits"])
    yield Text(
        f"{facts['name']}: {facts['formula']}, {facts['symbol']} (no. {facts['space_group']}), "
        f"{facts['atoms_primitive']} atoms in the primitive cell: {orbits}. {honest} Predicted {facts['target_name']}: "
        f"{facts['prediction']:.4g}{unit}.{told}"
    )
    yield from show_problems(facts["problems"])
    if len(facts["orbits"]) == 1:
        only = "one atom" if facts["atoms_primitive"] == 1 else "atoms that are all equivalent"
        yield Text(
            f"Its primitive cell has {only}, so there are no inequivalent atoms to compare: every 2-KS within it is "
            "zero by construction."
        )
    else:
        yield Figure(
            "atoms",
            lambda: draw_bars([facts]),
            "2-KS of every atom of the conventional cell against a reference atom (ref.), after the block. Dashed "
            "boxes hold equivalent atoms, which agree by construction in an exactly invariant block; above them the "
            "operations that map their first atom onto the others.",
            METHOD.replace(" on test rows, each by the model of the fold that did not see it", ""),
            f"Bars of the 2-KS statistic of {len(facts['atoms'])} atoms.",
        )
    if any(group["relations"] for group in facts["groups"]):
        yield relation_table([facts], "Operations that map equivalent atoms onto each other.")
    if facts["element_pairs"]["after"]:
        stages = [
            {"formula": f"{stage} the block", "pairs": facts["element_pairs"][stage]} for stage in ("before", "after")
        ]
        yield Figure(
            "element-pairs",
            lambda: draw_pairs(stages),
            "2-KS between the elements, before and after the block.",
            "Median over pairs of symmetry orbits.",
            f"Bars of {len(facts['element_pairs']['after'])} pairs of elements.",
        )
    yield Figure(
        "densities",
        lambda: draw_densities([{**facts["densities"][s], "label": f"{s} the block"} for s in ("before", "after")]),
        "Density of the components of each symmetry orbit's environment, in the colour of its element.",
        "Gaussian kernel density (Scott's rule); each panel has its own scale (paper Fig. 3d-g).",
        f"Density curves of {len(facts['orbits'])} orbits before and after the block.",
    )
    if facts["atoms_primitive"] > 1:
        yield Figure(
            "pearson",
            lambda: draw_pearson(facts["pearson"]),
            "Pearson correlation between the environments of the atoms of the primitive cell, before the block.",
            "Components of x^c (paper Eq. 7, Fig. 2a); atoms sorted by symmetry orbit.",
            f"Heatmap of {facts['atoms_primitive']} atoms.",
        )
    if facts["capsules"] is None:
        yield Text(f"The block {label} has no capsules.")
        return
    yield from _show_capsules(facts["capsules"])


def _show_capsules(capsules: Mapping[str, Any]) -> Iterator[Item]:
    yield Figure(
        "capsules",
        lambda: draw_capsules(capsules),
        "Presence of each part capsule in the crystal, and the share of each capsule in the environment of each "
        "symmetry orbit after the block.",
        "Presence: paper Eq. 8, between 0 and 1. Share: attention of the capsule to the orbit, normalised over the "
        "capsules (our reading, docs/decisions.md).",
        f"Bars of {len(capsules['presence'])} presences and a heatmap of shares.",
    )
    yield Table(
        "poses",
        ["capsule", "presence", *_POSE],
        [
            [str(i), presence, *(1 + value if k < 2 else value for k, value in enumerate(pose))]
            for i, (presence, pose) in enumerate(zip(capsules["presence"], capsules["pose"], strict=True), start=1)
        ],
        "Poses of the part capsules as plane affine maps.",
        "Paper Eq. 9. A pose acts on features, not on the crystal: it is no symmetry operation of the crystal. "
        "Scales are signed (a negative product is a reflection), the rotation is in radians.",
    )


def draw_capsules(capsules: Mapping[str, Any]) -> Canvas:
    """Draw presences of capsules above their shares in the orbits."""
    n = len(capsules["presence"])
    share = np.array(capsules["share"])
    height = 1.6 + min(4.5, 0.5 + 0.2 * len(share))
    ratios = [1.0, max(0.5, 0.2 * len(share))]
    figure, (top, bottom) = subplots(2, 1, width=WIDE * 0.8, height=height, sharex=True, height_ratios=ratios)
    top.bar(range(1, n + 1), capsules["presence"], width=0.75, color=COLOURS[0])
    top.set_ylim(0, 1)
    top.set_ylabel("presence")
    image = bottom.imshow(share, cmap=SEQUENTIAL, vmin=0, aspect="auto", extent=(0.5, n + 0.5, len(share) - 0.5, -0.5))
    bottom.set_yticks(range(len(share)), capsules["orbits"])
    bottom.set_xticks(range(1, n + 1))
    bottom.set_xlabel("capsule")
    bottom.spines[:].set_visible(False)
    bottom.tick_params(length=0)
    bar = figure.colorbar(image, ax=bottom)
    bar.set_label("share")
    bar.outline.set_visible(False)
    return figure


def show_explanation(outcomes: Sequence[Outcome], study: Study, console: Console) -> None:
    """Print a line for each crystal: the model, its prediction, and 2-KS of three kinds of pairs."""
    from rich.table import Table as Lines

    unit = in_brackets(study.task.unit)
    lines = Lines(title=f"{study.task.name}, {study.runs[0].label}", title_justify="left")
    lines.add_column("crystal")
    lines.add_column("formula")
    lines.add_column("space group")
    for column in ("atoms", "orbits", "fold", f"predicted{unit}", f"target{unit}"):
        lines.add_column(column, justify="right")
    for column in ("equivalent", "inequivalent", "elements"):
        lines.add_column(f"2-KS {column}", justify="right")
    for outcome in outcomes:
        assert outcome.facts is not None
        facts, summary = outcome.facts, outcome.facts["summary"]
        numbers = [facts["prediction"], facts["target"]]
        statistics = [summary[name] for name in ("equivalent", "inequivalent", "elements")]
        lines.add_row(
            printable(Path(facts["name"]).name),
            facts["formula"],
            facts["symbol"],
            str(facts["atoms_primitive"]),
            str(len(facts["orbits"])),
            f"{facts['fold']}" + ("" if facts["is_test_row"] else "*"),
            *("–" if value is None else figures(value) for value in numbers),
            *("–" if value is None else f"{value:.4f}" for value in statistics),
        )
    console.print(lines)
    notes = [
        "2-KS after the block: largest between equivalent atoms (zero by construction in an exactly invariant block),"
    ]
    notes += ["median between inequivalent atoms of one element, median between elements."]
    if not all(outcome.facts and outcome.facts["is_test_row"] for outcome in outcomes):
        notes.append("* Not known as a test row of that model, which may have been trained on it.")
    console.print("\n".join(notes))
