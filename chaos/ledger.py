"""What a caller writes down about its calls, outside of the spool.

One line an entry: a JSON list of an event, the call's key, and what belongs to it::

    ["intent", key, kind, expected]    about to be made
    ["accepted", key, id]              made; a direct call has no id that its caller knows
    ["refused", key, error]            the call site raised an error of the shared directory
    ["seen", key, answer]              the first answer
    ["end"]                            the caller has ended by itself, with no call open

An expected value is ``["value", value]`` or ``["error", type, key]``; an answer has in addition
the token of the execution that it came from.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def open_log(path: Path) -> int:
    """A handle for `append`."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def append(handle: int, *entries: object) -> None:
    """Add lines with one system call: a SIGKILL comes before or after it."""
    os.write(handle, "".join(json.dumps(entry) + "\n" for entry in entries).encode())


def read_lines(path: Path) -> Iterator[list[Any]]:
    """The entries of a log. A last line that was cut short counts as not written."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


@dataclass(slots=True)
class Story:
    """What a ledger tells of one call."""

    ledger: str
    kind: str
    expected: list[Any]
    id: str | None = None
    refused: str | None = None
    seen: list[Any] | None = None


def read_ledger(path: Path) -> tuple[dict[str, Story], bool]:
    """The calls of one caller by key, and whether it has ended by itself."""
    stories: dict[str, Story] = {}
    ended = False
    for event, *rest in read_lines(path):
        if event == "end":
            ended = True
        elif event == "intent":
            key, kind, expected = rest
            stories[key] = Story(path.stem, kind, expected)
        else:
            key, told = rest
            setattr(stories[key], {"accepted": "id"}.get(event, event), told)
    return stories, ended
