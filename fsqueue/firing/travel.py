"""Serializes occurrences for workers that read them later.

The first line names the application's serializer. An application with the serializer "json"
unpickles nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

from fsqueue.codec import (
    PYTHON,
    check_codec,
    decode,
    decode_exception,
    encode,
    encode_exception,
)
from fsqueue.errors import DeserializationError
from fsqueue.spool.format.states import State
from fsqueue.triggers import Occurrence

if TYPE_CHECKING:
    from collections.abc import Sequence

_FIELDS = ("id", "event", "payload", "task", "invocation", "result")


def write(value: Any, what: str, codec: str) -> bytes:
    """A value as bytes.

    Args:
        what: names the value in the error.
        codec: the serializer.

    Raises:
        SerializationError: the value cannot be serialized.
    """
    return f"{codec} {PYTHON}\n".encode() + encode(value, what, codec=codec)


def read(data: bytes, what: str, *, unpickles: bool) -> Any:
    """The value that `write` serialized.

    Args:
        data: the bytes from `write`.
        what: names the value in the error.
        unpickles: the value may be unpickled.

    Raises:
        DeserializationError: this process cannot read the value.
        SpoolVersionError: a newer version of fsqueue wrote it.
    """
    head, _, rest = data.partition(b"\n")
    codec, _, python = head.decode("ascii", "replace").partition(" ")
    check_codec(codec, what, unpickles=unpickles)
    return decode(rest, what, codec=codec, python=python)


def write_occurrence(occurrence: Occurrence, what: str, codec: str) -> bytes:
    """An occurrence as bytes, without its parts.

    Raises:
        SerializationError: the payload or the result cannot be serialized.
    """
    fields = {name: getattr(occurrence, name) for name in _FIELDS}
    fields["when"] = occurrence.when.isoformat()
    fields["state"] = None if occurrence.state is None else str(occurrence.state)
    if occurrence.exception is not None:
        fields["exception"] = encode_exception(occurrence.exception, codec).hex()
        fields["codec"] = codec
    return write(fields, what, codec)


def read_occurrence(data: bytes, what: str, *, unpickles: bool) -> Occurrence:
    """The occurrence that `write_occurrence` serialized.

    Raises:
        DeserializationError: this process cannot read it.
        SpoolVersionError: a newer version of fsqueue wrote it.
    """
    fields = read(data, what, unpickles=unpickles)
    try:
        state, exception = fields.pop("state"), fields.pop("exception", None)
        codec = fields.pop("codec", "")
        if exception is not None:
            check_codec(codec, what, unpickles=unpickles)
            exception = decode_exception(bytes.fromhex(exception), codec)
        return Occurrence(
            when=datetime.fromisoformat(fields.pop("when")),
            state=None if state is None else State(state),
            exception=exception,
            **fields,
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DeserializationError(f"{what} is not an occurrence: {error}") from error


def together(identity: str, parts: Sequence[Occurrence]) -> Occurrence:
    """The occurrence of an `all_of` trigger, made of the occurrences of its parts."""
    return Occurrence(identity, max(part.when for part in parts), parts=tuple(parts))
