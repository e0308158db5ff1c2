"""What holds for every package of `reports`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import reports

FOLDER = Path(reports.__path__[0])
PACKAGES = sorted(".".join(file.parent.relative_to(FOLDER.parent).parts) for file in FOLDER.rglob("__init__.py"))


@pytest.mark.parametrize("name", PACKAGES)
def test_no_package_exports_the_name_of_one_of_its_modules(name: str) -> None:
    """Otherwise `import reports.page.html as html` returns what the package exports, and not the module."""
    package = import_module(name)
    assert not {module.name for module in iter_modules(package.__path__)} & set(package.__all__)
