"""Environments of atoms before and after the block, by the models of a run that did not see them in training."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.batches import GraphTensors, evaluation_batches
from benchmarks.config import RunConfig, restore_config
from benchmarks.crystals import CrystalTable, Progress
from benchmarks.errors import DataError, UsageError
from benchmarks.graphs import GraphTable, join_graphs
from benchmarks.machine import n_threads, prepare_arithmetic
from benchmarks.store import Run, Unit
from benchmarks.training import build_model
from sen.crystal import Crystal
from sen.graph import Cells, build_graph

if TYPE_CHECKING:
    from sen.model import SEN

__all__ = [
    "DescribedRows",
    "Environments",
    "Models",
    "describe_test_rows",
    "draw_test_rows",
    "rows_of_units",
]

# Crystals whose graphs are in memory at a time.
_CHUNK = 512


@dataclass(frozen=True, eq=False)
class Environments:
    """What a model makes of M crystals with N nodes in all; a node is an atom, or on asymmetric units an orbit.

    Attributes:
        before: Chemical environments before the block, [N, environment_width].
        after: Environments after the block, [N, D].
        material: Vector of each crystal from which the property is predicted, [M, material_width].
        node_ptr: First node of each crystal, int64 [M + 1].
        orbit_ptr: First entry of each crystal in `orbit_node`, int64 [M + 1].
        orbit_node: A node of each symmetry orbit, int64 [orbits].
        numbers: Atomic number of each node, uint8 [N].
        multiplicity: Atoms of the primitive cell that each node stands for, int32 [N].
        cells: What the nodes are.
        extras: Further outputs of the block, [M, ...] or [N, ...].
    """

    before: NDArray[Any]
    after: NDArray[Any]
    material: NDArray[Any]
    node_ptr: NDArray[np.int64]
    orbit_ptr: NDArray[np.int64]
    orbit_node: NDArray[np.int64]
    numbers: NDArray[np.uint8]
    multiplicity: NDArray[np.int32]
    cells: Cells
    extras: dict[str, NDArray[Any]]

    def __len__(self) -> int:
        """Number of crystals M."""
        return len(self.node_ptr) - 1

    def atom_nodes(self, i: int, crystal: Crystal) -> NDArray[np.int64]:
        """Node of each atom of crystal i, [atoms]."""
        within = crystal.orbit.astype(np.int64) if self.cells == "asymmetric" else np.arange(len(crystal))
        nodes: NDArray[np.int64] = self.node_ptr[i] + within
        return nodes

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
        units: The finished folds of the seed that has most of them.

    Raises:
        UsageError: The run has no finished fold, or its block is not installed.
        DataError: Its config.json cannot be read.
    """

    def __init__(self, run: Run, device: str = "cpu") -> None:
        self.run = run
        self.config: RunConfig = restore_config(run.read_config()["config"])
        self.device = device
        finished = run.units()
        if not finished:
            raise UsageError(f"{run.path} has no finished fold yet, and so no model to explain.")
        seeds = [unit.seed for unit in finished]
        seed = max(sorted(set(seeds)), key=seeds.count)
        self.units: list[Unit] = [unit for unit in finished if unit.seed == seed]
        self._loaded: dict[Unit, SEN] = {}

    @functools.cached_property
    def tested_by(self) -> dict[str, Unit]:
        """The unit that was tested on each row, by the row's id."""
        return {row: unit for unit in self.units for row in self.run.read_predictions(unit).ids}

    def load(self, unit: Unit, *, trained: bool = True) -> SEN:
        """Return the model of a unit, which is read once, or the one from which its training began.

        Raises:
            DataError: The weights do not fit the configuration: another version of the code made them.
        """
        import torch

        if not trained:
            with torch.random.fork_rng(devices=[]):
                # As the training draws them.
                torch.manual_seed(int(np.random.default_rng([unit.seed, unit.fold]).integers(2**63)))
                return build_model(self.config).to(self.device).eval()
        if unit not in self._loaded:
            # A copy takes a fraction of the time of drawing weights that are then overwritten.
            model = copy.deepcopy(self._blank)
            try:
                model.load_state_dict(self.run.read_weights(unit))
            except (RuntimeError, OSError) as error:
                raise DataError(
                    f"The weights in {self.run.unit_path(unit)} do not fit this version of sen-bench and its block "
                    f"{self.config.block_name!r}: use the version that trained them (metrics.json names it)."
                ) from error
            self._loaded[unit] = model.to(self.device).eval()
        return self._loaded[unit]

    @functools.cached_property
    def _blank(self) -> SEN:
        import torch

        with torch.random.fork_rng(devices=[]):
            return build_model(self.config)

    def describe(
        self,
        crystals: Sequence[Crystal],
        model: SEN,
        *,
        cells: Cells | None = None,
        exact: bool = False,
        progress: Progress | None = None,
    ) -> Environments:
        """Return what a model makes of crystals, in their order.

        Args:
            crystals: The crystals, at least one.
            model: One that `load` returned.
            cells: What the nodes are; None as the run has it. Vector blocks need full cells.
            exact: Whether to compute in float64, in which equivalent atoms of full cells agree to rounding.
            progress: Told how many crystals are done.
        """
        prepare_arithmetic(n_threads())
        settings = self.config.graph.model_dump()
        if cells is not None:
            settings["cells"] = cells
        if exact:
            model = copy.deepcopy(model).double()
        parts: list[dict[str, NDArray[Any]]] = []
        for start in range(0, len(crystals), _CHUNK):
            chunk = crystals[start : start + _CHUNK]
            graphs = [build_graph(crystal, **settings) for crystal in chunk]
            table = join_graphs(graphs)
            if exact:
                vectors = [graph.vector for graph in graphs if graph.vector is not None]
                vector = np.concatenate(vectors) if vectors else None
                # The table's types are those of the cache; a batch takes any.
                table = replace(table, distance=np.concatenate([g.distance for g in graphs]), vector=vector)  # type: ignore[arg-type]
            parts.append(_outputs(model, table, self.device, self.config.training.edge_budget))
            if progress is not None:
                progress(start + len(chunk), len(crystals))
        joined = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
        nodes = np.concatenate([[0], np.cumsum(joined.pop("nodes"))]).astype(np.int64)
        orbits = [np.unique(crystal.orbit, return_index=True)[1] for crystal in crystals]
        if settings["cells"] == "asymmetric":
            orbits = [np.arange(len(first)) for first in orbits]
        return Environments(
            **{name: joined.pop(name) for name in ("before", "after", "material", "numbers", "multiplicity")},
            node_ptr=nodes,
            orbit_ptr=np.concatenate([[0], np.cumsum([len(first) for first in orbits])]).astype(np.int64),
            orbit_node=np.concatenate([at + first for at, first in zip(nodes, orbits, strict=False)]),
            cells=settings["cells"],
            extras=joined,
        )


