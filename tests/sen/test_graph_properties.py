"""Properties of refinement and of the graph builder, on crystals of any cell, with and without symmetry."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from sen.crystal import Crystal, crystal_system, refine
from sen.graph import Graph, build_graph

# Distances are equal up to rounding. What lies this near to the cutoff, or to the gap that ends a shell, may fall on
# either side of it.
ROUNDING = 1e-7
GAP = 0.01
CUTOFFS = st.sampled_from([5.0, 3.0, 2.0, 6.5])
CAPS = st.sampled_from([1, 4, 12, 30, None])


def raw(lattice, positions, numbers) -> Crystal:
    n = len(numbers)
    return Crystal(np.array(lattice, float), np.array(positions, float), np.array(numbers, np.uint8), np.arange(n), 0)


def rotation(seed: int) -> np.ndarray:
    """An orthogonal matrix, proper or not."""
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]


SEEDS = st.integers(0, 2**32 - 1)
ORTHOGONAL = st.builds(rotation, SEEDS)
FLOATS = functools.partial(st.floats, allow_nan=False, allow_infinity=False)


@st.composite
def unimodular(draw, steps: int = 4) -> np.ndarray:
    """An integer matrix of determinant 1 or -1."""
    matrix = np.eye(3, dtype=int)[list(draw(st.permutations(range(3))))]
    for _ in range(draw(st.integers(0, steps))):
        i, j = draw(st.permutations(range(3)))[:2]
        matrix[i] += draw(st.integers(-2, 2)) * matrix[j]
    return matrix


@st.composite
def lattices(draw) -> np.ndarray:
    """Right- and left-handed cells in any orientation: cubic to triclinic, flat, long, tiny, huge and skewed ones."""
    low, high = draw(st.sampled_from([(2.0, 9.0), (0.6, 2.0), (3.0, 3.0), (1.0, 20.0), (60.0, 90.0)]))
    lengths = [draw(FLOATS(low, high)) for _ in range(3)]
    cell = np.diag(lengths)
    if draw(st.booleans()):
        for i, j in ((1, 0), (2, 0), (2, 1)):
            cell[i, j] = draw(FLOATS(-0.5, 0.5)) * lengths[j]
    # The search takes time for the whole box around a cell, so the huge ones are not skewed.
    return draw(unimodular(2 if high < 60 else 0)) @ cell @ draw(ORTHOGONAL)


# Inside the cell, on its faces, far outside, and a hair off a face.
COORDINATES = (
    FLOATS(0, 1)
    | FLOATS(-3, 3)
    | FLOATS(-1e6, 1e6)
    | st.sampled_from([0.0, 0.25, 0.5, 1 / 3, 1.0, -0.5, 2.0, -1e-17, 1 - 1e-16, 1e-9, -1e5])
)


@st.composite
def crystals(draw, most: int = 40) -> Crystal:
    """Crystals of any atoms in any places; some may coincide."""
    lattice = draw(lattices())
    # At most one atom in 4 Å^3, so that the reference stays quick.
    n = draw(st.integers(1, max(1, min(most, int(abs(np.linalg.det(lattice)) / 4)))))
    if n <= 8:
        positions = [[draw(COORDINATES) for _ in range(3)] for _ in range(n)]
    else:
        positions = np.random.default_rng(draw(SEEDS)).uniform(-1, 2, (n, 3))
    return raw(lattice, positions, draw(st.lists(st.integers(1, 118), min_size=n, max_size=n)))


def reference(crystal: Crystal, cutoff: float) -> dict[tuple[int, ...], float]:
    """Every pair of atoms in every image of the cell: (centre, neighbour, image) to distance."""
    reach = np.ceil(cutoff * np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0) + 0.5).astype(int)
    images = np.array(list(itertools.product(*[range(-n, n + 1) for n in reach])))
    found = {}
    for i, j in itertools.product(range(len(crystal)), repeat=2):
        apart = crystal.positions[j] - crystal.positions[i]
        whole = np.rint(apart)
        distances = np.linalg.norm((apart - whole + images) @ crystal.lattice, axis=1)
        for k in np.flatnonzero(distances < cutoff + 0.01):
            image = tuple((images[k] - whole).astype(int).tolist())
            if i != j or any(image):
                found[i, j, *image] = float(distances[k])
    return found


def centers(graph: Graph) -> np.ndarray:
    return np.repeat(np.arange(len(graph.numbers)), np.diff(graph.edge_ptr))


def edges(crystal: Crystal, graph: Graph) -> dict[tuple[int, ...], float]:
    """The edges of a graph as `reference` writes them."""
    center = centers(graph)
    apart = crystal.positions[graph.neighbor] - crystal.positions[center]
    images = graph.vector @ np.linalg.inv(crystal.lattice) - apart
    np.testing.assert_allclose(images, np.rint(images), atol=1e-6)
    images = np.rint(images).astype(int)
    keys = [
        (i, j, *image) for i, j, image in zip(center.tolist(), graph.neighbor.tolist(), images.tolist(), strict=True)
    ]
    assert len(set(keys)) == len(keys)
    return dict(zip(keys, graph.distance.tolist(), strict=True))


def distances_of(graph: Graph, cutoff: float = np.inf) -> list[np.ndarray]:
    """Sorted distances of each node, without those that may or may not lie within the cutoff."""
    rows = [graph.distance[a:b] for a, b in itertools.pairwise(graph.edge_ptr)]
    return [row[row < cutoff - ROUNDING] for row in rows]


def assert_same_distances(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert [len(row) for row in one] == [len(row) for row in other]
    for row, like in zip(one, other, strict=True):
        np.testing.assert_allclose(row, like, atol=ROUNDING, rtol=0)


def is_ambiguous(crystal: Crystal, cutoff: float) -> bool:
    """Whether rounding decides which shells a cap keeps."""
    graph = build_graph(crystal, cutoff=cutoff + 2 * ROUNDING, max_neighbors=None, cells="full")
    gaps = np.concatenate([np.diff(row) for row in distances_of(graph)])
    return bool((abs(gaps - GAP) < ROUNDING).any() or (abs(graph.distance - cutoff) < ROUNDING).any())


@given(crystals(), CUTOFFS)
@example(raw(4 * np.eye(3), [[1e6 + 0.5, 0, -1e6], [0, 0, 0]], [1, 2]), 5.0)
@example(raw(np.eye(3), [[0.5, 0.5, 0.5]], [1]), 3.0)
@example(raw(3 * np.eye(3), [[0.1, 0.2, 0.3], [1.1, -0.8, 0.3]], [1, 2]), 3.0)
@example(raw(3.2 * np.eye(3), [[-1e-17, 1 - 1e-16, 0.5]], [1]), 5.0)
def test_edges_are_those_of_a_search_through_all_images(crystal, cutoff):
    graph = build_graph(crystal, cutoff=cutoff, max_neighbors=None, cells="full")
    found, expected = edges(crystal, graph), reference(crystal, cutoff)
    certain = {edge for edge, distance in expected.items() if distance < cutoff - ROUNDING}
    possible = {edge for edge, distance in expected.items() if distance < cutoff + ROUNDING}
    assert certain <= set(found) <= possible
    for edge, distance in found.items():
        assert distance == pytest.approx(expected[edge], abs=ROUNDING)


@given(crystals(), CUTOFFS, CAPS)
def test_form_of_a_graph(crystal, cutoff, cap):
    graph = build_graph(crystal, cutoff=cutoff, max_neighbors=cap, cells="full")
    assert graph.edge_ptr[0] == 0
    assert graph.edge_ptr[-1] == len(graph.distance) == len(graph.neighbor) == len(graph.vector)
    assert (np.diff(graph.edge_ptr) >= 0).all()
    assert all((np.diff(row) >= 0).all() for row in distances_of(graph))
    assert ((graph.neighbor >= 0) & (graph.neighbor < len(crystal))).all()
    np.testing.assert_allclose(np.linalg.norm(graph.vector, axis=1), graph.distance, atol=ROUNDING, rtol=0)
    np.testing.assert_array_equal(graph.numbers, crystal.numbers)
    assert (graph.multiplicity == 1).all()


@given(crystals(), CUTOFFS)
def test_every_edge_has_its_reverse(crystal, cutoff):
    found = edges(crystal, build_graph(crystal, cutoff=cutoff, max_neighbors=None, cells="full"))
    for (i, j, a, b, c), distance in found.items():
        if distance < cutoff - ROUNDING:
            assert found[j, i, -a, -b, -c] == pytest.approx(distance, abs=ROUNDING)


@given(crystals(), CUTOFFS, CAPS.filter(lambda cap: cap is not None))
def test_a_cap_keeps_whole_shells(crystal, cutoff, cap):
    everything = distances_of(build_graph(crystal, cutoff=cutoff, max_neighbors=None, cells="full"))
    capped = distances_of(build_graph(crystal, cutoff=cutoff, max_neighbors=cap, cells="full"))
    for row, kept in zip(everything, capped, strict=True):
        np.testing.assert_array_equal(kept, row[: len(kept)])
        gaps = np.diff(row)
        assert len(kept) >= min(cap, len(row))
        assert len(kept) == len(row) or gaps[len(kept) - 1] > GAP
        # No shell is kept that begins behind the cap.
        assert (gaps[cap - 1 : len(kept) - 1] <= GAP).all()


def moments(graph: Graph) -> np.ndarray:
    """Sum over the edges of each node of vector times vector, weighted by distance and by the neighbour's element."""
    weight = np.exp(-graph.distance) * graph.numbers[graph.neighbor]
    terms = weight[:, None, None] * graph.vector[:, :, None] * graph.vector[:, None, :]
    sums = np.zeros((len(graph.numbers), 3, 3))
    np.add.at(sums, centers(graph), terms)
    return sums


