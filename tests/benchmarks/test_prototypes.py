from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.crystals import CrystalTable
from benchmarks.folds import make_folds
from benchmarks.prototypes import IONS, ewald_energy, make_prototypes
from sen.crystal import SYMBOLS, crystal_system, refine
from sen.graph import build_graph

COULOMB = 14.399645  # e^2 / (4 pi epsilon_0) in eV Å
FCC = np.array([[0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def atomic_numbers(*symbols: str) -> np.ndarray:
    return np.array([SYMBOLS.index(symbol) + 1 for symbol in symbols])


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> CrystalTable:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEN_BENCH_CACHE", str(tmp_path_factory.mktemp("prototypes")))
        return make_prototypes()


def charges(numbers: np.ndarray) -> np.ndarray:
    return np.array([IONS[number].charge for number in numbers.tolist()])


@pytest.mark.parametrize(
    ("madelung", "lattice", "second", "symbols"),
    [
        (1.747565, 5.64 * FCC, [0.5, 0.5, 0.5], ("Na", "Cl")),
        (1.762675, 4.12 * np.eye(3), [0.5, 0.5, 0.5], ("Cs", "Cl")),
        (1.638055, 5.41 * FCC, [0.25, 0.25, 0.25], ("Zn", "S")),
    ],
    ids=["rocksalt", "caesium-chloride", "zincblende"],
)
def test_energy_gives_the_madelung_constant(
    madelung: float, lattice: np.ndarray, second: list[float], symbols: tuple[str, str]
):
    numbers = atomic_numbers(*symbols)
    energy = ewald_energy(lattice, np.array([[0, 0, 0], second]), numbers)

    shortest = np.linalg.norm(
        [(second + np.array(image)) @ lattice for image in itertools.product((-1, 0), repeat=3)], axis=1
    ).min()
    charge = IONS[int(numbers[0])].charge
    assert energy == pytest.approx(-madelung * COULOMB * charge**2 / shortest / 2, rel=1e-6)


def test_targets_are_converged_ewald_energies(table: CrystalTable):
    from pymatgen.analysis.ewald import EwaldSummation
    from pymatgen.core import Species, Structure

    for i in range(0, len(table), 40):
        crystal = table.crystal(i)
        ions = [Species(SYMBOLS[number - 1], IONS[number].charge) for number in crystal.numbers.tolist()]
        structure = Structure(crystal.lattice, ions, crystal.positions)
        # Another share of real and reciprocal space and tighter limits than the default.
        eta = 1.5 * EwaldSummation(structure).eta
        energy = EwaldSummation(structure, eta=eta, acc_factor=16).total_energy / len(crystal)
        assert table.target[i] == pytest.approx(energy, abs=2e-6)


def test_size_and_crystal_systems(table: CrystalTable):
    assert 1900 <= len(table) <= 2200
    names, counts = np.unique(table.crystal_system, return_counts=True)
    assert len(names) == 7
    assert "unknown" not in names
    assert counts.min() >= 150
    assert np.diff(table.ptr).max() <= 16


def test_rows_and_ids(table: CrystalTable):
    assert np.array_equal(table.row, np.arange(len(table)))
    assert table.ids[0] == "prototypes-0001"
    assert table.ids[-1] == f"prototypes-{len(table)}"


def test_every_fold_holds_every_crystal_system(table: CrystalTable):
    for fold in make_folds("regression", table.row, None, table.target, seed=0):
        counts = np.unique(table.crystal_system[fold.test], return_counts=True)[1]
        assert len(counts) == 7
        assert counts.min() >= 30


def test_crystals_are_bound_and_neutral(table: CrystalTable):
    charge = charges(table.numbers)
    assert np.abs(charge).max() <= 4
    assert not np.add.reduceat(charge, table.ptr[:-1]).any()
    assert (table.target < 0).all()


def test_contacts(table: CrystalTable):
    for i in range(len(table)):
        crystal = table.crystal(i)
        graph = build_graph(crystal, cutoff=6.0, max_neighbors=None, cells="full")
        charge = charges(crystal.numbers)
        centre = np.repeat(np.arange(len(crystal)), np.diff(graph.edge_ptr))
        like = charge[centre] * charge[graph.neighbor] > 0
        assert graph.distance[like].min(initial=np.inf) >= 1.8
        assert len(np.unique(centre[~like])) == len(crystal), "an ion without a counter-ion nearby"


def test_no_crystal_occurs_twice(table: CrystalTable):
    """Strain and scale aside: the same elements, space group and Madelung constant would be the same structure."""
    seen = set()
    for i in range(len(table)):
        crystal = table.crystal(i)
        graph = build_graph(crystal, cutoff=6.0, max_neighbors=None, cells="full")
        centre = np.repeat(crystal.numbers, np.diff(graph.edge_ptr))
        volume = abs(np.linalg.det(crystal.lattice)) / len(crystal)
        histogram = np.histogram(graph.distance / volume ** (1 / 3), bins=3, weights=1.0 * centre)[0]
        seen.add((*np.sort(crystal.numbers), round(table.target[i], 4), *histogram.round(3)))
    assert len(seen) == len(table)


def test_crystals_are_refined(table: CrystalTable):
    for i in range(0, len(table), 40):
        crystal = table.crystal(i)
        again = refine(crystal.lattice, crystal.positions, crystal.numbers)
        assert len(again) == len(crystal)
        assert crystal_system(again.space_group) == table.crystal_system[i]
        assert again.orbit.max() == crystal.orbit.max()
