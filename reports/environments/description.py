"""Environments of atoms, by the models of a run that did not see the atoms in training."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.base.errors import DataError, SenBenchError, UsageError
from benchmarks.base.machine import n_threads, prepare_arithmetic
from benchmarks.base.workers import Progress
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.tasks import Kind
from benchmarks.results.run_config import RunConfig, restore_config
from benchmarks.results.store import Run, Training, other_code
from benchmarks.training.loader import GraphTensors, evaluation_batches
from benchmarks.training.prediction import load_predictor
from benchmarks.training.trainer import Predictor, guard_model, probabilities, untrained_model
from reports.environments.operations import first_atoms, orbits_of_elements
from reports.study.study import Absent, Result, Study
from reports.study.wording import join
from sen.crystal import Crystal
from sen.graph import Cells, Graph, build_graph, join_graphs
from sen.models import CrystalModel, run_model
from sen.network import SEN

__all__ = [
    "DescribedRows",
    "Environments",
    "Models",
    "Stage",
    "StudyModels",
    "describe_test_rows",
    "inequivalent_rows",
    "open_models",
    "predictions",
    "rows_of_trainings",
    "shared_fold",
]

Stage = Literal["before", "after", "material"]
"""A stage of the description of M crystals with N nodes: the environments of the nodes before the block of SEN,
[N, environment_width]; the final ones, which are those of SEN after its block, [N, D]; and the vector of each crystal
from which the property is predicted, [M, width].
"""

DRAWN = 2000
"""At most this many test rows of a run are described."""

# Crystals whose graphs are in memory at a time.
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Environments:
    """Outputs of a model for M crystals with N nodes in all; a node is an atom, or in asymmetric units an orbit.

    Attributes:
        stages: The stages that the model gives: "before" of SEN alone, the others of most models.
        node_ptr: First node of each crystal, int64 [M + 1].
        orbit_ptr: First entry of each crystal in `orbit_node`, int64 [M + 1].
        orbit_node: A node of each symmetry orbit, int64 [orbits].
        numbers: Atomic number of each node, uint8 [N].
        multiplicity: Atoms of the primitive cell that each node stands for, int32 [N].
        cells: What the nodes are.
        prediction: Standardised prediction for each crystal, [M].
        extras: Further outputs of the model, [M, ...] or [N, ...].
    """

    stages: dict[Stage, NDArray[Any]]
    node_ptr: NDArray[np.int64]
    orbit_ptr: NDArray[np.int64]
    orbit_node: NDArray[np.int64]
    numbers: NDArray[np.uint8]
    multiplicity: NDArray[np.int32]
    cells: Cells
    prediction: NDArray[Any]
    extras: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        """Number of crystals M."""
        return len(self.node_ptr) - 1

    @property
    def widths(self) -> dict[Stage, int]:
        """Components of an environment before the block of SEN, and of a final one."""
        return {stage: values.shape[1] for stage, values in self.stages.items() if stage != "material"}

    @property
    def before(self) -> NDArray[Any]:
        """Environments before the block of SEN, [N, environment_width]."""
        return self.stages["before"]

    @property
    def after(self) -> NDArray[Any]:
        """Final environments, [N, D]."""
        return self.stages["after"]

    @property
    def material(self) -> NDArray[Any]:
        """Vector of each crystal from which the property is predicted, [M, width]."""
        return self.stages["material"]

    def atom_nodes(self, i: int, crystal: Crystal) -> NDArray[np.int64]:
        """Node of each atom of crystal i, [atoms]."""
        within = crystal.orbit.astype(np.int64) if self.cells == "asymmetric" else np.arange(len(crystal))
        nodes: NDArray[np.int64] = self.node_ptr[i] + within
        return nodes

    def mean_over_atoms(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the mean of values of the nodes [N, ...] over the atoms of each crystal, [M, ...]."""
        weight = self.multiplicity.astype(values.dtype).reshape(-1, *[1] * (values.ndim - 1))
        first = self.node_ptr[:-1]
        means: NDArray[Any] = np.add.reduceat(weight * values, first) / np.add.reduceat(weight, first)
        return means

    def orbit_nodes(self, i: int) -> NDArray[np.int64]:
        """One node of each symmetry orbit of crystal i, in the order of the orbits."""
        return self.orbit_node[self.orbit_ptr[i] : self.orbit_ptr[i + 1]]