@given(crystals(), CUTOFFS, CAPS, ORTHOGONAL, unimodular(), st.data())
def test_other_descriptions_of_a_crystal_have_the_same_graph(crystal, cutoff, cap, turn, basis, data):
    """Rotation, reflection, origin, choice of cell, choice of images and order of atoms."""
    assume(not is_ambiguous(crystal, cutoff))
    n = len(crystal)
    rng = np.random.default_rng(data.draw(SEEDS))
    order = rng.permutation(n)
    origin, images = rng.uniform(-1, 1, 3), rng.integers(-2, 3, (n, 3))
    other = raw(
        basis @ crystal.lattice @ turn,
        ((crystal.positions + origin + images) @ np.linalg.inv(basis))[order],
        crystal.numbers[order],
    )
    graph = build_graph(crystal, cutoff=cutoff, max_neighbors=cap, cells="full")
    again = build_graph(other, cutoff=cutoff, max_neighbors=cap, cells="full")
    expected = distances_of(graph)
    assert_same_distances(distances_of(again), [expected[i] for i in order])
    np.testing.assert_allclose(moments(again), turn.T @ moments(graph)[order] @ turn, rtol=1e-5, atol=1e-4)


@given(crystals(most=12), CUTOFFS, CAPS, st.lists(st.integers(1, 3), min_size=3, max_size=3))
def test_a_supercell_has_the_same_graph_many_times(crystal, cutoff, cap, repeat):
    assume(not is_ambiguous(crystal, cutoff))
    shifts = np.array(list(itertools.product(*map(range, repeat))))
    positions = ((crystal.positions[None] + shifts[:, None]) / repeat).reshape(-1, 3)
    other = raw(crystal.lattice * np.array(repeat)[:, None], positions, np.tile(crystal.numbers, len(shifts)))
    graph = build_graph(crystal, cutoff=cutoff, max_neighbors=cap, cells="full")
    again = build_graph(other, cutoff=cutoff, max_neighbors=cap, cells="full")
    assert_same_distances(distances_of(again), distances_of(graph) * len(shifts))


