"""The structure of the code: which part may import which, and that what is registered is documented and tested."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from sen.registry import block_names, model_names

REPOSITORY = Path(__file__).parent.parent
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())

# Every part of the code and what it may import beside itself; a package includes its parts that are not listed here.
ARROWS: dict[str, set[str]] = {
    "sen": set(),
    "baselines": set(),
    "baselines.blocks": {"sen"},
    "baselines.models": {"sen"},
    "benchmarks": set(),
    "benchmarks.base": set(),
    "benchmarks.data": {"sen", "benchmarks.base"},
    "benchmarks.results": {"sen", "benchmarks.base", "benchmarks.data"},
    "benchmarks.training": {"sen", "benchmarks.base", "benchmarks.data", "benchmarks.results"},
    "benchmarks.cli": {"sen", "benchmarks.base", "benchmarks.data", "benchmarks.results", "benchmarks.training"},
}
BENCHMARKS = {part for part in ARROWS if part.startswith("benchmarks.")}
ARROWS["benchmarks"] = BENCHMARKS
LIBRARY = {"sen", *BENCHMARKS} - {"benchmarks.cli"}
ARROWS |= {
    "ablations": {"sen", *BENCHMARKS, "reports.study"},
    "reports.study": LIBRARY,
    "reports.page": {*LIBRARY, "reports.study"},
    "reports.environments": {*LIBRARY, "reports.study"},
    "reports.auditing": {*LIBRARY, "reports.study"},
    "reports.sections": {*LIBRARY, "reports.study", "reports.page", "reports.environments", "reports.auditing"},
}
ARROWS["reports"] = {*ARROWS["reports.sections"], "reports.sections", "benchmarks.cli"}
ARROWS["studies"] = {"sen", *BENCHMARKS, "ablations", "reports"}


def packages() -> set[str]:
    """Every package that is installed: each folder with an `__init__.py` below those that pyproject.toml names."""
    patterns = PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    folders = [folder for pattern in patterns for folder in REPOSITORY.glob(pattern)]
    return {
        ".".join(file.parent.relative_to(REPOSITORY).parts)
        for folder in folders
        for file in folder.rglob("__init__.py")
    }


def imports(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            module = node.module or ""
            yield from (f"{module}.{alias.name}" for alias in node.names)


def part_of(module: str) -> str | None:
    """The innermost part that holds a module; None for a library."""
    while module and module not in ARROWS:
        module = module.rpartition(".")[0]
    return module or None


def test_every_package_is_a_part_with_its_purpose_and_its_surface() -> None:
    assert packages() == set(ARROWS)
    for package in packages():
        tree = ast.parse((REPOSITORY / package.replace(".", "/") / "__init__.py").read_text())
        assert ast.get_docstring(tree), f"{package} does not say what it is for"


@pytest.mark.parametrize("part", ARROWS)
def test_arrows(part: str) -> None:
    folder = REPOSITORY / part.replace(".", "/")
    for file in folder.rglob("*.py"):
        module = ".".join(file.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
        if part_of(module) == part:
            found = {part_of(name) for name in imports(file)} - {part, None}
            assert found <= ARROWS[part], f"{file.relative_to(REPOSITORY)} imports {found - ARROWS[part]}"
            assert not any(name.split(".")[0] == "tests" for name in imports(file))


def modules() -> dict[str, Path]:
    """Every module that is installed, and its file."""
    found = {}
    for package in packages():
        for file in (REPOSITORY / package.replace(".", "/")).glob("*.py"):
            found[package if file.stem == "__init__" else f"{package}.{file.stem}"] = file
    return found


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = modules()
    graph = {}
    for name, file in known.items():
        names = {".".join(imported.split(".")[:n]) for imported in imports(file) for n in range(1, 5)}
        # The packages that a module is in are already being loaded when it is.
        graph[name] = {found for found in names if found in known and not f"{name}.".startswith(f"{found}.")}
    TopologicalSorter(graph).prepare()


def test_modules_of_a_package_import_each_other_and_not_the_package() -> None:
    known = modules()
    for name, file in known.items():
        for imported in imports(file):
            package = imported.rpartition(".")[0]
            if package in known and imported not in known:
                assert not name.startswith(f"{package}."), f"{name} imports {imported} from its own package"


@pytest.mark.parametrize("package", sorted(packages()))
def test_a_package_has_public_names_and_they_hide_no_module(package: str) -> None:
    found: dict[str, object] = {}
    exec(f"from {package} import *", found)
    public = set(sys.modules[package].__all__)
    assert public <= set(found)
    for name in public & {file.stem for file in (REPOSITORY / package.replace(".", "/")).iterdir()}:
        assert inspect.ismodule(found[name]), f"{package}.{name} is a module and cannot be named in another way"


def test_what_needs_no_model_loads_no_torch() -> None:
    light = ("sen", "benchmarks.base", "benchmarks.data", "benchmarks.results", "reports.study", "reports.page")
    code = f"import sys, {', '.join(light)}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "torch" not in loaded


def test_the_packages_themselves_load_no_library() -> None:
    code = "import sys; before = {*sys.modules}; import ablations, benchmarks, reports; print(*{*sys.modules} - before)"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    assert packages == {"ablations", "benchmarks", "reports"}


def test_the_packages_themselves_are_imported_at_once() -> None:
    code = "import time, ablations, benchmarks, reports; print(time.process_time())"
    spent = float(subprocess.check_output([sys.executable, "-c", code], text=True))
    assert spent < 0.3  # seconds of CPU time, Python's own start included


def test_all_variants_are_described_and_held_to_the_contracts() -> None:
    project = PROJECT["project"]["entry-points"]
    described = (REPOSITORY / "docs/blocks-and-models.md").read_text()
    assert set(project["sen_bench.blocks"]) <= set(block_names())
    assert set(project["sen_bench.models"]) <= set(model_names())
    # Not those on a GPU, which are skipped where there is none.
    files = [file for file in (REPOSITORY / "tests").rglob("test_*.py") if "cuda" not in file.name]
    tests = "".join(file.read_text() for file in files)
    for kind in ("block", "model"):
        for name, target in project[f"sen_bench.{kind}s"].items():
            assert f"| `{name}` |" in described
            assert name == "sen" or f"{kind} = {target.rpartition(':')[2]}" in tests


# Tests of what several modules have in common, named after that.
OF_SEVERAL_MODULES = {"baselines/blocks/test_size.py", "reports/sections/test_environment_sections.py"}


def test_tests_of_a_module_are_found_under_its_name() -> None:
    """Those of benchmarks/data/folds.py in tests/benchmarks/data/test_folds.py; an aspect may follow the name."""
    tests = REPOSITORY / "tests"
    for file in tests.rglob("*/**/test_*.py"):
        folder, name = file.parent.relative_to(tests), file.stem.removeprefix("test_")
        modules = {path.stem for path in (REPOSITORY / folder).iterdir()}
        if str(file.relative_to(tests)) not in OF_SEVERAL_MODULES:
            assert any(f"{name}_".startswith(f"{module}_") for module in modules), f"{folder} has no module {name}"