def _outputs(model: SEN, table: GraphTable, device: str, edge_budget: int) -> dict[str, NDArray[Any]]:
    """Outputs of a model for the crystals of a table in their order, with "nodes" (of each crystal)."""
    import torch

    graphs = GraphTensors(table, device)
    dtype = next(model.parameters()).dtype
    batches = evaluation_batches(np.arange(len(table)), graphs.n_edges, edge_budget=edge_budget)
    n_nodes = np.diff(np.asarray(table.node_ptr))
    found: dict[str, list[NDArray[Any]]] = {}
    per_node: dict[str, bool] = {}
    with torch.no_grad():
        for chosen in batches:
            batch = graphs.batch(chosen).to(dtype=dtype)
            output = model(batch)
            tensors = {
                "before": output.environment,
                "after": output.symmetry.atoms,
                "material": output.symmetry.material,
                **output.symmetry.extras,
            }
            for name, tensor in tensors.items():
                found.setdefault(name, []).append(tensor.cpu().numpy())
                # By its length alone the output of as many nodes as crystals could be either, and it is the same.
                per_node[name] = per_node.get(name, True) and len(tensor) == len(batch.numbers)
    order = np.argsort(np.concatenate(batches), kind="stable")
    sizes = n_nodes[np.concatenate(batches)]
    starts = np.cumsum(sizes) - sizes
    node_order = np.concatenate([np.arange(starts[i], starts[i] + sizes[i]) for i in order])
    result = {name: np.concatenate(pieces)[node_order if per_node[name] else order] for name, pieces in found.items()}
    return result | {
        "nodes": n_nodes,
        "numbers": np.asarray(table.numbers),
        "multiplicity": np.asarray(table.multiplicity),
    }


@dataclass(frozen=True, eq=False)
class DescribedRows:
    """Test rows of a run, each described by the model of the fold that did not see it.

    Rows of different folds are described by different models: compare atoms or crystals of one fold only.

    Attributes:
        rows: Positions in the table, int64 [M], grouped by fold.
        fold: Fold of each row, int64 [M].
        n_rows: Test rows of the run from which they were drawn.
        environments: What the models make of them.
    """

    rows: NDArray[np.int64]
    fold: NDArray[np.int64]
    n_rows: int
    environments: Environments


