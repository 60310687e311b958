"""Tells functions whose calls are awaited from those that return their value."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Coroutine
from typing import TYPE_CHECKING, Any, get_origin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import CodeType

# A wrapper that uses one of these names runs the coroutine itself and returns its value.
_DRIVERS = frozenset({
    "run", "run_until_complete", "run_coroutine_threadsafe", "run_sync", "async_to_sync",
    "syncify", "result", "send", "Runner", "start_blocking_portal",
})  # fmt: skip


def is_async(func: Callable[..., Any]) -> bool:
    """Whether a call of a function returns something to await.

    Besides ``async def`` functions these are the ones that say so (`inspect.markcoroutinefunction`,
    a return annotation), and plain functions that wrap one with `functools.wraps` and hand on what
    it returns. A wrapper whose code mentions a way to run a coroutine (``asyncio.run``,
    ``run_until_complete`` and so on) returns its value instead.
    """
    for layer in _layers(func):
        if _says_so(layer):
            return True
        if hasattr(layer, "__wrapped__") and _drives(layer):
            return False
    return False


def plain_value(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """What a call of a plain function returns.

    Raises:
        TypeError: it is a coroutine, which has not begun.
    """
    value = func(*args, **kwargs)
    if inspect.iscoroutine(value):
        value.close()
    elif not inspect.isasyncgen(value):
        return value
    name = getattr(func, "__qualname__", repr(func))
    raise TypeError(
        f"{name} returned a coroutine or an asynchronous generator, but nothing at its definition "
        "says that its calls are awaited; its body was not run. Let it be an `async def`, or one "
        "under a decorator that uses functools.wraps; or mark it with "
        "inspect.markcoroutinefunction (Python 3.12)."
    )


def is_async_generator(func: Callable[..., Any]) -> bool:
    """Whether a call of a function returns an asynchronous generator, or hands one on."""
    for layer in _layers(func):
        if inspect.isasyncgenfunction(layer):
            return True
        if _says_so(layer):
            return False
    return False


def _layers(func: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """A function, then the one that it wraps, and so on."""
    seen: set[int] = set()
    while id(func) not in seen:
        seen.add(id(func))
        yield func
        func = getattr(func, "__wrapped__", func)


def _says_so(func: Callable[..., Any]) -> bool:
    code = getattr(func, "__code__", None)
    return (
        inspect.iscoroutinefunction(func)
        or inspect.iscoroutinefunction(_call_of(func))
        or bool(code and code.co_flags & inspect.CO_ITERABLE_COROUTINE)
        # What `asyncio.iscoroutinefunction` looks for: marks from before Python 3.12.
        or getattr(func, "_is_coroutine", None) is _MARK
        or _returns_awaitable(func)
    )


_MARK = getattr(asyncio.coroutines, "_is_coroutine", object())


def _returns_awaitable(func: Callable[..., Any]) -> bool:
    # The annotations of what is wrapped are those of a wrapper, too.
    if hasattr(func, "__wrapped__"):
        return False
    annotation = getattr(func, "__annotations__", {}).get("return")
    if isinstance(annotation, str):
        return annotation.partition("[")[0].rpartition(".")[2] in {"Awaitable", "Coroutine"}
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and origin in {Awaitable, Coroutine, asyncio.Future}


def _drives(func: Callable[..., Any]) -> bool:
    code = getattr(func, "__code__", None) or getattr(_call_of(func), "__code__", None)
    return code is not None and any(not _DRIVERS.isdisjoint(each.co_names) for each in _codes(code))


def _call_of(func: Callable[..., Any]) -> Any:
    """What a call of an object runs."""
    return type(func).__call__


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _codes(constant)
