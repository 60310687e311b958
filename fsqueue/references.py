"""References to invocations among serialized arguments. Decoding replaces them with results.

Pickle finds the invocations wherever they are nested. `collecting` records them while arguments
are encoded. `resolving` supplies their values while arguments are decoded for a body.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MARK = "$fsqueue.result"


class Referable(Protocol):
    """An object that a reference can stand for."""

    id: str


class _Local(threading.local):
    """What this thread is encoding or decoding."""

    met: list[Any] | None = None
    look_up: Callable[[str], Any] | None = None


_here = _Local()


class collecting:  # noqa: N801 - used like a function
    """A block in which encoded values may contain invocations. The list collects them."""

    __slots__ = ("_outer",)

    def __enter__(self) -> list[Any]:
        met: list[Any] = []
        self._outer, _here.met = _here.met, met
        return met

    def __exit__(self, *_: object) -> None:
        _here.met = self._outer


def reference(invocation: Referable) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The value of an invocation's `__reduce__`.

    Raises:
        TypeError: the value being encoded must not contain an invocation.
    """
    if _here.met is None:
        raise TypeError(
            "an invocation can only be sent as an argument of a call, where its result replaces "
            "it: send its id, and get the invocation back with app.invocation(id)"
        )
    _here.met.append(invocation)
    return value_of, (invocation.id,)


def mark(invocation: Referable) -> dict[str, str]:
    """The JSON form of an invocation."""
    reference(invocation)
    return {_MARK: invocation.id}


def value_if_marked(value: Any) -> Any:
    """The result for the JSON form of an invocation; other values unchanged."""
    return value_of(value[_MARK]) if type(value) is dict and value.keys() == {_MARK} else value


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of a value with parts in lists, tuples and dicts replaced, or the value itself.

    Args:
        value: any value.
        change: returns the replacement of a part, or the part itself.
    """
    new = change(value)
    if new is not value:
        return new
    if type(value) in {list, tuple}:
        parts = [replaced(each, change) for each in value]
        same = all(new is old for new, old in zip(parts, value, strict=True))
        return value if same else type(value)(parts)
    if type(value) is dict:
        found = {key: replaced(each, change) for key, each in value.items()}
        return value if all(found[key] is value[key] for key in value) else found
    return value


@contextlib.contextmanager
def resolving(look_up: Callable[[str], Any]) -> Iterator[None]:
    """A block in which each reference is decoded to `look_up(invocation_id)`."""
    outer, _here.look_up = _here.look_up, look_up
    try:
        yield
    finally:
        _here.look_up = outer


def value_of(invocation_id: str) -> Any:
    """Unpickle a reference."""
    look_up = _here.look_up or Unresolved
    return look_up(invocation_id)


def given(value: Any) -> Any:
    """Unpickle a value that the bytes contain: a group becomes the list of its members."""
    return value


class Unresolved:
    """A placeholder for a result where arguments are only displayed."""

    def __init__(self, invocation_id: str) -> None:
        self.id = invocation_id

    def __repr__(self) -> str:
        return f"<result of {self.id}>"
