"""Plug-ins: found by name through entry points, imported when they are used, guarded against what they raise.

A class of a notebook or script, which no package registers, is found by its name in the process that defines it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import linecache
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint, entry_points
from itertools import groupby
from pathlib import Path
from types import FunctionType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

if TYPE_CHECKING:
    from sen.blocks import SymmetryBlock
    from sen.models import CrystalModel

__all__ = [
    "GivenClass",
    "adopt",
    "block_names",
    "class_code",
    "find_plugins",
    "given_classes",
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
    """A block or model that a notebook or script gives as a class, and a hash of its source."""

    cls: type[Any]
    code: str


_given: dict[str, dict[str, GivenClass]] = {_BLOCKS: {}, _MODELS: {}}


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
    if given := _given.get(group, {}).get(name):
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
    return sorted({*find_plugins(_BLOCKS), *_given[_BLOCKS]})


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
    return sorted({*find_plugins(_MODELS), *_given[_MODELS]})


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
    the place of the one that was given before.

    Args:
        kind: What it is to be.
        given: The class.

    Raises:
        TypeError: It is no such class.
        ValueError: A package has registered its name, or its source cannot be read.
    """
    from sen.blocks import SymmetryBlock
    from sen.models import CrystalModel

    base: type[Any] = SymmetryBlock if kind == "block" else CrystalModel
    if not (isinstance(given, type) and issubclass(given, base)):
        raise TypeError(
            f"A {kind} is given by its name, or as a class that is derived from {base.__module__}.{base.__name__}; "
            f"{getattr(given, '__name__', repr(given))} is no such class."
        )
    name, group = given.__name__, _BLOCKS if kind == "block" else _MODELS
    for plugin in find_plugins(group).values():
        if plugin.value == f"{given.__module__}:{given.__qualname__}":
            return plugin.name
    for other, what in ((_BLOCKS, "block"), (_MODELS, "model")):
        if name in find_plugins(other):
            raise ValueError(f"The name {name!r} is that of an installed {what}: rename the class.")
    known = _given[group].get(name)
    if known is None or known.cls is not given:  # its source may have changed since it was read
        new = GivenClass(given, _source_hash(given))
        _given[_BLOCKS if group == _MODELS else _MODELS].pop(name, None)
        adopt({group: {name: new}})
    return name


def given_classes() -> Mapping[str, Mapping[str, GivenClass]]:
    """Return the classes that were given to this process, for `adopt` in a worker process."""
    return _given


def adopt(classes: Mapping[str, Mapping[str, GivenClass]]) -> None:
    """Let this process find the classes that were given to another one."""
    variant_code.cache_clear()
    for group, given in classes.items():
        _given[group].update(given)


def class_code(name: str) -> str | None:
    """Return a hash of the source of a block or model that was given as a class; None of any other.

    It is of the class, and of the functions, classes and plain values of its module that its source names, and so on.
    Comments and the layout of the source do not count.
    """
    found = _given[_BLOCKS].get(name) or _given[_MODELS].get(name)
    return found.code if found else None


def how_to_check(name: str) -> str:
    """Return what says which contracts a block or model breaks, for messages."""
    if class_code(name):
        return f"`sen.testing.run_contracts({name})`"
    return f"`sen-bench check-{variant_kind(name)} {name}`"


def _source_hash(given: type[Any]) -> str:
    beside = vars(sys.modules[given.__module__])
    found: dict[str, str] = {}
    left: list[tuple[str, object]] = [(given.__qualname__, given)]
    while left:
        name, value = left.pop()
        if name in found:
            continue
        if isinstance(value, bool | int | float | str | tuple):
            found[name] = repr(value)
        elif isinstance(value, type | FunctionType) and value.__module__ == given.__module__:
            tree = _syntax(value)
            if tree is None and value is given:
                raise ValueError(
                    f"The source of the class {name} cannot be read, and without it results of changed code could not "
                    "be told from others: define the class in a file or in a notebook."
                )
            found[name] = ast.dump(tree) if tree else ""
            names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree else set()
            left += [(each, beside[each]) for each in names if each in beside]
    return hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:10]


def _syntax(value: type[Any] | FunctionType) -> ast.AST | None:
    """Return the syntax tree of a class or function; None where the source is unknown, or a class has no function.

    `inspect.getsource` finds no class of a notebook: it looks for the file of the module, and each cell is a file.
    """
    members = vars(value).values() if isinstance(value, type) else [value]
    for member in (getattr(each, "__func__", each) for each in members):
        if isinstance(member, FunctionType) and member.__module__ == value.__module__:
            linecache.checkcache(member.__code__.co_filename)
            source = "".join(linecache.getlines(member.__code__.co_filename))
            line = member.__code__.co_firstlineno
            nodes = [
                node
                for node in ast.walk(_parse(source))
                if isinstance(node, ast.ClassDef | ast.FunctionDef)
                and node.name == value.__name__
                and min([node.lineno, *(each.lineno for each in node.decorator_list)]) <= line <= (node.end_lineno or 0)
            ]
            if nodes:
                return nodes[-1]
    return None


def _parse(source: str) -> ast.AST:
    try:
        return ast.parse(source)
    except SyntaxError:  # a file of something else than Python
        return ast.Module([], [])
