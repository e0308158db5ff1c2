"""The tasks that sen-bench runs, as declarative metadata, and where it finds their data files."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from benchmarks.base.cache import cache_folder
from benchmarks.base.errors import DataError, UsageError, suggest
from benchmarks.base.files import check_folder, expanded, file_digest, reading

__all__ = [
    "COMPOSITION_TASKS",
    "DATA_DIR_VARIABLE",
    "LEAVE_ONE_OUT",
    "OFFICIAL_SEED",
    "RESAMPLE",
    "TASKS",
    "DataFile",
    "Kind",
    "Task",
    "download_folder",
    "find_data_file",
    "get_task",
    "named_folder",
    "recorded_task",
]

Kind = Literal["regression", "classification"]

DATA_DIR_VARIABLE = "SEN_BENCH_DATA"

OFFICIAL_SEED = 18012019
"""The seed of the split file shipped with matbench 0.6 (matbench_v0.1_validation.json, "random_state")."""

LEAVE_ONE_OUT = ("point-group", "crystal-system", "element", "cluster")
"""Splits in which each group is a fold of its own; in the others by groups a fold tests many."""

RESAMPLE = "resample"
"""The split of which each fold is a random one of its own, drawn by the number of the fold; it has no last fold."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """One property to predict from crystal structures.

    The first five fields are enough to define a task.

    Attributes:
        name: Name on the command line, and the stem of the data file.
        target: Column of the data file that holds the target.
        unit: Unit of the target; empty for a classification.
        kind: What is predicted: a number, or the probability that the target is true.
        description: What the target is, in one line.
        n_rows: Number of rows of the complete data set; None where the data themselves define it.
        url: Address of the official file; None for a task outside MatBench.
        sha256: Hash of the official file, in hexadecimal.
        licence: Licence of the data, where their source states one.
        split: "folds" for MatBench's five, or another rule that assigns rows to training, validation and test (see
            `benchmarks.data.folds.check_split`).
        default_folds: Folds of "folds" or "resample" that a run takes by default.
        defaults: Configuration fields that have other defaults for this task.
        path: The folder or file of own data; None for a task that sen-bench knows by name.
        split_path: The split file, where the split is one.
    """

    name: str
    target: str
    unit: str
    kind: Kind
    description: str
    n_rows: int | None = None
    url: str | None = None
    sha256: str | None = None
    licence: str = "not stated"
    split: str = "folds"
    default_folds: tuple[int, ...] = (0, 1, 2, 3, 4)
    defaults: Mapping[str, object] = field(default_factory=dict)
    path: Path | None = None
    split_path: Path | None = None

    @property
    def is_official(self) -> bool:
        """Whether the data are those of a MatBench benchmark."""
        return self.url is not None

    @property
    def has_leaderboard(self) -> bool:
        """Whether results may stand beside the published ones: official data on the official folds."""
        return self.is_official and self.split == "folds"

    @property
    def is_resampled(self) -> bool:
        """Whether each fold is a random split of its own."""
        return self.split == RESAMPLE

    @property
    def not_assessable(self) -> dict[str, str]:
        """Why a question about two variants has no answer on this split, by its name in `contrasts.Comparison`.

        Folds of random rows, or of many random groups, are a sample of others. Folds of one group each are none.
        """
        name = self.split.partition(":")[0]
        if name in LEAVE_ONE_OUT:
            return {"on_new_data": "each fold tests a group of its own kind, and groups are no random sample"}
        return {"on_new_data": "a split file does not say how its folds were drawn"} if name == "file" else {}

    @property
    def title(self) -> str:
        """What it is called in tables and figures: its name, with its split unless that is the folds."""
        return self.name if self.split == "folds" else f"{self.name} ({self.split})"

    def facts(self) -> dict[str, Any]:
        """Return the facts about the task that a run records."""
        names = ("name", "target", "unit", "kind", "description", "n_rows", "licence", "is_official", "split")
        return {name: getattr(self, name) for name in names}

    @property
    def file_name(self) -> str:
        """Name of the complete data file."""
        return f"{self.name}.json.gz"

    def row_id(self, row: int) -> str:
        """Return the identifier of a row (counted from 0), for MatBench tasks the official one: "mb-phonons-0001"."""
        prefix = self.name.replace("matbench", "mb").replace("_", "-")
        digits = len(str(self.n_rows)) if self.n_rows is not None else 1
        return f"{prefix}-{row + 1:0{digits}d}"


class DataFile(NamedTuple):
    """A data file, and whether it holds the complete data set or only some of its rows."""

    path: Path
    coverage: Literal["complete", "partial"]


_MATERIALS_PROJECT = "CC BY 4.0 (Materials Project)"


def _matbench(name: str, *, kind: Kind = "regression", licence: str = _MATERIALS_PROJECT, **fields: Any) -> Task:
    url = f"https://ml.materialsproject.org/projects/{name}.json.gz"
    return Task(name=name, kind=kind, licence=licence, url=url, **fields)


# Columns, urls and hashes are those of matminer's dataset_metadata.json (0.10.1); rows, kinds and units those of
# matbench_v0.1_dataset_metadata.json in matbench 0.6. Neither states licences: the Materials Project publishes its data
# under CC BY 4.0, for the other sources none is claimed here.
_STRUCTURE_TASKS = (
    _matbench(
        "matbench_jdft2d",
        target="exfoliation_en",
        unit="meV/atom",
        n_rows=636,
        sha256="26057dc4524e193e32abffb296ce819b58b6e11d1278cae329a2f97817a4eddf",
        description="Exfoliation energy of layered crystals, OptB88vdW and TBmBJ (JARVIS-DFT).",
        licence="not stated (JARVIS-DFT)",
    ),
    _matbench(
        "matbench_phonons",
        target="last phdos peak",
        unit="1/cm",
        n_rows=1265,
        sha256="4db551f21ec5f577e6202725f10e34dfc509aa7df3a6bdaac497da7f6dbbb9b3",
        description="Frequency of the highest peak of the phonon density of states, DFPT (Petretto et al. 2018).",
        licence="not stated (Petretto et al. 2018, doi:10.1038/sdata.2018.65)",
    ),
    _matbench(
        "matbench_dielectric",
        target="n",
        unit="unitless",
        n_rows=4764,
        sha256="83befa09bc2ec2f4b6143afc413157827a90e5e2e42c1eb507ccfa01bf26a1d6",
        description="Refractive index, DFPT (Materials Project).",
    ),
    _matbench(
        "matbench_log_gvrh",
        target="log10(G_VRH)",
        unit="log10(GPa)",
        n_rows=10987,
        sha256="098af941f4c663270f1fe21abf20ffad6fb85ecbfcba5786ceac03983ac29da7",
        description="Decimal logarithm of the Voigt-Reuss-Hill shear modulus, DFT (Materials Project).",
    ),
    _matbench(
        "matbench_log_kvrh",
        target="log10(K_VRH)",
        unit="log10(GPa)",
        n_rows=10987,
        sha256="44b113ddb7e23aa18731a62c74afa7e5aa654199e0db5f951c8248a00955c9cd",
        description="Decimal logarithm of the Voigt-Reuss-Hill bulk modulus, DFT (Materials Project).",
    ),
    _matbench(
        "matbench_perovskites",
        target="e_form",
        unit="eV/unit cell",
        n_rows=18928,
        sha256="4641e2417f8ec8b50096d2230864468dfa08278dc9d257c327f65d0305278483",
        description="Heat of formation of the five-atom perovskite cell, RPBE (Castelli et al. 2012).",
        licence="not stated (Castelli et al. 2012, doi:10.1039/C2EE22341D)",
    ),
    _matbench(
        "matbench_mp_gap",
        target="gap pbe",
        unit="eV",
        n_rows=106113,
        sha256="58b65746bd88329986ed66031a2ac1369c7c522f7bc9f9081528e07097c2c057",
        description="Band gap, PBE (Materials Project).",
    ),
    _matbench(
        "matbench_mp_is_metal",
        target="is_metal",
        unit="",
        n_rows=106113,
        sha256="9a028ed5750a4c76ca36e9f3c8d48fe0bf3fb21b76ec2289e58ae7048d527919",
        description="Whether the crystal is a metal, PBE (Materials Project).",
        kind="classification",
    ),
    _matbench(
        "matbench_mp_e_form",
        target="e_form",
        unit="eV/atom",
        n_rows=132752,
        sha256="dedcb1d4ba2e3e50dbdd45ba5bc647a00e9c2bcf8f8bf556dc8e92caa39eb21f",
        description="Formation energy, DFT (Materials Project).",
    ),
)

_PROTOTYPES = Task(
    name="prototypes",
    target="energy",
    unit="eV/atom",
    kind="regression",
    description="Demonstration, not a benchmark: electrostatic (Ewald) energy of ionic crystals made by code.",
    licence="part of sen-bench",
    default_folds=(0,),
    # A law without noise, to be learnt within minutes: there is no noise to regularise against.
    defaults={"training.epochs": 20, "training.weight_decay": 0.01, "sen.dropout": 0.0},
)

COMPOSITION_TASKS = frozenset({"matbench_expt_gap", "matbench_expt_is_metal", "matbench_glass", "matbench_steels"})
"""The MatBench tasks without crystal structures, which sen-bench does not run."""

TASKS: Mapping[str, Task] = MappingProxyType({task.name: task for task in (*_STRUCTURE_TASKS, _PROTOTYPES)})
"""Every task by name: the nine MatBench structure tasks, smallest first, and the embedded `prototypes`."""


def get_task(name: str) -> Task:
    """Return the task of that name.

    Raises:
        UsageError: The name is unknown (the message suggests the nearest ones), or belongs to a MatBench task without
            crystal structures.
    """
    if name in COMPOSITION_TASKS:
        raise UsageError(
            f"{name} is a composition-only task of MatBench: its rows carry no crystal structure, "
            f"so SEN cannot be run on it. Available: {', '.join(sorted(TASKS))}."
        )
    if name not in TASKS:
        raise UsageError(f"There is no task {name!r}. {suggest(name, TASKS)}")
    return TASKS[name]


def recorded_task(facts: Mapping[str, Any]) -> Task:
    """Return the task that a run recorded (`Task.facts`)."""
    if facts["is_official"] and facts["name"] in TASKS:
        return replace(TASKS[facts["name"]], split=facts["split"])
    names = ("name", "target", "unit", "kind", "description", "n_rows", "licence", "split")
    return Task(**{name: facts[name] for name in names})


def find_data_file(task: Task, data_dir: Path | None = None) -> DataFile | None:
    """Look for the data file of a task, without downloading anything.

    The places are, in this order: the folder that the user names, for the complete file and then for a partial one;
    the folder where matminer keeps its files; the folder of sen-bench's downloads.

    Args:
        task: A task whose data are in a file.
        data_dir: Folder that the user names; None means the one in the environment variable SEN_BENCH_DATA, if set.

    Returns:
        The path and its coverage, or None where the file has to be downloaded. `<name>.json.gz` is complete, verified
        by its official hash; `<name>.partial.json.gz` holds some of the rows.

    Raises:
        UsageError: The folder that the user names does not exist.
        DataError: The complete file in that folder is not the official one.
    """
    if named := named_folder(data_dir):
        check_folder(named, f"(--data-dir or {DATA_DIR_VARIABLE}) to hold {task.file_name}")
        complete = named / task.file_name
        if complete.is_file():
            _check_hash(task, complete)
            return DataFile(complete, "complete")
        partial = named / f"{task.name}.partial.json.gz"
        if partial.is_file():
            return DataFile(partial, "partial")
    for folder in (_matminer_folder(), download_folder()):
        if folder is not None and (complete := folder / task.file_name).is_file():
            try:
                _check_hash(task, complete)
            except DataError:
                # The user did not choose this file, and need not repair it.
                message = "%s is not the official file of %s and is ignored."
                logging.getLogger("sen_bench").warning(message, complete, task.name)
            else:
                return DataFile(complete, "complete")
    return None


def named_folder(data_dir: Path | None) -> Path | None:
    """Return the data folder that the user names: `data_dir`, else SEN_BENCH_DATA; None where neither is given."""
    folder = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    return expanded(folder) if folder else None


def download_folder() -> Path:
    """Return the folder for downloads where the user names none."""
    return cache_folder() / "data"


def _matminer_folder() -> Path | None:
    """Return the folder where matminer keeps its files: MATMINER_DATA, else one in the package, if it is installed."""
    if folder := os.environ.get("MATMINER_DATA"):
        return expanded(folder)
    package = find_spec("matminer")
    if package is None or not package.submodule_search_locations:
        return None
    return Path(package.submodule_search_locations[0]) / "datasets"


def _check_hash(task: Task, path: Path) -> None:
    if task.sha256 is None:
        return
    with reading(path):
        found = file_digest(path)
    if found != task.sha256:
        raise DataError(
            f"{path} is not the official file of {task.name}: its sha256 is {found}, the official one {task.sha256}; "
            f"download it again from {task.url}, or name it {task.name}.partial.json.gz if it holds some of the rows."
        )
