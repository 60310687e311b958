"""Invocations as arguments: in the bytes each is a reference, and a value when they are read.

Pickle meets them wherever they are nested. Who encodes arguments collects what it meets; who
decodes them for a body says what the values are.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_MARK = "$fsqueue.result"


class Referable(Protocol):
    """What can be referred to."""

    id: str


class _Local(threading.local):
    """What this thread is doing."""

    met: list[Any] | None = None
    look_up: Callable[[str], Any] | None = None


_here = _Local()


@contextlib.contextmanager
def collecting() -> Iterator[list[Any]]:
    """Within the block what is encoded may refer to invocations; they are put into the list."""
    outer, _here.met = _here.met, []
    try:
        yield _here.met
    finally:
        _here.met = outer


def reference(invocation: Referable) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """What `__reduce__` returns for an invocation.

    Raises:
        TypeError: nothing is being encoded that may refer to one.
    """
    if _here.met is None:
        raise TypeError(
            "an invocation can be sent as an argument of a call only, where its result takes its "
            "place: send its id, and get it back with app.invocation(id)"
        )
    _here.met.append(invocation)
    return value_of, (invocation.id,)


def mark(invocation: Referable) -> dict[str, str]:
    """What stands for an invocation in JSON."""
    reference(invocation)
    return {_MARK: invocation.id}


def value_if_marked(value: Any) -> Any:
    """The result that a mark in JSON stands for; other values as they are."""
    return value_of(value[_MARK]) if type(value) is dict and value.keys() == {_MARK} else value


def replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """A value with parts of it, in lists, tuples and dicts, replaced; itself if none is.

    Args:
        value: any value.
        change: gives the replacement of a part, or the part itself.
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
    """Within the block references are decoded to what `look_up` gives for an invocation's id."""
    outer, _here.look_up = _here.look_up, look_up
    try:
        yield
    finally:
        _here.look_up = outer


def value_of(invocation_id: str) -> Any:
    """What pickle calls for a reference."""
    look_up = _here.look_up or Unresolved
    return look_up(invocation_id)


def given(value: Any) -> Any:
    """What pickle calls for what stands in the bytes itself: a group is the list of its members."""
    return value


class Unresolved:
    """Stands for a result where arguments are only looked at."""

    def __init__(self, invocation_id: str) -> None:
        self.id = invocation_id

    def __repr__(self) -> str:
        return f"<result of {self.id}>"