def rows_of_units(models: Models, table: CrystalTable) -> dict[Unit, NDArray[np.int64]]:
    """Return the positions in the table of the rows that each unit was tested on, ascending.

    Raises:
        UsageError: A row of the run is not in the table.
    """
    position = {row: i for i, row in enumerate(table.ids.tolist())}
    found: dict[Unit, list[int]] = {unit: [] for unit in models.units}
    for row, unit in models.tested_by.items():
        if row not in position:
            raise UsageError(
                f"The crystals at hand lack the row {row} that {models.run.path} was tested on: give the data of the "
                "run with --data-dir."
            )
        found[unit].append(position[row])
    return {unit: np.array(sorted(rows), dtype=np.int64) for unit, rows in found.items()}


def draw_test_rows(
    models: Models, table: CrystalTable, *, at_most: int, seed: int = 0
) -> tuple[dict[Unit, NDArray[np.int64]], int]:
    """Draw at most so many test rows, the same share of each fold; return them by unit, and how many there are."""
    rows = rows_of_units(models, table)
    total = sum(map(len, rows.values()))
    if total > at_most:
        rng = np.random.default_rng(seed)
        share = at_most / total
        rows = {unit: np.sort(rng.permutation(part)[: int(share * len(part))]) for unit, part in rows.items()}
    return {unit: part for unit, part in rows.items() if len(part)}, total


def describe_test_rows(
    models: Models,
    table: CrystalTable,
    *,
    trained: bool = True,
    at_most: int = 2000,
    among: NDArray[np.int64] | None = None,
    progress: Progress | None = None,
) -> DescribedRows:
    """Describe test rows of a run, all or a random sample with the same share of each fold.

    Args:
        models: The models.
        table: The crystals of the task.
        trained: Whether by the trained models, or by those from which their trainings began.
        at_most: Rows to draw.
        among: Of the rows drawn, the positions of those to describe; None for all.
        progress: Told how many crystals are done.
    """
    chosen = None if among is None else tuple(among.tolist())
    key = (str(models.run.path.resolve()), table.digest, tuple(models.units), trained, at_most, chosen)
    if key not in _described:
        while len(_described) >= _KEPT:
            _described.pop(next(iter(_described)))
        by_unit, n_rows = draw_test_rows(models, table, at_most=at_most)
        if among is not None:
            kept = {unit: rows[np.isin(rows, among)] for unit, rows in by_unit.items()}
            by_unit = {unit: rows for unit, rows in kept.items() if len(rows)}
        _described[key] = _describe_rows(models, table, by_unit, n_rows, trained=trained, progress=progress)
    return _described[key]


# Several sections of a report describe the same rows; beyond so many the oldest are forgotten.
_KEPT = 16
_described: dict[tuple[object, ...], DescribedRows] = {}


def _describe_rows(
    models: Models,
    table: CrystalTable,
    by_unit: dict[Unit, NDArray[np.int64]],
    n_rows: int,
    *,
    trained: bool,
    progress: Progress | None,
) -> DescribedRows:
    total = sum(map(len, by_unit.values()))
    parts, done = [], 0
    for unit, rows in by_unit.items():
        crystals = [table.crystal(int(row)) for row in rows]
        parts.append(models.describe(crystals, models.load(unit, trained=trained)))
        done += len(rows)
        if progress is not None:
            progress(done, total)
    return DescribedRows(
        rows=np.concatenate(list(by_unit.values())),
        fold=np.concatenate([np.full(len(rows), unit.fold) for unit, rows in by_unit.items()]),
        n_rows=n_rows,
        environments=_join(parts),
    )


def _join(parts: Sequence[Environments]) -> Environments:
    nodes = np.cumsum([0, *(part.node_ptr[-1] for part in parts)])
    orbits = np.cumsum([0, *(part.orbit_ptr[-1] for part in parts)])

    def pointers(name: str, shifts: NDArray[np.int64]) -> NDArray[np.int64]:
        shifted = [getattr(part, name)[:-1] + shift for part, shift in zip(parts, shifts, strict=False)]
        return np.concatenate([*shifted, shifts[-1:]])

    names = ("before", "after", "material", "numbers", "multiplicity")
    return Environments(
        **{name: np.concatenate([getattr(part, name) for part in parts]) for name in names},
        node_ptr=pointers("node_ptr", nodes),
        orbit_ptr=pointers("orbit_ptr", orbits),
        orbit_node=np.concatenate([part.orbit_node + shift for part, shift in zip(parts, nodes, strict=False)]),
        cells=parts[0].cells,
        extras={name: np.concatenate([part.extras[name] for part in parts]) for name in parts[0].extras},
    )