@functools.cache
def operations(space_group: int) -> np.ndarray:
    from pymatgen.symmetry.groups import SpaceGroup

    return np.array([operation.affine_matrix for operation in SpaceGroup.from_int_number(space_group).symmetry_ops])


@st.composite
def cells_of(draw, system: str) -> np.ndarray:
    """A conventional cell of a crystal system."""
    a, b, c = (draw(FLOATS(3, 9)) for _ in range(3))
    if system in {"tetragonal", "trigonal", "hexagonal", "cubic"}:
        b = a
    if system == "cubic":
        c = a
    cell = np.diag([a, b, c])
    if system in {"trigonal", "hexagonal"}:
        cell[1] = [-b / 2, b * np.sqrt(3) / 2, 0]
    if system in {"monoclinic", "triclinic"}:
        cell[2, 0] = draw(FLOATS(-0.4, 0.4)) * c
    if system == "triclinic":
        cell[1, 0], cell[2, 1] = draw(FLOATS(-0.4, 0.4)) * b, draw(FLOATS(-0.4, 0.4)) * c
    return cell


@st.composite
def symmetric_crystals(draw) -> tuple[Crystal, int]:
    """The conventional cell of a crystal with the symmetry of a space group, perhaps more, and its number of orbits."""
    space_group = draw(st.integers(1, 230))
    lattice = draw(cells_of(crystal_system(space_group)))
    # No general coordinate lies within symprec of a special one: the search would rightly move the atom there.
    coordinates = st.sampled_from([0.0, 0.25, 0.5, 1 / 3, 0.75, 0.125]) | st.integers(0, 24).map(lambda k: k / 25)
    same_element = draw(st.booleans())
    positions, numbers, n_orbits = np.zeros((0, 3)), [], 0
    for _ in range(draw(st.integers(1, 3))):
        seed = np.array([draw(coordinates) for _ in range(3)] + [1.0])
        number = 8 if same_element else draw(st.integers(1, 90))
        before = len(numbers)
        for position in (operations(space_group) @ seed)[:, :3]:
            apart = positions - position
            if not (np.linalg.norm((apart - np.rint(apart)) @ lattice, axis=1) < 1e-6).any():
                positions, numbers = np.vstack([positions, position]), [*numbers, number]
        n_orbits += len(numbers) > before
        assume(len(numbers) <= 100)
    crystal = raw(lattice, positions, numbers)
    # Atoms nearer than this to an image of themselves stand beside a special position; no crystal has them.
    assume(not len(build_graph(crystal, cutoff=0.7, max_neighbors=None, cells="full").distance))
    return crystal, n_orbits


