"""Keeps what bodies print and log.

While a call that asks for it is run, `sys.stdout` and `sys.stderr` are replaced by tees, and the
root logger has one handler more. They ask a context variable whose body it is that writes; a
thread that the body has started has another context, and belongs to nobody, but in the process
of a slot to the only body there. What passes these objects by, like a program that the body
starts, or a C library, is not seen.
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
    """Takes what one body prints."""

    def add_output(self, text: str) -> None:
        """Keep it."""


# The sink of the body that runs here; None where it is not asked for.
_sink: ContextVar[Sink | None] = ContextVar("fsqueue_sink", default=None)
_mutex = threading.Lock()
_open = 0
_process_sinks: list[Sink] = []


class _NullSink:
    """The sink of a body whose output is not kept, also not with that of another one."""

    def add_output(self, text: str) -> None:
        pass


_NULL_SINK = _NullSink()


def _add_output(text: str) -> None:
    sink = _sink.get() or (_process_sinks[-1] if _process_sinks else None)
    if sink is not None:
        sink.add_output(text)


class _Tee:
    """A text stream that shows what it gets to the sink, too."""

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


# `print` of CPython before 3.13.3 goes on with a stream that another thread takes out of `sys`
# meanwhile, without holding it (https://github.com/python/cpython/issues/130163): if that was its
# end, the process crashes. So tees outlive their time in `sys`.
_kept: deque[_Tee] = deque(maxlen=16)


class _Records(logging.Handler):
    """Shows log records to the sink, as far as no other handler writes them into a tee."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] == "fsqueue":
            return  # the worker's own
        handlers = self._others(record.name)
        if not handlers:
            # Without this one logging would do so.
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
    """Give what the block prints and logs to `sink`.

    Args:
        sink: where it goes.
        alone: so does what other threads print whose body is not known.
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
    """What the block prints is not given to the sink of a block around it."""
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


def capturing_if(sink: Sink | None, *, alone: bool) -> contextlib.AbstractContextManager[None]:
    """The same if there is a sink; or else `not_capturing`, as far as there is need for it."""
    if sink is not None:
        return capturing(sink, alone=alone)
    return _NOTHING if _sink.get() is None else not_capturing()
