"""The house of the design: which room may import which, and that what is registered is tested."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sen.registry import block_names

REPOSITORY = Path(__file__).parent.parent
ALLOWED = {
    "sen": {"sen"},
    "baselines": {"baselines", "sen"},
    "benchmarks": {"benchmarks", "sen"},
    "ablations": {"ablations", "benchmarks", "sen"},
    "reports": {"reports", "benchmarks", "sen"},
}


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield node.module or ""


@pytest.mark.parametrize("room", ALLOWED)
def test_arrows_between_rooms(room: str) -> None:
    files = list((REPOSITORY / room).rglob("*.py"))
    assert files
    for file in files:
        rooms = {name.split(".")[0] for name in imports(file)} & {"tests", *ALLOWED}
        assert rooms <= ALLOWED[room], f"{file.relative_to(REPOSITORY)} imports {rooms - ALLOWED[room]}"


def test_every_block_and_command_is_in_the_readme_and_every_block_is_held_to_the_contracts() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["entry-points"]
    readme = (REPOSITORY / "README.md").read_text()
    assert set(project["sen_bench.blocks"]) <= set(block_names())
    for command in project["sen_bench.commands"]:
        assert f"sen-bench {command}" in readme
    # Not those on a GPU, which are skipped where there is none.
    files = [file for file in (REPOSITORY / "tests").rglob("test_*.py") if "cuda" not in file.name]
    tests = "".join(file.read_text() for file in files)
    for name, target in project["sen_bench.blocks"].items():
        assert f"`{name}`" in readme
        assert f"block = {target.rpartition(':')[2]}" in tests