def share(crystal: Crystal) -> dict[int, float]:
    """Share of each element in the atoms."""
    return {number: count / len(crystal) for number, count in Counter(crystal.numbers.tolist()).items()}


def volume(crystal: Crystal) -> float:
    """Volume per atom in Å^3."""
    return abs(np.linalg.det(crystal.lattice)) / len(crystal)


def assert_orbits_are_consistent(crystal: Crystal) -> None:
    """Atoms of one orbit are one element in one environment."""
    firsts = [crystal.orbit.tolist().index(orbit) for orbit in range(crystal.orbit.max() + 1)]
    assert firsts == sorted(firsts)
    np.testing.assert_array_equal(crystal.numbers, crystal.numbers[firsts][crystal.orbit])
    assume(not is_ambiguous(crystal, 5.0))
    found = distances_of(build_graph(crystal, max_neighbors=None, cells="full"))
    assert_same_distances(found, [found[firsts[orbit]] for orbit in crystal.orbit])


@given(symmetric_crystals())
def test_refinement_finds_the_symmetry_that_was_built_in(made):
    crystal, n_orbits = made
    refined = refine(crystal.lattice, crystal.positions, crystal.numbers)
    assert refined.space_group > 0
    assert refined.orbit.max() + 1 <= n_orbits
    assert len(crystal) % len(refined) == 0
    assert share(refined) == pytest.approx(share(crystal))
    assert volume(refined) == pytest.approx(volume(crystal), rel=1e-6)
    assert_orbits_are_consistent(refined)
    everything = distances_of(build_graph(crystal, max_neighbors=None, cells="full"))
    assume(not is_ambiguous(crystal, 5.0))
    kept = distances_of(build_graph(refined, max_neighbors=None, cells="full"))
    many = len(crystal) // len(refined)
    assert sorted(map(len, kept * many)) == sorted(map(len, everything))
    assert_same_distances([np.sort(np.concatenate(kept * many))], [np.sort(np.concatenate(everything))])


