"""Triggers run tasks without a caller: ``@app.task(triggers=cron("0 3 * * *"))``.

A trigger defines when the task runs, and its arguments. Workers fire it: see `fsqueue.firing`.
"""

from __future__ import annotations

from fsqueue.triggers.kinds import Occurrence, Trigger, all_of, any_of
from fsqueue.triggers.making import (
    cron,
    on_event,
    on_exception,
    on_result,
    on_status,
)

__all__ = [
    "Occurrence",
    "Trigger",
    "all_of",
    "any_of",
    "cron",
    "on_event",
    "on_exception",
    "on_result",
    "on_status",
]
