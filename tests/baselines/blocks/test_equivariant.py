"""What holds for every block made of baselines/blocks/equivariant.py."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from e3nn import o3
from torch.optim.swa_utils import AveragedModel

from baselines.blocks.equivariant import EdgeEncoder, EquivariantBlock, EquivariantConfig, TensorProduct
from baselines.blocks.se3 import SE3Block
from baselines.blocks.tfn import TFNBlock
from sen.batch import CrystalBatch, Formulas
from sen.config import SENConfig
from sen.graph import GraphArrays
from sen.network import SEN
from sen.testing import BlockContracts, sample_crystals
from tests.contracts import OnRealCrystals

BLOCKS = [TFNBlock, SE3Block]


def contracts_of(block: type[EquivariantBlock]) -> BlockContracts:
    contracts = BlockContracts()
    contracts.block = block
    return contracts


class TestTFNOnRealCrystals(OnRealCrystals, BlockContracts):
    block = TFNBlock


class TestSE3OnRealCrystals(OnRealCrystals, BlockContracts):
    block = SE3Block


@pytest.mark.parametrize("block", BLOCKS)
def test_model_built_after_one_on_the_meta_device_works(block: type[EquivariantBlock]) -> None:
    # e3nn caches coupling coefficients; those of the meta device have no content.
    o3._wigner._so3_clebsch_gordan.cache_clear()
    o3._wigner._su2_clebsch_gordan.cache_clear()
    with torch.device("meta"):
        SEN(SENConfig(), block(192, block.Config()))
    assert bool(contracts_of(block).output(sample_crystals()).prediction.isfinite().all())


@pytest.mark.parametrize("block", BLOCKS)
def test_copies_give_the_same_answer(block: type[EquivariantBlock]) -> None:
    contracts = contracts_of(block)
    model, batch = contracts.build(), contracts.batch(sample_crystals())
    expected = model(batch).prediction
    averaged = AveragedModel(model)
    averaged.update_parameters(model)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model)), averaged.module):
        assert torch.equal(twin(batch).prediction, expected)


@pytest.mark.parametrize("block", BLOCKS)
def test_half_precision_is_near(block: type[EquivariantBlock]) -> None:
    contracts = contracts_of(block)
    model, batch = contracts.build().float(), contracts.batch(sample_crystals()).to(dtype=torch.float32)
    exact = model(batch).material
    with torch.autocast("cpu", dtype=torch.bfloat16):
        near = model(batch).material
    near.float().sum().backward()
    assert float(((near - exact).norm() / exact.norm()).detach()) < 0.1


@pytest.mark.parametrize("block", BLOCKS)
def test_vectors_are_zero_exactly_where_symmetry_says_so(block: type[EquivariantBlock]) -> None:
    contracts = contracts_of(block)
    crystals = sample_crystals()
    batch = contracts.batch(crystals)
    size = contracts.output(crystals).extras["vectors"].norm(dim=2).amax(1)
    by_crystal = [size[batch.crystal == i] for i in range(len(crystals))]
    # Rutile: Ti is a centre of inversion, O lies on mirrors and a twofold axis, along which a vector is left.
    assert bool((by_crystal[0][batch.numbers[batch.crystal == 0] == 8] > 0.01).all())
    assert float(by_crystal[0][batch.numbers[batch.crystal == 0] == 22].max()) < 1e-12
    # Every atom of rocksalt and copper is a centre of inversion; helium has no neighbours.
    for symmetric in (2, 3, 5):
        assert float(by_crystal[symmetric].max()) < 1e-12
    # Nothing is left of symmetry in the triclinic crystal.
    assert bool((by_crystal[4] > 0.01).all())


@pytest.mark.parametrize("block", BLOCKS)
def test_angles_count(block: type[EquivariantBlock]) -> None:
    """Two clusters that differ in nothing but an angle: a square of neighbours and a tetrahedron of the same."""
    square = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0]], dtype=torch.float64)
    tetrahedron = torch.tensor([[1.0, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]], dtype=torch.float64) / 3**0.5
    numbers = torch.tensor([6, 1, 1, 1, 1])

    def cluster(directions: torch.Tensor) -> CrystalBatch:
        vector = 2 * torch.cat([directions, -directions])
        multiplicity, node_ptr = torch.ones(5, dtype=torch.float64), torch.tensor([0, 5])
        graph = GraphArrays(
            numbers=numbers,
            multiplicity=multiplicity,
            node_ptr=node_ptr,
            edge_ptr=torch.tensor([0, 4, 5, 6, 7, 8]),
            neighbor=torch.tensor([1, 2, 3, 4, 0, 0, 0, 0]),
            distance=torch.full((8,), 2.0, dtype=torch.float64),
            vector=vector,
        )
        return CrystalBatch.from_graphs(graph, Formulas.of(numbers, multiplicity, node_ptr))

    with torch.no_grad():
        model = contracts_of(block).build()
        flat, solid = (model(cluster(directions)) for directions in (square, tetrahedron))
    torch.testing.assert_close(flat.extras["environment"], solid.extras["environment"])
    difference = (flat.material - solid.material).norm() / flat.material.norm()
    assert float(difference) > 0.01


@pytest.mark.parametrize("block", BLOCKS)
def test_asymmetric_units_are_refused(block: type[EquivariantBlock]) -> None:
    contracts = contracts_of(block)
    with pytest.raises(ValueError, match="full cells"):
        contracts.output(sample_crystals(), "asymmetric")


@pytest.mark.parametrize(("lmax_in", "lmax_out"), [(0, 2), (2, 2), (2, 0)])
def test_products_are_those_of_e3nn(lmax_in: int, lmax_out: int) -> None:
    torch.manual_seed(0)
    channels = 5
    config = EquivariantConfig()
    encoder = EdgeEncoder(config)
    product = TensorProduct(lmax_in, lmax_out, channels, encoder.expansion, config.radial_hidden).double()
    batch = contracts_of(TFNBlock).batch(sample_crystals())
    features = [
        torch.randn(len(batch.numbers), 2 * degree + 1, channels, dtype=torch.float64) for degree in range(lmax_in + 1)
    ]

    def irreps(lmax: int, channels: int) -> o3.Irreps:
        return o3.Irreps([(channels, (degree, (-1) ** degree)) for degree in range(lmax + 1)])

    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        theirs = o3.TensorProduct(
            irreps(lmax_in, channels),
            irreps(2, 1),
            irreps(lmax_out, channels),
            [(l1, l2, l3, "uvu", True) for l1, l2, l3 in product.paths],
            shared_weights=False,
            path_normalization="none",
        )
    finally:
        torch.set_default_dtype(default)
    assert {(i.i_in1, i.i_in2, i.i_out) for i in theirs.instructions} == {
        (l1, l2, l3)
        for l1, (_, one) in enumerate(theirs.irreps_in1)
        for l2, (_, two) in enumerate(theirs.irreps_in2)
        for l3, (_, three) in enumerate(theirs.irreps_out)
        if three in one * two
    }
    edges = encoder(batch)
    harmonics = o3.spherical_harmonics([0, 1, 2], batch.vector, normalize=True, normalization="component")
    flat = torch.cat([x.mT.flatten(1) for x in features], dim=1)
    expected = theirs(flat[batch.neighbor], harmonics, product.radial(edges.radial))
    found = torch.cat([x.mT.flatten(1) for x in product(features, edges, batch)], dim=1)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
