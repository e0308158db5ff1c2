"""Blocks by name, found through the entry point group `sen_bench.blocks`; nothing is imported until it is used."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sen.blocks import SymmetryBlock

__all__ = ["block_names", "load_block"]

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
