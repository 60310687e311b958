"""Describes objects whose methods may fail."""

from __future__ import annotations


def capped(text: str, limit: int) -> str:
    """Shorten a text to about `limit` characters and make it encodable as UTF-8.

    Both ends stay, because they matter most in a traceback. Surrogates, which can come from file
    names, become escapes.
    """
    if len(text) > limit:
        half = limit // 2
        left_out = len(text) - 2 * half
        text = f"{text[:half]}\n[... {left_out} characters left out ...]\n{text[-half:]}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def safe_str(value: object) -> str:
    """``str(value)``, or the reason why it fails."""
    try:
        # str() can return an instance of a subclass with methods of the user.
        return "".join(str(value))
    except Exception as error:  # noqa: BLE001  __str__ is the user's: it may raise anything
        return f"<str() raised {type(error).__name__}>"


def part_at(path: str) -> str:
    """Describe the place of a part in a value."""
    return f"its part {path}"


def type_name(cls: type) -> str:
    """The class's full name, such as ``pkg.module.Outer.Inner``."""
    try:
        return f"{cls.__module__}.{cls.__qualname__}"
    except Exception as error:  # noqa: BLE001  a metaclass can put anything in their place
        return f"<a class without a name: {type(error).__name__}>"


def summary(error: BaseException) -> str:
    """An error as one line, such as ``TypeError: cannot pickle ...``."""
    return f"{type(error).__name__}: {capped(safe_str(error), 4096)}"