class Models:
    """The models of one seed of a run, each with the rows that it was tested on.

    Args:
        run: The run.
        device: "cpu", "cuda" or "cuda:N".

    Attributes:
        run: The run.
        config: Its configuration.
        trainings: The finished folds of the seed that has most of them, except those whose weights were removed.
        problems: What was left out and why, a sentence each.

    Raises:
        UsageError: The run has no finished fold, or its block or model is not installed.
        DataError: Its config.json cannot be read, or all its weights were removed.
    """

    def __init__(self, run: Run, device: str = "cpu") -> None:
        self.run = run
        self.config: RunConfig = restore_config(run.read_config()["config"])
        self.device = device
        finished = run.trainings()
        if not finished:
            raise UsageError(f"{run.path} has no finished fold yet, so there is no model to explain.")
        has_weights = [training for training in finished if run.has_weights(training)]
        if not has_weights:
            raise DataError(
                f"{run.path} holds no weights (they were removed, or it is in an archive), and without a model there "
                "are no environments: copy model.safetensors back into a folder of runs, or train again with "
                "`sen-bench run --overwrite always`."
            )
        seeds = [training.seed for training in has_weights]
        seed = max(sorted(set(seeds)), key=seeds.count)
        self.trainings: list[Training] = [training for training in has_weights if training.seed == seed]
        self.problems: list[str] = []
        if removed := [str(training) for training in finished if training.seed == seed and training not in has_weights]:
            self.problems.append(
                f"The weights of {'; '.join(removed)} of {run.path} were removed, so their test rows have no "
                "environments and are left out."
            )
        self.problems += [
            f"{difference}, and the environments are those of what is installed, which may be another model."
            for difference in other_code(run, self.trainings, self.config.variant)
        ]
        self._loaded: dict[Training, Predictor] = {}

    @functools.cached_property
    def tested_by(self) -> dict[str, Training]:
        """The training that was tested on each row, by the id of the row."""
        return {row: training for training in self.trainings for row in self.run.read_predictions(training).ids}

    def stages(self, crystal: Crystal) -> set[Stage]:
        """Return which stages the first model gives, shown by the description of a crystal.

        Raises:
            RunError: The model of a plug-in raises, or returns something else than a ModelOutput.
        """
        return set(self.describe([crystal], self.load(self.trainings[0])).stages)

    def keep_loadable(self) -> None:
        """Load all models, and leave out the trainings whose weights cannot be used.

        Raises:
            SenBenchError: No weights can be used.
        """
        kept, errors = [], []
        for training in self.trainings:
            try:
                self.load(training)
            except SenBenchError as error:
                errors.append(error)
            else:
                kept.append(training)
        if not kept:
            raise errors[0]
        self.trainings = kept
        self.problems += [str(error) for error in errors]

    def load(self, training: Training, *, trained: bool = True) -> Predictor:
        """Return the model of a training, which is read once, or the untrained model from which it began.

        Raises:
            DataError: The weights do not fit the configuration: another version of the code made them.
        """
        if not trained:
            with torch.random.fork_rng(devices=[]):
                model, _ = untrained_model(self.config, training.seed, training.fold)
            return Predictor(model).to(self.device).eval()
        if training not in self._loaded:
            with torch.random.fork_rng(devices=[]):
                self._loaded[training] = load_predictor(self.config, self.run, training).to(self.device).eval()
        return self._loaded[training]

    def describe(
        self,
        crystals: Sequence[Crystal],
        predictor: Predictor,
        *,
        cells: Cells | None = None,
        exact: bool = False,
        progress: Progress | None = None,
    ) -> Environments:
        """Return the outputs of a model for crystals, in their order.

        Args:
            crystals: The crystals, at least one.
            predictor: One that `load` returned.
            cells: What the nodes are; None for the cells of the run. What reads vectors needs full cells.
            exact: Whether to compute in float64, in which equivalent atoms of full cells agree to rounding.
            progress: Called with the number of crystals described.

        Raises:
            RunError: The model of a plug-in raises, or returns something else than a ModelOutput.
        """
        prepare_arithmetic(n_threads())
        settings = self.config.graph.edges
        if cells is not None:
            settings["cells"] = cells
        if exact:
            predictor = copy.deepcopy(predictor).double()
        parts = []
        for start in range(0, len(crystals), _CHUNK):
            chunk = crystals[start : start + _CHUNK]
            graph = join_graphs([build_graph(crystal, **settings) for crystal in chunk])
            with guard_model(self.config.variant, self.device):
                stages, prediction, extras = _outputs(
                    *(predictor.model, graph, self.device, self.config.training.edge_budget),
                    progress=_progress_of_part(progress, start, len(crystals)),
                )
            orbits = [first_atoms(crystal) for crystal in chunk]
            if settings["cells"] == "asymmetric":
                orbits = [np.arange(len(first)) for first in orbits]
            parts.append(
                Environments(
                    stages=stages,
                    node_ptr=graph.node_ptr,
                    orbit_ptr=np.cumsum([0, *map(len, orbits)]),
                    orbit_node=np.concatenate([at + first for at, first in zip(graph.node_ptr, orbits, strict=False)]),
                    numbers=graph.numbers,
                    multiplicity=graph.multiplicity,
                    cells=settings["cells"],
                    prediction=prediction,
                    extras=extras,
                )
            )
        return _join(parts)


