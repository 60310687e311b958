"""Distinguishes functions whose calls are awaited from functions that return their value."""

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
    """Whether a call of a function returns an awaitable.

    These are ``async def`` functions, functions that are marked (`inspect.markcoroutinefunction`,
    a return annotation), and plain functions that wrap one with `functools.wraps` and return what
    it returns. A wrapper whose code mentions a way to run a coroutine (``asyncio.run``,
    ``run_until_complete`` and so on) returns its value instead.
    """
    for layer in _layers(func):
        if _is_marked_async(layer):
            return True
        if hasattr(layer, "__wrapped__") and _runs_coroutine(layer):
            return False
    return False


def plain_value(func: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """Call a plain function and return its value.

    Raises:
        TypeError: it returned a coroutine, which was not started.
    """
    value = func(*args, **kwargs)
    if inspect.iscoroutine(value):
        value.close()
    elif not inspect.isasyncgen(value):
        return value
    name = getattr(func, "__qualname__", repr(func))
    raise TypeError(
        f"{name} returned a coroutine or an asynchronous generator, but its definition does not "
        "show that its calls are awaited, so its body was not run. Define it with `async def`, use "
        "functools.wraps in its decorator, or mark it with inspect.markcoroutinefunction "
        "(Python 3.12)."
    )


def is_async_generator(func: Callable[..., Any]) -> bool:
    """Whether a call of a function returns an asynchronous generator, also through a wrapper."""
    for layer in _layers(func):
        if inspect.isasyncgenfunction(layer):
            return True
        if _is_marked_async(layer):
            return False
    return False


def _layers(func: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """A function, then the function that it wraps, and so on."""
    seen: set[int] = set()
    while id(func) not in seen:
        seen.add(id(func))
        yield func
        func = getattr(func, "__wrapped__", func)


def _is_marked_async(func: Callable[..., Any]) -> bool:
    code = getattr(func, "__code__", None)
    return (
        inspect.iscoroutinefunction(func)
        or inspect.iscoroutinefunction(_call_of(func))
        or bool(code and code.co_flags & inspect.CO_ITERABLE_COROUTINE)
        # The mark that `asyncio.iscoroutinefunction` checks, from before Python 3.12.
        or getattr(func, "_is_coroutine", None) is _MARK
        or _returns_awaitable(func)
    )


_MARK = getattr(asyncio.coroutines, "_is_coroutine", object())


def _returns_awaitable(func: Callable[..., Any]) -> bool:
    # A wrapper has the annotations of the function that it wraps.
    if hasattr(func, "__wrapped__"):
        return False
    annotation = getattr(func, "__annotations__", {}).get("return")
    if isinstance(annotation, str):
        return annotation.partition("[")[0].rpartition(".")[2] in {"Awaitable", "Coroutine"}
    origin = get_origin(annotation) or annotation
    return isinstance(origin, type) and origin in {Awaitable, Coroutine, asyncio.Future}


def _runs_coroutine(func: Callable[..., Any]) -> bool:
    code = getattr(func, "__code__", None) or getattr(_call_of(func), "__code__", None)
    return code is not None and any(not _DRIVERS.isdisjoint(each.co_names) for each in _codes(code))


def _call_of(func: Callable[..., Any]) -> Any:
    """The method that a call of an object runs."""
    return type(func).__call__


def _codes(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _codes(constant)
