"""Requests for a page, and its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlencode

import msgspec

from fsqueue.errors import FSQueueError
from fsqueue.monitor.looks import DEFAULT_WINDOW, WINDOWS
from fsqueue.monitor.words import Clock, zone_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsqueue.monitor.looks import Look, Watch

_MOST_FIELDS = 20


class MissingError(FSQueueError):
    """The address names something that does not exist."""


class TriggerInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One trigger of the application, as `fsqueue triggers --json` prints it."""

    task: str
    trigger: str
    next: float | None
    """The next tick of a cron trigger, in seconds since the epoch."""
    handled: float | None
    """The last tick that was handled."""


class Page(NamedTuple):
    """The facts of a page."""

    template: str
    title: str
    facts: dict[str, Any]
    """The variables of the template."""
    document: object
    """The answer of ``/api/v1``, the same as the matching command prints with --json."""
    section: str = ""
    """The entry of the navigation to which the page belongs."""
    redirect: str = ""


class Ask(NamedTuple):
    """A request for a page."""

    path: str
    query: str
    watch: Watch
    traceback_text: Callable[[bytes | memoryview, str], str]
    zone: str
    may_act: bool
    triggers: Callable[[], Sequence[TriggerInfo]] | None = None
    """The triggers of the application; None if the monitor knows none."""

    @classmethod
    def of(cls, path: str, query: str, **rest: Any) -> Ask:
        """A request, without the query fields that only the server needs."""
        kept = [pair for pair in _pairs(query) if pair[0] not in {"token", "have"}]
        return cls(path=path, query=urlencode(kept), **rest)

    @property
    def parts(self) -> list[str]:
        """The kind of the page, and the name of its subject, which may have any characters."""
        return [each for each in self.path.removeprefix("/").split("/", 1) if each]

    @property
    def fields(self) -> dict[str, str]:
        """The fields of the query."""
        return {name: value for name, value in _pairs(self.query) if value}

    @property
    def window(self) -> str:
        """The name of the window."""
        name = self.fields.get("window", DEFAULT_WINDOW)
        return name if name in WINDOWS else DEFAULT_WINDOW

    @property
    def seconds(self) -> float:
        """The length of the window."""
        return WINDOWS[self.window]

    def look(self) -> Look:
        """The latest look at the spool."""
        return self.watch.look(self.seconds)

    def clock(self) -> Clock:
        """Writes times for the reader."""
        return Clock(self.watch.store.clock.now(), zone_of(self.zone))

    @property
    def up(self) -> str:
        """The path from this page to the first one, for relative links."""
        return "../" if len(self.parts) > 1 else "./"  # a slash in a name is quoted in links

    def here(self, **changes: str) -> str:
        """A link to this page with other fields."""
        fields = {**self.fields, **changes}
        return f"?{urlencode({name: value for name, value in fields.items() if value})}"


def _pairs(query: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(query, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return []
