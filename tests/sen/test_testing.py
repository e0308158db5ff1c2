from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from torch import Tensor, nn

from baselines.blocks.mlp import MLPBlock, MLPConfig
from sen.batch import CrystalBatch
from sen.blocks import SymmetryBlock, SymmetryOutput
from sen.config import Config
from sen.crystal import CRYSTAL_SYSTEMS, Crystal, crystal_system
from sen.graph import build_graph
from sen.ops import segment_sum
from sen.testing import BlockContracts, ContractResult, run_contracts
from tests.contracts import STRUCTURES

Check = Callable[[object], dict[str, ContractResult]]


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> Check:
    """Test anything against the contracts as if a package had registered it."""

    def run(block: object) -> dict[str, ContractResult]:
        monkeypatch.setattr("sen.testing.variant_kind", lambda _name: "block")
        monkeypatch.setattr("sen.testing.load_block", lambda _name: block)
        return {result.contract: result for result in run_contracts("plug-in")}

    return run


class Small(MLPBlock):
    """A block that keeps all contracts; its subclasses break one each."""

    def __init__(self, width: int, _config: MLPConfig) -> None:
        super().__init__(width, MLPConfig(hidden=8, width=4))


class NoMaterialWidth(SymmetryBlock):
    Config = Config

    def __init__(self, width: int, config: Config) -> None:
        super().__init__(width, config)

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        raise NotImplementedError


class FailsToBuild(Small):
    def __init__(self, width: int, config: MLPConfig) -> None:
        super().__init__(width, config)
        raise KeyError("no such table")


class Raises(Small):
    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        raise ZeroDivisionError(f"{len(env)} atoms\nof {graph.n_crystals} crystals")


class ReturnsTensor(Small):
    def forward(self, env: Tensor, graph: CrystalBatch) -> Any:
        return super().forward(env, graph).material


class MaterialTooWide(Small):
    def __init__(self, width: int, config: MLPConfig) -> None:
        super().__init__(width, config)
        self.material_width = 5


class AtomsTooWide(Small):
    def __init__(self, width: int, config: MLPConfig) -> None:
        super().__init__(width, config)
        self.atom_width = 5


class AtomWidthInWords(Small):
    def __init__(self, width: int, config: MLPConfig) -> None:
        super().__init__(width, config)
        self.atom_width = "four"  # type: ignore[assignment]


class AtomLeftOut(Small):
    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        output = super().forward(env, graph)
        return SymmetryOutput(output.atoms[1:], output.material)


class NotFinite(Small):
    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        output = super().forward(env, graph)
        return SymmetryOutput(output.atoms, output.material, {"pose": output.material / 0})


class ExtraIsNoTensor(Small):
    def forward(self, env: Tensor, graph: CrystalBatch) -> Any:
        output = super().forward(env, graph)
        return SymmetryOutput(output.atoms, output.material, {"pose": [1, 2]})  # type: ignore[dict-item]


class ChangesItsInput(Small):
    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        return super().forward(env.mul_(2), graph)


class WithoutConfig(Small):
    Config = dict  # type: ignore[assignment]


class HandedWithoutVectors(Small):
    chiral = True


class ChiralInWords(Small):
    chiral = "yes"  # type: ignore[assignment]


CLASS = "interface: class is a symmetry block with a configuration"
WIDTH = "interface: default block declares the widths of what it returns"
OUTPUT = "interface: output has the declared shapes"


@pytest.mark.parametrize(
    ("block", "contract", "reason"),
    [
        (nn.Linear, CLASS, "is not a SymmetryBlock"),
        (len, CLASS, "is not a SymmetryBlock"),
        (WithoutConfig, CLASS, "not a subclass of sen.config.Config"),
        (HandedWithoutVectors, CLASS, "distances have no handedness"),
        (ChiralInWords, CLASS, "its chiral is 'yes', not a bool"),
        (NoMaterialWidth, WIDTH, "material_width is None"),
        (FailsToBuild, WIDTH, "KeyError: 'no such table'"),
        (Raises, OUTPUT, "ZeroDivisionError"),
        (ReturnsTensor, OUTPUT, "forward returns Tensor, not a SymmetryOutput"),
        (MaterialTooWide, OUTPUT, "material has the shape (7, 4); with 7 crystals"),
        (AtomWidthInWords, WIDTH, "its atom_width is 'four', neither None nor a width"),
        (AtomsTooWide, OUTPUT, "must be (16, 5)"),
        (AtomLeftOut, OUTPUT, "atoms has the shape"),
        (NotFinite, OUTPUT, "pose holds numbers that are not finite"),
        (ExtraIsNoTensor, OUTPUT, "pose is list, not a Tensor"),
        (ChangesItsInput, "interface: environments given are left as they are", "in place"),
    ],
)
def test_broken_interface_breaks_its_contract_and_skips_all_later_ones(
    check: Check, block: object, contract: str, reason: str
) -> None:
    results = check(block)
    failed = [result for result in results.values() if result.outcome == "failed"]
    assert [result.contract for result in failed] == [contract]
    assert reason in failed[0].reason
    after = list(results)[list(results).index(contract) + 1 :]
    assert {results[name].outcome for name in after} == {"skipped"}


