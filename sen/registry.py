"""Blocks by name, found through the entry point group `sen_bench.blocks`; nothing is imported until it is used."""

from __future__ import annotations

import functools
import hashlib
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sen.blocks import SymmetryBlock

__all__ = ["block_code", "block_names", "load_block"]

GROUP = "sen_bench.blocks"


def block_names() -> list[str]:
    """Names of all installed blocks, sorted."""
    return sorted(entry_points(group=GROUP).names)


def load_block(name: str) -> type[SymmetryBlock]:
    """Import the block called `name`.

    Raises:
        KeyError: No installed package registers a block of that name.
        TypeError: What is registered is no SymmetryBlock.
    """
    from sen.blocks import SymmetryBlock

    block = entry_points(group=GROUP)[name].load()
    if not (isinstance(block, type) and issubclass(block, SymmetryBlock)):
        raise TypeError(f"The entry point {name!r} of {GROUP} is {block!r}, which is not a SymmetryBlock.")
    return block


@functools.cache
def block_code(name: str) -> str | None:
    """Tell the code of another package's block from earlier and later code of it.

    Looked up once in a process: files that change later are not what it loaded.

    Returns:
        The distribution, its version, and a hash of all Python files of it, and of the package or module that the block
        is in; None for the blocks that come with sen-bench, whose own version is recorded.

    Raises:
        KeyError: No installed package registers a block of that name.
        TypeError: What is registered is no SymmetryBlock.
    """
    distribution = entry_points(group=GROUP)[name].dist
    if distribution is None or distribution.name == "sen-bench":
        return None
    package = sys.modules[load_block(name).__module__.partition(".")[0]]
    # What an editable installation lists are not the files of the package.
    files = {Path(str(file.locate())) for file in distribution.files or () if file.suffix == ".py"}
    files |= {file for folder in getattr(package, "__path__", ()) for file in Path(folder).rglob("*.py")}
    files |= {Path(package.__file__)} if package.__file__ else set()
    content = hashlib.sha256()
    for file in sorted(file.resolve() for file in files if file.is_file()):
        content.update(file.read_bytes())
    return f"{distribution.name} {distribution.version} {content.hexdigest()[:10]}"
