"""Parses JSON values from the command line."""

from __future__ import annotations

import json
from typing import Any

from fsqueue.errors import ConfigError


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
