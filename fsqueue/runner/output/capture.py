"""Captures what bodies print and log.

While a call with `capture_output` runs, tees replace `sys.stdout` and `sys.stderr`, and the root
logger has an additional handler. A context variable tells them which body is writing. A thread that
the body has started has another context: its output belongs to no body, except in a slot process,
where it belongs to the only body. Output that bypasses these objects is not captured, such as that
of a program that the body starts, or of a C library.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from collections import deque
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator


class Sink(Protocol):
    """Receives the output of one body."""

    def add_output(self, text: str) -> None:
        """Add a text to the output."""


# The sink of the body that runs here; None if its output is not captured.
_sink: ContextVar[Sink | None] = ContextVar("fsqueue_sink", default=None)
_mutex = threading.Lock()
_open = 0
_process_sinks: list[Sink] = []


class _NullSink:
    """The sink of a body whose output is dropped, and not added to that of another body."""

    def add_output(self, text: str) -> None:
        pass


_NULL_SINK = _NullSink()


def _add_output(text: str) -> None:
    sink = _sink.get() or (_process_sinks[-1] if _process_sinks else None)
    if sink is not None:
        sink.add_output(text)


class _Tee:
    """A text stream that also passes what is written to the sink."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        count = self._stream.write(text)
        _add_output(text)
        return count

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


# `print` of CPython before 3.13.3 keeps using a stream that another thread removes from `sys`
# meanwhile, without a reference to it (https://github.com/python/cpython/issues/130163). If the
# stream is freed, the process crashes. So tees outlive their time in `sys`.
_kept: deque[_Tee] = deque(maxlen=16)


class _Records(logging.Handler):
    """Passes log records to the sink, unless another handler writes them into a tee."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == "fsqueue":
            return  # a record of the worker itself
        handlers = self._others(record.name)
        if not handlers:
            # logging would do this if our handler were not there.
            last = logging.lastResort
            if last is not None and record.levelno >= last.level:
                last.handle(record)
            return
        if not any(
            isinstance(getattr(handler, "stream", None), _Tee) and record.levelno >= handler.level
            for handler in handlers
        ):
            _add_output(f"{self.format(record)}\n")

    def _others(self, name: str) -> list[logging.Handler]:
        found: list[logging.Handler] = []
        logger: logging.Logger | None = logging.getLogger(name)
        while logger is not None:
            found += [handler for handler in logger.handlers if handler is not self]
            logger = logger.parent if logger.propagate else None
        return found


_records = _Records()
_records.setFormatter(logging.Formatter("%(levelname)s %(name)s: %(message)s"))


@contextlib.contextmanager
def capturing(sink: Sink, *, alone: bool = False) -> Iterator[None]:
    """Capture what the block prints and logs.

    Args:
        sink: receives the output.
        alone: also capture the output of other threads whose body is unknown.
    """
    token = _sink.set(sink)
    _install()
    if alone:
        _process_sinks.append(sink)
    try:
        yield
    finally:
        if alone:
            _process_sinks.remove(sink)
        _uninstall()
        _sink.reset(token)


@contextlib.contextmanager
def not_capturing() -> Iterator[None]:
    """Keep the output of the block from the sink of an enclosing block."""
    token = _sink.set(_NULL_SINK)
    try:
        yield
    finally:
        _sink.reset(token)


def _install() -> None:
    global _open  # noqa: PLW0603 - one pair of streams a process
    with _mutex:
        _open += 1
        if _open > 1:
            return
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is not None and not isinstance(stream, _Tee):
                setattr(sys, name, cast("TextIO", _tee_of(stream)))
        logging.getLogger().addHandler(_records)


def _tee_of(stream: TextIO) -> _Tee:
    for tee in _kept:
        if tee._stream is stream:  # noqa: SLF001 - its own
            return tee
    _kept.append(_Tee(stream))
    return _kept[-1]


def _uninstall() -> None:
    global _open  # noqa: PLW0603 - one pair of streams a process
    with _mutex:
        _open -= 1
        if _open:
            return
        logging.getLogger().removeHandler(_records)
        for name in ("stdout", "stderr"):
            stream = getattr(sys, name)
            if isinstance(stream, _Tee):
                setattr(sys, name, stream._stream)  # noqa: SLF001 - its own


_NOTHING = contextlib.nullcontext()


def is_capturing() -> bool:
    """Whether the output of the code that calls this is captured."""
    return _sink.get() is not None


def capturing_if(sink: Sink | None, *, alone: bool) -> contextlib.AbstractContextManager[None]:
    """`capturing` if there is a sink, otherwise `not_capturing` if that is needed."""
    if sink is not None:
        return capturing(sink, alone=alone)
    return _NOTHING if _sink.get() is None else not_capturing()
