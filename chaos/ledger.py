"""The ledger: a caller's record of its calls, outside of the spool.

Each line is an entry: a JSON list of an event, the key of the call, and its data::

    ["intent", key, kind, expected]    the call is about to be made
    ["accepted", key, id]              it was made; the caller of a direct call does not know its id
    ["refused", key, error]            it was not made, because of an error of the shared directory
    ["seen", key, answer]              the first answer
    ["end"]                            the caller has ended by itself, with no open calls

An expected value is ``["value", value]`` or ``["error", type, key]``; an answer also
contains the token of its execution.
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
    """Open a log; returns a handle for `append`."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


def append(handle: int, *entries: object) -> None:
    """Add lines with one system call, so that a SIGKILL comes either before or after it."""
    os.write(handle, "".join(json.dumps(entry) + "\n" for entry in entries).encode())


def read_lines(path: Path) -> Iterator[list[Any]]:
    """The entries of a log. An incomplete last line does not count."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield json.loads(line)


@dataclass(slots=True)
class CallHistory:
    """The entries of a ledger on one call."""

    ledger: str
    kind: str
    expected: list[Any]
    id: str | None = None
    refused: str | None = None
    seen: list[Any] | None = None


def read_ledger(path: Path) -> tuple[dict[str, CallHistory], bool]:
    """The calls of one caller by key, and whether the caller has ended by itself."""
    histories: dict[str, CallHistory] = {}
    ended = False
    for event, *rest in read_lines(path):
        if event == "end":
            ended = True
        elif event == "intent":
            key, kind, expected = rest
            histories[key] = CallHistory(path.stem, kind, expected)
        else:
            key, value = rest
            setattr(histories[key], {"accepted": "id"}.get(event, event), value)
    return histories, ended
