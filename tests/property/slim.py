"""Runs tests that fork often in a process that holds little memory.

To fork is to copy the tables of all memory, and a process of pytest holds all tests and what they
have left: there a fork costs as much as what is tested.
"""

from __future__ import annotations

import functools
import importlib
import traceback
from multiprocessing import get_context
from typing import TYPE_CHECKING

import cloudpickle
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection


def in_slim_process(test: Callable[..., None]) -> Callable[..., None]:
    """Decorator: the test's body runs there; its arguments are pickled, and nothing is captured."""

    @functools.wraps(test)
    def run(**arguments: object) -> None:
        slim = _slim()
        try:
            failure = slim.ask((test.__module__, test.__name__, cloudpickle.dumps(arguments)))
        except BaseException:  # the time is up: it is in the middle of something
            slim.process.kill()
            _slim.cache_clear()
            raise
        if failure:
            pytest.fail(failure, pytrace=False)

    return run


@functools.cache
def _slim() -> _Slim:
    return _Slim()


class _Slim:
    def __init__(self) -> None:
        spawn = get_context("spawn")
        self._connection, there = spawn.Pipe()
        self.process = spawn.Process(target=_serve, args=(there,), daemon=True)
        self.process.start()
        there.close()

    def ask(self, test: tuple[str, str, bytes]) -> str:
        """Run it; returns the traceback of what it raises, or ""."""
        self._connection.send(test)
        return self._connection.recv()


def _serve(connection: Connection) -> None:
    while True:
        try:
            module, name, arguments = connection.recv()
        except EOFError:
            return
        failure = ""
        try:
            test = getattr(importlib.import_module(module), name).__wrapped__
            test(**cloudpickle.loads(arguments))
        except BaseException:  # noqa: BLE001 - told to the process of pytest
            failure = traceback.format_exc()
        connection.send(failure)
