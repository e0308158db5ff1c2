from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from baselines.models.composition import FEATURES, crystal_features
from sen.crystal import Crystal, refine
from sen.elements import element_table
from sen.testing import sample_crystals
from tests.sen.structures import ROCKSALT, RUTILE


def feature(crystal: Crystal, name: str) -> float:
    return float(crystal_features([crystal])[0, FEATURES.index(name)])


def test_composition_is_described_by_statistics_weighted_by_atomic_fraction() -> None:
    _, _, properties = element_table()
    titanium, oxygen = properties[[22, 8], 1].astype(float)
    crystal, mean = refine(*RUTILE), (titanium + 2 * oxygen) / 3
    assert feature(crystal, "mean of electronegativity") == pytest.approx(mean)
    deviation = np.sqrt(((titanium - mean) ** 2 + 2 * (oxygen - mean) ** 2) / 3)
    assert feature(crystal, "standard deviation of electronegativity") == pytest.approx(deviation)
    assert feature(crystal, "minimum of electronegativity") == pytest.approx(titanium)
    assert feature(crystal, "maximum of electronegativity") == pytest.approx(oxygen)
    assert feature(crystal, "range of electronegativity") == pytest.approx(oxygen - titanium)
    assert feature(crystal, "maximum of group") == 16
    assert feature(crystal, "elements") == 2


def test_cell_is_described() -> None:
    rocksalt, rutile = refine(*ROCKSALT), refine(*RUTILE)
    assert feature(rocksalt, "atoms") == 2
    assert feature(rocksalt, "volume per atom") == pytest.approx(5.64**3 / 8)
    assert feature(rocksalt, "density") == pytest.approx(2.16, abs=0.01)
    assert (feature(rocksalt, "space group"), feature(rocksalt, "crystal system")) == (225, 7)
    assert (feature(rutile, "space group"), feature(rutile, "crystal system")) == (136, 4)
    assert feature(rocksalt, "longest length") == pytest.approx(1)
    assert feature(rutile, "middle length") == pytest.approx(4.594 / 2.959)


def test_any_description_of_the_primitive_cell_has_the_same_features() -> None:
    crystals = sample_crystals()
    rotation, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))
    other = np.array([[1, 1, 0], [0, 1, 0], [0, -2, 1]])
    changed = [
        replace(
            crystal,
            lattice=other @ crystal.lattice @ rotation,
            positions=crystal.positions[::-1] @ np.linalg.inv(other),
            numbers=crystal.numbers[::-1],
        )
        for crystal in crystals
    ]
    np.testing.assert_allclose(crystal_features(changed), crystal_features(crystals), rtol=1e-9)


def test_unknown_symmetry_is_zero_and_no_crystals_have_no_rows() -> None:
    crystal = replace(refine(*RUTILE), space_group=0)
    assert (feature(crystal, "space group"), feature(crystal, "crystal system")) == (0, 0)
    assert crystal_features([]).shape == (0, len(FEATURES)) == (0, 48)
