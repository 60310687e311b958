"""The body of the built-in application's task: runs in workers."""

from __future__ import annotations

import threading
import time
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from fsqueue.codec import PYTHON, decode, encode_exception
from fsqueue.common.interruptions import of_signal_handler
from fsqueue.executor.errors import InitializerError
from fsqueue.executor.parts import NO_BLOBS, unpack
from fsqueue.runner.attempt.context import current
from fsqueue.runner.attempt.endings import retry_io

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.executor.parts import Part
    from fsqueue.spool.features.blobs import Blobs

Start: TypeAlias = "tuple[str, Part, Part]"
"""The initializer of an executor: the executor's name, the function, and its arguments."""

inline_blobs: ContextVar[Blobs | None] = ContextVar("fsqueue_inline_blobs", default=None)
"""The blobs of a call that runs in its caller, with ``dev_mode_force_sync_tasks``."""

# Number of executors whose initializers a process remembers.
_MOST_STARTED = 1_000


ChunkResult: TypeAlias = "tuple[list[Any], bytes | None, float]"
"""Result of a chunk of `Executor.map`: values before the first exception, it, and the seconds."""


def run(
    name: str, function: Part, arguments: Part, *, chunk: bool = False, start: Start | None = None
) -> Any:
    """Call a function that travels by value.

    Args:
        name: the function's name, for the label of the call.
        arguments: positional and keyword arguments as a pair; for a chunk, a list of tuples of
            positional arguments.
        chunk: call the function once for each item of a list.
        start: the initializer that must have run in this process.

    Raises:
        DeserializationError: the function or its arguments cannot be loaded here.
        InitializerError: the initializer has failed in this process.
    """
    if start is not None:
        _starts.ensure(start)
    call = _load(function, f"the function {name}")
    given = _load(arguments, f"the arguments of {name}")
    if chunk:
        return _run_chunk(call, given)
    args, kwargs = given
    return call(*args, **kwargs)


def _load(part: Part, what: str) -> Any:
    if part[1:] == NO_BLOBS:
        return decode(part[0], what, python=PYTHON)
    blobs = inline_blobs.get()
    if blobs is not None:
        return unpack(part, what, blobs)
    execution = current.get()
    if execution is None:
        raise RuntimeError("fsqueue.executor.body.run is called by workers and executors only")
    context = execution.context
    return retry_io(context, unpack, part, what, context.store.blobs)


def _run_chunk(call: Callable[..., Any], items: list[tuple[Any, ...]]) -> ChunkResult:
    values: list[Any] = []
    error, began = None, time.perf_counter()
    try:
        for args in items:
            values.append(call(*args))  # noqa: PERF401 - values before an exception are kept
    except BaseException as raised:  # noqa: BLE001 - the call's own error, even SystemExit
        error = encode_exception(raised)
    return values, error, time.perf_counter() - began


class _Starts:
    """Runs the initializer of each executor once in this process, and remembers its error."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._running: dict[str, threading.Lock] = {}
        self._errors: dict[str, BaseException | None] = {}

    def ensure(self, start: Start) -> None:
        """Run an initializer, unless it has already run.

        Raises:
            InitializerError: it has failed, now or before.
        """
        name, function, arguments = start
        with self._mutex:
            running = self._running.setdefault(name, threading.Lock())
        with running:  # other bodies of this process wait
            if name not in self._errors:
                self._errors[name] = _error_of(function, arguments)
                self._forget_oldest()
            error = self._errors[name]
        if error is not None:
            raise InitializerError(
                f"the initializer of this executor failed in a worker: "
                f"{type(error).__name__}: {error}. Correct it, and make another executor."
            ) from error

    def _forget_oldest(self) -> None:
        with self._mutex:
            while len(self._errors) > _MOST_STARTED:
                oldest = next(iter(self._errors))
                del self._errors[oldest]
                self._running.pop(oldest, None)


def _error_of(function: Part, arguments: Part) -> BaseException | None:
    try:
        initializer = _load(function, "the initializer")
        initializer(*_load(arguments, "the arguments of the initializer"))
    except BaseException as error:
        if of_signal_handler(error):
            raise
        return error  # any error breaks the executor, even SystemExit
    return None


_starts = _Starts()
