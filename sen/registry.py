"""Plug-ins: found by name through entry points, imported when they are used, guarded against what they raise."""

from __future__ import annotations

import functools
import hashlib
import logging
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeVar

if TYPE_CHECKING:
    from sen.blocks import SymmetryBlock
    from sen.models import CrystalModel

__all__ = [
    "block_names",
    "find_plugins",
    "guard",
    "load_block",
    "load_model",
    "load_plugin",
    "model_names",
    "variant_code",
    "variant_kind",
]

_BLOCKS, _MODELS = "sen_bench.blocks", "sen_bench.models"
# Folders and files bear the names of plug-ins, options list them with commas, and messages show them.
_NAME = re.compile(r"\w[\w.+-]*")

T = TypeVar("T")


def find_plugins(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, in alphabetical order; nothing is imported.

    Those whose names are not fit for a folder, or taken, are left out with a warning, which is logged once.
    """
    plugins: dict[str, EntryPoint] = {}
    for name, same in groupby(sorted(_registered(group, tuple(sys.path)), key=_name), key=_name):
        first, *others = same
        if any(other.value != first.value for other in others):
            # No other package can take a name of sen-bench. It takes a millisecond to read the name of a package.
            first, *others = sorted([first, *others], key=lambda plugin: _package(plugin) != "sen-bench")
        plugins[name] = first
        for other in others:
            if other.value != first.value:
                _warn(f"{_not_used(other)}{_package(first)} has one of the same name. Rename it.")
    for unfit in [name for name in plugins if not _NAME.fullmatch(name)]:
        _warn(
            f"{_not_used(plugins.pop(unfit))}its name must begin with a letter, a digit or _, and have no other "
            "characters than these, dots, plus signs and hyphens."
        )
    return plugins


@functools.cache
def _registered(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """Return the entry points of a group that are found on a path.

    They are read once: it takes milliseconds to read those of all installed packages, and a report asks hundreds of
    times.
    """
    del path
    return tuple(entry_points(group=group))


def _name(plugin: EntryPoint) -> str:
    return plugin.name


def _not_used(plugin: EntryPoint) -> str:
    return f"The plug-in {plugin.name!r} of {_package(plugin)} (entry point group {plugin.group}) is not used: "


def _package(plugin: EntryPoint) -> str:
    return plugin.dist.name if plugin.dist else "an unknown package"


@functools.cache
def _warn(message: str) -> None:
    logging.getLogger("sen_bench").warning("%s", message)


def load_plugin(group: str, name: str, base: type[T]) -> type[T]:
    """Import the class that is registered under a name in a group of entry points.

    Raises:
        KeyError: No installed package registers that name.
        ImportError: It cannot be imported, among other exceptions of its code.
        TypeError: What is registered is not a subclass of `base`.
    """
    try:
        found = find_plugins(group)[name].load()
    except SystemExit as end:
        raise ImportError(f"it ends the process with {end.code!r} when it is imported") from end
    if not (isinstance(found, type) and issubclass(found, base)):
        raise TypeError(f"the entry point {name!r} of {group} is {found!r}, which is not a {base.__name__}")
    return found


@contextmanager
def guard(
    failure: str,
    handle: Callable[[Exception], Exception | None],
    *,
    passing: type[Exception] | tuple[type[Exception], ...] = (),
) -> Iterator[None]:
    """Guard code that runs a plug-in against whatever the plug-in raises.

    The traceback goes to the logger `sen_bench` at level DEBUG.

    Args:
        failure: What the log says of it, a sentence.
        handle: Called with the exception. The exception that it returns is raised in its place; after None, the code
            that follows the guarded one runs.
        passing: Exceptions that have another cause than the plug-in; they are not caught.
    """
    try:
        yield
    except passing:
        raise
    except Exception as error:
        logging.getLogger("sen_bench").debug(failure, exc_info=True)
        if (replacement := handle(error)) is not None:
            raise replacement from error


def block_names() -> list[str]:
    """Return the names of all installed blocks, sorted."""
    return list(find_plugins(_BLOCKS))


def load_block(name: str) -> type[SymmetryBlock]:
    """Import the block called `name`.

    Raises:
        KeyError: No installed package registers a block of that name.
        TypeError: What is registered is not a SymmetryBlock.
    """
    from sen.blocks import SymmetryBlock

    return load_plugin(_BLOCKS, name, SymmetryBlock)  # type: ignore[type-abstract]


def model_names() -> list[str]:
    """Return the names of all installed models, sorted; `sen` is one of them."""
    return list(find_plugins(_MODELS))


def load_model(name: str) -> type[CrystalModel]:
    """Import the model called `name`.

    Raises:
        KeyError: No installed package registers a model of that name.
        TypeError: What is registered is not a CrystalModel.
    """
    from sen.models import CrystalModel

    return load_plugin(_MODELS, name, CrystalModel)  # type: ignore[type-abstract]


def variant_kind(name: str) -> Literal["block", "model"]:
    """Return what a name of the two stands for: a block of SEN, or another model."""
    return "block" if name in block_names() else "model"


@functools.cache
def variant_code(name: str) -> str | None:
    """Return what distinguishes the code of a block or model from earlier and later code of the same.

    The files are read once in a process, because it does not load those that change later.

    Returns:
        The distribution of the block or model, its version, and a hash of all Python files of the distribution and of
        the package or module that it is in; None for those of sen-bench, whose own version is recorded.

    Raises:
        KeyError: No installed package registers a block or model of that name.
        TypeError: What is registered is neither a SymmetryBlock nor a CrystalModel.
    """
    is_block = variant_kind(name) == "block"
    distribution = find_plugins(_BLOCKS if is_block else _MODELS)[name].dist
    if distribution is None or distribution.name == "sen-bench":
        return None
    package = sys.modules[(load_block(name) if is_block else load_model(name)).__module__.partition(".")[0]]
    # An editable installation does not list the files of the package.
    files = {Path(str(file.locate())) for file in distribution.files or () if file.suffix == ".py"}
    files |= {file for folder in getattr(package, "__path__", ()) for file in Path(folder).rglob("*.py")}
    files |= {Path(package.__file__)} if package.__file__ else set()
    content = hashlib.sha256()
    for file in sorted(file.resolve() for file in files if file.is_file()):
        content.update(file.read_bytes())
    return f"{distribution.name} {distribution.version} {content.hexdigest()[:10]}"
