"""The triggers of the application: what runs by itself, and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.common.printable import counted
from fsqueue.monitor.pages.page import Page
from fsqueue.monitor.words import period

if TYPE_CHECKING:
    from fsqueue.monitor.pages.page import Ask

_MOST_ROWS = 200


def triggers(ask: Ask) -> Page:
    """All triggers, those with the next known time first."""
    look = ask.look()
    known = ask.triggers is not None
    found = ask.triggers() if ask.triggers else []
    rows = sorted(found, key=lambda each: (each.next is None, each.next or 0.0, each.task))
    ended = {each.task: each for each in look.stats.tasks}
    facts = {
        "rows": rows[:_MOST_ROWS],
        "total": len(rows),
        "ended": ended,
        "known": known,
        "clock": ask.clock(),
        "now": look.now,
        "during": period(look.window),
        "heading": _heading(len(rows), known=known),
    }
    return Page("triggers", "Triggers", facts, rows, section="triggers")


def _heading(number: int, *, known: bool) -> str:
    if number:
        return f"{counted(number, 'trigger')}: these calls are made by workers, without a caller"
    if known:
        return "Nothing runs by itself: no task of the application has a trigger"
    return "Not known: this monitor was started without an application"
