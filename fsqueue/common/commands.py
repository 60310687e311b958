"""Formats fsqueue commands, to be copied into a shell."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from fsqueue.common.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def command(name: str, *arguments: str, **options: str | bool | Iterable[str]) -> str:
    """A command on one line.

    Its words may come from the spool, so a shell must take each as one word of plain text, and the
    command must not take one that begins with a dash for an option.

    Args:
        name: the command's name.
        arguments: its arguments.
        options: by name, with ``_`` for a dash. True stands for a flag, several values for an
            option that is repeated, and an option without a value is left out.
    """
    given = [printable(each) for each in arguments]
    words = [word for each, value in options.items() for word in _words(each, value)]
    if any(each.startswith("-") for each in given):
        return shlex.join(["fsqueue", name, *words, "--", *given])
    return shlex.join(["fsqueue", name, *given, *words])


def _words(name: str, value: str | bool | Iterable[str]) -> Iterator[str]:
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        if value:
            yield flag
        return
    for each in [value] if isinstance(value, str) else value:
        text = printable(each)
        if text.startswith("-"):
            yield f"{flag}={text}"
        elif text:
            yield from (flag, text)
