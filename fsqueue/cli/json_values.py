"""Parses arguments of tasks, and other JSON values, from the command line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


def free_arguments(words: Sequence[str]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and named arguments, like ``sales --pages 3`` or ``sales --pages=3``.

    Raises:
        ConfigError: a name has no value, or occurs twice.
    """
    positional: list[Any] = []
    named: dict[str, Any] = {}
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if not word.startswith("--") or not name.isidentifier():
            positional.append(json_or_text(word))
            continue
        if not equals and (value := next(rest, "--")).startswith("--"):
            raise ConfigError(f"{word} has no value: give it as in {word} true or {word}=true")
        if name in named:
            raise ConfigError(f"{flag} is given twice. For a list write {flag} '[1, 2]'")
        named[name] = json_or_text(value)
    return positional, named


def json_or_text(word: str) -> Any:
    """The JSON value of a word; the word itself if it is not JSON."""
    try:
        return json.loads(word, parse_constant=_no_number)
    except (ValueError, RecursionError):
        return word


def _no_number(word: str) -> Any:
    raise ValueError(word)  # NaN and Infinity are not JSON


def named_value(text: str) -> tuple[str, Any]:
    """Name and value of ``--kwarg NAME=JSON``.

    Raises:
        ConfigError: the text does not have that form.
    """
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ConfigError(f"--kwarg {text}: expected NAME=JSON")
    return name, from_json(f"--kwarg {name}=", value)


def from_json(option: str, text: str) -> Any:
    """The value of an option.

    Args:
        option: the text before the value on the command line, for the message.
        text: the value, in JSON.

    Raises:
        ConfigError: the text is not JSON.
    """
    try:
        return json.loads(text)
    except ValueError as error:
        raise ConfigError(
            f"{option}{text}: not JSON ({error}). A text needs quotes: {option}'\"text\"'"
        ) from error
