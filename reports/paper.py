"""The figures of the paper, a section for each: the work of `sen-bench report --kind paper`.

A figure shows what sections of the report make of its subject; here it gets the paper's number, what the paper shows
there, and what cannot be shown. Texts are from the paper without its supplement, which was not available.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, Literal
from weakref import WeakKeyDictionary

import numpy as np

from benchmarks.base.errors import SenBenchError, UsageError
from benchmarks.base.files import plain
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import reduced_formula
from benchmarks.data.tasks import TASKS
from benchmarks.results.leaderboard import published
from reports.auditing.facts import audit
from reports.auditing.verdict import verdict
from reports.environments.description import open_models
from reports.page.items import Column, Items
from reports.page.report import Outcome, Report, make_report
from reports.page.section import Item, Section, Table, Text, load_section
from reports.sections.equivalence import describe_as_tested, draw_bars
from reports.study.published import read_predictions
from reports.study.row_facts import find_rows
from reports.study.sentences import Sentences
from reports.study.study import Absent, Result, Study

__all__ = ["CLAIMS", "figure_names", "make_paper"]

Property = Literal["gap", "energy"]

_PROPERTIES: dict[Property, tuple[str, re.Pattern[str]]] = {
    "gap": ("eV", re.compile("(?<![a-z])(band)?gap(?![a-z])", re.IGNORECASE)),
    "energy": ("eV/atom", re.compile("(?<![a-z])[eh]?form(ation)?(?![a-z])", re.IGNORECASE)),
}
"""The unit of each property of the paper, and how the name of its target says that it is that property: a total or an
electrostatic energy has the same unit.
"""

CLAIMS: dict[str, tuple[float, dict[str, float]]] = {
    "matbench_mp_gap": (0.181, {"CGCNN v2019": 39.1, "MegNet (kgcnn v2.1.0)": 6.2, "SchNet (kgcnn v2.1.0)": 23.3}),
    "matbench_mp_e_form": (
        0.0161,
        {"CGCNN v2019": 52.6, "MegNet (kgcnn v2.1.0)": 36.1, "SchNet (kgcnn v2.1.0)": 26.1},
    ),
}
"""What the paper claims on MatBench: the MAE of SEN, and by how many per cent it is below models of the leaderboard."""

# Of the eleven crystals of Fig. 3a the text of the paper names three; the others are in Supplementary Table 3.
_CRYSTALS = ("Y4Cu2O7", "K2MoO4", "Li5MnF8")
_N_CRYSTALS = 11
_OVERVIEW = "figures"


@dataclass(frozen=True)
class _Figure:
    """A figure or table of the paper.

    Attributes:
        title: Its number and its subject.
        of: The property that it is about; None of one that needs no study.
        section: The section that makes what is shown; None where nothing can be.
        model: Where its facts have the label of the one run that is shown; None where several runs are.
        items: Names of the items of that section to show, those of tables with `-table` at the end.
        variants: Blocks and models that the paper shows.
        needs_all: Whether nothing is shown where one of them is missing.
    """

    title: str
    of: Property | None = "gap"
    section: str | None = None
    model: str | None = None
    items: tuple[str, ...] = ()
    variants: tuple[str, ...] = ("capsule",)
    needs_all: bool = False


_FIT = ("left_out", "fit", "fit-table")
_HEATMAP = ("element-correlation", "element-correlation-table")
_FIGURES = {
    "fig-2a": _Figure(
        "Fig. 2a: atoms of one crystal", section="equivalence", model="run_before", items=("pearson", "no_example")
    ),
    "fig-2b": _Figure(
        "Fig. 2b: pairs of elements", section="equivalence", model="run_before", items=("element-pairs",)
    ),
    "fig-2c": _Figure("Fig. 2c: densities of states"),
    "fig-2d": _Figure("Fig. 2d: elements", section="elements", model="heatmap.run", items=_HEATMAP[:1]),
    "fig-2e": _Figure(
        "Fig. 2e: six groups of oxides A-O-X",
        section="maps",
        model="compounds.a_o_x.run",
        items=("a-o-x", "no_a_o_x", "no_environments"),
    ),
    "fig-3a": _Figure(
        "Fig. 3a: equivalent atoms",
        section="equivalence",
        model="run",
        items=("atoms-against-a-reference", "operations-table"),
    ),
    "fig-3b": _Figure(
        "Fig. 3b: map of all materials",
        section="maps",
        model="all_rows.run",
        items=("all-rows", "by-target", "maps-table"),
        variants=("capsule", "mlp", "densenet"),
    ),
    "fig-3c": _Figure(
        "Fig. 3c: four clusters of Ca-O-X",
        section="maps",
        model="compounds.ca_o_x.run",
        items=("ca-o-x", "clusters-table", "no_ca_o_x"),
    ),
    "fig-3d-g": _Figure(
        "Fig. 3d–g: densities of environments",
        section="equivalence",
        items=("densities", "no_example"),
        variants=("capsule", "densenet", "tfn", "egnn"),
    ),
    "fig-4a": _Figure("Fig. 4a: band gaps by SEN", section="fit", items=_FIT),
    "fig-4b": _Figure("Fig. 4b: band gaps by SEN with EGNN", section="fit", items=_FIT, variants=("egnn",)),
    "fig-4c": _Figure("Fig. 4c: formation energies by SEN", of="energy", section="fit", items=_FIT),
    "fig-4d": _Figure(
        "Fig. 4d: SEN and MEGNet by crystal system",
        section="systems",
        items=("violins-1", "comparison-1-table"),
        variants=("capsule", "megnet"),
        needs_all=True,
    ),
    "fig-s3": _Figure("Supplementary Fig. 3: densities of states and 2-KS"),
    "fig-s4": _Figure(
        "Supplementary Fig. 4: all elements", section="elements", model="heatmap.run", items=_HEATMAP[:1]
    ),
    "fig-s5-s6": _Figure(
        "Supplementary Fig. 5 and 6: other random atoms", section="elements", model="heatmap.run", items=_HEATMAP[1:]
    ),
    "table-s5": _Figure("Supplementary Table 5: MatBench", of=None),
}


def figure_names() -> list[str]:
    """Return the names that `--sections` takes with `--kind paper`, in the order of the page."""
    return [_OVERVIEW, *_FIGURES]


def make_paper(
    studies: Sequence[Study], names: Sequence[str], *, against: Sequence[Path] = (), **options: Any
) -> Report:
    """Make the figures of the paper from the study of band gaps and that of formation energies.

    Of several studies of a property the one with most test rows is shown. What needs a property that no study is about
    says so in the first part.

    Args:
        studies: The studies.
        names: Which figures, see `figure_names`.
        against: Files with predictions of the paper's authors for MatBench, which are audited.
        options: See `reports.page.report.make_report`.

    Raises:
        UsageError: No study is of band gaps or formation energies.
    """
    chosen = _choose_studies(studies)
    first = next(iter(chosen))
    wanted = list(_FIGURES) if _OVERVIEW in names else [name for name in _FIGURES if name in names]
    of_part: dict[Property, list[str]] = {}
    for name in wanted:
        of_part.setdefault(of if (of := _FIGURES[name].of) in chosen else first, []).append(name)
    load = partial(_load_figure, against=tuple(against))
    reports = [make_report([chosen[of]], of_part[of], load=load, **options) for of in chosen if of in of_part]
    parts = [part for made in reports for part in made.parts]
    if _OVERVIEW in names:
        overview = _overview([outcome for part in parts for outcome in part.outcomes])
        kept = [[one for one in part.outcomes if one.name in names] for part in parts]
        parts = [replace(part, outcomes=outcomes) for part, outcomes in zip(parts, kept, strict=True)]
        parts = [
            replace(parts[0], outcomes=[overview, *parts[0].outcomes]),
            *(part for part in parts[1:] if part.outcomes),
        ]
    return replace(reports[0], parts=parts)


def _choose_studies(studies: Sequence[Study]) -> dict[Property, Study]:
    """Return the study of each property, band gaps first, and let the pair that is compared be that of Fig. 4d."""
    chosen: dict[Property, Study] = {}
    for study in sorted(studies, key=lambda study: -max(len(result.rows) for result in study.results)):
        of = _property(study)
        if of is None or of in chosen:
            continue
        chosen[of] = study
        pair = [next((run for run in study.runs if run.variant == name), None) for name in ("capsule", "megnet")]
        if study.pair is None and pair[0] and pair[1]:
            study.pair = (pair[0], pair[1])
    if not chosen:
        raise UsageError(
            "The paper is about band gaps (eV) and formation energies (eV/atom), and no run has such a target with "
            "this unit (of own data the name must say it, such as gap or e_form): run `sen-bench study paper`, or "
            "leave out --kind paper."
        )
    some = next(iter(chosen.values()))
    left_out = [study for study in studies if study not in chosen.values()]
    for why, titles in {
        "the figures are of the runs on most test rows": [study.title for study in left_out if _property(study)],
        "their targets are neither band gaps (eV) nor formation energies (eV/atom)": [
            study.title for study in left_out if not _property(study)
        ],
    }.items():
        if titles:
            some.notes += (f"Left out, because {why}: {'; '.join(titles)}.",)
    return {of: chosen[of] for of in _PROPERTIES if of in chosen}


def _property(study: Study) -> Property | None:
    """Return which property of the paper the target of a study is, by its unit and its name."""
    target = study.task.target
    unit = study.task.unit or target.rpartition("(")[2].removesuffix(")")
    return next((of for of, (of_it, said) in _PROPERTIES.items() if unit == of_it and said.search(target)), None)


def _load_figure(name: str, *, against: Sequence[Path] = ()) -> Section:
    """Return the section of a figure."""
    base = {"fig-3a": _Atoms, "table-s5": _Claims}.get(name, PaperSection)
    attributes = {"name": name, "title": _FIGURES[name].title, "place": list(_FIGURES).index(name), "against": against}
    section: Section = type(base.__name__, (base,), attributes)()
    return section


# Several figures show items of one section, which analyses a study once.
_analysed: WeakKeyDictionary[Study, dict[str, dict[str, Any] | Absent]] = WeakKeyDictionary()


def _analyse(name: str, study: Study, progress: Progress) -> dict[str, Any]:
    """Return the facts of a section on a study.

    Raises:
        Absent: It has nothing to show.
    """
    found = _analysed.setdefault(study, {})
    if name not in found:
        try:
            found[name] = plain(load_section(name).analyse(study, progress))
        except Absent as absent:
            found[name] = absent
    if isinstance(facts := found[name], Absent):
        raise facts
    return facts


class PaperSection(Section):
    """A figure of the paper: chosen items of a section."""

    against: ClassVar[Sequence[Path]] = ()

    @property
    def figure(self) -> _Figure:
        """What it shows."""
        return _FIGURES[self.name]

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        """Let the section behind the figure analyse the study."""
        figure = self.figure
        if figure.section is None:
            raise self._absent("")
        if figure.of != _property(study):
            raise self._absent(_say("needs_property", of=figure.of))
        known = {run.variant for run in study.runs}
        lacking = [name for name in figure.variants if name not in known]
        if lacking and (figure.needs_all or lacking == list(figure.variants)):
            raise self._absent(_say("needs_runs", lacking=lacking))
        try:
            facts = _analyse(figure.section, study, progress)
        except Absent as absent:
            raise self._absent(str(absent)) from None
        # The pair of the section `systems` is compared by its predictions.
        lost = [] if figure.section == "systems" else _without_model(study, figure.variants, progress)
        paths = [str(run.path) for run in lost]
        if {run.variant for run in lost} >= known.intersection(figure.variants):
            raise self._absent(_say("lost_weights", paths=paths))
        if figure.section == "fit":
            left_out = Sentences("reports.sections.fit", facts)("left_out")
            facts = {**facts, "results": [own for own in facts["results"] if own["variant"] in figure.variants]}
            if not facts["results"]:
                raise self._absent(left_out)
        label = _label_at(facts, figure.model)
        if label and label not in {run.label for run in study.runs if run.variant in figure.variants}:
            raise self._absent(_say("lost_weights", paths=paths) if lost else _say("other_model", label=label))
        data = {"target": study.task.target, "title": study.title, "n": max(len(run.rows) for run in study.runs)}
        return {"lacking": lacking, "lost": paths, "data": data, "of_section": facts}

    def show(self, facts: Mapping[str, Any]) -> Iterable[Item]:
        """What the paper shows, and the items of the section."""
        figure = self.figure
        assert figure.section is not None
        found = load_section(figure.section).show(facts["of_section"])
        shown = [item for item in found if _name_of(item) in figure.items]
        if not shown:
            raise self._absent(_say("nothing_in_section", section=figure.section))
        yield Text(_say("shown", name=self.name, **{key: facts[key] for key in ("data", "lacking", "lost")}))
        yield from sorted(shown, key=lambda item: figure.items.index(_name_of(item)))

    def _absent(self, why: str) -> Absent:
        return Absent(_say("absent", name=self.name, why=why))


def _without_model(study: Study, variants: Sequence[str], progress: Progress) -> list[Result]:
    """Return the runs of those of the variants of which no run has a model that can be loaded."""
    opened = {run.variant for run, _ in open_models(study, "material", progress).runs}
    return [run for run in study.runs if run.variant in variants and run.variant not in opened]


def _label_at(facts: Mapping[str, Any], place: str | None) -> str | None:
    """Return the label of the run at a dotted place in facts; None where they have none."""
    found: Any = facts
    for name in place.split(".") if place else ():
        found = found and found[name]
    return found["label"] if place and found else None


def _say(macro: str, **values: Any) -> str:
    return Sentences(__name__, {})(macro, **values)


def _name_of(item: Item) -> str:
    """Return what a figure calls an item of a section."""
    name = getattr(item, "name", "")
    return f"{name}-table" if isinstance(item, Table) else name


class _Atoms(PaperSection):
    """Fig. 3a, with those of the paper's crystals that the data hold."""

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        facts = super().analyse(study, progress)
        opened = open_models(study, "after", progress)
        table, (run, models) = opened.table, opened.runs[0]
        formulas = {row: reduced_formula(z) for row, z in enumerate(np.split(table.numbers, table.ptr[1:-1]))}
        rows = [row for row, formula in formulas.items() if formula in _CRYSTALS]
        described = describe_as_tested(models, table, rows, progress)
        facts["own"] = {
            "run": run.label,
            "crystals": list(described.values()),
            "not_tested": sorted({formulas[row] for row in rows if row not in described}),
            "not_in_data": [name for name in _CRYSTALS if name not in formulas.values()],
            "n_crystals": _N_CRYSTALS,
        }
        return facts

    def show(self, facts: Mapping[str, Any]) -> Iterator[Item]:
        yield from super().show(facts)
        own = facts["own"]
        items = Items(__name__, own)
        yield items.text("which_crystals")
        if own["crystals"]:
            yield items.figure("crystals", lambda: draw_bars(own["crystals"]))


