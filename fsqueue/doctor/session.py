"""A session: two processes that examine one directory together, and exchange messages there.

A message is a file that its sender renames into the folder ``talk``. Messages are numbered, so
that none is missed.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fsqueue.doctor.heartbeat import PartnerLostError

if TYPE_CHECKING:
    from fsqueue.doctor.heartbeat import Heartbeat
    from fsqueue.doctor.workspace import Workspace

_TALK = "talk"
# Seconds to wait for the other process, which may be in the longest step; see `visibility.LIMIT`.
PATIENCE = 60.0
# Seconds of polling without a pause, because both processes start a race when a message arrives.
_EAGER = 0.05
_PAUSE = 0.005


@dataclass(slots=True)
class Session:
    """One process's side of a session.

    Args:
        place: the workspace of both processes.
        heartbeat: tells whether the other process still runs.
        leads: whether this process prepares what both need.
    """

    place: Workspace
    heartbeat: Heartbeat
    leads: bool
    _sent: int = field(default=0, init=False)

    @property
    def me(self) -> str:
        """Name of this process, fit for a file name."""
        return self.heartbeat.me

    @property
    def other(self) -> str:
        """Name of the other process."""
        return self.heartbeat.other

    def open(self) -> None:
        """Make the folders in which both processes work."""
        self.place.make("")
        self.place.make(_TALK)

    def exchange(self, step: str, data: Any = None) -> Any:
        """Send data to the other process, and return what it sends at the same step.

        Raises:
            PartnerLostError: the other process is gone, does not answer in time, or is at
                another step.
        """
        self._sent += 1
        self._send(str(self._sent), {"step": step, "data": data})
        answer = self._receive(str(self._sent))
        if answer["step"] != step:
            raise PartnerLostError(
                f"the other examiner is at {answer['step']!r} and this one at {step!r}: use the "
                "same version of fsqueue on both hosts"
            )
        return answer["data"]

    def leave(self, why: str = "") -> None:
        """Report that this process ends, and why."""
        self.heartbeat.leave(why)

    def close(self) -> None:
        """End the session. The leader waits until the other process has read everything."""
        self.leave()
        if self.leads:
            self.heartbeat.wait_until_gone(PATIENCE)

    def _send(self, name: str, message: dict[str, Any]) -> None:
        fs = self.place.fs
        temporary = self.place.path(f"{_TALK}.{self.me}.{name}")
        fs.create(temporary, [json.dumps(message).encode()])
        fs.rename(temporary, self.place.path(f"{_TALK}/{self.me}.{name}"))

    def _receive(self, name: str) -> dict[str, Any]:
        fs, folder = self.place.fs, self.place.path(_TALK)
        begun = time.monotonic()
        wanted, lost = f"{self.other}.{name}", None
        while True:
            present = fs.names(folder, fresh=True)
            if wanted in present:
                # Not valid JSON if files appear in parts here, which the probes are to find out.
                with contextlib.suppress(ValueError):
                    message: dict[str, Any] = json.loads(fs.read(f"{folder}/{wanted}", fresh=True))
                    return message
            if lost:
                raise lost
            waited = time.monotonic() - begun
            try:
                self._check_other(waited, gone=not present and not fs.has_folder(folder))
            except PartnerLostError as error:
                lost = error  # the message may have come just before: list the folder once more
                continue
            time.sleep(0.0 if waited < _EAGER else _PAUSE)

    def _check_other(self, waited: float, *, gone: bool) -> None:
        """Check that the other process can still answer."""
        if waited > _EAGER or gone:
            self.heartbeat.check(at_once=gone)  # a process that clears up has left a reason
        if gone:
            raise PartnerLostError("the other examiner has left, and cleared up")
        if waited > PATIENCE:
            raise PartnerLostError(f"the other examiner did not answer for {PATIENCE:g} s")
