from __future__ import annotations

import functools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sen.class_hash import class_hash

HELPERS = """
SCALE = [1]
class Parent:
    def scale(self): return SCALE
def helper(): return 1
"""
CELL = """
import functools, threading
import torch
import helpers_of_user as helpers
from helpers_of_user import Parent
from sen.config import Config

WIDTH, SIZES, TABLE, NOTHING, TENSOR, LOCK = 8, [1, 2], {"a": {1, "b"}}, None, torch.ones(2), threading.Lock()
UNUSED = open

@functools.lru_cache
def cached(): return 1

class Layer: ...

class Given(Parent):
    class Config(Config):
        hidden: int = 8

    kinds = frozenset({"x", "y", "z"})

    @property
    def width(self): return WIDTH, SIZES, TABLE, NOTHING, TENSOR, LOCK

    @staticmethod
    def layer(): return Layer, (lambda: cached())

    def forward(self, batch):
        return [helpers.helper() for _ in batch], batch.UNUSED in {"p", "q", "r"}
"""


def _define(**texts: str) -> SimpleNamespace:
    """Run a cell and the module that it imports, in which texts are replaced."""
    modules = []
    for name, text in (("helpers_of_user", HELPERS), ("cell_of_user", CELL)):
        module = sys.modules[name] = ModuleType(name)
        changed = functools.reduce(lambda each, change: each.replace(*change), texts.items(), text)
        exec(compile(changed, name, "exec", dont_inherit=True), vars(module))
        modules.append(module)
    return SimpleNamespace(helpers=modules[0], cell=modules[1], Given=modules[1].Given)


@pytest.fixture(autouse=True)
def no_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Remove the modules of the test from `sys.modules` at its end."""
    for name in ("helpers_of_user", "cell_of_user"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))


CHANGES: dict[str, Callable[[Any], object]] = {
    "a number": lambda it: setattr(it.cell, "WIDTH", 32),
    "its type": lambda it: setattr(it.cell, "WIDTH", 8.0),
    "a list": lambda it: it.cell.SIZES.append(3),
    "a set in a dict": lambda it: it.cell.TABLE["a"].add("c"),
    "None": lambda it: setattr(it.cell, "NOTHING", False),
    "a tensor": lambda it: it.cell.TENSOR.zero_(),
    "a cached function": lambda it: setattr(it.cell, "cached", functools.lru_cache(lambda: 2)),
    "a method": lambda it: setattr(it.Given, "forward", lambda _, batch: batch),
    "a member": lambda it: setattr(it.Given, "kinds", frozenset({"x"})),
    "a property": lambda it: setattr(it.Given, "width", property(lambda _: 8)),
    "a class beside it": lambda it: setattr(it.cell.Layer, "depth", 2),
    "a class in it": lambda it: setattr(it.Given.Config, "double", lambda _: 2),
    "a method of its base": lambda it: setattr(it.helpers.Parent, "scale", lambda _: 2),
    "a value of its base's module": lambda it: it.helpers.SCALE.append(2),
    "a function of another module": lambda it: setattr(it.helpers, "helper", lambda: 2),
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_class_uses_counts_as_it_is_in_memory(change: str) -> None:
    it = _define()
    before = class_hash(it.Given)
    assert class_hash(it.Given) == before == class_hash(_define().Given)
    it = _define()
    CHANGES[change](it)
    assert class_hash(it.Given) != before


def test_comments_and_what_it_does_not_use_do_not_count() -> None:
    before = class_hash(_define().Given)
    assert (
        class_hash(
            _define(
                **{"UNUSED = open": "UNUSED = 2  # a comment\n\n", "import functools,": "import os,functools,"}
            ).Given
        )
        == before
    )
    it = _define()
    it.helpers.unused = 1
    assert class_hash(it.Given) == before


def test_other_processes_compute_the_same_hash() -> None:
    program = f"""
import sys, types
sys.path.insert(0, {str(Path(__file__).parents[2])!r})
from sen.class_hash import class_hash
for name, text in (("helpers_of_user", {HELPERS!r}), ("cell_of_user", {CELL!r})):
    module = sys.modules[name] = types.ModuleType(name)
    exec(text, vars(module))
print(class_hash(module.Given))
"""
    printed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == class_hash(_define().Given)


def test_a_value_whose_content_is_unknown_is_refused(tmp_path: Path) -> None:
    it = _define()
    with (
        (tmp_path / "file").open("w") as it.cell.TABLE,
        pytest.raises(ValueError, match=r"uses TABLE \(TextIOWrapper\)"),
    ):
        class_hash(it.Given)


def test_what_packages_define_counts_by_its_name_and_what_they_wrap_by_its_content() -> None:
    text = """
import enum, logging, re, typing
from dataclasses import dataclass, field
import numpy as np, torch
from torch import nn
from sen.config import Config

KINDS = (np.random.default_rng, torch.Tensor, torch.Generator, torch.float32, torch.device("cpu"), typing.Literal["a"])
OTHERS = re.compile("x"), logging.getLogger("x"), list[int], np.ones(2), nn.Linear, torch.relu, nn.functional.relu

class Kind(enum.Enum):
    A = 1

@dataclass
class Options:
    width: int = 8
    more: list = field(default_factory=list)

class Pair(typing.NamedTuple):
    first: int = WIDTH

class Given(nn.Module):
    __slots__ = ("x",)
    @torch.no_grad()
    def forward(self, x): return KINDS, OTHERS, Kind.A, Options(), Pair(), WIDTH
"""
    hashes = []
    for width in ("8", "8", "9"):
        module = sys.modules["cell_of_user"] = ModuleType("cell_of_user")
        exec(compile(text.replace("WIDTH", width), "cell", "exec", dont_inherit=True), vars(module))
        hashes.append(class_hash(module.Given))
        assert class_hash(type("Made", (module.Given,), {"a": width})) != class_hash(type("Made", (module.Given,), {}))
    assert hashes[0] == hashes[1] != hashes[2]
