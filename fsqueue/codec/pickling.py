"""Pickling with cloudpickle, without its silent conversions, and unpickling.

cloudpickle sends an open text file as a `StringIO` with a copy of its text, a `memoryview` as
`bytes`, and a `WeakSet` that arrives empty, because nothing refers to its members there.
Python's own pickle refuses the first two. It sends a weak proxy as a copy of its object, a
`weakref.finalize` (which each `TemporaryDirectory` has) as one that has ended, and a connection of
`multiprocessing` as the bare number of a descriptor: the other side would use, and close, whatever
it has open under that number. A converted value would fail later on the other side, so this module
refuses such values, wherever they are nested.

A class that only this process can import is sent as its content. That is not enough for some, such
as the types of `sys.flags` and ctypes structures, which are refused here too.

`sys.stdout`, `sys.stderr` and loggers are sent as names: the other side uses its own.

A pickle names classes and functions by the module that defines them. So a module of fsqueue that
defines something public leaves its old name in `MOVED` when it moves.
"""

from __future__ import annotations

import io
import operator
import pickle
import sys
import weakref
from collections import ChainMap
from types import CellType, FunctionType, MemberDescriptorType
from typing import TYPE_CHECKING, Any, ClassVar, Final

import cloudpickle  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from collections.abc import Callable
    from pickle import Pickler as _CloudPickler  # cloudpickle's has no types
else:
    from cloudpickle import Pickler as _CloudPickler

MOVED: Final = {
    "fsqueue.arguments": "fsqueue.calls.arguments",
    "fsqueue.runner.context": "fsqueue.runner.attempt.context",
    "fsqueue.spool.reports": "fsqueue.spool.features.body_reports",
    "fsqueue.spool.states": "fsqueue.spool.format.states",
    "fsqueue.spool.store.body_reports": "fsqueue.spool.features.body_reports",
}
"""The current places of modules that pickles of older versions name. Never remove an entry."""

_REDUCERS: dict[type, Callable[[Any], Any]] = dict(cloudpickle.Pickler.dispatch_table)


def _reduce_file(file: io.TextIOWrapper) -> Any:
    if file is sys.stdout or file is sys.stderr:
        return _REDUCERS[io.TextIOWrapper](file)
    name = getattr(file, "name", None)
    raise pickle.PicklingError(f"an open file ({name!r}) belongs to this process; pass its path")


# A function is sent as a buffer from this size in bytes.
_LARGE: Final = 1 << 15


def _uncopied(value: Any) -> Any:
    """Large bytes as a buffer, which pickle does not copy, nor unpickle; other values unchanged."""
    return pickle.PickleBuffer(value) if type(value) is bytes and len(value) >= _LARGE else value


def _reduce_cell(cell: CellType) -> Any:
    make, contents = _REDUCERS[CellType](cell)
    return make, tuple(map(_uncopied, contents))


