"""Triggers in sync mode: occurrences stay in this process and need no files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.firing import travel
from fsqueue.firing.bound import arguments_of, matches
from fsqueue.triggers.kinds import AllOf

if TYPE_CHECKING:
    from fsqueue.firing.bound import Watched
    from fsqueue.triggers.kinds import Occurrence


class Inline:
    """Fires triggers in sync mode, and remembers occurrences for `all_of` triggers."""

    def __init__(self) -> None:
        self._rounds: dict[str, dict[int, Occurrence]] = {}

    def fire(self, each: Watched, occurrence: Occurrence) -> None:
        """Call the trigger's task at once if the trigger fires."""
        bound = each.bound
        if not matches(each, occurrence):
            return
        if isinstance(bound.trigger, AllOf):
            parts = self._rounds.setdefault(bound.key, {})
            parts.setdefault(each.part or 0, occurrence)
            if len(parts) < len(bound.trigger.parts):
                return
            del self._rounds[bound.key]
            occurrence = travel.together("inline", [parts[number] for number in sorted(parts)])
        arguments = arguments_of(bound, occurrence)
        if arguments is not None:
            bound.task.submit(*arguments)
