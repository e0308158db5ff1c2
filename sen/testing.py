"""Contract tests that every model and every symmetry block must pass, those of plug-ins included.

The test file of a model or a block is one subclass::

    class TestMyModel(ModelContracts):
        model = MyModel

    class TestMyBlock(BlockContracts):
        block = MyBlock

Most of them compare, in float64, the answers for several descriptions of the same crystals. `run_contracts`, which
`sen-bench check-block` calls, runs them without pytest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args
from unittest import SkipTest

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from sen.batch import CrystalBatch, to_tensors
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config, SENConfig
from sen.crystal import SYMBOLS, Crystal, refine
from sen.graph import Cells, Graph, build_graph, join_graphs
from sen.models import CrystalModel, FittedModel, ModelOutput, find_fault
from sen.network import SEN
from sen.registry import guard, load_block, load_model, variant_kind

__all__ = ["BlockContracts", "ContractResult", "ModelContracts", "collate", "run_contracts", "sample_crystals"]

#: Largest difference between two descriptions of one crystal, relative to the largest number compared, in float64.
TOLERANCE = 1e-9
#: Largest difference between float32 and float64, relative likewise.
SINGLE_TOLERANCE = 1e-4


def sample_crystals() -> list[Crystal]:
    """Return crystals with different difficulties: high symmetry or none, one atom, no neighbours, many elements."""

    def crystal(cell: Sequence[float] | NDArray[np.float64], symbols: str, positions: object) -> Crystal:
        numbers = [SYMBOLS.index(symbol) + 1 for symbol in symbols.split()]
        lattice = np.diag(cell) if np.ndim(cell) == 1 else cell
        return refine(lattice, np.array(positions, dtype=float).reshape(-1, 3), numbers)

    half, u = 0.5, 0.305
    rutile = [[0, 0, 0], [half, half, half], [u, u, 0], [1 - u, 1 - u, 0], [half + u, half - u, half]]
    rutile.append([half - u, half + u, half])
    perovskite = [[0, 0, 0], [half] * 3, [half, half, 0], [half, 0, half], [0, half, half]]
    rng = np.random.default_rng(7)
    triclinic = np.array([[4.1, 0.0, 0.0], [1.1, 5.2, 0.0], [0.7, -0.9, 6.3]])
    fcc = np.array([[0, half, half], [half, 0, half], [half, half, 0]])
    return [
        crystal([4.6, 4.6, 2.96], "Ti Ti O O O O", rutile),
        crystal([3.9, 3.9, 3.9], "Sr Ti O O O", perovskite),
        crystal(5.64 * fcc, "Na Cl", [[0, 0, 0], [half] * 3]),
        crystal(3.61 * fcc, "Cu", [0, 0, 0]),
        crystal(triclinic, "Li Fe P O O", rng.random((5, 3))),
        crystal([9.0, 9.1, 9.2], "He", [0, 0, 0]),
        crystal([9.0, 9.1, 20.0], "Ar N N", [[0, 0, 0], [0, 0, 0.47], [0, 0, 0.53]]),
    ]


def collate(graphs: Sequence[Graph], dtype: torch.dtype = torch.float64) -> CrystalBatch:
    """Return graphs, in their order, as one batch."""

    def batch(graph: Graph) -> CrystalBatch:
        asymmetric = None if graph.asymmetric is None else batch(graph.asymmetric)
        return CrystalBatch.from_graphs(*to_tensors(graph, dtype=dtype), asymmetric)

    return batch(join_graphs(graphs))


class ModelContracts:
    """What a model must satisfy, with its default configuration and the graphs of its publication.

    A subclass sets `model`. The contracts about the interface, `test_interface_...`, come first: a model that breaks
    one of them can keep no other.
    """

    model: ClassVar[type[CrystalModel]]

    @property
    def is_chiral(self) -> bool:
        """Whether the model may distinguish a crystal from its mirror image."""
        return self.model.chiral

    @property
    def needs_full_cells(self) -> bool:
        """Whether the model never receives asymmetric units."""
        return self.model.cells == "full"

    def crystals(self) -> Sequence[Crystal]:
        """Return the crystals to test with, all different; a subclass may return others."""
        return sample_crystals()

    def construct(self) -> CrystalModel:
        """Return a new model with the default configuration; a subclass may return another."""
        return self.model(self.model.Config())

    def build(self, seed: int = 0) -> CrystalModel:
        """Return the model in float64, in evaluation mode; weights and statistics of batches are drawn from `seed`.

        One that is fitted is fitted to random targets of the crystals.
        """
        torch.manual_seed(seed)
        model = self.construct()
        if isinstance(model, FittedModel):
            crystals = self.crystals()
            target = np.random.default_rng(seed).normal(size=len(crystals))
            model.fit([self.batch(crystals)], target, is_classification=False, seed=seed)
        for module in model.modules():
            for name, statistics in module.named_buffers(recurse=False):
                if name == "running_mean":
                    statistics.normal_(std=0.3)
                elif name == "running_var":
                    statistics.uniform_(0.5, 2.0)
        return model.double().eval()

    def batch(self, crystals: Sequence[Crystal], cells: Cells | None = None) -> CrystalBatch:
        """Return a batch of crystals, as the kind of graph that the model needs by default."""
        cells = cells or ("full" if self.needs_full_cells else "asymmetric")
        settings = {name: value for name, value in self.model.graph.items() if name != "cells"}
        return collate([build_graph(crystal, cells=cells, **settings) for crystal in crystals])

    def output(self, crystals: Sequence[Crystal], cells: Cells | None = None) -> ModelOutput:
        """Return the output of the model for crystals."""
        with torch.no_grad():
            output: ModelOutput = self.build()(self.batch(crystals, cells))
        return output

    def _skip_without_gradients(self) -> None:
        if issubclass(self.model, FittedModel):
            raise SkipTest("it is fitted without gradients")

    def assert_same_answer(self, changed: Sequence[Crystal], cells: Cells | None = None) -> None:
        """Fail unless `changed` gets the same predictions and material vectors as the crystals, in order."""
        expected, found = self.output(self.crystals(), cells), self.output(changed, cells)
        if expected.material is not None and found.material is not None:
            assert_close(found.material, expected.material, "material vectors")
        assert_close(found.prediction, expected.prediction, "predictions")

    def test_interface_class_is_a_model_with_a_configuration(self) -> None:
        model = self.model
        is_model = isinstance(model, type) and issubclass(model, CrystalModel)
        require(is_model, f"{model!r} is not a CrystalModel")
        _require_config(model)
        require(model.cells in get_args(Cells), f"its cells are {model.cells!r}, not 'asymmetric' or 'full'")
        require(isinstance(model.chiral, bool), f"its chiral is {model.chiral!r}, not a bool")
        require(model.cells == "full" or not model.chiral, "it is declared chiral, but distances have no handedness")
        require(isinstance(model.source, str), f"its source is {model.source!r}, not a string")
        for name in ("graph", "recipe"):
            require(isinstance(getattr(model, name), Mapping), f"its {name} is {getattr(model, name)!r}, not a mapping")

    def test_interface_output_has_the_declared_shapes(self) -> None:
        model, batch = self.build(), self.batch(self.crystals())
        output = model(batch)
        fault = find_fault(output, batch)
        require(not fault, fault)
        tensors = {"prediction": output.prediction, "atoms": output.atoms, "material": output.material, **output.extras}
        for name, tensor in tensors.items():
            is_finite = tensor is None or bool(tensor.isfinite().all())
            require(is_finite, f"{name} holds numbers that are not finite")

    def test_interface_undecayed_parameters_are_its_own(self) -> None:
        model = self.build()
        own = {id(parameter) for parameter in model.parameters()}
        foreign = [parameter for parameter in model.undecayed() if id(parameter) not in own]
        require(not foreign, "undecayed returns parameters that the model does not have")

    def test_different_crystals_get_different_answers(self) -> None:
        prediction = self.output(self.crystals()).prediction
        require(len(prediction.unique()) == len(prediction), "different crystals get the same prediction")

    def test_order_of_atoms_does_not_matter(self) -> None:
        rng = np.random.default_rng(1)

        def permuted(crystal: Crystal) -> Crystal:
            order = rng.permutation(len(crystal))
            return replace(
                crystal,
                positions=crystal.positions[order],
                numbers=crystal.numbers[order],
                orbit=crystal.orbit[order],
            )

        self.assert_same_answer([permuted(crystal) for crystal in self.crystals()])

    def test_rotation_does_not_matter(self) -> None:
        rotation = _rotation()
        self.assert_same_answer([replace(c, lattice=c.lattice @ rotation) for c in self.crystals()])

    def test_reflection_does_not_matter(self) -> None:
        if self.is_chiral:
            raise SkipTest("it is declared chiral, so it may distinguish a crystal from its mirror image")
        mirror = np.diag([1.0, 1.0, -1.0])
        self.assert_same_answer([replace(c, lattice=c.lattice @ mirror) for c in self.crystals()])

    def test_origin_does_not_matter(self) -> None:
        shift = np.array([0.137, 0.291, 0.483])
        self.assert_same_answer([replace(c, positions=c.positions + shift) for c in self.crystals()])

    def test_choice_of_primitive_cell_does_not_matter(self) -> None:
        self.assert_same_answer([_in_cell(c, np.array([[1, 1, 0], [0, 1, 0], [0, -2, 1]])) for c in self.crystals()])

    def test_supercell_does_not_matter(self) -> None:
        self.assert_same_answer([_in_cell(c, np.array([[2, 0, 0], [0, 1, 0], [1, 0, 2]])) for c in self.crystals()])

    def test_other_crystals_in_the_batch_do_not_matter(self) -> None:
        model = self.build()
        with torch.no_grad():
            together = model(self.batch(self.crystals())).prediction
            alone = torch.cat([model(self.batch([crystal])).prediction for crystal in self.crystals()])
        assert_close(alone, together, "predictions")

    def test_asymmetric_unit_and_full_cell_agree(self) -> None:
        if self.needs_full_cells:
            raise SkipTest("it never receives asymmetric units")
        asymmetric = self.output(self.crystals(), "asymmetric")
        full = self.output(self.crystals(), "full")
        assert_close(asymmetric.prediction, full.prediction, "predictions")
        if asymmetric.material is not None and full.material is not None:
            assert_close(asymmetric.material, full.material, "material vectors")
        if asymmetric.atoms is not None and full.atoms is not None:
            orbits = np.concatenate([c.orbit + s for c, s in _with_orbit_offsets(self.crystals())])
            assert_close(asymmetric.atoms[orbits], full.atoms, "environments of atoms")

    def test_single_precision_agrees_with_double(self) -> None:
        model, batch = self.build(), self.batch(self.crystals())
        with torch.no_grad():
            double = model(batch).prediction
            single = model.float()(batch.to(dtype=torch.float32)).prediction
        assert_close(single.double(), double, "predictions", SINGLE_TOLERANCE)

    def test_every_parameter_gets_a_gradient(self) -> None:
        self._skip_without_gradients()
        model = self.build()
        model(self.batch(self.crystals())).prediction.square().sum().backward()
        inert = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
        require(not inert, f"these parameters get no gradient: {', '.join(inert)}")

    def test_same_seed_gives_same_model_and_answer(self) -> None:
        first, second = (self.output(self.crystals()).prediction for _ in range(2))
        require(torch.equal(first, second), "the same weights and crystals give different answers")

    def test_gradients_are_the_same_every_time(self) -> None:
        self._skip_without_gradients()
        # Indexing with a tensor sums gradients in the order in which threads arrive; `index_select` does not. On the
        # CPU this changes results in single precision, where threads share the atoms of a crystal.
        model, batch = self.build().float(), self.batch([_large_crystal()]).to(dtype=torch.float32)

        def gradients() -> list[Tensor]:
            model.zero_grad()
            model(batch).prediction.square().sum().backward()
            return [p.grad.clone() for p in model.parameters() if p.grad is not None]

        threads = torch.get_num_threads()
        torch.set_num_threads(max(2, threads))
        try:
            first = gradients()
            for _ in range(3):
                require(all(map(torch.equal, gradients(), first)), "gradients differ from one time to the next")
        finally:
            torch.set_num_threads(threads)

    def test_saved_and_loaded_model_gives_same_answer(self) -> None:
        batch = self.batch(self.crystals())
        saved, loaded = self.build(seed=0), self.build(seed=1)
        loaded.load_state_dict(load(save({k: v.contiguous() for k, v in saved.state_dict().items()})))
        same = torch.equal(loaded(batch).prediction, saved(batch).prediction)
        require(same, "a model with the weights loaded gives different answers")

    def test_inner_vectors_rotate_with_the_crystal(self) -> None:
        """`extras["vectors"]` [N, C, 3] are polar vectors; prints their errors relative to the largest (pytest -rP)."""
        crystals = self.crystals()
        if "vectors" not in self.output(crystals).extras:
            raise SkipTest("it has no vectors")
        rotation = _rotation()
        changes = {"rotation": rotation}
        if not self.is_chiral:
            changes["reflection"] = rotation @ np.diag([1.0, 1.0, -1.0])
        for name, change in changes.items():
            changed = [replace(c, lattice=c.lattice @ change) for c in crystals]
            for dtype, tolerance in ((torch.float64, TOLERANCE), (torch.float32, 1e-4)):
                with torch.no_grad():
                    before, after = (
                        self.build().to(dtype)(self.batch(cs).to(dtype=dtype)).extras["vectors"]
                        for cs in (crystals, changed)
                    )
                require(float(before.abs().max()) > 1e-6, "all inner vectors are zero")
                turned = before @ torch.from_numpy(change).to(before)
                error = float((after - turned).abs().max() / turned.abs().max())
                print(f"{type(self).__name__}, {name}, {dtype}: inner vectors err by {error:.1e}")  # noqa: T201
                require(error < tolerance, f"inner vectors do not follow the {name}: {error:.1e}, relative, in {dtype}")


class BlockContracts(ModelContracts):
    """What a block must satisfy, alone and within SEN; a subclass sets `block`.

    Another `sen` holds the block to the contracts within another SEN, such as one with another readout.
    """

    model = SEN
    sen: SENConfig = SENConfig()
    block: ClassVar[type[SymmetryBlock]]

    test_interface_class_is_a_model_with_a_configuration = None  # type: ignore[assignment]  # SEN is one

    @property
    def is_chiral(self) -> bool:
        """Whether the block may distinguish a crystal from its mirror image."""
        return self.block.chiral

    @property
    def needs_full_cells(self) -> bool:
        """Whether the block reads vectors."""
        return self.block.needs_vectors

    def construct(self) -> SEN:
        """Return a new SEN, configured by `sen`, with the block in its default configuration."""
        return SEN(self.sen, self.block(self.sen.environment_width, self.block.Config()))

    def build(self, seed: int = 0) -> SEN:
        """Return SEN with the block in float64, in evaluation mode, its weights drawn from `seed`."""
        model = super().build(seed)
        assert isinstance(model, SEN)
        return model

    def test_interface_class_is_a_symmetry_block_with_a_configuration(self) -> None:
        block = self.block
        require(isinstance(block, type) and issubclass(block, SymmetryBlock), f"{block!r} is not a SymmetryBlock")
        _require_config(block)
        for name in ("needs_vectors", "chiral"):
            require(isinstance(getattr(block, name), bool), f"its {name} is {getattr(block, name)!r}, not a bool")
        require(block.needs_vectors or not block.chiral, "it is declared chiral, but distances have no handedness")
        require(isinstance(block.source, str), f"its source is {block.source!r}, not a string")

    def test_interface_default_block_declares_the_widths_of_what_it_returns(self) -> None:
        block = self.block(self.sen.environment_width, self.block.Config())
        width = getattr(block, "material_width", None)
        require(type(width) is int and width > 0, f"its material_width is {width!r}; the constructor must set it")
        width = block.atom_width
        is_width = width is None or (type(width) is int and width > 0)
        require(is_width, f"its atom_width is {width!r}, neither None nor a width")

    def test_interface_output_has_the_declared_shapes(self) -> None:
        model, batch = self.build(), self.batch(self.crystals())
        output = model.block(model.features(batch), batch)
        require(isinstance(output, SymmetryOutput), f"forward returns {type(output).__name__}, not a SymmetryOutput")
        tensors = {"atoms": output.atoms, "material": output.material, **output.extras}
        for name, tensor in tensors.items():
            require(isinstance(tensor, Tensor), f"{name} is {type(tensor).__name__}, not a Tensor")
        n_atoms, material = len(batch.numbers), (batch.n_crystals, model.block.material_width)
        width = model.block.atom_width
        require(
            output.atoms.ndim == 2 and len(output.atoms) == n_atoms and width in {None, output.atoms.shape[1]},
            f"atoms has the shape {tuple(output.atoms.shape)}; with {n_atoms} atoms and the atom_width declared it "
            f"must be ({n_atoms}, {'any width' if width is None else width})",
        )
        require(
            output.material.shape == material,
            f"material has the shape {tuple(output.material.shape)}; with {batch.n_crystals} crystals and the "
            f"material_width declared it must be {material}",
        )
        for name, tensor in tensors.items():
            require(bool(tensor.isfinite().all()), f"{name} holds numbers that are not finite")

    def test_interface_environments_given_are_left_as_they_are(self) -> None:
        model, batch = self.build(), self.batch(self.crystals())
        with torch.no_grad():
            environment = model.features(batch)
            before = environment.clone()
            model.block(environment, batch)
        require(torch.equal(environment, before), "forward changes in place the environments that it receives")


@dataclass(frozen=True)
class ContractResult:
    """The result of one contract.

    Attributes:
        contract: Its name in words.
        outcome: "passed", "failed" or "skipped".
        reason: Why it failed or was skipped.
    """

    contract: str
    outcome: Literal["passed", "failed", "skipped"]
    reason: str = ""


def run_contracts(variant: str | type[SymmetryBlock | CrystalModel]) -> Iterator[ContractResult]:
    """Test a model or block, a class or the name of one that is installed, against the contracts.

    It is tested in its default configuration.

    Yields the result of each contract as soon as it is known. A contract in which the plug-in raises an exception is
    broken, and the traceback goes to the logger `sen_bench` at level DEBUG. Once one about the interface is broken, the
    others are skipped.
    """
    given = variant if isinstance(variant, type) else None
    is_block = issubclass(given, SymmetryBlock) if given else variant_kind(str(variant)) == "block"

    class Contracts(BlockContracts if is_block else ModelContracts):  # type: ignore[misc]
        pass

    def load() -> None:
        if is_block:
            Contracts.block = given or load_block(str(variant))
        else:
            Contracts.model = given or load_model(str(variant))

    contracts = {f"interface: entry point leads to a {'symmetry block' if is_block else 'model'}": load}
    members = [member for owner in Contracts.mro() for member in vars(owner) if member.startswith("test_")]
    for member in sorted(members, key=lambda member: not member.startswith("test_interface")):
        words = member.removeprefix("test_").replace("interface_", "interface: ").replace("_", " ")
        if contract := getattr(Contracts(), member):
            contracts.setdefault(words, contract)
    interface_is_broken = False
    for words, contract in contracts.items():
        if interface_is_broken:
            yield ContractResult(words, "skipped", "the interface is broken")
            continue
        result = _try_contract(words, contract)
        interface_is_broken = result.outcome == "failed" and words.startswith("interface")
        yield result


def _try_contract(words: str, contract: Callable[[], None]) -> ContractResult:
    reasons: list[str] = []

    def note(error: Exception) -> None:
        raised = "" if isinstance(error, AssertionError) else f"{type(error).__name__}: "
        reasons.append(f"{raised}{error}")

    try:
        with guard(f"The contract {words!r} is broken.", note, passing=SkipTest):
            contract()
    except SkipTest as skip:
        return ContractResult(words, "skipped", str(skip))
    return ContractResult(words, "failed" if reasons else "passed", *reasons)


def _require_config(owner: type) -> None:
    config = getattr(owner, "Config", None)
    declared = isinstance(config, type) and issubclass(config, Config)
    require(declared, f"its Config is {config!r}, which is not a subclass of sen.config.Config")


def require(condition: bool, message: str) -> None:
    """Fail with the message unless the condition holds; unlike `assert`, also under `python -O`."""
    if not condition:
        raise AssertionError(message)


def assert_close(found: Tensor, expected: Tensor, what: str, tolerance: float = TOLERANCE) -> None:
    """Fail, with the error in the message, unless two tensors agree relative to the largest expected number."""
    error = float((found - expected).abs().max() / expected.abs().max())
    require(error < tolerance, f"{what} differ by {error:.1e}, relative; allowed are {tolerance:.0e}")


def _rotation() -> NDArray[np.float64]:
    """Return a rotation that is unrelated to the axes of the crystals."""
    rotation: NDArray[np.float64]
    rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    return rotation


def _large_crystal() -> Crystal:
    """Return a crystal of 125 atoms without symmetry, in an order that separates neighbours."""
    rng = np.random.default_rng(3)
    sites = rng.permutation(np.stack(np.meshgrid(*[np.arange(5)] * 3), axis=-1).reshape(-1, 3))
    positions = (sites + rng.uniform(0, 0.2, sites.shape)) / 5
    return refine(14.0 * np.eye(3), positions, rng.integers(1, 90, len(sites)))


def _in_cell(crystal: Crystal, transformation: NDArray[np.int64]) -> Crystal:
    """Return a crystal in the cell whose lattice vectors, in terms of its own, are the rows of `transformation`."""
    size = round(abs(np.linalg.det(transformation)))
    inverse = np.linalg.inv(transformation)
    reach = range(-4, 5)
    shifts = np.array([[i, j, k] for i in reach for j in reach for k in reach])
    inside = shifts @ inverse
    shifts = shifts[((inside > -1e-9) & (inside < 1 - 1e-9)).all(axis=1)]
    assert len(shifts) == size
    return Crystal(
        lattice=transformation @ crystal.lattice,
        positions=(np.tile(crystal.positions, (size, 1)) + np.repeat(shifts, len(crystal), axis=0)) @ inverse,
        numbers=np.tile(crystal.numbers, size),
        orbit=np.tile(crystal.orbit, size),
        space_group=crystal.space_group,
    )


def _with_orbit_offsets(crystals: Sequence[Crystal]) -> list[tuple[Crystal, int]]:
    counts = [int(crystal.orbit.max()) + 1 for crystal in crystals]
    return list(zip(crystals, np.concatenate([[0], np.cumsum(counts)[:-1]]).tolist(), strict=True))
