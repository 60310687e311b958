"""Two examiners who act at the same time, and tell each other by files in their workplace.

A message is a file that is renamed into the folder ``talk``, numbered, so that none is missed.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fsqueue.doctor.life import PartnerLostError

if TYPE_CHECKING:
    from fsqueue.doctor.life import SignsOfLife
    from fsqueue.doctor.workplace import Workplace

_TALK = "talk"
# The other one may be at the longest of the steps; see `sights.LIMIT`.
PATIENCE = 60.0
# At first without a pause: both begin a race when they hear each other.
_EAGER = 0.05
_PAUSE = 0.005


@dataclass(slots=True)
class Party:
    """One of the two.

    Args:
        place: where both work.
        signs: what tells whether the other one is there.
        leads: whether this one prepares what both need.
    """

    place: Workplace
    signs: SignsOfLife
    leads: bool
    _said: int = field(default=0, init=False)

    @property
    def me(self) -> str:
        """This one's name, fit for a file name."""
        return self.signs.me

    @property
    def other(self) -> str:
        """The other one's."""
        return self.signs.other

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

    def leave(self, why: str = "") -> None:
        """Tell the other one that nothing more will come, and why."""
        self.signs.leave(why)

    def part(self) -> None:
        """End: the leader waits for the other one to have heard everything, and clears up."""
        self.leave()
        if self.leads:
            self.signs.wait_for_the_end(PATIENCE)

    def _say(self, name: str, message: dict[str, Any]) -> None:
        fs = self.place.fs
        temporary = self.place.path(f"{_TALK}.{self.me}.{name}")
        fs.create(temporary, [json.dumps(message).encode()])
        fs.rename(temporary, self.place.path(f"{_TALK}/{self.me}.{name}"))

    def _hear(self, name: str) -> dict[str, Any]:
        fs, folder = self.place.fs, self.place.path(_TALK)
        begun = time.monotonic()
        wanted, lost = f"{self.other}.{name}", None
        while True:
            present = fs.names(folder, fresh=True)
            if wanted in present:
                # Where files appear piece by piece, which is what the probes are to find out.
                with contextlib.suppress(ValueError):
                    message: dict[str, Any] = json.loads(fs.read(f"{folder}/{wanted}", fresh=True))
                    return message
            if lost:
                raise lost
            waited = time.monotonic() - begun
            try:
                self._expect(waited, gone=not present and not fs.has_folder(folder))
            except PartnerLostError as error:
                lost = error  # he may have said it just before he left: one more look
                continue
            time.sleep(0.0 if waited < _EAGER else _PAUSE)

    def _expect(self, waited: float, *, gone: bool) -> None:
        """See whether there is somebody to wait for."""
        if waited > _EAGER or gone:
            self.signs.look(at_once=gone)  # who clears up has left word
        if gone:
            raise PartnerLostError("the other examiner has left, and cleared up")
        if waited > PATIENCE:
            raise PartnerLostError(f"the other examiner did not answer for {PATIENCE:g} s")
