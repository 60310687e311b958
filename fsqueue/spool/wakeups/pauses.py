"""Pauses between two polls: a short one after something has happened, then ever longer ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem

GROWTH: Final = 1.3
"""Each pause without an event is longer than the one before by this factor."""


# The share of the usual wait in which nobody looks, and the longest such time in seconds: what
# comes sooner than usual does not wait long.
_SHARE, _LONGEST = 0.75, 0.05
# The share of the usual wait between two looks, at first.
_STEP = 0.125
# Waits of more seconds than this show nothing about calls that follow each other.
_RELATED = 0.5


class Rhythm:
    """How long waits usually are, while calls follow each other on a file server.

    Each look costs requests, and at first most looks would be in vain.

    Args:
        remote: the spool is on a network filesystem; elsewhere nothing is put off.

    Attributes:
        step: seconds between the first two looks, at least.
    """

    def __init__(self, *, remote: bool) -> None:
        self._remote = remote
        self._usual = 0.0
        self._began = float("-inf")
        self.step: float = 0.0

    def begin(self, now: float) -> float:
        """Begin a wait; returns for how many seconds not to look."""
        self._began = now
        return min(_SHARE * self._usual, _LONGEST) if self._remote else 0.0

    def end(self, now: float) -> None:
        """Note that something was found."""
        if (took := now - self._began) < _RELATED:
            self._usual += (took - self._usual) / 4
            self.step = min(_STEP * self._usual, _LONGEST) if self._remote else 0.0


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