class _Claims(PaperSection):
    """Supplementary Table 5: claims on MatBench beside the leaderboard, and an audit of the authors' predictions."""

    def analyse(self, study: Study, progress: Progress) -> dict[str, Any]:
        files = [read_predictions(path) for path in self.against]
        audits: dict[str, dict[str, Any]] = {}
        problems = []
        for task in CLAIMS:
            for file in files:
                if not any(entry.task is not None and entry.task.name == task for entry in file.sets):
                    continue
                try:
                    rows = find_rows(TASKS[task], None, study.data_dir, progress)
                    facts = audit(file, rows, claimed=CLAIMS[task][0])
                except SenBenchError as error:
                    problems.append(f"The predictions for {task} in {file.path.name} are not audited: {error}")
                else:
                    audits[task] = {"verdict": verdict(facts), "mae": facts["score"]["mae"], "n": facts["n"]}
        records = []
        for task, (mae, claims) in CLAIMS.items():
            own = audits.get(task, {}).get("mae")
            means = {entry.model: entry.mean for entry in published(task)}
            records += [
                {
                    "task": task,
                    "model": model,
                    "mae": means[model],
                    "claimed_mae": mae,
                    "claimed": claimed,
                    "below": 100 * (1 - mae / means[model]),
                    "own": own,
                    "below_own": None if own is None else 100 * (1 - own / means[model]),
                }
                for model, claimed in claims.items()
            ]
        return {"claims": records, "audits": audits, "problems": problems}

    def show(self, facts: Mapping[str, Any]) -> Iterator[Item]:
        items = Items(__name__, facts)
        yield items.text("shown", name=self.name)
        columns: list[Column] = [
            ("task", "task"),
            ("model", "model"),
            ("its MAE, five folds", "mae"),
            ("SEN, claimed", "claimed_mae"),
            ("% below it, claimed", "claimed"),
            ("% below it, from the two MAE", "below"),
        ]
        if facts["audits"]:
            columns += [("SEN, its published predictions", "own"), ("% below it by these", "below_own")]
        yield items.table("claims", facts["claims"], columns)
        for text in [*(found["verdict"] for found in facts["audits"].values()), *facts["problems"]]:
            yield Text(text)
        if not facts["audits"]:
            yield items.text("no_audit")


def _overview(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the table of all figures: what the paper shows, whether it is shown here, and how."""
    records = [
        {
            "number": outcome.title.partition(":")[0],
            "paper": _say("paper", name=outcome.name),
            "here": "failed" if outcome.failed else "not shown" if outcome.reason else "shown",
            "section": _FIGURES[outcome.name].section,
            "limits": _say("limits", name=outcome.name) or None,
        }
        for outcome in sorted(outcomes, key=lambda outcome: list(_FIGURES).index(outcome.name))
    ]
    columns: list[Column] = [
        ("figure", "number"),
        ("the paper shows", "paper"),
        ("here", "here"),
        ("section", "section"),
        ("what cannot be had", "limits"),
    ]
    found = Outcome(_OVERVIEW, "The paper, figure by figure", facts={"figures": records})
    items = Items(__name__, {})
    found.items = [items.text("overview"), items.table("figures", records, columns)]
    return found
