"""Serializes the exceptions of bodies.

An exception is sent as a list of records, one for each exception that can be reached from it
(its cause, its context, members of a group, attributes). Numbers link the records. So chains can
be long or circular, and an exception that cannot be sent does not affect the others.

A record contains strings and numbers, which can always be read. If the worker could unpickle the
pickled exception, the record contains these bytes too. Where the caller cannot unpickle them, the
texts become a `RemoteError`.

With the codec "json" there are no pickles. Exceptions of Python itself and of this package are
rebuilt from their arguments if JSON can express these. Others become a `RemoteError`.

None of these functions raises an `Exception`. Other classes, such as `KeyboardInterrupt`, are
commands to the process that can arrive at any time. They propagate, as does whatever a signal
handler raises.
"""

from __future__ import annotations

import builtins
import traceback
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from fsqueue import errors
from fsqueue.codec.plain import encode_json
from fsqueue.codec.reduction import assign, creation_arguments, dump, load
from fsqueue.codec.texts import capped, safe_str, summary, type_name
from fsqueue.codec.tracebacks import (
    MAX_FRAMES,
    Frame,
    frames_of,
    traceback_from,
    without_own_frames,
)
from fsqueue.common.interruptions import of_signal_handler
from fsqueue.errors import RemoteError

if TYPE_CHECKING:
    from types import TracebackType

MAX_MESSAGE = 64 * 1024
MAX_TRACEBACK = 256 * 1024
MAX_NOTES = 100
MAX_EXCEPTIONS = 1000
MAX_PAYLOAD = 256 * 1024**2
_DIRECT_CAUSE = "The above exception was the direct cause of the following exception:\n"
_DURING = "During handling of the above exception, another exception occurred:\n"
_PLAIN_MODULES = {"builtins": builtins, errors.__name__: errors}
_SHARE_OF_OTHERS = 16  # all but the first exception have this fraction of the characters


class _Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """One exception.

    Attributes:
        type_name: the full name of its class.
        message: its `str()`.
        traceback_text: its formatted traceback, without causes.
        notes: its notes.
        frames: its traceback.
        cause: the number of its `__cause__`.
        context: the number of its `__context__`.
        suppress_context: its `__suppress_context__`.
        payload: the pickled exception, if it could be unpickled.
        reason: why there is no payload.
        arguments: its `args`, if it is rebuilt from them.
    """

    type_name: str
    message: str
    traceback_text: str = ""
    notes: tuple[str, ...] = ()
    frames: tuple[Frame, ...] = ()
    cause: int | None = None
    context: int | None = None
    suppress_context: bool = False
    payload: bytes | None = None
    reason: str = ""
    arguments: tuple[Any, ...] | None = None


def encode_exception(
    exc: BaseException,
    codec: str = "cloudpickle",
    *,
    longest: int = MAX_PAYLOAD,
    held: type[BaseException] = Exception,
) -> bytes:
    """Describe an exception, all exceptions that can be reached from it, and their tracebacks.

    The frames of this package at the top of a traceback are left out.

    Args:
        codec: the serializer of the call: "json", or one with pickles.
        longest: exceptions with larger pickles are described by their type, message and traceback.
        held: which exceptions of the exception's own code are caught. A worker catches every
            `BaseException`: a ``__reduce__`` that exits must not end a slot, and no order reaches
            the worker here.
    """
    reached = _Reached(exc, plain=codec == "json", longest=longest, held=held)
    # The list grows during the loop, because each record can add more exceptions.
    records = [_record(each, reached) for each in reached.exceptions]
    return (
        msgspec.json.encode(records) + b"\n" if reached.plain else msgspec.msgpack.encode(records)
    )


def decode_exception(data: bytes | memoryview, codec: str = "cloudpickle") -> BaseException:
    """The exception that `encode_exception` described, or a `RemoteError` with its texts."""
    try:
        records = _records(data, codec)
        return _Rebuilt(records, plain=codec == "json").exception(0)
    except Exception as error:  # the caller must get some exception in every case
        if of_signal_handler(error):
            raise
        return RemoteError("unknown exception", f"its description is damaged: {summary(error)}")


def _records(data: bytes | memoryview, codec: str) -> list[_Record]:
    decode = msgspec.json.decode if codec == "json" else msgspec.msgpack.decode
    return decode(data, type=list[_Record])


