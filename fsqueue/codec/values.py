"""Arguments and results as bytes."""

from __future__ import annotations

import io
import pickle
import reprlib
import sys
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from fsqueue.codec import pickling
from fsqueue.codec.plain import decode_json, encode_json
from fsqueue.codec.texts import part_at, summary, type_name
from fsqueue.errors import DeserializationError, SerializationError, SpoolVersionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
_DUMPS: dict[str, Callable[..., bytes]] = {
    "cloudpickle": pickling.dumps,
    "pickle": pickle.dumps,
}

# A smaller part of a value is copied in less time than it takes to handle it apart.
_LARGE = 1 << 18
# The first line of a file has their sizes.
_MOST_BUFFERS = 64
_BLAME_DEPTH = 8
_BLAME_WIDTH = 1000


def encode(
    value: Any,
    what: str,
    buffers: list[memoryview] | None = None,
    *,
    codec: str = "cloudpickle",
    place: Callable[[str], str] | None = None,
) -> bytes:
    """Serialize a value.

    Args:
        value: the arguments or the result of a call.
        what: names the value in the error, such as ``"The arguments of app.add"``.
        buffers: takes the memory of large arrays, and of what `uncopied` returned, which then is
            not copied and must not change before it is written; None copies everything.
        codec: "cloudpickle", with which lambdas and ``__main__`` classes can travel; "pickle";
            "json", which has no buffers.
        place: describes where in the value a part is, from its path, such as ``[1]['b'][0]``;
            None gives that path.

    Raises:
        SerializationError: the value, or the part of it that the message names, cannot be written.
    """
    place = place or part_at
    if codec == "json":
        return encode_json(value, what, place)
    dumps = _DUMPS[codec]
    try:
        data: bytes = dumps(
            value,
            protocol=pickle.HIGHEST_PROTOCOL,
            buffer_callback=None if buffers is None else partial(_is_in_band, buffers),
        )
    except Exception as error:
        raise SerializationError(
            f"{what} cannot be serialized: {_blame(value, dumps, place)}: {summary(error)}. "
            "Pass what can be pickled, such as a path instead of an open file."
        ) from error
    return data


def uncopied(value: Any, codec: str = "cloudpickle") -> Any:
    """Large bytes in a form that `encode` takes apart and `decode` restores; others as they are.

    Pickle itself offers no bytes, and to be asked for each object in a value costs too much: so
    this is for the arguments and results themselves, not for what they hold.
    """
    if type(value) is bytes and len(value) >= _LARGE and codec != "json":
        return pickle.PickleBuffer(value)
    return value


def _is_in_band(buffers: list[memoryview], buffer: pickle.PickleBuffer) -> bool:
    memory = buffer.raw()
    if len(memory) < _LARGE or len(buffers) >= _MOST_BUFFERS:
        return True
    buffers.append(memory)
    return False


def check_codec(codec: str, what: str, *, unpickles: bool = True) -> None:
    """Whether a payload may be decoded here, before anything of it is.

    Args:
        codec: how it is written, by its header.
        what: names it in the error.
        unpickles: pickles are taken.

    Raises:
        SpoolVersionError: a newer version of fsqueue has written it.
        DeserializationError: it is a pickle, where none is taken.
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
    buffers: Iterable[Any] = (),
    *,
    codec: str = "cloudpickle",
    python: str = "",
) -> Any:
    """Turn the bytes of `encode` back into a value.

    Unpickling runs code that the bytes name: the caller has verified where they come from.

    Args:
        data: bytes that `encode` returned, here or in another process.
        what: names the value in the error, such as ``"The result of 1f-3"``.
        buffers: what `encode` took apart, in its order; it becomes part of the value.
        codec: how it is written; see `check_codec`.
        python: the Python that has written it, such as ``3.12``, if that is known.

    Raises:
        DeserializationError: the bytes are damaged, or need code that is not here.
        SpoolVersionError: a newer version of fsqueue has written them.
    """
    check_codec(codec, what)
    if codec == "json":
        return decode_json(data, what)
    try:
        if python in {"", PYTHON}:
            return pickle.loads(data, buffers=buffers)
        with io.BytesIO(data) as file:
            return _OfAnotherPython(file, buffers=buffers).load()
    except Exception as error:
        raise DeserializationError(
            f"{what} cannot be deserialized: {summary(error)}. {_advice(error, python)}"
        ) from error


class _OfAnotherPython(pickle.Unpickler):
    """Refuses byte code: another version's can end the process when it is run."""

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("cloudpickle") and name == "_make_function":
            raise pickle.UnpicklingError("it holds the code of a function")
        return super().find_class(module, name)


def _advice(error: Exception, python: str) -> str:
    lacks = (
        f" {error.name} is not installed here." if isinstance(error, ModuleNotFoundError) else ""
    )
    if python in {"", PYTHON}:
        return (
            f"Make sure that the same packages and the same code, in the same versions, can be "
            f"imported on both sides.{lacks}"
        )
    return (
        f"Python {python} has written it, and Python {PYTHON} reads it:{lacks} functions and "
        "classes that travel by value (lambdas, those of a main script) need the same Python on "
        "both sides, and others the same packages."
    )


def _blame(value: Any, dumps: Callable[..., bytes], place: Callable[[str], str]) -> str:
    """Name the innermost part that cannot be pickled alone, and its type."""
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
    # Exact types only: the items of a subclass are what its author says they are.
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
