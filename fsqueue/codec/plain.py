"""JSON serialization, for tasks whose files must not be unpickled.

Only values that arrive unchanged are accepted: no enums, named tuples or numbers as keys, which
`json` would convert silently. The one exception: tuples become lists.
"""

from __future__ import annotations

import json
import math
import reprlib
from typing import TYPE_CHECKING, Any

from fsqueue.codec.texts import part_at, summary, type_name
from fsqueue.errors import DeserializationError, SerializationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LEAVES = frozenset({str, int, bool, type(None)})


def encode_json(value: Any, what: str, place: Callable[[str], str] = part_at) -> bytes:
    """A value as one line of JSON.

    Args:
        value: made of dicts with string keys, lists, tuples, strings, numbers, booleans and None.
        what: names the value in the error.
        place: describes the place of a part, from its path.

    Raises:
        SerializationError: the value contains something else. The message names the part.
    """
    try:
        fault = _fault(value, place)
        if fault:
            raise SerializationError(
                f"{what} cannot be written as JSON: {fault}. Pass texts, finite numbers, "
                "booleans, None, lists, and dicts whose keys are texts, or give the task another "
                "`serializer`."
            )
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode() + b"\n"
    except (ValueError, RecursionError) as error:
        # Too deep or circular, half of a surrogate pair, an integer of more than 4300 digits.
        raise SerializationError(f"{what} cannot be written as JSON: {summary(error)}") from error


def decode_json(data: bytes | memoryview, what: str) -> Any:
    """The value that `encode_json` wrote, or any other JSON.

    Raises:
        DeserializationError: the data is not JSON.
    """
    try:
        return json.loads(bytes(data))
    except (ValueError, RecursionError) as error:
        raise DeserializationError(
            f"{what} should be JSON and cannot be read: {summary(error)}. Check "
            "which process wrote it."
        ) from error


def _fault(value: Any, place: Callable[[str], str], path: str = "") -> str:
    """Describe the first part of a value that JSON would lose or change; empty if there is none."""
    kind = type(value)  # the exact type: a string enum would arrive as a string
    if kind in _LEAVES or (kind is float and math.isfinite(value)):
        return ""
    if kind is dict:
        for key in value:
            if type(key) is not str:
                where = place(path) if path else "a dict"
                return f"a key of {where} is {reprlib.repr(key)}, not a text"
    parts: Iterable[tuple[Any, Any]]
    if kind is dict:
        parts = value.items()
    elif kind in {list, tuple}:
        parts = enumerate(value)
    else:
        subject = place(path) if path else "a value"
        more = f" ({value!r})" if kind is float else ""
        return f"{subject} of type {type_name(kind)}{more}"
    faults = (_fault(part, place, f"{path}[{reprlib.repr(key)}]") for key, part in parts)
    return next(filter(None, faults), "")
