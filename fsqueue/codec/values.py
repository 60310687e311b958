"""Serializes arguments and results."""

from __future__ import annotations

import io
import os
import pickle
import reprlib
import sys
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from fsqueue.codec import pickling
from fsqueue.codec.plain import decode_json, encode_json
from fsqueue.codec.texts import part_at, summary, type_name
from fsqueue.common.interruptions import of_signal_handler
from fsqueue.errors import DeserializationError, SerializationError, SpoolVersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_DUMPS: dict[str, Callable[..., bytes]] = {
    "cloudpickle": pickling.dumps,
    "pickle": pickle.dumps,
}

# Copying a smaller part is faster than handling it separately.
LARGE = 1 << 18
# The first line of a file lists their sizes.
_MOST_BUFFERS = 64
_PLAIN: frozenset[type] = frozenset({int, float, bool, str, type(None)})
_BLAME_DEPTH = 8
_BLAME_WIDTH = 1000


def encode(
    value: Any,
    what: str,
    buffers: list[memoryview] | None = None,
    *,
    codec: str = "cloudpickle",
    place: Callable[[str], str] | None = None,
    large: int = LARGE,
) -> bytes:
    """Serialize a value.

    Args:
        value: the arguments or the result of a call.
        what: names the value in the error, such as ``"The arguments of app.add"``.
        buffers: collects the memory of large arrays and of values from `uncopied`. It is not
            copied, and must not change before it is written. None copies everything.
        codec: "cloudpickle", which can send lambdas and ``__main__`` classes; "pickle"; "json",
            which has no buffers.
        place: describes the place of a part from its path, such as ``[1]['b'][0]``; None uses the
            path itself.
        large: the size in bytes from which memory is collected in `buffers`.

    Raises:
        SerializationError: the value or a part of it cannot be serialized. The message names the
            part.
    """
    place = place or part_at
    if codec == "json":
        return encode_json(value, what, place)
    dumps = _DUMPS[codec]
    try:
        data: bytes = dumps(
            value,
            protocol=pickle.HIGHEST_PROTOCOL,
            buffer_callback=None if buffers is None else partial(_is_in_band, buffers, large),
        )
    except Exception as error:
        if of_signal_handler(error):
            raise
        raise SerializationError(
            f"{what} cannot be serialized: {_blame(value, dumps, place)}: {summary(error)}. "
            "Use something that can be pickled: a path instead of an open file, a list instead of "
            "a generator."
        ) from error
    return data


def encode_if_simple(value: Any, codec: str) -> bytes | None:
    """What `encode` returns for a call's arguments that are a few numbers or strings; else None.

    Such arguments hold no invocation and no memory that is better not copied, and pickling them
    cannot fail.
    """
    if codec != "json" and pickling.are_simple(value, _PLAIN):
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
    return None


def uncopied(value: Any, codec: str = "cloudpickle", large: int = LARGE) -> Any:
    """Large bytes in a form that `encode` writes without a copy; other values unchanged.

    Pickle does not pass bytes to its buffer callback, and a check of each object in a value costs
    too much. So this is for the arguments and results themselves, not for their parts.
    """
    if type(value) is bytes and len(value) >= large and codec != "json":
        return pickle.PickleBuffer(value)
    return value


def _is_in_band(buffers: list[memoryview], large: int, buffer: pickle.PickleBuffer) -> bool:
    memory = buffer.raw()
    if len(memory) < large or len(buffers) >= _MOST_BUFFERS:
        return True
    buffers.append(memory)
    return False


def check_codec(codec: str, what: str, *, unpickles: bool = True) -> None:
    """Check that a payload may be decoded, before any part of it is.

    Args:
        codec: the payload's serializer, from its header.
        what: names the payload in the error.
        unpickles: pickles are accepted.

    Raises:
        SpoolVersionError: a newer version of fsqueue wrote the payload.
        DeserializationError: it is a pickle, and pickles are not accepted.
    """
    if codec != "json" and codec not in _DUMPS:
        raise SpoolVersionError(
            f"{what} is written as {codec!r}, which this fsqueue does not read. "
            "Use one version of fsqueue on all hosts of a spool."
        )
    if codec != "json" and not unpickles:
        raise DeserializationError(
            f"{what} is a pickle ({codec}) and is not unpickled, as the `serializer` here is "
            "json. Set the same one for callers and workers."
        )


