"""Two examiners who act at the same time, and tell each other by files in their workplace.

A message is a file that is renamed into the folder ``talk``, numbered, so that none is missed.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fsqueue.errors import FSQueueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.doctor.workplace import Workplace

_TALK = "talk"
_LEFT = "left"
# The other one may be at the longest of the steps; see `sights.LIMIT`.
PATIENCE = 60.0
# At first without a pause: both begin a race when they hear each other.
_EAGER = 0.05
_PAUSE = 0.005


class PartnerLostError(FSQueueError):
    """The other examiner has left, or does not answer."""


@dataclass(slots=True)
class Party:
    """One of the two.

    Args:
        place: where both work.
        me: this one's name, fit for a file name.
        other: the other one's.
        leads: whether this one prepares what both need.
        alive: whether the other one still runs, as far as can be told from here.
    """

    place: Workplace
    me: str
    other: str
    leads: bool
    alive: Callable[[], bool] = lambda: True
    _said: int = field(default=0, init=False)

    def open(self) -> None:
        """Make what both work in."""
        self.place.make("")
        self.place.make(_TALK)

    def exchange(self, step: str, data: Any = None) -> Any:
        """Tell the other one something and wait for what he has to say at this step.

        Raises:
            PartnerLostError: he is gone, or does not answer in time, or is at another step.
        """
        self._said += 1
        self._say(str(self._said), {"step": step, "data": data})
        answer = self._hear(str(self._said))
        if answer["step"] != step:
            raise PartnerLostError(
                f"the other examiner is at {answer['step']!r} and this one at {step!r}: use the "
                "same version of fsqueue on both hosts"
            )
        return answer["data"]

    def leave(self) -> None:
        """Tell the other one that nothing more will come."""
        with contextlib.suppress(OSError):
            self._say(_LEFT, {})

    def part(self) -> None:
        """End: the leader waits for the other one to have heard everything, and clears up."""
        self.leave()
        if self.leads:
            with contextlib.suppress(PartnerLostError):
                self._hear(_LEFT)

    def _say(self, name: str, message: dict[str, Any]) -> None:
        fs = self.place.fs
        temporary = self.place.path(f"{_TALK}.{self.me}.{name}")
        fs.create(temporary, [json.dumps(message).encode()])
        fs.rename(temporary, self.place.path(f"{_TALK}/{self.me}.{name}"))

    def _hear(self, name: str) -> dict[str, Any]:
        fs, folder = self.place.fs, self.place.path(_TALK)
        begun = time.monotonic()
        wanted, farewell = f"{self.other}.{name}", f"{self.other}.{_LEFT}"
        while True:
            present = fs.names(folder, fresh=True)
            if wanted in present:
                # Where files appear piece by piece, which is what the probes are to find out.
                with contextlib.suppress(ValueError):
                    message: dict[str, Any] = json.loads(fs.read(f"{folder}/{wanted}", fresh=True))
                    return message
            if farewell in present or not self.alive():
                raise PartnerLostError("the other examiner has left")
            waited = time.monotonic() - begun
            if waited > PATIENCE:
                raise PartnerLostError(f"the other examiner was silent for {PATIENCE:g} s")
            if not present and not fs.has_folder(folder):
                raise PartnerLostError("the other examiner has left, and cleared up")
            time.sleep(0.0 if waited < _EAGER else _PAUSE)
