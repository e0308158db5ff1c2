from __future__ import annotations

import logging
import sys
from importlib.metadata import EntryPoint, EntryPoints, entry_points
from pathlib import Path
from types import ModuleType

import pytest
from torch import nn

from sen.capsule import CapsuleBlock
from sen.registry import (
    block_names,
    class_code,
    find_plugins,
    guard,
    load_block,
    load_model,
    load_plugin,
    register,
    variant_code,
)


def test_plugins_are_found_by_name_in_alphabetical_order() -> None:
    found = find_plugins("sen_bench.blocks")
    assert list(found) == sorted(found) == block_names()
    assert found["capsule"].load() is load_block("capsule") is CapsuleBlock
    assert find_plugins("sen_bench.no_such_group") == {}


def test_entry_points_are_read_once_for_each_search_path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    monkeypatch.setattr("sen.registry.entry_points", lambda group: asked.append(group) or EntryPoints())
    for path in (tmp_path / "a", tmp_path / "b"):
        monkeypatch.syspath_prepend(path)
        assert find_plugins("sen_bench.blocks") == find_plugins("sen_bench.blocks") == {}
    assert asked == ["sen_bench.blocks"] * 2


@pytest.mark.parametrize(
    "name", ["../evil", "a/b", "-rf", ".hidden", "..", "a b", "a,b", "a=b", "\x1b[31mred", "\u202etx", "[red]"]
)
def test_a_name_that_is_not_fit_for_a_folder_is_refused(
    name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    points = EntryPoints(
        EntryPoint(each, "sen.capsule:CapsuleBlock", "sen_bench.blocks") for each in (name, "fine_2.0+x-y")
    )
    monkeypatch.setattr("sen.registry._registered", lambda group, _: points.select(group=group))
    assert block_names() == block_names() == ["fine_2.0+x-y"]
    (record,) = caplog.records
    assert record.message.startswith(
        f"The plug-in {name!r} of an unknown package (entry point group sen_bench.blocks) is not"
    )
    with pytest.raises(KeyError):
        load_block(name)


def test_no_package_takes_the_name_of_a_block_of_sen_bench(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    group, caplog.handler.level = "sen_bench.blocks", logging.WARNING
    own = next(plugin for plugin in entry_points(group=group) if plugin.name == "mlp")
    other = EntryPoint("mlp", "sen.capsule:CapsuleBlock", group)
    for order in ((own, other, own), (other, own)):
        monkeypatch.setattr("sen.registry._registered", lambda *_, order=order: EntryPoints(order))
        assert find_plugins(group) == {"mlp": own}
    (message,) = {record.message for record in caplog.records}
    assert message.startswith(f"The plug-in 'mlp' of an unknown package (entry point group {group}) is not used: ")
    assert message.endswith("sen-bench has one of the same name. Rename it.")


def test_a_plugin_that_ends_the_process_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "leaves.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    points = EntryPoints([EntryPoint("leaves", "leaves:Block", "sen_bench.blocks")])
    monkeypatch.setattr("sen.registry._registered", lambda group, _: points.select(group=group))
    with pytest.raises(ImportError, match="it ends the process with 3 when it is imported"):
        load_block("leaves")


def test_only_subclasses_are_loaded() -> None:
    assert load_plugin("sen_bench.blocks", "capsule", nn.Module) is CapsuleBlock
    with pytest.raises(TypeError, match=r"'capsule' of sen_bench\.blocks is .*CapsuleBlock.*, which is not a Linear"):
        load_plugin("sen_bench.blocks", "capsule", nn.Linear)
    with pytest.raises(KeyError):
        load_plugin("sen_bench.blocks", "capsul", nn.Module)


def test_guard_raises_the_answer_in_place_of_what_the_plugin_raised(caplog: pytest.LogCaptureFixture) -> None:
    cause = ZeroDivisionError("boom")

    def plugin() -> None:
        raise cause

    with (
        caplog.at_level(logging.DEBUG, logger="sen_bench"),
        pytest.raises(RuntimeError, match=r"^it raised boom$") as raised,
        guard("The plug-in failed.", lambda error: RuntimeError(f"it raised {error}")),
    ):
        plugin()
    assert raised.value.__cause__ is cause
    assert "The plug-in failed." in caplog.text
    assert "in plugin" in caplog.text


def test_guard_without_an_answer_lets_the_rest_go_on() -> None:
    seen: list[Exception] = []
    for error in (ValueError("one"), StopIteration("two")):
        with guard("The plug-in failed.", seen.append):
            raise error
    assert [str(error) for error in seen] == ["one", "two"]


@pytest.mark.parametrize("error", [OSError(), KeyboardInterrupt()])
def test_guard_leaves_alone_what_is_not_the_plugins(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, guard("The plug-in failed.", lambda _: ValueError(), passing=OSError):
        raise error
    assert raised.value is error


CELL = """
from sen.models import CrystalModel

WIDTH = 8

class Layer:
    def forward(self):
        return 1

class Given(CrystalModel):
    def __init__(self, config):
        self.layer = Layer()  # {comment}
        self.width = WIDTH

    def forward(self, batch): ...
"""


def test_a_class_is_found_by_its_name_and_known_by_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sen.registry._given", {})
    codes = []
    changed = CELL.replace("return 1", "return 2")
    for number, cell in enumerate((CELL, CELL.format(comment="else"), changed, CELL.replace("= 8", "= 9"))):
        (tmp_path / f"cell_{number}.py").write_text(cell)
        module = ModuleType("cell")
        monkeypatch.setitem(sys.modules, "cell", module)
        exec(compile(cell, str(tmp_path / f"cell_{number}.py"), "exec"), vars(module))
        assert register("model", module.Given) == register("model", module.Given) == "Given"
        assert load_model("Given") is module.Given
        assert class_code("Given") == variant_code("Given")
        codes.append(class_code("Given"))
    assert codes[0] == codes[1]
    assert len({*codes}) == 3
    assert register("block", CapsuleBlock) == "capsule"
    assert class_code("capsule") is None
    with pytest.raises(TypeError, match=r"CapsuleBlock is no such class"):
        register("model", CapsuleBlock)