def _reduced_function(reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """How a function is pickled by value: with the globals that it uses, and its defaults."""
    match reduced:
        case (_, _, (_, {"__globals__": dict(used), "__defaults__": defaults} as slots), *_):
            slots["__globals__"] = {name: _uncopied(value) for name, value in used.items()}
            slots["__defaults__"] = defaults and tuple(map(_uncopied, defaults))
    return reduced


def _reduce_view(_: memoryview) -> Any:
    raise pickle.PicklingError("a memoryview would arrive as bytes; pass bytes(view)")


def _reduce_weak_set(members: weakref.WeakSet[Any]) -> Any:
    if not len(members):
        return _REDUCERS[weakref.WeakSet](members)
    raise pickle.PicklingError("a WeakSet would arrive without its members; pass a set")


def _reduce_proxy(_: object) -> Any:
    raise pickle.PicklingError("a weak proxy would arrive as a copy of its object; pass the object")


def _reduce_finalizer(_: object) -> Any:
    raise pickle.PicklingError(
        "a weakref.finalize, such as that of a TemporaryDirectory, belongs to this process;"
        " pass the path of a directory"
    )


def _reduce_connection(connection: object) -> Any:
    raise pickle.PicklingError(
        f"a {type(connection).__name__} has a descriptor of this process; pass what it would send"
    )


# Compiled metaclasses: recreating one of their classes takes more than the class's content.
_COMPILED = frozenset({"_ctypes", "msgspec._core"})
_MADE_BY_PYTHON = 1 << 9  # Py_TPFLAGS_HEAPTYPE


class _Reducers(ChainMap[type, "Callable[[Any], Any]"]):
    """Reducers by class. Connections are known by their module, which need not be imported."""

    def __missing__(self, cls: type) -> Any:
        if cls.__module__ == "multiprocessing.connection":
            return _reduce_connection
        raise KeyError(cls)


class Pickler(_CloudPickler):
    """A cloudpickle pickler that refuses values that would change on the way."""

    dispatch_table: ClassVar[_Reducers] = _Reducers(  # type: ignore[misc] # as cloudpickle does
        {
            io.TextIOWrapper: _reduce_file,
            CellType: _reduce_cell,
            memoryview: _reduce_view,
            weakref.WeakSet: _reduce_weak_set,
            weakref.ProxyType: _reduce_proxy,
            weakref.CallableProxyType: _reduce_proxy,
            weakref.finalize: _reduce_finalizer,
        },
        *cloudpickle.Pickler.dispatch_table.maps,
    )

    def reducer_override(self, obj: Any) -> Any:
        """How an object is pickled; NotImplemented for the usual way. Called by pickle."""
        found = super().reducer_override(obj)
        if type(obj) is FunctionType and type(found) is tuple:
            return _reduced_function(found)
        if found is NotImplemented or not issubclass(type(obj), type):
            return found
        match found:
            case (make, (meta, name, bases, dict(kwargs), *rest), (dict(state), other), *more):
                return _class_by_value(
                    obj, (make, (meta, name, bases, kwargs, *rest), (state, other), *more)
                )
        return found


def _class_by_value(cls: Any, reduced: tuple[Any, ...]) -> tuple[Any, ...]:
    """How a class is pickled that the other side cannot import, such as one of a main script.

    cloudpickle sends the names of the slots, but makes the class without them: an object that comes
    back from there has a ``__dict__``, and none of the slots' values.
    """
    array = type(cls).__module__ == "_ctypes" and hasattr(cls, "_length_")
    if array and cls is cls._type_ * cls._length_:
        return operator.mul, (cls._type_, cls._length_)
    if type(cls).__module__ in _COMPILED or not cls.__flags__ & _MADE_BY_PYTHON:
        raise pickle.PicklingError(
            f"the class {cls.__qualname__} can be imported from nowhere, and cannot be made anew on"
            " the other side; define it in a module, or pass the data alone, such as tuple(value)"
        )
    _, (*_, kwargs, _, _), (state, _), *_ = reduced
    slots = cls.__dict__.get("__slots__")
    if slots and isinstance(slots, str | tuple | list | dict):
        kwargs["__slots__"] = slots
        for member in [name for name, each in state.items() if type(each) is MemberDescriptorType]:
            del state[member]  # made from a name that begins with two underscores
    return reduced


class Unpickler(pickle.Unpickler):
    """An unpickler that finds what has moved since an older version wrote the pickle."""

    def find_class(self, module: str, name: str) -> Any:
        """A class or function, by the module and the name that the pickle gives."""
        return super().find_class(MOVED.get(module, module), name)


_ATOMS: frozenset[type] = frozenset({int, float, complex, bool, str, bytes, type(None)})
_FEW = 16


def are_simple(value: Any, atoms: frozenset[type] = _ATOMS) -> bool:
    """Whether a value is the arguments of a call, and these are a few numbers or strings."""
    if type(value) is not tuple or len(value) != 2:  # noqa: PLR2004 - arguments are a pair
        return False
    args, kwargs = value
    if type(args) is not tuple or type(kwargs) is not dict or len(args) + len(kwargs) > _FEW:
        return False
    return atoms.issuperset(map(type, (*args, *kwargs, *kwargs.values())))


def dumps(
    value: Any,
    protocol: int | None = None,
    buffer_callback: Callable[[pickle.PickleBuffer], Any] | None = None,
) -> bytes:
    """Pickle a value like `cloudpickle.dumps`.

    Raises:
        Exception: of any class, if a part of the value cannot be pickled.
    """
    if type(value) in _ATOMS or are_simple(value):  # the pickle is the same without a pickler
        return pickle.dumps(value, protocol)
    with io.BytesIO() as file:
        Pickler(file, protocol=protocol, buffer_callback=buffer_callback).dump(value)
        return file.getvalue()
