from __future__ import annotations

import numpy as np
import torch

from sen.elements import ElementEmbedding, element_properties, element_table


def test_places_in_the_periodic_table() -> None:
    group, period, _ = element_table()
    known = {1: (1, 1), 2: (18, 1), 8: (16, 2), 26: (8, 4), 55: (1, 6), 82: (14, 6), 118: (18, 7)}
    for number, place in known.items():
        assert (group[number], period[number]) == place


def test_properties_are_standardised_and_ordered_as_chemistry_has_them() -> None:
    _, _, properties = element_table()
    mass, electronegativity, radius, *_ = properties.T
    assert np.isfinite(properties).all()
    assert all(np.abs(properties[1:95].mean(axis=0)) < 0.5)
    assert np.argmax(electronegativity) == 9
    assert mass[1] == mass[1:].min()
    assert radius[55] == radius[1:].max()


def test_properties_are_pymatgens_and_unknown_ones_are_not_a_number() -> None:
    found = element_properties("X", "atomic_mass")
    assert found.shape == (119, 2)
    np.testing.assert_allclose(found[8], [3.44, 15.9994], rtol=1e-3)
    np.testing.assert_allclose(found[[0, 2]], [[np.nan, np.nan], [np.nan, 4.0026]], rtol=1e-3)


def test_meta_model_needs_no_memory() -> None:
    with torch.device("meta"):
        assert ElementEmbedding(8).of_number.weight.is_meta
