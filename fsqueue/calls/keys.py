"""Digests of arguments, by which calls of a task are compared.

A digest is the same in every process and for every order of dict items and set elements. For a
type that `_Forms` does not know, it covers what `__reduce_ex__` returns: the class or function that
makes the value, and the parts it is made of. This errs in one direction only: equal objects can
have different digests, if they keep something beside their value (a cache, an order) or if another
version of Python or of their package pickles them differently. A digest does not cover code: a
function counts by its name, unless it cannot be imported.
"""

from __future__ import annotations

import copyreg
import dataclasses
import enum
import pickle
import struct
import sys
from array import array
from collections import OrderedDict
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from types import FunctionType
from typing import TYPE_CHECKING, Any

from fsqueue.codec import encode
from fsqueue.references import collecting
from fsqueue.spool.format import digests

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Iterable, Sequence

    from fsqueue.spool.disk.content import Buffer

_KIND = "value"
_PATHS = frozenset({PosixPath, PurePosixPath, PureWindowsPath, WindowsPath})
_CONTAINERS = frozenset({tuple, list, dict, set, frozenset})
_PROTOCOL = 5
# A longer form is replaced by its digest.
_LONGEST_FORM = 256


def digest_of(value: Any) -> str:
    """A hexadecimal digest of a value. Values of different types differ: 1, 1.0, True, "1".

    Raises:
        SerializationError: a part of the value can neither be taken apart nor pickled.
    """
    with collecting():  # an invocation counts by its id
        try:
            form = _Forms().of(value)
        except (_CycleError, RecursionError):
            form = _pickled(value)
    return digests.digest_of(_KIND, [form], b"")


def arguments_of(bound: inspect.BoundArguments, names: Sequence[str] = ()) -> dict[str, Any]:
    """Arguments by name, defaults included.

    Args:
        bound: arguments of one call.
        names: select only these, as far as the call has them. Empty: all.
    """
    bound.apply_defaults()
    if not names:
        return dict(bound.arguments)
    given = {**bound.arguments.get(_catch_all(bound.signature), {}), **bound.arguments}
    return {name: given[name] for name in names if name in given}


def check_key_arguments(signature: inspect.Signature, names: Iterable[str]) -> None:
    """Check that a function has parameters with these names.

    Raises:
        ValueError: it lacks one.
    """
    known = signature.parameters
    unknown = [name for name in names if name not in known]
    if unknown and not _catch_all(signature):
        there = ", ".join(known) or "none"
        raise ValueError(
            f"key_arguments names {', '.join(unknown)}, and the function has no such parameter; "
            f"there are: {there}"
        )


def _catch_all(signature: inspect.Signature) -> str:
    """The name of ``**kwargs``."""
    parameters = signature.parameters.values()
    return next((each.name for each in parameters if each.kind is each.VAR_KEYWORD), "")


class _CycleError(Exception):
    """A value contains itself."""


