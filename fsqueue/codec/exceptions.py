"""The exceptions of a body as bytes.

An exception travels as a list of records, one for each exception that can be reached from it
(its cause, its context, members of a group, attributes), with numbers for the links between
them. So chains may be long or circular, and what cannot travel harms nobody but itself.

A record holds words and plain numbers that can always be read, and, when unpickling them was
seen to work on the worker, the bytes of the exception itself. Where these cannot be unpickled,
the words become a `RemoteError`.

With the codec "json" there are no pickles. Exceptions of Python itself and of this package are
made anew from their arguments, where JSON has these, and others become a `RemoteError`.

None of this raises an `Exception`. Other kinds, such as `KeyboardInterrupt`, are orders to the
process that may arrive at any time, and pass.
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
        type_name: full name of its class.
        message: its `str()`.
        traceback_text: its formatted traceback, without causes.
        notes: its notes.
        frames: its traceback.
        cause: number of its `__cause__`.
        context: number of its `__context__`.
        suppress_context: its `__suppress_context__`.
        payload: the exception itself, if it was seen to survive.
        reason: why there is no payload.
        arguments: its `args`, where it is made anew from them.
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


def encode_exception(exc: BaseException, codec: str = "cloudpickle") -> bytes:
    """Describe an exception, all that it leads to, and their tracebacks.

    The frames of this package at the top of a traceback are left out.

    Args:
        exc: the exception.
        codec: how the call is written: "json", or with pickles.
    """
    reached = _Reached(exc, plain=codec == "json")
    # The list grows while it is walked: each record may number more exceptions.
    records = [_record(each, reached) for each in reached.exceptions]
    return (
        msgspec.json.encode(records) + b"\n" if reached.plain else msgspec.msgpack.encode(records)
    )


def decode_exception(data: bytes | memoryview, codec: str = "cloudpickle") -> BaseException:
    """The exception that `encode_exception` described, or a `RemoteError` with its words."""
    try:
        records = _records(data, codec)
        return _Rebuilt(records, plain=codec == "json").exception(0)
    except Exception as error:  # noqa: BLE001  whatever it is, the caller must learn of a failure
        return RemoteError("unknown exception", f"its description is damaged: {summary(error)}")


def _records(data: bytes | memoryview, codec: str) -> list[_Record]:
    decode = msgspec.json.decode if codec == "json" else msgspec.msgpack.decode
    return decode(data, type=list[_Record])


def traceback_text(data: bytes | memoryview, codec: str = "cloudpickle") -> str:
    """The tracebacks of a chain as Python prints them, without unpickling anything."""
    try:
        records = _records(data, codec)
        return "\n".join(_chain(records))
    except (msgspec.MsgspecError, RecursionError, IndexError) as error:
        return f"the description of the exception is damaged: {summary(error)}"


def _chain(records: list[_Record]) -> list[str]:
    """What led to the first exception, and that one last."""
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
    """The exceptions that one exception leads to, each with a number."""

    def __init__(self, first: BaseException, *, plain: bool) -> None:
        self.plain = plain
        self.exceptions: list[BaseException] = []  # holds them, so that an id stays theirs
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
    except Exception as error:  # noqa: BLE001  a class can put anything in the place of __cause__
        return _Record(name, capped(safe_str(exc), MAX_MESSAGE), reason=summary(error))


def _full_record(exc: BaseException, name: str, reached: _Reached) -> _Record:
    share = 1 if exc is reached.exceptions[0] else _SHARE_OF_OTHERS
    message = capped(safe_str(exc), MAX_MESSAGE // share)
    notes = _notes(exc, MAX_MESSAGE // share)
    trimmed = without_own_frames(exc.__traceback__)
    text = _traceback_text(exc, trimmed, "\n".join([f"{name}: {message}", *notes, ""]))
    # The chain first: should there be too many exceptions, it matters more than attributes.
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
    """A traceback as Python prints it, without the chain, which has its own records."""
    try:
        if isinstance(exc, BaseExceptionGroup):
            # A RemoteError has no place for members: they, and their chains, stay as words.
            return "".join(traceback.format_exception(type(exc), exc, trimmed))
        if trimmed is None:
            return ""
        lines = traceback.format_tb(trimmed, -MAX_FRAMES)
        return "".join(["Traceback (most recent call last):\n", *lines, ending])
    except Exception as error:  # noqa: BLE001  import hooks of the user give the source lines
        return f"{ending}(its traceback cannot be formatted: {summary(error)})\n"


def _proven_payload(exc: BaseException, reached: _Reached) -> tuple[bytes | None, str]:
    """The pickled exception, once unpickling it has worked, or why there is none."""
    try:
        payload = dump(exc, reached.number)
        if len(payload) > MAX_PAYLOAD:
            return None, f"it takes {len(payload)} bytes, and {MAX_PAYLOAD} are allowed"
        load(payload, reached.exceptions.__getitem__, announce=lambda _: None)
    except Exception as error:  # noqa: BLE001  runs the user's __reduce__ and __setstate__
        return None, summary(error)
    return payload, ""


def _plain_arguments(exc: BaseException) -> tuple[tuple[Any, ...] | None, str]:
    """The arguments of an exception that is made anew from them, or why it is not."""
    cls = type(exc)
    if _plain_class(type_name(cls)) is not cls:
        return None, "only exceptions of Python and of fsqueue are, by the serializer json"
    try:
        args = creation_arguments(exc)
        encode_json(args, "its arguments")
        same = str(cls(*args)) == str(exc)
    except Exception as error:  # noqa: BLE001  arguments of another kind, or another number of them
        return None, summary(error)
    return (args, "") if same else (None, "it says something else when made anew")


def _plain_class(name: str) -> type[BaseException] | None:
    """An exception's class by its full name, if it is one of Python itself or of this package."""
    module, _, attribute = name.rpartition(".")
    found = getattr(_PLAIN_MODULES.get(module), attribute, None)
    return found if isinstance(found, type) and issubclass(found, BaseException) else None


