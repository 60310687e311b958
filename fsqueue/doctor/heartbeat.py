"""Heartbeats between two examinations: each learns whether the other still runs, or why it left.

On two hosts, each examination writes its heartbeats into the other one's workspace. So an
examination only lists its own folder, and removing that folder removes the heartbeats too. A
heartbeat is a new name, not a touch, because the examination tests whether the hosts see each
other's touches. The second process of an examination (`fsqueue.doctor.partner`) sends them. It
outlives the first process, however that one ends, and reports if it was killed.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fsqueue.errors import FSQueueError

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable

    from fsqueue.doctor.workspace import Workspace

KILLED: Final = "it was killed"
"""The reason for leaving that the second process reports if the first one was killed."""
QUIET: Final = 15.0
"""Seconds without a beat after which the other examination, or its host, counts as gone."""
_PERIOD = 1.0
# Loops that wait for something else call `check` more often than a beat can change.
_SHORTEST_INTERVAL = 0.25
_AGAIN = "start it on both hosts again"


class PartnerLostError(FSQueueError):
    """The other examination has ended, or does not answer."""


@dataclass(slots=True)
class Heartbeat:
    """The heartbeat of an examination, and its view of the other examination's heartbeat.

    Args:
        mine: the workspace where the other examination writes its signs.
        theirs: the workspace where this one writes its signs.
        me: name of this examination, fit for a file name.
        other: name of the other one.
        quiet: seconds without a beat after which the other one counts as gone.
        alive: whether the other one still runs, as far as this process can tell.
    """

    mine: Workspace
    theirs: Workspace
    me: str
    other: str
    quiet: float = QUIET
    alive: Callable[[], bool] = lambda: True
    _beats: set[str] = field(default_factory=set, init=False)
    _silent: float = field(default=0.0, init=False)
    _checked: float = field(default=float("-inf"), init=False)

    def beat(self, ended: threading.Event) -> None:
        """Beat until the event is set. The other side sees an error here as silence."""
        fs, number = self.theirs.fs, 0
        while not ended.wait(_PERIOD if number else 0.0):
            number += 1
            # A leftover beat does no harm, because only changes count.
            with contextlib.suppress(OSError):
                fs.create(self.theirs.path(f"{self.me}.beat.{number}"), [])
            with contextlib.suppress(OSError):
                fs.discard(self.theirs.path(f"{self.me}.beat.{number - 1}"))

    def leave(self, why: str = "") -> None:
        """Report that this examination ends, and why. Only the first report counts."""
        fs, path = self.theirs.fs, self.theirs.path(f"{self.me}.left")
        with contextlib.suppress(OSError):  # the other one notices the silence
            if not fs.exists(path):
                fs.create(f"{path}.new", [why.encode()])
                fs.rename(f"{path}.new", path)

    def check(self, *, at_once: bool = False) -> None:
        """Check that the other examination still runs.

        Args:
            at_once: check even if the last check was only a moment ago.

        Raises:
            PartnerLostError: the other examination has ended, or is silent.
        """
        now = self.mine.fs.monotonic()
        since = now - self._checked
        if since < _SHORTEST_INTERVAL and not at_once:
            return
        self._checked = now
        names = self.mine.fs.names(self.mine.folder, fresh=True)
        if f"{self.other}.left" in names:
            raise PartnerLostError(self._why_it_left())
        if not self.alive():
            raise PartnerLostError("the other examiner has left")
        beats = {name for name in names if name.startswith(f"{self.other}.beat.")}
        # A check adds at most one period of silence, because neither side can send heartbeats while
        # the directory hangs.
        self._silent = 0.0 if beats != self._beats else self._silent + min(since, _PERIOD)
        self._beats = beats
        if self._silent > self.quiet:
            raise PartnerLostError(
                f"the other examiner was silent for {self.quiet:g} s: its host is down, or cut "
                f"off from the directory; {_AGAIN}"
            )

    def _why_it_left(self) -> str:
        why = ""
        with contextlib.suppress(OSError):
            path = self.mine.path(f"{self.other}.left")
            why = self.mine.fs.read(path, fresh=True).decode("utf-8", "replace")
        return f"the other examiner has left{': ' * bool(why)}{why}; {_AGAIN}"

    def wait_until_gone(self, patience: float) -> None:
        """Wait until the other examination has ended too, for `patience` seconds at most."""
        deadline = time.monotonic() + patience
        with contextlib.suppress(PartnerLostError):
            while time.monotonic() < deadline:
                self.check(at_once=True)
                time.sleep(_SHORTEST_INTERVAL / 10)
