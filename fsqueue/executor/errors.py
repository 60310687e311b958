"""Errors of executors that are not those of calls."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import TypeVar

from fsqueue.errors import DeserializationError, WorkerLostError

E = TypeVar("E", bound=BaseException | None)


class InitializerError(WorkerLostError, BrokenExecutor):
    """The initializer of an executor failed in a worker, so none of its calls can run."""


class UnloadableError(DeserializationError, WorkerLostError):
    """The function, the arguments or the result of an executor's call cannot be deserialized.

    A worker of a standard pool ends at that, and programs handle the error of a lost worker. Here
    only the call ends.
    """


def as_of_pool(error: E) -> E | UnloadableError:
    """An error, as a program that is written for a standard pool expects it."""
    if not isinstance(error, DeserializationError) or isinstance(error, WorkerLostError):
        return error
    unloadable = UnloadableError(str(error))
    unloadable.__cause__ = error
    return unloadable
