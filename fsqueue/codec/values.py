"""Arguments and results as bytes."""

from __future__ import annotations

import pickle
import reprlib
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

import cloudpickle  # type: ignore[import-untyped]

from fsqueue.codec.texts import summary, type_name
from fsqueue.errors import DeserializationError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# A smaller part of a value is copied in less time than it takes to handle it apart.
_LARGE = 1 << 18
# The first line of a file has their sizes.
_MOST_BUFFERS = 64
_BLAME_DEPTH = 8
_BLAME_WIDTH = 1000


def encode(value: Any, what: str, buffers: list[memoryview] | None = None) -> bytes:
    """Serialize a value with cloudpickle, so that lambdas and ``__main__`` classes can travel.

    Args:
        value: the arguments or the result of a call.
        what: names the value in the error, such as ``"The arguments of app.add"``.
        buffers: takes the memory of large arrays, and of what `uncopied` returned, which then is
            not copied and must not change before it is written; None copies everything.

    Raises:
        SerializationError: the value, or the part of it that the message names, cannot be pickled.
    """
    try:
        data: bytes = cloudpickle.dumps(
            value,
            protocol=pickle.HIGHEST_PROTOCOL,
            buffer_callback=None if buffers is None else partial(_is_in_band, buffers),
        )
    except Exception as error:
        raise SerializationError(
            f"{what} cannot be serialized: {_blame(value)}: {summary(error)}. Pass what can be "
            "pickled, such as a path instead of an open file."
        ) from error
    return data


def uncopied(value: Any) -> Any:
    """Large bytes in a form that `encode` takes apart and `decode` restores; others as they are.

    Pickle itself offers no bytes, and to be asked for each object in a value costs too much: so
    this is for the arguments and results themselves, not for what they hold.
    """
    return pickle.PickleBuffer(value) if type(value) is bytes and len(value) >= _LARGE else value


def _is_in_band(buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    memory = buffer.raw()
    if len(memory) < _LARGE or len(buffers) >= _MOST_BUFFERS:
        return True
    buffers.append(memory)
    return False


def decode(data: bytes | memoryview, what: str, buffers: Iterable[Any] = ()) -> Any:
    """Turn the bytes of `encode` back into a value.

    Unpickling runs code that the bytes name: the caller has verified where they come from.

    Args:
        data: bytes that `encode` returned, here or in another process.
        what: names the value in the error, such as ``"The result of 1f-3"``.
        buffers: what `encode` took apart, in its order; it becomes part of the value.

    Raises:
        DeserializationError: the bytes are damaged, or need code that is not here.
    """
    try:
        return pickle.loads(data, buffers=buffers)
    except Exception as error:
        raise DeserializationError(
            f"{what} cannot be deserialized: {summary(error)}. "
            "Make sure that the same packages and the same code, in the same versions, "
            "can be imported on both sides."
        ) from error


def _blame(value: Any) -> str:
    """Name the innermost part that cannot be pickled alone, and its type."""
    path = ""
    for _ in range(_BLAME_DEPTH):
        step, part = next(_culprits(value), ("", None))
        if not step:
            break
        path, value = path + step, part
    subject = f"its part {path}" if path else "a value"
    return f"{subject} of type {type_name(type(value))}"


def _culprits(value: Any) -> Iterator[tuple[str, Any]]:
    return ((step, part) for step, part in islice(_parts(value), _BLAME_WIDTH) if _fails(part))


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    # Exact types only: the items of a subclass are what its author says they are.
    if type(value) is dict:
        return [(f"[{reprlib.repr(key)}]", part) for key, part in value.items()]
    if type(value) in {list, tuple}:
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    return []


def _fails(value: Any) -> bool:
    try:
        cloudpickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  __reduce__ is the user's: it may raise anything
        return True
    return False
