"""Which functions are awaited, as far as their definitions tell."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import sys
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from fsqueue.common.coroutines import is_async, is_async_generator, plain_value
from fsqueue.runner.attempt.nested import not_blocking_a_loop


async def native():
    return 1


def plain():
    return 1


async def stream():
    yield 1


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return function(*args, **kwargs)

    return wrapper


class Counted:
    """A decorator that is a class."""

    def __init__(self, function):
        functools.update_wrapper(self, function)
        self.function = function

    def __call__(self, *args, **kwargs):
        return self.function(*args, **kwargs)


def in_thread(function):
    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        return await asyncio.to_thread(function, *args, **kwargs)

    return wrapper


def blocking(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return asyncio.run(function(*args, **kwargs))

    return wrapper


def blocking_by_loop(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        loop = asyncio.new_event_loop()
        with contextlib.closing(loop):
            return loop.run_until_complete(function(*args, **kwargs))

    return wrapper


def collected(function):
    @functools.wraps(function)
    async def wrapper(*args, **kwargs):
        return [each async for each in function(*args, **kwargs)]

    return wrapper


class Caller:
    async def __call__(self):
        return 1


def annotated() -> Awaitable[int]:
    return native()


def annotated_coroutine() -> Coroutine[Any, Any, int]:
    return native()


def annotated_function() -> Callable[[], Awaitable[int]]:
    return native


@contextlib.contextmanager
def context():
    yield


AWAITED = {
    "async def": native,
    "logged": logged(native),
    "logged twice": logged(logged(native)),
    "by a class": Counted(native),
    "with a context manager": context()(native),
    "cached": functools.cache(native),
    "partial": functools.partial(native),
    "async from plain": in_thread(plain),
    "logged async from plain": logged(in_thread(plain)),
    "async from plain from async": in_thread(blocking(native)),
    "collected": collected(stream),
    "logged, collected": logged(collected(stream)),
    "callable object": Caller(),
    "annotated": annotated,
    "annotated as coroutine": annotated_coroutine,
}
NOT_AWAITED = {
    "def": plain,
    "logged def": logged(plain),
    "asyncio.run": blocking(native),
    "run_until_complete": blocking_by_loop(native),
    "logged asyncio.run": logged(blocking(native)),
    "asyncio.run of what is logged": blocking(logged(native)),
    "built-in": len,
    "returns a function": annotated_function,
}


@pytest.mark.parametrize("name", AWAITED)
def test_awaited(name):
    assert is_async(AWAITED[name])


@pytest.mark.parametrize("name", NOT_AWAITED)
def test_not_awaited(name):
    assert not is_async(NOT_AWAITED[name])


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
def test_a_function_that_is_marked():
    def unrecognized():
        return native()

    assert not is_async(unrecognized)
    assert is_async(inspect.markcoroutinefunction(unrecognized))


def test_asynchronous_generators():
    assert is_async_generator(stream)
    assert is_async_generator(logged(stream))
    assert not is_async_generator(collected(stream))
    assert not is_async_generator(logged(native))


def test_a_plain_function_returns_no_coroutine():
    assert plain_value(plain) == 1
    for function in (native, stream):
        with pytest.raises(TypeError, match="its body was not run"):
            plain_value(function)


def test_a_wait_while_another_thread_imports_the_event_loop(monkeypatch):
    being_imported = types.ModuleType("fsqueue.runner.event_loop.loop")
    monkeypatch.setitem(sys.modules, being_imported.__name__, being_imported)
    with not_blocking_a_loop():
        pass
