"""What tells one examiner that the other one is still there, or why he has left.

On two hosts each leaves his signs in the other one's workplace: there they are seen by listing a
folder of one's own, for as long as one is there, and go when that is cleared up. A beat is a new
name, as whether a touch is seen between the two is what they want to find out. The beats, and the
last word of one who was killed, come from the second process of his examination
(`fsqueue.doctor.partner`), which outlives the first, however that ends.
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

    from fsqueue.doctor.workplace import Workplace

KILLED: Final = "it was killed"
"""A last word."""
QUIET: Final = 15.0
"""Seconds without a beat, after which both processes of the other one are gone, or his host is."""
_PERIOD = 1.0
# Looks come from loops that wait for something else, more often than there is something to see.
_LOOK = 0.25
_AGAIN = "start it on both hosts again"


class PartnerLostError(FSQueueError):
    """The other examiner has left, or does not answer."""


@dataclass(slots=True)
class SignsOfLife:
    """What one of two examiners shows to the other one, and sees of him.

    Args:
        mine: where the other one leaves his signs.
        theirs: where this one does.
        me: this one's name, fit for a file name.
        other: the other one's.
        quiet: seconds of silence that tell that he is gone.
        alive: whether he still runs, as far as can be told from here.
    """

    mine: Workplace
    theirs: Workplace
    me: str
    other: str
    quiet: float = QUIET
    alive: Callable[[], bool] = lambda: True
    _beats: set[str] = field(default_factory=set, init=False)
    _silent: float = field(default=0.0, init=False)
    _looked: float = field(default=float("-inf"), init=False)

    def beat(self, ended: threading.Event) -> None:
        """Show that this one lives, until told that it has ended; errors show as silence."""
        fs, number = self.theirs.fs, 0
        while not ended.wait(_PERIOD if number else 0.0):
            number += 1
            # One that is left behind by an error does no harm: it is the change that tells.
            with contextlib.suppress(OSError):
                fs.create(self.theirs.path(f"{self.me}.beat.{number}"), [])
            with contextlib.suppress(OSError):
                fs.discard(self.theirs.path(f"{self.me}.beat.{number - 1}"))

    def leave(self, why: str = "") -> None:
        """Tell the other one that nothing more will come, and why. The first word counts."""
        fs, word = self.theirs.fs, self.theirs.path(f"{self.me}.left")
        with contextlib.suppress(OSError):  # it shows as silence
            if not fs.exists(word):
                fs.create(f"{word}.new", [why.encode()])
                fs.rename(f"{word}.new", word)

    def look(self, *, at_once: bool = False) -> None:
        """See whether the other one is there.

        Args:
            at_once: also if the last look was only a moment ago.

        Raises:
            PartnerLostError: he has left, or is silent.
        """
        now = self.mine.fs.monotonic()
        since = now - self._looked
        if since < _LOOK and not at_once:
            return
        self._looked = now
        names = self.mine.fs.names(self.mine.folder, fresh=True)
        if f"{self.other}.left" in names:
            raise PartnerLostError(self._last_word())
        if not self.alive():
            raise PartnerLostError("the other examiner has left")
        beats = {name for name in names if name.startswith(f"{self.other}.beat.")}
        # A look counts for one period at most: while the directory hangs, nobody can beat.
        self._silent = 0.0 if beats != self._beats else self._silent + min(since, _PERIOD)
        self._beats = beats
        if self._silent > self.quiet:
            raise PartnerLostError(
                f"the other examiner was silent for {self.quiet:g} s: its host is down, or cut "
                f"off from the directory; {_AGAIN}"
            )

    def _last_word(self) -> str:
        why = ""
        with contextlib.suppress(OSError):
            path = self.mine.path(f"{self.other}.left")
            why = self.mine.fs.read(path, fresh=True).decode("utf-8", "replace")
        return f"the other examiner has left{': ' * bool(why)}{why}; {_AGAIN}"

    def wait_for_the_end(self, patience: float) -> None:
        """Wait until the other one has left, too."""
        deadline = time.monotonic() + patience
        with contextlib.suppress(PartnerLostError):
            while time.monotonic() < deadline:
                self.look(at_once=True)
                time.sleep(_LOOK / 10)