class _Forms:
    """Canonical bytes of a value's parts. Different values never have the same bytes."""

    def __init__(self) -> None:
        self._known: dict[int, bytes] = {}
        self._alive: list[Any] = []  # so that no other object gets the id of a known one
        self._open: set[int] = set()

    def of(self, value: Any) -> bytes:
        leaf = _LEAVES.get(type(value))
        if leaf is not None:
            return leaf(value)
        number = id(value)
        if number in self._known:
            return self._known[number]
        if number in self._open:
            raise _CycleError
        self._open.add(number)
        self._alive.append(value)
        form = self._of_whole(value)
        self._open.discard(number)
        self._known[number] = form
        return form

    def _of_whole(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _CONTAINERS:
            return self._of_container(kind.__name__, value)
        if isinstance(value, type | FunctionType):
            return _of_global(value, value.__qualname__)
        if isinstance(value, enum.Enum):
            name = value.value if isinstance(value, enum.Flag) else value.name
            return _join("enum", [self.of(kind), self.of(name)])
        if "__dataclass_fields__" in vars(kind):
            fields = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
            return _join("dataclass", [self.of(kind), self.of(fields)])
        return self._of_memory(value) or self._of_reduced(value)

    def _of_container(self, kind: str, value: Any) -> bytes:
        if isinstance(value, dict):
            pairs = (_join("pair", [self.of(key), self.of(each)]) for key, each in value.items())
            return _join(kind, sorted(pairs))
        parts = map(self.of, value)
        return _join(kind, parts if isinstance(value, list | tuple) else sorted(parts))

    def _of_memory(self, value: Any) -> bytes | None:
        """The form of an array of numbers, for any memory layout; None for other values.

        Subclasses of numpy's array are excluded, because some hold more state than their memory.
        """
        # While another thread imports numpy, the module exists but has no names yet.
        numpy = sys.modules.get("numpy")
        ndarray, scalar = getattr(numpy, "ndarray", None), getattr(numpy, "generic", ())
        kind = type(value)
        if not (kind is array or kind is ndarray or isinstance(value, scalar)):
            return None
        try:
            view = memoryview(value)
        except (BufferError, TypeError, ValueError):
            return None
        if "O" in view.format:  # addresses
            return None
        about = f"{type(value).__module__}.{type(value).__qualname__} {view.format} {view.shape}"
        content = pickle.PickleBuffer(value).raw() if view.c_contiguous else view.tobytes()
        return _join("memory", [about.encode(), content])

    def _of_reduced(self, value: Any) -> bytes:
        try:
            reduce = copyreg.dispatch_table.get(type(value))
            reduced: Any = reduce(value) if reduce else value.__reduce_ex__(_PROTOCOL)
        except Exception:  # noqa: BLE001  __reduce__ is the user's; cloudpickle knows more types
            return _pickled(value)
        if isinstance(reduced, str):
            return _of_global(value, reduced)
        parts: list[Any] = [*reduced, None, None, None]
        function, arguments, state, items, pairs = parts[:5]
        listed = list(pairs or ())
        unordered = isinstance(value, dict) and not isinstance(value, OrderedDict)
        return _join(
            "object",
            [
                self.of(function),
                self.of(arguments),
                self.of(state),
                self.of(list(items or ())),
                self.of(dict(listed) if unordered else listed),
            ],
        )


def _of_global(value: Any, name: str) -> bytes:
    """The form of an importable object: its module and name."""
    module = getattr(value, "__module__", None) or type(value).__module__
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return _join("global", [module.encode(), name.encode()]) if found is value else _pickled(value)


def _pickled(value: Any) -> bytes:
    return _join("pickle", [encode(value, "an argument that is part of a key")])


def _join(kind: str, parts: Iterable[Buffer]) -> bytes:
    chunks: list[Buffer] = [f"{kind}\n".encode()]
    for part in parts:
        chunks += [len(part).to_bytes(8), part]
    if sum(map(len, chunks)) > _LONGEST_FORM:
        chunks = [b"digest\n", digests.digest_of(_KIND, chunks, b"").encode()]
    return b"".join(chunks)


def _of_int(value: int) -> bytes:
    return _join("int", [value.to_bytes(value.bit_length() // 8 + 1, signed=True)])


_LEAVES: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: b"None\n",
    bool: lambda value: b"True\n" if value else b"False\n",
    int: _of_int,
    float: lambda value: _join("float", [struct.pack(">d", value)]),
    str: lambda value: _join("str", [value.encode("utf-8", "surrogatepass")]),
    bytes: lambda value: _join("bytes", [value]),
    bytearray: lambda value: _join("bytearray", [value]),
    pickle.PickleBuffer: lambda value: _join("buffer", [value.raw()]),
    **dict.fromkeys(
        _PATHS,
        lambda value: _join(type(value).__name__, [str(value).encode("utf-8", "surrogateescape")]),
    ),
}
