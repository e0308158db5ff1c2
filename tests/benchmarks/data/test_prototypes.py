from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from benchmarks.base.errors import DataError
from benchmarks.data import prototypes
from benchmarks.data.crystal_table import CrystalTable
from benchmarks.data.folds import make_folds
from benchmarks.data.prototypes import IONS, ewald_energy, make_prototypes
from benchmarks.training.reference import element_fractions
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
        assert counts.min() >= 20


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
    fractions = element_fractions(table).round(6)
    seen = {(*fractions[i], table.space_group[i], round(table.target[i], 4)) for i in range(len(table))}
    assert len(seen) == len(table)


def test_fingerprint_knows_the_same_structure_in_other_words():
    rocksalt, perovskite = (
        next(one for one in map(prototypes._parse, prototypes._read_library()) if one and wanted(one))
        for wanted in (
            lambda one: one.system == "cubic" and len(one.species) == 2 and one.ionicity == 1.414,
            lambda one: one.system == "cubic" and np.bincount(one.species).tolist() == [1, 3, 1],
        )
    )

    def fingerprint(prototype: prototypes._Prototype, *symbols: str) -> tuple[float, ...]:
        return prototypes._fingerprint(prototype, atomic_numbers(*symbols)[prototype.species])

    # The two sites of rocksalt are alike; the two cation sites of perovskite are not.
    assert fingerprint(rocksalt, "Na", "Cl") == fingerprint(rocksalt, "Cl", "Na")
    assert fingerprint(perovskite, "Ca", "O", "Ti") != fingerprint(perovskite, "Ti", "O", "Ca")


def test_crystals_are_refined(table: CrystalTable):
    for i in range(0, len(table), 40):
        crystal = table.crystal(i)
        again = refine(crystal.lattice, crystal.positions, crystal.numbers)
        assert len(again) == len(crystal)
        assert crystal_system(again.space_group) == table.crystal_system[i]
        assert again.orbit.max() == crystal.orbit.max()


def test_the_same_crystals_every_time(
    table: CrystalTable, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
):
    seen = []
    monkeypatch.setenv("SEN_BENCH_CACHE", str(tmp_path_factory.mktemp("again")))
    again = make_prototypes(jobs=1, progress=lambda done, total: seen.append((done, total)))
    done, total = seen[-1]
    assert done == total >= len(table)
    assert again.digest == table.digest
    for name in ("lattice", "positions", "numbers", "orbit", "ptr", "space_group", "target", "ids"):
        assert np.array_equal(getattr(again, name), getattr(table, name)), name

    make_prototypes(progress=lambda *_: pytest.fail("made again although the cache has it"))


def test_composition_does_not_decide(table: CrystalTable):
    from sklearn.ensemble import ExtraTreesRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    fold = make_folds("regression", table.row, None, table.target, seed=0)[0]
    known = np.sort(np.concatenate([fold.train, fold.validation]))
    target = np.asarray(table.target)[known]
    trees = ExtraTreesRegressor(100, random_state=0, n_jobs=1)
    splits = KFold(5, shuffle=True, random_state=0)
    predicted = cross_val_predict(trees, element_fractions(table)[known], target, cv=splits)
    assert 0.15 < np.abs(predicted - target).mean() / np.abs(target - target.mean()).mean() < 0.5


def test_compositions_recur(table: CrystalTable):
    counts = np.unique(element_fractions(table).round(6), axis=0, return_counts=True)[1]
    assert counts[counts > 1].sum() > 0.8 * len(table)


def test_pymatgen_without_the_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(prototypes, "files", lambda _: tmp_path)
    with pytest.raises(DataError, match=r"pymatgen .* lacks the structure prototypes"):
        make_prototypes()
