"""Pauses between two polls: a short one after something has happened, then ever longer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem

GROWTH: Final = 1.3
"""Each pause without an event is longer than the one before by this factor."""


def first_pause(fs: Filesystem, *, events: bool, longest: float) -> float:
    """Seconds of the first pause.

    Args:
        fs: on a remote filesystem, what other hosts do causes no events.
        events: file events arrive.
        longest: the poll interval.
    """
    if not events:
        return 0.001
    return 0.02 if fs.remote else min(0.1, longest)
