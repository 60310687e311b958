"""Lets one idle worker of a crowded host listen for new calls while the others rest."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from blake3 import blake3

from fsqueue.spool.wakeups.leadership import Leadership

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fsqueue.runner.loop.bells import WorkerBells
    from fsqueue.runner.loop.claiming import Claiming
    from fsqueue.spool.format.layout import Layout

# With fewer workers like it on its host, a worker does not rest: waking one is then dearer than
# waking all.
_CROWD = 5
# A leader without a free slot waits this many seconds for one before it resigns, so a short call
# costs no hand-over.
_SHORT_CALL = 0.002
# Seconds for which a resting worker listens after its polls found _MISSED calls without being woken
# by the leader, which may be suspended.
_DISTRUST = 10.0
_MISSED = 2
_CALLED_AT_ONCE = 2
_POLLS = 4.0


class Resting:
    """Whether one worker listens or rests. The thread of the claim loop calls the methods.

    File events wake only the leader. When the leader cannot take the next call itself, it wakes one
    resting worker; it wakes two if it has seen more calls than it takes, so that the number of
    awake workers doubles in a burst. A woken worker becomes the leader, unless another was faster,
    and searches.

    Resting workers also poll, at different times. The more of them there are, the more rarely each
    polls: together they poll four times in a poll interval.

    Args:
        bells: the bells to which this worker listens.
        claiming: tells whether it has room for a call.
        queues: the queues that it serves.
        poll_interval: the longest pause between two polls of a worker that listens, in seconds.
        polls_rarely: whether it may poll more rarely than that while it rests.
    """

    def __init__(
        self,
        bells: WorkerBells,
        claiming: Claiming,
        layout: Layout,
        queues: Iterable[str],
        poll_interval: float,
        *,
        polls_rarely: bool,
    ) -> None:
        self._bells, self._claiming = bells, claiming
        self._poll_interval, self._polls_rarely = poll_interval, polls_rarely
        self._path = layout.leader_pipe(blake3("\n".join(sorted(queues)).encode()).hexdigest(10))
        self._leadership: Leadership | None = None
        self._crowd = 0
        self._distrusts_until, self._found_by_polls = 0.0, 0
        self._was_called = self._waits_for_room = self._polls = False
        self.rests: bool = False

    def note_crowd(self, workers: int) -> None:
        """Record how many workers like this one are on this host. From any thread."""
        self._crowd = workers

    def note_room(self) -> None:
        """Record that a slot has become free. From any thread."""
        if self._waits_for_room:
            self._bells.wake.set()

    @property
    def leads(self) -> bool:
        """Whether this worker is the leader, which wakes others for calls that it cannot take."""
        return self._leadership is not None and self._leadership.leads

    @property
    def longest_pause(self) -> float:
        """The longest pause between two polls, in seconds."""
        rarely = self.rests and self._polls_rarely and not self._waits_for_room
        return self._poll_interval * (max(1.0, self._crowd / _POLLS) if rarely else 1.0)

    def before_wait(self, pause: float) -> float:
        """Lead or rest, before the claim loop waits.

        Args:
            pause: how long it wants to wait, in seconds.

        Returns:
            How long to wait; 0 if the worker must search once more.
        """
        leadership, room = self._joined(), self._claiming.has_room
        if leadership is None:
            return pause
        if leadership.leads:
            return pause if room else min(pause, _SHORT_CALL)
        if room and leadership.take():
            return 0.0 if self._rise() else pause
        if time.monotonic() < self._distrusts_until:
            return pause
        if not self.rests:
            self.rests = True
            self._bells.rest(idle=not self._claiming.busy)
        leadership.rise()
        # In this order: a thread frees its slot before it checks whether this thread waits for it.
        self._waits_for_room = not room
        if room:
            return pause if leadership.rest() else 0.0
        return 0.0 if self._claiming.has_room else pause

    def _joined(self) -> Leadership | None:
        """The election of a leader, if the host is crowded; otherwise None."""
        if self._crowd < _CROWD:
            self.leave()
            return None
        if self._leadership is None:
            self._leadership = Leadership(self._path, self._on_call)
        return self._leadership if self._leadership.works else None

    def _on_call(self) -> None:
        self._was_called = True
        self._bells.search()

    def after_wait(self, *, rung: bool) -> None:
        """Resign if no slot has become free; listen again if this worker was woken.

        Args:
            rung: whether something ended the wait early.
        """
        self._polls = self.rests and not rung and not self._waits_for_room
        self._waits_for_room = False
        leadership = self._leadership
        if leadership is None:
            return
        if leadership.leads and not self._claiming.has_room:
            leadership.resign()
        if self._was_called:
            self._was_called, self._found_by_polls = False, 0
            leadership.take()
            self._rise()

    def after_claim(self, *, more: bool) -> None:
        """Resign if this worker has several calls; wake others if there is more to claim.

        Args:
            more: whether the search found more than this call.
        """
        leadership = self._leadership
        if leadership is None or not leadership.works:
            return
        if self._rise() and self._polls:
            self._found_by_polls += 1
            if self._found_by_polls >= _MISSED:
                self._distrusts_until = time.monotonic() + _DISTRUST
        if more:
            leadership.resign(_CALLED_AT_ONCE)
        elif leadership.leads and self._claiming.busy > 1:
            leadership.resign()

    def _rise(self) -> bool:
        """Listen again; returns whether this worker had been resting."""
        rested, self.rests = self.rests, False
        if rested:
            if self._leadership is not None:
                self._leadership.rise()
            self._bells.rise()
        return rested

    def leave(self) -> None:
        """Leave the election."""
        self._rise()
        if self._leadership is not None:
            self._leadership.close()
            self._leadership = None