class ReadsVectors(SymmetryBlock):
    """One linear map, which subclasses combine with the edge vectors."""

    Config = Config
    needs_vectors = True

    def __init__(self, width: int, config: Config) -> None:
        super().__init__(width, config)
        self.material_width = 8
        self.layer = nn.Linear(width, 8)


class Compass(ReadsVectors):
    """Breaks many contracts at once: it depends on directions of edges, on the batch and on the number of atoms."""

    def __init__(self, width: int, config: Config) -> None:
        super().__init__(width, config)
        self.unused = nn.Linear(8, 8)

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        assert graph.vector is not None
        east = segment_sum(graph.vector[:, :1].square(), graph.center, len(env))
        atoms = self.layer(env - env.mean(0)) + 0.01 * self.layer.bias * east
        return SymmetryOutput(atoms, segment_sum(atoms, graph.crystal, graph.n_crystals))


def test_broken_symmetries_are_distinguished(check: Check) -> None:
    results = check(Compass)
    failed = {name for name, result in results.items() if result.outcome == "failed"}
    assert failed == {
        "rotation does not matter",
        "supercell does not matter",
        "other crystals in the batch do not matter",
        "every parameter gets a gradient",
    }
    assert "block.unused.weight" in results["every parameter gets a gradient"].reason
    assert "1e-09" in results["rotation does not matter"].reason
    assert results["asymmetric unit and full cell agree"].outcome == "skipped"


class Handed(ReadsVectors):
    """Sums triple products of each atom's edges, whose sign a reflection changes."""

    chiral = True

    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        assert graph.vector is not None
        r = graph.vector.norm(dim=1, keepdim=True)
        near, middle, far = (segment_sum(graph.vector / r**n, graph.center, len(env)) for n in (2, 3, 4))
        handedness = (near * middle.cross(far, dim=1)).sum(1, keepdim=True)
        atoms = self.layer(env) * (1 + handedness.tanh())
        material = segment_sum(graph.weight[:, None] * atoms, graph.crystal, graph.n_crystals)
        return SymmetryOutput(atoms, material, {"vectors": near[:, None]})


class HandedUndeclared(Handed):
    chiral = False


def test_only_a_block_declared_chiral_may_distinguish_mirror_images(check: Check) -> None:
    reflection = "reflection does not matter"
    declared, undeclared = check(Handed), check(HandedUndeclared)
    assert {name for name, result in declared.items() if result.outcome == "failed"} == set()
    assert declared[reflection].outcome == "skipped"
    assert {name for name, result in undeclared.items() if result.outcome == "failed"} == {reflection}


class Imprecise(Small):
    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        output = super().forward(env + 1e5 - 1e5, graph)
        return SymmetryOutput(output.atoms, output.material * (1 + output.atoms.new_tensor(1e-5) * 1e5 - 1))


def test_single_precision_that_loses_the_answer_is_reported(check: Check) -> None:
    results = check(Imprecise)
    assert [name for name, result in results.items() if result.outcome == "failed"] == [
        "single precision agrees with double"
    ]


class GathersByIndexing(Small):
    def forward(self, env: Tensor, graph: CrystalBatch) -> SymmetryOutput:
        weight = graph.edge_multiplicity[:, None] * env[graph.neighbor]
        around = segment_sum(weight, graph.center, len(env)) / segment_sum(
            graph.edge_multiplicity, graph.center, len(env)
        ).clamp_min(1).unsqueeze(-1)
        return super().forward(env + around, graph)


def test_gradients_that_depend_on_the_order_of_threads_are_reported() -> None:
    contracts = BlockContracts()
    contracts.block = GathersByIndexing

    def try_often() -> None:
        # On a busy machine, threads may arrive in the same order several times.
        for _ in range(20):
            contracts.test_gradients_are_the_same_every_time()

    with pytest.raises(AssertionError, match="gradients differ from one time to the next"):
        try_often()


def test_traceback_is_logged_for_those_who_ask(check: Check, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG, logger="sen_bench"):
        check(Raises)
    assert "in forward" in caplog.text
    assert "raise ZeroDivisionError" in caplog.text


def test_real_crystals_include_the_cases_that_contracts_need(real_crystals: list[Crystal]) -> None:
    assert sum(len(crystal) == 1 for crystal in real_crystals) >= 4
    degrees = [np.diff(build_graph(crystal, cells="full").edge_ptr) for crystal in real_crystals]
    assert any((degree == 0).all() for degree in degrees)
    assert {crystal.space_group for crystal in real_crystals} >= {1, 225, 229}
    assert {crystal_system(crystal.space_group) for crystal in real_crystals} == {*CRYSTAL_SYSTEMS[1:]}
    assert sum(len(crystal) >= 20 for crystal in real_crystals) >= 4


def test_real_crystals_have_the_space_groups_that_were_published(real_crystals: list[Crystal]) -> None:
    published = [structure["space_group"] for structure in json.loads(STRUCTURES.read_text())["structures"]]
    assert [crystal.space_group for crystal in real_crystals] == published