class _Rebuilt:
    """The exceptions of a list of records; `plain`: nothing is unpickled, whatever they hold."""

    def __init__(self, records: list[_Record], *, plain: bool) -> None:
        self._records = records
        self._plain = plain
        self._exceptions: dict[int, BaseException] = {}
        # From the last: an exception was numbered by one before it, and most are ready by then.
        for number in reversed(range(len(records))):
            self.exception(number)
        for number, record in enumerate(records):
            self._link(self._exceptions[number], record)

    def exception(self, number: int) -> BaseException:
        if number in self._exceptions:
            return self._exceptions[number]
        record = self._records[number]
        # It stands in also while the exception is built, should that lead back here.
        remote = self._exceptions[number] = _remote_error(record)
        if (record.arguments if self._plain else record.payload) is None:
            remote.add_note(f"It could not be sent as itself: {record.reason}")
            return remote
        try:
            exc = self._made(number, record)
            assign(exc, "__traceback__", traceback_from(record.frames))
        except Exception as error:  # noqa: BLE001  runs the user's code, in versions of this side
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
            raise TypeError(f"{record.type_name} is no exception of Python")
        return cls(*(record.arguments or ()))

    def _link(self, exc: BaseException, record: _Record) -> None:
        assign(exc, "__cause__", self._found(record.cause))
        assign(exc, "__context__", self._found(record.context))
        # Last, because to set a cause also suppresses the context.
        assign(exc, "__suppress_context__", record.suppress_context)
        if record.notes and not hasattr(exc, "__notes__"):
            # A class with its own __reduce__ seldom thinks of them.
            assign(exc, "__notes__", list(record.notes))

    def _found(self, number: int | None) -> BaseException | None:
        return None if number is None else self._exceptions[number]


def _remote_error(record: _Record) -> RemoteError:
    error = RemoteError(record.type_name, record.message, record.traceback_text)
    for note in record.notes:
        error.add_note(note)
    return error