@given(symmetric_crystals(), SEEDS)
def test_refinement_twice_is_refinement_once(made, seed):
    crystal, _ = made
    noise = np.random.default_rng(seed).uniform(-1e-4, 1e-4, crystal.positions.shape)
    once = refine(crystal.lattice, crystal.positions + noise @ np.linalg.inv(crystal.lattice), crystal.numbers)
    assert_orbits_are_consistent(once)
    twice = refine(once.lattice, once.positions, once.numbers)
    assert twice.space_group == once.space_group
    assert len(twice) == len(once)
    assert twice.orbit.max() == once.orbit.max()
    assert volume(twice) == pytest.approx(volume(once), rel=1e-6)


@given(symmetric_crystals(), SEEDS, st.integers(-5, -2))
def test_refinement_moves_no_atom_by_a_tenth_of_what_distinguishes_rows(made, seed, size):
    noise = np.random.default_rng(seed).uniform(-(10.0**size), 10.0**size, made[0].positions.shape)
    crystal = replace(made[0], positions=made[0].positions + noise @ np.linalg.inv(made[0].lattice))
    refined = refine(crystal.lattice, crystal.positions, crystal.numbers)
    before, after = (
        np.array([[*distances, *[5.0] * 12][:12] for distances in distances_of(build_graph(one, cells="full"))])
        for one in (crystal, refined)
    )
    for distances, number in zip(before, crystal.numbers, strict=True):
        # Both atoms of a pair may move by a tenth of 0.01 Å.
        assert np.abs(after[refined.numbers == number] - distances).max(axis=1).min() <= 2 * 0.001 + ROUNDING


@given(symmetric_crystals(), CAPS)
def test_asymmetric_units_are_full_cells_orbit_by_orbit(made, cap):
    crystal = refine(made[0].lattice, made[0].positions, made[0].numbers)
    assume(not is_ambiguous(crystal, 5.0))
    full = build_graph(crystal, max_neighbors=cap, cells="full")
    asymmetric = build_graph(crystal, max_neighbors=cap, cells="asymmetric")
    assert asymmetric.vector is None
    assert asymmetric.multiplicity.tolist() == np.bincount(crystal.orbit).tolist()
    for atom, orbit in enumerate(crystal.orbit.tolist()):
        assert full.numbers[atom] == asymmetric.numbers[orbit]
        seen = slice(*full.edge_ptr[atom : atom + 2])
        own = slice(*asymmetric.edge_ptr[orbit : orbit + 2])
        for other in range(len(asymmetric.numbers)):
            like = asymmetric.neighbor[own] == other
            np.testing.assert_allclose(
                np.repeat(asymmetric.distance[own][like], asymmetric.edge_multiplicity[own][like]),
                full.distance[seen][crystal.orbit[full.neighbor[seen]] == other],
                atol=ROUNDING,
                rtol=0,
            )


@given(crystals(most=8))
def test_refinement_of_any_crystal_keeps_what_it_is(crystal):
    """Cells without symmetry, skewed ones and long ones; atoms apart, as no symmetry search survives close ones."""
    # moyopy may never come back from cells lower than this, see the limits of benchmarks/data/rows.py.
    assume(np.linalg.norm(np.linalg.inv(crystal.lattice), axis=0).max() < 2)
    crystal = replace(crystal, positions=np.mod(crystal.positions, 1))
    assume(not len(build_graph(crystal, cutoff=0.5, max_neighbors=None, cells="full").distance))
    refined = refine(crystal.lattice, crystal.positions, crystal.numbers)
    assert 0 <= refined.space_group <= 230
    assert np.isfinite(refined.lattice).all()
    assert np.isfinite(refined.positions).all()
    assert len(crystal) % len(refined) == 0
    assert share(refined) == pytest.approx(share(crystal))
    # Strain displaces a lattice vector by little.
    lowest = 1 / np.linalg.norm(np.linalg.inv(refined.lattice), axis=0).max()
    assert volume(refined) == pytest.approx(volume(crystal), rel=0.1 / lowest)
    assert_orbits_are_consistent(refined)


def test_a_panic_of_the_symmetry_search_keeps_the_cell():
    flat = np.array([[-2.6, 7.8, 10.9], [0.9, -2.7, -2.4], [-2.4, 7.2, -4.8]])
    crystal = refine(flat, [[0.1, 0.2, 0.3]], [1])
    assert crystal.space_group == 0
    np.testing.assert_array_equal(crystal.lattice, flat)
