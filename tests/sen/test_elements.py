from __future__ import annotations

import numpy as np
import torch

from sen.elements import ElementEmbedding, element_table


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


def test_meta_model_needs_no_memory() -> None:
    with torch.device("meta"):
        assert ElementEmbedding(8).of_number.weight.is_meta
