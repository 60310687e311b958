"""Names of the files of triggers and events."""

from __future__ import annotations

import re
from typing import NamedTuple

from fsqueue.spool.format.names import is_invocation_id

_EVENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,63}", re.ASCII)
_TICK = re.compile(r"\d{13}", re.ASCII)
_GATHERED = re.compile(r"(\d{1,9})\.(\d{1,3}|fired)", re.ASCII)

ENDED = "@ended"
"""The event name for the end of a call."""


def is_event_name(text: str) -> bool:
    """Whether `text` names an event."""
    return _EVENT.fullmatch(text) is not None


class EventName(NamedTuple):
    """The name of an event's file."""

    event: str
    id: str
    """An id in the form of an invocation id, from the client that emitted the event; for the end of
    a call, the call's id."""

    @classmethod
    def parse(cls, name: str) -> EventName | None:
        """Parse a file's name; None if it is not an event."""
        event, _, event_id = name.rpartition(".")
        known = event == ENDED or is_event_name(event)
        return cls(event, event_id) if known and is_invocation_id(event_id) else None

    def __str__(self) -> str:
        return f"{self.event}.{self.id}"


class Gathered(NamedTuple):
    """The name of a file of an `all_of` trigger, which fires once all its parts have happened."""

    round: int
    """Counts from 1; each firing ends a round."""
    part: int | None
    """The part that has happened; None means that the trigger has fired in this round."""

    @classmethod
    def parse(cls, name: str) -> Gathered | None:
        """Parse a file's name; None if it is of another kind."""
        match = _GATHERED.fullmatch(name)
        if match is None:
            return None
        return cls(int(match[1]), None if match[2] == "fired" else int(match[2]))

    def __str__(self) -> str:
        return f"{self.round}.{'fired' if self.part is None else self.part}"


def tick_name(tick: float) -> str:
    """The name of the file that records up to when a trigger's ticks were handled."""
    return f"{int(tick):013d}"


def tick_of(name: str) -> int | None:
    """The time in a tick file's name, in seconds since the epoch; None for other names."""
    return int(name) if _TICK.fullmatch(name) else None
