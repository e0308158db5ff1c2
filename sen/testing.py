"""Contract tests that every symmetry block must pass, alone or as a plug-in.

A block's test file is one subclass::

    class TestMyBlock(BlockContracts):
        block = MyBlock

All of them work in float64 on crystals whose answer cannot depend on how they are written down.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar
from unittest import SkipTest

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load, save
from torch import Tensor

from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock
from sen.config import SENConfig
from sen.crystal import SYMBOLS, Crystal, refine
from sen.graph import Cells, Graph, build_graph
from sen.model import SEN, SENOutput

__all__ = ["BlockContracts", "collate", "sample_crystals"]

#: Largest difference between two descriptions of one crystal, relative to the largest number compared, in float64.
TOLERANCE = 1e-9


def sample_crystals() -> list[Crystal]:
    """Crystals that differ in what is hard about them: high and no symmetry, one atom, no neighbours, many elements."""

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
    """Put graphs one after the other into a batch."""
    sizes = [len(graph.numbers) for graph in graphs]
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    degrees = np.concatenate([np.diff(graph.edge_ptr) for graph in graphs])
    neighbors = [graph.neighbor + offset for graph, offset in zip(graphs, offsets, strict=False)]
    vectors = [graph.vector for graph in graphs if graph.vector is not None]
    return CrystalBatch.from_arrays(
        numbers=torch.from_numpy(np.concatenate([graph.numbers for graph in graphs])).long(),
        multiplicity=torch.from_numpy(np.concatenate([graph.multiplicity for graph in graphs])).to(dtype),
        node_ptr=torch.from_numpy(offsets),
        edge_ptr=torch.from_numpy(np.concatenate([[0], np.cumsum(degrees)])),
        neighbor=torch.from_numpy(np.concatenate(neighbors)).long(),
        distance=torch.from_numpy(np.concatenate([graph.distance for graph in graphs])).to(dtype),
        vector=torch.from_numpy(np.concatenate(vectors)).to(dtype) if vectors else None,
    )


class BlockContracts:
    """What SEN with a block must satisfy; subclass it with `block` set."""

    block: ClassVar[type[SymmetryBlock]]

    def model(self, seed: int = 0) -> SEN:
        """SEN with the block in float64, its weights drawn from `seed`, ready for evaluation."""
        torch.manual_seed(seed)
        config = SENConfig()
        return SEN(config, self.block(config.environment_width, self.block.Config())).double().eval()

    def batch(self, crystals: Sequence[Crystal], cells: Cells | None = None) -> CrystalBatch:
        """A batch of the kind of graph the block asks for."""
        cells = cells or ("full" if self.block.needs_vectors else "asymmetric")
        return collate([build_graph(crystal, cells=cells) for crystal in crystals])

    def output(self, crystals: Sequence[Crystal], cells: Cells | None = None) -> SENOutput:
        """What the model says of crystals."""
        with torch.no_grad():
            output: SENOutput = self.model()(self.batch(crystals, cells))
        return output

    def assert_same_answer(self, changed: Sequence[Crystal], cells: Cells | None = None) -> None:
        """Fail unless `changed` gets the same predictions and material vectors as the sample crystals, in order."""
        expected, found = self.output(sample_crystals(), cells), self.output(changed, cells)
        assert_close(found.symmetry.material, expected.symmetry.material, "material vectors")
        assert_close(found.prediction, expected.prediction, "predictions")

    def test_output_has_the_declared_shape(self) -> None:
        crystals = sample_crystals()
        batch, model = self.batch(crystals), self.model()
        output = model(batch)
        assert output.prediction.shape == (len(crystals),)
        assert output.symmetry.material.shape == (len(crystals), model.block.material_width)
        assert output.symmetry.atoms.shape[0] == len(batch.numbers)
        assert bool(output.symmetry.atoms.isfinite().all())
        assert bool(output.prediction.isfinite().all())

    def test_different_crystals_get_different_answers(self) -> None:
        prediction = self.output(sample_crystals()).prediction
        assert len(prediction.unique()) == len(prediction), "crystals that differ are predicted to be the same"

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

        self.assert_same_answer([permuted(crystal) for crystal in sample_crystals()])

    def test_rotation_does_not_matter(self) -> None:
        rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
        rotation *= np.sign(np.linalg.det(rotation))
        self.assert_same_answer([replace(c, lattice=c.lattice @ rotation) for c in sample_crystals()])

    def test_reflection_does_not_matter(self) -> None:
        mirror = np.diag([1.0, 1.0, -1.0])
        self.assert_same_answer([replace(c, lattice=c.lattice @ mirror) for c in sample_crystals()])

    def test_origin_does_not_matter(self) -> None:
        shift = np.array([0.137, 0.291, 0.483])
        self.assert_same_answer([replace(c, positions=c.positions + shift) for c in sample_crystals()])

    def test_choice_of_primitive_cell_does_not_matter(self) -> None:
        self.assert_same_answer([_in_cell(c, np.array([[1, 1, 0], [0, 1, 0], [0, -2, 1]])) for c in sample_crystals()])

    def test_supercell_does_not_matter(self) -> None:
        self.assert_same_answer([_in_cell(c, np.array([[2, 0, 0], [0, 1, 0], [1, 0, 2]])) for c in sample_crystals()])

    def test_other_crystals_in_the_batch_do_not_matter(self) -> None:
        crystals = sample_crystals()
        together = self.output(crystals).prediction
        alone = torch.cat([self.output([crystal]).prediction for crystal in crystals])
        assert_close(alone, together, "predictions")

    def test_asymmetric_unit_and_full_cell_agree(self) -> None:
        if self.block.needs_vectors:
            raise SkipTest("a block that reads edge vectors is never given asymmetric units")
        asymmetric = self.output(sample_crystals(), "asymmetric")
        full = self.output(sample_crystals(), "full")
        assert_close(asymmetric.symmetry.material, full.symmetry.material, "material vectors")
        assert_close(asymmetric.prediction, full.prediction, "predictions")
        orbits = np.concatenate([c.orbit + s for c, s in _with_orbit_offsets(sample_crystals())])
        assert_close(asymmetric.symmetry.atoms[orbits], full.symmetry.atoms, "environments after the block")

    def test_every_parameter_gets_a_gradient(self) -> None:
        model = self.model()
        model(self.batch(sample_crystals())).prediction.square().sum().backward()
        inert = [name for name, p in model.named_parameters() if p.grad is None or not bool(p.grad.any())]
        assert not inert, f"these parameters get no gradient: {', '.join(inert)}"

    def test_same_seed_gives_same_model_and_answer(self) -> None:
        first, second = (self.output(sample_crystals()).prediction for _ in range(2))
        assert torch.equal(first, second), "the same weights and crystals give different answers"

    def test_saved_and_loaded_model_gives_same_answer(self) -> None:
        batch = self.batch(sample_crystals())
        saved, loaded = self.model(seed=0), self.model(seed=1)
        loaded.load_state_dict(load(save({k: v.contiguous() for k, v in saved.state_dict().items()})))
        assert torch.equal(loaded(batch).prediction, saved(batch).prediction)

    def test_inner_vectors_rotate_with_the_crystal(self) -> None:
        """`extras["vectors"]` [N, C, 3] are polar vectors; prints their errors relative to the largest (pytest -rP)."""
        crystals = sample_crystals()
        if "vectors" not in self.output(crystals).symmetry.extras:
            raise SkipTest("the block has no vectors")
        rotation, _ = np.linalg.qr(np.random.default_rng(2).normal(size=(3, 3)))
        rotation *= np.sign(np.linalg.det(rotation))
        for name, change in (("rotation", rotation), ("reflection", rotation @ np.diag([1.0, 1.0, -1.0]))):
            changed = [replace(c, lattice=c.lattice @ change) for c in crystals]
            for dtype, tolerance in ((torch.float64, TOLERANCE), (torch.float32, 1e-4)):
                with torch.no_grad():
                    before, after = (
                        self.model().to(dtype)(self.batch(cs).to(dtype=dtype)).symmetry.extras["vectors"]
                        for cs in (crystals, changed)
                    )
                assert float(before.abs().max()) > 1e-6, "all inner vectors are zero"
                turned = before @ torch.from_numpy(change).to(dtype)
                error = float((after - turned).abs().max() / turned.abs().max())
                print(f"{self.block.__name__}, {name}, {dtype}: inner vectors err by {error:.1e}")  # noqa: T201
                assert error < tolerance, f"inner vectors do not follow the {name}: {error:.1e}, relative, in {dtype}"


def assert_close(found: Tensor, expected: Tensor, what: str) -> None:
    """Fail, telling the error, unless two tensors agree to TOLERANCE relative to the largest number expected."""
    error = float((found - expected).abs().max() / expected.abs().max())
    assert error < TOLERANCE, f"{what} differ by {error:.1e}, relative; allowed are {TOLERANCE:.0e}"


def _in_cell(crystal: Crystal, transformation: NDArray[np.int64]) -> Crystal:
    """Describe a crystal in the cell whose lattice vectors are the rows of `transformation` in those of the crystal."""
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