def decode(
    data: bytes | memoryview,
    what: str,
    buffers: Sequence[Any] = (),
    *,
    codec: str = "cloudpickle",
    python: str = "",
) -> Any:
    """Turn the bytes of `encode` back into a value.

    Unpickling runs code that the bytes name, so the caller must have verified their origin.

    Args:
        data: the bytes from `encode`, here or in another process.
        what: names the value in the error, such as ``"The result of 1f-3"``.
        buffers: the buffers from `encode`, in the same order. They become part of the value.
        codec: the serializer; see `check_codec`.
        python: the Python version that wrote the bytes, such as ``3.12``, if known.

    An exception raised by a signal handler propagates unchanged.

    Raises:
        DeserializationError: the bytes are damaged, or need code that is missing here.
        SpoolVersionError: a newer version of fsqueue wrote the bytes.
    """
    if codec == "json":
        return decode_json(data, what)
    if codec not in _DUMPS:
        check_codec(codec, what)  # raises
    try:
        if python in {"", PYTHON}:
            try:
                return pickle.loads(data, buffers=buffers)  # the fastest way
            except ModuleNotFoundError as error:
                if error.name not in pickling.MOVED:
                    raise
        kind = pickling.Unpickler if python in {"", PYTHON} else _OfAnotherPython
        return kind(io.BytesIO(data), buffers=buffers).load()
    except (Exception, SystemExit) as error:  # the code that a pickle names may do anything
        if of_signal_handler(error):
            raise
        raise DeserializationError(
            f"{what} cannot be deserialized: {summary(error)}. {_advice(error, python)}"
        ) from error


class _OfAnotherPython(pickling.Unpickler):
    """Refuses byte code: running that of another Python version can crash the process."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("cloudpickle") and name == "_make_function":
            raise pickle.UnpicklingError("it holds the code of a function")
        return super().find_class(module, name)


def _advice(error: BaseException, python: str) -> str:
    lacks = ""
    if isinstance(error, ModuleNotFoundError):
        # The error may be shown on the other side: "here" would be wrong there.
        lacks = (
            f" On {os.uname().nodename}, {sys.executable} cannot import {error.name}: install it "
            "there, or add its folder to PYTHONPATH."
        )
    if python in {"", PYTHON}:
        return (
            f"Make sure that both sides can import the same packages and the same code, in the "
            f"same versions.{lacks}"
        )
    return (
        f"Python {python} has written it, and Python {PYTHON} reads it: functions and "
        "classes that are sent by value (lambdas, those of a main script) need the same Python "
        f"on both sides. Others need the same packages.{lacks}"
    )


def _blame(value: Any, dumps: Callable[..., bytes], place: Callable[[str], str]) -> str:
    """Name the innermost part that cannot be pickled by itself, and its type."""
    path = ""
    for _ in range(_BLAME_DEPTH):
        step, part = next(_culprits(value, dumps), ("", None))
        if not step:
            break
        path, value = path + step, part
    subject = place(path) if path else "a value"
    return f"{subject} of type {type_name(type(value))}"


def _culprits(value: Any, dumps: Callable[..., bytes]) -> Iterator[tuple[str, Any]]:
    parts = islice(_parts(value), _BLAME_WIDTH)
    return ((step, part) for step, part in parts if _fails(part, dumps))


def _parts(value: Any) -> Iterable[tuple[str, Any]]:
    # Exact types only: a subclass can define its items differently.
    if type(value) is dict:
        return [(f"[{reprlib.repr(key)}]", part) for key, part in value.items()]
    if type(value) in {list, tuple}:
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    return []


def _fails(value: Any, dumps: Callable[..., bytes]) -> bool:
    try:
        dumps(value, protocol=pickle.HIGHEST_PROTOCOL)
    except Exception:  # noqa: BLE001  __reduce__ is the user's: it may raise anything
        return True
    return False