def _progress_of_part(progress: Progress | None, before: int, total: int) -> Progress:
    """Return the progress of a part that begins when `before` of `total` crystals are done."""

    def show(done: int, _: int | None) -> None:
        if progress is not None:
            progress(before + done, total)

    return show


def _outputs(
    model: CrystalModel, graph: Graph, device: str, edge_budget: int, *, progress: Progress
) -> tuple[dict[Stage, NDArray[Any]], NDArray[Any], dict[str, NDArray[Any]]]:
    """Return the outputs of a model for the crystals of a graph, in their order: stages, predictions and extras."""
    graphs = GraphTensors(graph, device, next(model.parameters()).dtype)
    n_nodes = np.diff(graph.node_ptr)
    # The rows of each crystal in each output, which has a row for each node or for each crystal.
    stages: dict[Stage, dict[int, NDArray[Any]]] = {}
    extras: dict[str, dict[int, NDArray[Any]]] = {}
    prediction: dict[int, NDArray[Any]] = {}
    with torch.no_grad():
        for chosen in evaluation_batches(np.arange(len(graphs)), model.cost(graph), edge_budget=edge_budget):
            output = run_model(model, graphs.batch(chosen))

            def by_crystal(tensor: Tensor, chosen: NDArray[np.int64] = chosen) -> dict[int, NDArray[Any]]:
                # With as many nodes as crystals it is the same.
                sizes = n_nodes[chosen] if len(tensor) == n_nodes[chosen].sum() else np.ones_like(chosen)
                rows = np.split(tensor.cpu().numpy(), np.cumsum(sizes)[:-1])
                return dict(zip(chosen.tolist(), rows, strict=True))

            given: dict[Stage, Tensor | None] = {
                "before": output.extras["environment"] if isinstance(model, SEN) else None,
                "after": output.atoms,
                "material": output.material,
            }
            for stage, tensor in given.items():
                if tensor is not None:
                    stages.setdefault(stage, {}).update(by_crystal(tensor))
            for name, extra in output.extras.items():
                if name != "environment" and len(extra) in {len(chosen), n_nodes[chosen].sum()}:
                    extras.setdefault(name, {}).update(by_crystal(extra))
            prediction.update(by_crystal(output.prediction))
            progress(len(prediction), len(graphs))

    def in_order(rows: dict[int, NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([rows[i] for i in range(len(graphs))])

    return (
        {stage: in_order(rows) for stage, rows in stages.items()},
        in_order(prediction),
        {name: in_order(rows) for name, rows in extras.items()},
    )


def _join(parts: Sequence[Environments]) -> Environments:
    """Return the environments of several groups of crystals as those of one."""
    if len(parts) == 1:
        return parts[0]
    nodes, orbits = (np.cumsum([0, *(getattr(part, ptr)[-1] for part in parts)]) for ptr in ("node_ptr", "orbit_ptr"))

    def shifted(name: str, shifts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        return [getattr(part, name) + shift for part, shift in zip(parts, shifts, strict=False)]

    names = ("prediction", "numbers", "multiplicity")
    return Environments(
        stages={stage: np.concatenate([part.stages[stage] for part in parts]) for stage in parts[0].stages},
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        node_ptr=np.concatenate([*(ptr[:-1] for ptr in shifted("node_ptr", nodes)), nodes[-1:]]),
        orbit_ptr=np.concatenate([*(ptr[:-1] for ptr in shifted("orbit_ptr", orbits)), orbits[-1:]]),
        orbit_node=np.concatenate(shifted("orbit_node", nodes)),
        cells=parts[0].cells,
        extras={name: np.concatenate([part.extras[name] for part in parts]) for name in parts[0].extras},
    )


@dataclass(frozen=True, eq=False)
class DescribedRows:
    """Test rows of a run, each described by the model of the fold that did not see it.

    Rows of different folds are described by different models: compare atoms or crystals of one fold only.

    Attributes:
        rows: Positions in the table, int64 [M], grouped by fold.
        fold: Fold of each row, int64 [M].
        n_rows: Test rows of the run from which they were drawn.
        environments: Their environments.
    """

    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    n_rows: int
    environments: Environments


@dataclass(frozen=True, eq=False)
class StudyModels:
    """The models of a study, and the crystals that they describe.

    Attributes:
        table: The crystals of the task.
        runs: The runs with a model that can be loaded, each with its models. First comes the run that a figure of one
            run shows: that of the capsule block if there is one.
        stages: The stages that the models of each of them give.
        problems: Which runs and folds are left out and why, and which runs were trained on another file; a sentence
            each.
    """

    table: CrystalTable
    runs: list[tuple[Result, Models]]
    stages: list[set[Stage]]
    problems: list[str]

    def giving(self, stage: Stage) -> StudyModels:
        """Return only the runs whose models give a stage, and name the others among the problems."""
        kept = [i for i, given in enumerate(self.stages) if stage in given]
        others = [result.label for i, (result, _) in enumerate(self.runs) if i not in kept]
        problems = self.problems + ([_LACKS[stage].format(join(others))] if others else [])
        return StudyModels(self.table, [self.runs[i] for i in kept], [self.stages[i] for i in kept], problems)


# What is said of models that do not give a stage.
_LACKS: dict[Stage, str] = {
    "before": "Only SEN has environments before a block, so figures of these leave out {}.",
    "after": "Left out, because the model gives no environments of atoms: {}.",
    "material": "Left out, because the model gives no vector of a crystal from which it predicts: {}.",
}


# Verifying the files of all runs and reading their weights takes longer than many an analysis.
_opened: WeakKeyDictionary[Study, StudyModels] = WeakKeyDictionary()


def open_models(study: Study, stage: Stage, progress: Progress | None = None) -> StudyModels:
    """Load the models of a study that give a stage, and its crystals; they are loaded once.

    Raises:
        Absent: There is no run, the crystals are not available, no model can be loaded, or none gives the stage.
    """
    if not study.runs:
        raise Absent(
            "Published predictions come without a model, so there are no environments to look into: give the folder of "
            "a run."
        )
    table = study.crystals(progress)
    if study not in _opened:
        first = next((result for result in study.runs if result.variant == "capsule"), study.runs[0])
        runs: list[tuple[Result, Models]] = []
        stages: list[set[Stage]] = []
        errors: list[tuple[Run, str]] = []
        for result in sorted(study.runs, key=lambda result: result is not first):
            assert result.run is not None
            try:
                models = Models(result.run)
                models.keep_loadable()
                given = models.stages(table.crystal(0))
            except SenBenchError as error:
                errors.append((result.run, str(error)))
            else:
                runs.append((result, models))
                stages.append(given)
        if not runs:
            raise Absent(f"No model can be loaded: {_summarise(errors)}")
        problems = [error for _, error in errors] + [problem for _, models in runs for problem in models.problems]
        _opened[study] = StudyModels(table, runs, stages, [*problems, *study.on_other_content()])
    opened = _opened[study].giving(stage)
    if not opened.runs:
        raise Absent(opened.problems[-1])
    return opened


def _summarise(errors: Sequence[tuple[Run, str]]) -> str:
    """Give each error once, and name the other runs that have the same one."""
    same: dict[str, list[tuple[Run, str]]] = {}
    for run, error in errors:
        same.setdefault(error.replace(str(run.path), ""), []).append((run, error))
    sentences = []
    for (_, error), *others in same.values():
        sentences.append(error)
        if others:
            sentences.append(f"The same is true of {join(run.path.name for run, _ in others)}.")
    return " ".join(sentences)


def predictions(predictor: Predictor, environments: Environments, kind: Kind) -> NDArray[np.float64]:
    """Return the predictions [M] that go with environments, in the unit of the target; probabilities of a class."""
    # Environments are on the CPU, and the model may be on a GPU.
    standardised = torch.as_tensor(environments.prediction).to(predictor.shift.device)
    found: NDArray[np.float64] = predictor.in_unit(standardised).cpu().numpy().astype(np.float64)
    return probabilities(found) if kind == "classification" else found


def shared_fold(runs: Sequence[Models]) -> int:
    """Return the lowest fold that all runs have finished, or else the lowest of the first."""
    folds = [{training.fold for training in models.trainings} for models in runs]
    return min(set.intersection(*folds) or folds[0])


def rows_of_trainings(models: Models, table: CrystalTable) -> dict[Training, NDArray[np.int64]]:
    """Return the positions in the table of the rows that each training was tested on, ascending.

    Raises:
        Absent: A row of the run is not in the table.
    """
    position = {row: i for i, row in enumerate(table.ids.tolist())}
    if lacking := [row for row in models.tested_by if row not in position]:
        raise Absent(
            f"The available crystals lack {len(lacking):,} of the {len(models.tested_by):,} rows that "
            f"{models.run.path} was tested on, such as {lacking[0]}: give the data of the run with --data-dir."
        )
    found: dict[Training, list[int]] = {training: [] for training in models.trainings}
    for row, training in models.tested_by.items():
        found[training].append(position[row])
    return {training: np.array(sorted(rows), dtype=np.int64) for training, rows in found.items()}


def draw_test_rows(models: Models, table: CrystalTable, *, at_most: int = DRAWN) -> dict[Training, NDArray[np.int64]]:
    """Draw at most this many test rows of a run, the same share of each fold; return their positions by training.

    Raises:
        Absent: A row of the run is not in the table.
    """
    rows = rows_of_trainings(models, table)
    share = at_most / sum(map(len, rows.values()))
    if share < 1:
        rng = np.random.default_rng(0)
        rows = {training: np.sort(rng.permutation(part)[: int(share * len(part))]) for training, part in rows.items()}
    return {training: part for training, part in rows.items() if len(part)}


def inequivalent_rows(table: CrystalTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of the rows whose crystals have inequivalent atoms of one element, and more than one element."""
    orbits = {row: orbits_of_elements(table.crystal(row)) for row in rows.tolist()}
    return np.array([row for row, counts in orbits.items() if len(counts) > 1 and counts.max() > 1], dtype=np.int64)


def describe_test_rows(
    models: Models, table: CrystalTable, *, trained: bool = True, progress: Progress | None = None
) -> DescribedRows:
    """Describe test rows of a run, all or a random sample of 2,000 with the same share of each fold.

    They are described by the trained models, or else by those from which their trainings began.

    The progress is the number of rows described.

    Raises:
        Absent: A row of the run is not in the table.
    """
    drawn = draw_test_rows(models, table)
    n_drawn = sum(map(len, drawn.values()))
    parts: list[Environments] = []
    for training, rows in drawn.items():
        of_fold = _progress_of_part(progress, sum(map(len, parts)), n_drawn)
        parts.append(_describe_rows(models, table, training, rows, trained=trained, progress=of_fold))
    folds = np.repeat([training.fold for training in drawn], [len(rows) for rows in drawn.values()])
    return DescribedRows(np.concatenate(list(drawn.values())), folds, len(models.tested_by), _join(parts))


# Several sections look at the same rows: environments of at most this many crystals are kept; the oldest are dropped.
_KEPT = 40_000
_kept: dict[tuple[object, ...], Environments] = {}


def _describe_rows(
    models: Models,
    table: CrystalTable,
    training: Training,
    rows: NDArray[np.int64],
    *,
    trained: bool,
    progress: Progress,
) -> Environments:
    key = (models, models.device, table.digest, training, trained, rows.tobytes())
    if key not in _kept:
        crystals = [table.crystal(row) for row in rows.tolist()]
        found = models.describe(crystals, models.load(training, trained=trained), progress=progress)
        while _kept and sum(map(len, _kept.values())) + len(rows) > _KEPT:
            _kept.pop(next(iter(_kept)))
        _kept[key] = found
    progress(len(rows), len(rows))
    return _kept[key]
