"""The hash of a class that a notebook or script gives as a block or model: results of a changed class are not mixed up.

It is of the class as it is in memory, not of its source, which may have changed since, as values beside it may.
"""

from __future__ import annotations

import copyreg
import dis
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, MappingProxyType, ModuleType
from typing import Any

__all__ = ["class_hash"]

# Installed with sen-bench, whose version is recorded. In a clone their files are beside those of the user.
_OWN = {"ablations", "baselines", "benchmarks", "reports", "sen", "studies"}
_PLAIN = (bool, int, float, complex, str, bytes, type(None), type(...))


def class_hash(given: type[Any]) -> str:
    """Return a hash of a class, and of the functions, classes and values that its code uses, and so on.

    What installed packages, the standard library and sen-bench define counts by its name. Comments do not count.

    Raises:
        ValueError: Of a value no hash can be computed.
    """
    try:
        facts = _Facts().of(given, given.__name__)
    except _UnknownError as unknown:
        raise ValueError(
            f"The class {given.__name__} uses {unknown}, whose content is unknown, and without it results of changed "
            "code could not be told from others: create the object in a method."
        ) from None
    return hashlib.sha256(facts.encode(errors="surrogatepass")).hexdigest()[:10]


class _UnknownError(Exception):
    """The content of a value is unknown; the message is the name and the type of the value."""


class _Facts:
    """Describes objects by texts that are the same in every process."""

    def __init__(self) -> None:
        # They are kept: an object that is created later could have the identity of one that is gone.
        self._seen: dict[int, tuple[int, object]] = {}

    def of(self, value: object, name: str) -> str:
        """Describe a value, which messages call by a name."""
        if type(value) in _PLAIN:
            return repr(value)
        if type(value) in {tuple, frozenset, set}:
            each = [self.of(item, name) for item in value]  # type: ignore[attr-defined]
            return f"{type(value).__name__}{each if type(value) is tuple else sorted(each)}"
        if id(value) in self._seen:
            return f"seen {self._seen[id(value)][0]}"
        self._seen[id(value)] = len(self._seen), value
        parts = [self.of(part, each) for each, part in _parts(value, name)]
        return f"{type(value).__name__}{parts}"


def _parts(value: object, name: str) -> Iterator[tuple[str, object]]:
    """Yield what an object consists of, each with a name."""
    if isinstance(value, type | FunctionType) and _is_installed(value):
        yield name, f"{value.__module__}.{value.__qualname__}"
    elif isinstance(value, type):
        yield name, (value.__name__, value.__bases__)
        for each, member in sorted(vars(value).items()):
            if _is_authors(each, member):
                yield f"{name}.{each}", (each, member)
    elif isinstance(value, FunctionType):
        yield name, (value.__code__, value.__defaults__, value.__kwdefaults__)
        for each, cell in zip(value.__code__.co_freevars, value.__closure__ or (), strict=True):
            yield each, getattr(cell, "cell_contents", None)
        if _is_users(value.__globals__.get("__name__")):  # and not what a decorator of a package made
            yield from _used(value)
    else:
        yield name, _content(value, name)


def _content(value: object, name: str) -> object:
    if isinstance(value, CodeType):
        numbers = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags)
        return value.co_code, value.co_consts, value.co_names, value.co_varnames, value.co_freevars, numbers
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, property):
        return value.fget, value.fset, value.fdel
    if hasattr(value, "__wrapped__"):  # functools.cache, classmethod, and what other decorators return
        return value.__wrapped__
    if type(value).__module__ in {"_thread", "_abc"}:  # locks, and the registers of abstract classes
        return None
    return _reduced(value, name)


def _is_authors(name: str, member: object) -> bool:
    """Whether a member of a class is of its author: Python and pydantic add others."""
    is_special = name.startswith("__") and name.endswith("__")
    of_author = isinstance(member, FunctionType | property | classmethod | staticmethod)
    return of_author or not is_special or name == "__pydantic_fields__"


def _used(function: FunctionType) -> Iterator[tuple[str, object]]:
    """Yield the values beside a function that it uses, and what it uses of the user's other modules."""
    codes = list(_codes(function.__code__))
    names = {
        str(each.argval)
        for code in codes
        for each in dis.get_instructions(code)
        if each.opname.startswith("LOAD_") and ("GLOBAL" in each.opname or each.opname == "LOAD_NAME")
    }
    attributes = sorted({name for code in codes for name in code.co_names})
    beside = [(name, function.__globals__[name]) for name in sorted(names & set(function.__globals__))]
    modules: list[ModuleType] = []
    while beside:
        name, value = beside.pop()
        yield name, (name, value)
        if isinstance(value, ModuleType) and _is_users(value.__name__) and value not in modules:
            modules.append(value)
            beside += [(each, vars(value)[each]) for each in attributes if each in vars(value)]


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yield the code of a function and of those that are defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _is_installed(value: type[Any] | FunctionType) -> bool:
    """Whether a module that is not the user's defines a class or function.

    `type` says that the module abc defines a class that it makes, and what a function of a package returns may hold
    functions of the user.
    """
    found: object = sys.modules.get(value.__module__)
    for name in value.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is value and not _is_users(value.__module__)


def _is_users(module: str | None) -> bool:
    """Whether a module is neither installed nor of the standard library nor of sen-bench."""
    top = (module or "__main__").partition(".")[0]
    if top in sys.stdlib_module_names or top in _OWN:
        return False
    found = sys.modules.get(top)
    places = [getattr(found, "__file__", None) or "", *getattr(found, "__path__", ())]
    return not any({"site-packages", "dist-packages"} & set(Path(place).parts) for place in places)


def _reduced(value: object, name: str) -> object:
    """Return what an object is pickled as, which has its class and its content; of a tensor its content.

    Raises:
        _UnknownError: It cannot be pickled.
    """
    from torch import Tensor, uint8

    try:
        if isinstance(value, Tensor):
            content = value.detach().cpu().contiguous().reshape(-1).view(uint8).numpy().tobytes()
            return type(value), str(value.dtype), tuple(value.shape), content
        if isinstance(value, MappingProxyType):
            return dict(value)
        reduce = copyreg.dispatch_table.get(type(value))
        reduced = reduce(value) if reduce else value.__reduce_ex__(4)
        # The items of lists and dicts come from iterators.
        return (
            reduced if isinstance(reduced, str) else (*(tuple(p) if isinstance(p, Iterator) else p for p in reduced),)
        )
    except Exception as error:  # whatever the object's own method raises
        raise _UnknownError(f"{name} ({type(value).__name__})") from error
