"""Plug-ins: found by name through entry points, imported when they are used, guarded against what they raise.

A class of a notebook or script, which no package registers, is found by its name in the process that defines it.
"""

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
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from sen.class_hash import class_hash

if TYPE_CHECKING:
    from sen.blocks import SymmetryBlock
    from sen.models import CrystalModel

__all__ = [
    "GivenClass",
    "adopt",
    "block_names",
    "class_code",
    "find_plugins",
    "given_class",
    "guard",
    "how_to_check",
    "load_block",
    "load_model",
    "load_plugin",
    "model_names",
    "register",
    "variant_code",
    "variant_kind",
]

_BLOCKS, _MODELS = "sen_bench.blocks", "sen_bench.models"
# Folders and files bear the names of plug-ins, options list them with commas, and messages show them.
_NAME = re.compile(r"\w[\w.+-]*")

T = TypeVar("T")


class GivenClass(NamedTuple):
    """A block or model that a notebook or script gives as a class: its group of entry points, and its hash."""

    group: str
    cls: type[Any]
    code: str


_given: dict[str, GivenClass] = {}


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
    if (given := _given.get(name)) and given.group == group:
        return given.cls
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
    """Return the names of all blocks that are installed, or given as classes, sorted."""
    return _names(_BLOCKS)


def _names(group: str) -> list[str]:
    return sorted({*find_plugins(group), *(name for name, given in _given.items() if given.group == group)})


def load_block(name: str) -> type[SymmetryBlock]:
    """Import the block called `name`.

    Raises:
        KeyError: No installed package registers a block of that name.
        TypeError: What is registered is not a SymmetryBlock.
    """
    from sen.blocks import SymmetryBlock

    return load_plugin(_BLOCKS, name, SymmetryBlock)  # type: ignore[type-abstract]


def model_names() -> list[str]:
    """Return the names of all models that are installed, or given as classes, sorted; `sen` is one of them."""
    return _names(_MODELS)


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
        the package or module that it is in; of one that is given as a class `class_code`; None for those of sen-bench,
        whose own version is recorded.

    Raises:
        KeyError: No installed package registers a block or model of that name.
        TypeError: What is registered is neither a SymmetryBlock nor a CrystalModel.
    """
    if code := class_code(name):
        return code
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


def register(kind: Literal["block", "model"], given: object) -> str:
    """Let this process find a class as a block or model, as if a package had registered it; return its name.

    A class that an installed package registers keeps the name that it has there. Another class of the same name takes
    the place of the one that was given before. Its hash is that of the class as it is at present.

    Args:
        kind: What it is to be.
        given: The class.

    Raises:
        TypeError: It is no such class.
        ValueError: A package has registered its name, or no hash of it can be computed.
    """
    from sen.blocks import SymmetryBlock
    from sen.models import CrystalModel

    base: type[Any] = SymmetryBlock if kind == "block" else CrystalModel
    if not (isinstance(given, type) and issubclass(given, base)):
        raise TypeError(
            f"A {kind} is given by its name, or as a class that is derived from {base.__module__}.{base.__name__}; "
            f"{getattr(given, '__name__', f'an object of the type {type(given).__name__}')} is no such class."
        )
    name, group = given.__name__, _BLOCKS if kind == "block" else _MODELS
    for plugin in find_plugins(group).values():
        if plugin.value == f"{given.__module__}:{given.__qualname__}":
            return plugin.name
    for other, what in ((_BLOCKS, "block"), (_MODELS, "model")):
        if name in find_plugins(other):
            raise ValueError(f"The name {name!r} is that of an installed {what}: rename the class.")
    adopt({name: GivenClass(group, given, class_hash(given))})
    return name


def given_class(name: str) -> dict[str, GivenClass]:
    """Return the class that was given to this process as the block or model of a name, for `adopt` in another one.

    Returns:
        The class by its name; empty for what an installed package registers.
    """
    return {name: _given[name]} if name in _given else {}


def adopt(given: dict[str, GivenClass]) -> None:
    """Let this process find a class that was given to another one."""
    variant_code.cache_clear()
    _given.update(given)


def class_code(name: str) -> str | None:
    """Return the hash of a block or model that was given as a class, see `sen.class_hash`; None of any other."""
    return _given[name].code if name in _given else None


def how_to_check(name: str) -> str:
    """Return what says which contracts a block or model breaks, for messages."""
    if class_code(name):
        return f"`sen.testing.run_contracts({name})`"
    return f"`sen-bench check-{variant_kind(name)} {name}`"