def traceback_text(data: bytes | memoryview, codec: str = "cloudpickle") -> str:
    """The tracebacks of a chain in Python's format, without unpickling anything."""
    try:
        records = _records(data, codec)
        return "\n".join(_chain(records))
    except (msgspec.MsgspecError, RecursionError, IndexError) as error:
        return f"the description of the exception is damaged: {summary(error)}"


def _chain(records: list[_Record]) -> list[str]:
    """The texts of a chain, with the first exception last."""
    number, parts, seen = 0, list[str](), set[int]()
    while number not in seen:
        seen.add(number)
        record = records[number]
        parts.append(record.traceback_text or _words(record))
        cause, context = record.cause, record.context
        if cause is not None:
            parts.append(_DIRECT_CAUSE)
            number = cause
        elif context is not None and not record.suppress_context:
            parts.append(_DURING)
            number = context
        else:
            return parts[::-1]
    return parts[-2::-1]


def _words(record: _Record) -> str:
    return "\n".join([f"{record.type_name}: {record.message}", *record.notes, ""])


class _Reached:
    """The exceptions that can be reached from one exception, each with a number."""

    def __init__(
        self, first: BaseException, *, plain: bool, longest: int, held: type[BaseException]
    ) -> None:
        self.plain, self.longest, self.held = plain, longest, held
        self.exceptions: list[BaseException] = []  # keeps them alive, so that their ids stay unique
        self._numbers: dict[int, int] = {}
        self._rest = RemoteError("exceptions", f"all after the first {MAX_EXCEPTIONS} left out")
        self.number(first)

    def number(self, exc: BaseException) -> int:
        known = self._numbers.get(id(exc))
        if known is not None:
            return known
        if len(self.exceptions) >= MAX_EXCEPTIONS and exc is not self._rest:
            return self.number(self._rest)
        self.exceptions.append(exc)
        return self._numbers.setdefault(id(exc), len(self.exceptions) - 1)

    def number_or_none(self, exc: BaseException | None) -> int | None:
        return None if exc is None else self.number(exc)


def _record(exc: BaseException, reached: _Reached) -> _Record:
    name = capped(type_name(type(exc)), MAX_MESSAGE)
    try:
        return _full_record(exc, name, reached)
    except reached.held as error:  # a class can replace __cause__ with anything
        if of_signal_handler(error):
            raise
        return _Record(name, _message(exc, MAX_MESSAGE, reached), reason=summary(error))


def _message(exc: BaseException, limit: int, reached: _Reached) -> str:
    try:
        return capped(safe_str(exc), limit)
    except reached.held as error:  # not an `Exception`: `safe_str` holds those
        if of_signal_handler(error):
            raise
        return f"<str() raised {type(error).__name__}>"


