"""Describes the fields of a msgspec struct, for messages and references."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec
from msgspec import inspect

from fsqueue.common.values import LONGEST, parse_duration, plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_BOOLEANS: Final = {
    **dict.fromkeys(("true", "1", "yes", "on"), True),
    **dict.fromkeys(("false", "0", "no", "off"), False),
}
_IN_WORDS: Final[Mapping[type[inspect.Type], str]] = {
    inspect.BoolType: "true or false",
    inspect.DateTimeType: "a time with its time zone, before 2200",
    inspect.StrType: "a text",
    inspect.VarTupleType: "a list of texts",
    inspect.DictType: "a table of texts",
}


class Field(NamedTuple):
    """The description of one field. ``type`` is in words."""

    type: str
    default: Any
    unit: str
    description: str
    hint: Any

    def convert(
        self,
        name: str,
        value: Any,
        *,
        strict: bool = True,
        words: bool = False,
        decode: Callable[[Any, Any], Any] | None = None,
    ) -> Any:
        """Convert and check a value for this field.

        Args:
            name: the field's name, for the message.
            strict: accept only numbers as numbers; otherwise also strings with numbers.
            words: accept strings such as "yes" and "off" as booleans.
            decode: converts values of types that msgspec does not know; its ``dec_hook``.

        Raises:
            ValueError: the value is bad. The message names what is expected.
        """
        given = plain(value)
        if words and isinstance(self.default, bool) and isinstance(value, str):
            given = _BOOLEANS.get(value.lower(), value)
        elif self.unit == "seconds" and isinstance(value, str) and not _is_number(value):
            seconds = parse_duration(value)
            given = value if seconds is None else seconds
        try:
            result = msgspec.convert(given, self.hint, strict=strict, dec_hook=decode)
        except (ValueError, OverflowError, RuntimeError) as error:
            raise ValueError(self.refuse(name, value)) from error
        # No bound of msgspec excludes NaN.
        if isinstance(result, float) and not math.isfinite(result):
            raise ValueError(self.refuse(name, value))
        return result

    def refuse(self, name: str, value: Any) -> str:
        """The message for a bad value."""
        return f"{name} = {value!r}, expected {self.type} {self.unit}".rstrip()


def _is_number(text: str) -> bool:
    """Whether a duration string has no unit. Then `strict` decides whether it is accepted."""
    return not set(text) & set("wdhms:")


@functools.cache
def describe(struct: type[msgspec.Struct]) -> Mapping[str, Field]:
    """The fields of a struct by name, in order. Each must be annotated with a description."""
    found: dict[str, Field] = {}
    for info in msgspec.structs.fields(struct):
        meta: Any = inspect.type_info(info.type)
        words, unit = in_words(meta.type), _unit_of(meta)
        description = meta.extra_json_schema["description"]
        found[info.name] = Field(words, info.default, unit, description, info.type)
    return found


def _unit_of(kind: inspect.Type) -> str:
    parts: list[Any] = [kind, *getattr(getattr(kind, "type", None), "types", ())]
    extras = [getattr(part, "extra", None) or {} for part in parts]
    return next((extra["unit"] for extra in extras if "unit" in extra), "")


def in_words(kind: inspect.Type) -> str:
    """The values of a type, in words."""
    words = _IN_WORDS.get(type(kind), "a path (not empty, no unknown ~user)")
    match kind:
        case inspect.Metadata():
            words = in_words(kind.type)
        case inspect.UnionType():
            some = [each for each in kind.types if not isinstance(each, inspect.NoneType)]
            words = " or ".join(map(in_words, some))
        case inspect.LiteralType():
            words = " or ".join(map(repr, kind.values))
        case inspect.IntType() | inspect.FloatType():
            limits = {">": kind.gt, ">=": kind.ge, "<=": kind.le}
            bounds = " and ".join(
                f"{sign} {x if isinstance(x, int) or x == LONGEST else f'{x:g}'}"
                for sign, x in limits.items()
                if x is not None
            )
            words = f"a {'whole ' * isinstance(kind, inspect.IntType)}number {bounds}".rstrip()
    return words
