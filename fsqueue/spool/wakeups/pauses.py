"""Pauses between polls: short after something has happened, then longer and longer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem

GROWTH: Final = 1.3
"""Each pause without an event is longer than the one before by this factor."""

# At the start of a wait, nobody polls for this share of the usual wait, and for at most _LONGEST
# seconds, so that whatever comes early is not delayed much.
_SHARE, _LONGEST = 0.75, 0.05
# The first pause between two polls, as a share of the usual wait.
_STEP = 0.125
# What is usual grows by no more than this factor for each wait: if the server was slow once, that
# must not put off the polls of the next ten waits.
_LONGER = 1.25
# After a poll that found several calls, nobody polls for this many seconds: their publisher is
# likely to make more, and several cost one listing.
_TOGETHER = 0.02
# On a file server a wait is late after this many times the usual one, or if none is known. Then a
# pause has at least so many seconds.
_LATE, _LATE_PAUSE = 2.0, 0.03
# The least pause of a late wait, and its growth, if few polls will lead to a token.
_RUNG_PAUSE, _RUNG_GROWTH = 0.08, 2.0
# Waits longer than this, in seconds, do not belong to calls that follow each other.
_RELATED = 0.5


class Rhythm:
    """How long waits usually are while calls follow each other on a file server.

    Each poll costs requests, and early ones would usually find nothing.

    Args:
        remote: whether the spool is on a network filesystem. Elsewhere no poll is put off.
        longest: the longest time to put a poll off, in seconds.

    Attributes:
        step: the least seconds between the first two polls.
    """

    def __init__(self, *, remote: bool, longest: float = _LONGEST) -> None:
        self._longest = min(_LONGEST, longest) if remote else 0.0
        self._usual = 0.0
        self._began = float("-inf")
        self.step: float = 0.0

    def begin(self, now: float, *, several: bool = False) -> float:
        """Begin a wait; returns for how many seconds not to poll.

        Args:
            now: the time, in seconds.
            several: the last poll found more than one call.
        """
        self._began = now
        return min(max(_SHARE * self._usual, _TOGETHER if several else 0.0), self._longest)

    @property
    def first(self) -> float:
        """Seconds of the first pause between two polls; 0 if the spool is on a local disk."""
        return self.step or min(_LATE_PAUSE, self._longest)

    def pauses(self, pause: float, now: float, *, rung: bool = False) -> tuple[float, float]:
        """The pause after a poll that found nothing, and the one after the next such poll.

        Args:
            pause: the former as it was planned, in seconds.
            now: the time of the poll, in seconds.
            rung: this process makes a token when its pauses have become long.
        """
        least, growth = self.step, GROWTH
        if self._longest > 0 and now - self._began > _LATE * self._usual:
            least, growth = (_RUNG_PAUSE, _RUNG_GROWTH) if rung else (_LATE_PAUSE, GROWTH)
        pause = max(pause, least)
        return pause, pause * growth

    def end(self, now: float) -> None:
        """Record that something was found."""
        if (took := now - self._began) < _RELATED:
            if took < self._usual:
                self._usual = (self._usual + took) / 2
            else:
                self._usual = min(took, _LONGER * self._usual or took / 4)
            self.step = min(_STEP * self._usual, self._longest)


def first_pause(fs: Filesystem, *, events: bool, longest: float) -> float:
    """Seconds of the first pause.

    Args:
        fs: the filesystem. If it is remote, changes by other hosts cause no events.
        events: whether file events arrive.
        longest: the poll interval.
    """
    if not events:
        return 0.001
    return 0.02 if fs.remote else min(0.1, longest)