def _full_record(exc: BaseException, name: str, reached: _Reached) -> _Record:
    share = 1 if exc is reached.exceptions[0] else _SHARE_OF_OTHERS
    message = _message(exc, MAX_MESSAGE // share, reached)
    notes = _notes(exc, MAX_MESSAGE // share)
    trimmed = without_own_frames(exc.__traceback__)
    text = _traceback_text(exc, trimmed, "\n".join([f"{name}: {message}", *notes, ""]))
    # The chain comes first: if there are too many exceptions, it matters more than attributes.
    cause = reached.number_or_none(exc.__cause__)
    context = reached.number_or_none(exc.__context__)
    payload, arguments, reason = None, None, ""
    if reached.plain:
        arguments, reason = _plain_arguments(exc)
    else:
        payload, reason = _proven_payload(exc, reached)
    return _Record(
        type_name=name,
        message=message,
        traceback_text=capped(text, MAX_TRACEBACK // share),
        notes=notes,
        frames=tuple(frames_of(trimmed)),
        cause=cause,
        context=context,
        suppress_context=exc.__suppress_context__,
        payload=payload,
        reason=reason,
        arguments=arguments,
    )


def _notes(exc: BaseException, limit: int) -> tuple[str, ...]:
    notes: Any = getattr(exc, "__notes__", ())
    if not isinstance(notes, list | tuple):
        return ()
    return tuple(capped(safe_str(note), limit) for note in notes[:MAX_NOTES])


def _traceback_text(exc: BaseException, trimmed: TracebackType | None, ending: str) -> str:
    """A traceback in Python's format, without the chain, which has its own records."""
    try:
        if isinstance(exc, BaseExceptionGroup):
            # A RemoteError cannot contain members, so they and their chains stay as text.
            return "".join(traceback.format_exception(type(exc), exc, trimmed))
        if trimmed is None:
            return ""
        lines = traceback.format_tb(trimmed, -MAX_FRAMES)
        return "".join(["Traceback (most recent call last):\n", *lines, ending])
    except Exception as error:  # noqa: BLE001  the source lines can come from import hooks of the user
        return f"{ending}(its traceback cannot be formatted: {summary(error)})\n"


def _proven_payload(exc: BaseException, reached: _Reached) -> tuple[bytes | None, str]:
    """The pickled exception, if unpickling it works, or the reason why there is none."""
    try:
        payload = dump(exc, reached.number)
        if len(payload) > reached.longest:
            return None, f"it takes {len(payload)} bytes, and {reached.longest} are allowed"
        load(payload, reached.exceptions.__getitem__, announce=lambda _: None)
    except reached.held as error:  # runs the user's __reduce__ and __setstate__
        if of_signal_handler(error):
            raise
        return None, summary(error)
    return payload, ""


def _plain_arguments(exc: BaseException) -> tuple[tuple[Any, ...] | None, str]:
    """The arguments from which an exception can be rebuilt, or the reason why it cannot."""
    cls = type(exc)
    if _plain_class(type_name(cls)) is not cls:
        return (
            None,
            "the serializer json sends only exceptions of Python and of fsqueue as themselves",
        )
    try:
        args = creation_arguments(exc)
        encode_json(args, "its arguments")
        same = str(cls(*args)) == str(exc)
    except Exception as error:  # noqa: BLE001  arguments of another kind, or another number of them
        return None, summary(error)
    return (args, "") if same else (None, "its message differs when it is rebuilt")


def _plain_class(name: str) -> type[BaseException] | None:
    """An exception class of Python itself or of this package, by its full name."""
    module, _, attribute = name.rpartition(".")
    found = getattr(_PLAIN_MODULES.get(module), attribute, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


class _Rebuilt:
    """The exceptions of a list of records. With `plain`, nothing is ever unpickled."""

    def __init__(self, records: list[_Record], *, plain: bool) -> None:
        self._records = records
        self._plain = plain
        self._exceptions: dict[int, BaseException] = {}
        # Start with the last: each exception was numbered by an earlier one, so most are ready.
        for number in reversed(range(len(records))):
            self.exception(number)
        for number, record in enumerate(records):
            self._link(self._exceptions[number], record)

    def exception(self, number: int) -> BaseException:
        if number in self._exceptions:
            return self._exceptions[number]
        record = self._records[number]
        # It also stands in while the exception is rebuilt, in case that refers back to it.
        remote = self._exceptions[number] = _remote_error(record)
        if (record.arguments if self._plain else record.payload) is None:
            remote.add_note(f"It could not be sent as itself: {record.reason}")
            return remote
        try:
            exc = self._made(number, record)
            assign(exc, "__traceback__", traceback_from(record.frames))
        except Exception as error:  # runs the user's code, in this side's version
            if of_signal_handler(error):
                raise
            remote.add_note(f"It could not be rebuilt on this side: {summary(error)}")
            exc = remote
        self._exceptions[number] = exc
        return exc

    def _made(self, number: int, record: _Record) -> BaseException:
        if not self._plain:
            announce = partial(self._exceptions.__setitem__, number)
            return load(record.payload or b"", self.exception, announce)
        cls = _plain_class(record.type_name)
        if cls is None:
            raise TypeError(f"{record.type_name} is not an exception of Python or fsqueue")
        return cls(*(record.arguments or ()))

    def _link(self, exc: BaseException, record: _Record) -> None:
        assign(exc, "__cause__", self._found(record.cause))
        assign(exc, "__context__", self._found(record.context))
        # Last, because setting a cause also suppresses the context.
        assign(exc, "__suppress_context__", record.suppress_context)
        if record.notes and not hasattr(exc, "__notes__"):
            # A class with its own __reduce__ usually omits them.
            assign(exc, "__notes__", list(record.notes))

    def _found(self, number: int | None) -> BaseException | None:
        return None if number is None else self._exceptions[number]


def _remote_error(record: _Record) -> RemoteError:
    error = RemoteError(record.type_name, record.message, record.traceback_text)
    for note in record.notes:
        error.add_note(note)
    return error
