"""Errors that only executors raise."""

from __future__ import annotations

from concurrent.futures import BrokenExecutor
from typing import TypeVar

from fsqueue.errors import DeserializationError, WorkerLostError

E = TypeVar("E", bound=BaseException | None)


class InitializerError(WorkerLostError, BrokenExecutor):
    """The initializer of an executor failed in a worker, so none of its calls can run."""


class UnloadableError(DeserializationError, WorkerLostError):
    """The function, the arguments or the result of an executor's call cannot be deserialized.

    This kills a worker of a standard pool, so programs handle it as the loss of a worker. Here only
    the call fails.
    """


def as_of_pool(error: E) -> E | UnloadableError:
    """Convert an error to the kind that programs written for a standard pool expect."""
    if not isinstance(error, DeserializationError) or isinstance(error, WorkerLostError):
        return error
    unloadable = UnloadableError(str(error))
    unloadable.__cause__ = error
    return unloadable
