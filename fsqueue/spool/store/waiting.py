"""Releases calls that wait for other calls or a concurrency limit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.format.names import DEFAULT_PRIORITY, AttemptName, Slot
from fsqueue.spool.format.schedule import later

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.features.blobs import Blobs
    from fsqueue.spool.files.calls import Calls
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.files.outcomes import Outcomes
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.endings import Endings


class Waiting:
    """Moves calls out of ``after/`` and ``lanes/``.

    `Dependencies` and `Limits` decide which call to move on, and when.

    Args:
        calls: reads the headers of calls.
        outcomes: shows which calls have ended.
        endings: ends calls that were cancelled or are damaged.
        blobs: common arguments, which waiting calls need.
    """

    def __init__(
        self, files: Files, calls: Calls, outcomes: Outcomes, endings: Endings, blobs: Blobs
    ) -> None:
        self._files, self._fs, self._layout = files, files.fs, files.layout
        self._calls, self._outcomes, self._endings, self._blobs = calls, outcomes, endings, blobs

    def move_on(self, path: str) -> None:
        """Move a waiting call whose parent has ended to its next parent, or to its slot.

        Dies before the rename: the next process that checks this parent does it. Dies after it, or
        loses the reply: the call waits for the next parent. If that parent has ended unnoticed,
        upkeep finds it.
        """
        call, name = self._read_waiting(path)
        if call is None or name is None:
            return
        at: str | None = os.path.basename(os.path.dirname(path))
        while at is not None:
            at = self._outcomes.last_unfinished(_before(call.after, at))
            target = self._slot_of(call) if at is None else self._layout.after(at)
            # If the file is gone, another process was faster or the reply was lost. In both cases,
            # the next parent's outcome must be checked.
            self._files.move(path, f"{target}/{name}")
            path = f"{target}/{name}"
            if at is not None and not self._outcomes.exists(at):
                return
        self._fs.ring(self._layout.bell(call.queue))

    def renew_needs(self, path: str) -> None:
        """Keep a waiting call, and the outcomes and the blob that it needs, from expiring."""
        call, _ = self._read_waiting(path)
        if call is not None:
            for parent in call.after:
                self._outcomes.renew(parent)
            if call.blob:
                self._blobs.touch(call.blob)
            self._fs.set_time(path, None)

    def _read_waiting(self, path: str) -> tuple[Call | None, AttemptName | None]:
        """The header of a waiting call; None if it is gone or this ended it."""
        name = AttemptName.parse(os.path.basename(path))
        if name is None:
            self._files.clear_away(path, "its name is not one of an invocation")
        elif name.cancelled:
            self._endings.end_cancelled(path, name)
        else:
            try:
                return self._calls.read_header(path, name), name
            except FileNotFoundError:
                pass  # another process was faster
            except SpoolVersionError as error:
                self._files.leave_alone(error)
            except EnvelopeError as error:
                self._endings.quarantine(path, name, str(error))
        return None, name

    def _slot_of(self, call: Call) -> str:
        slot = call.slot
        if call.countdown:
            filed = Slot.parse(slot) or Slot(DEFAULT_PRIORITY, 0.0)
            if self._files.clock.age == float("inf"):
                self._files.sync_clock()
            due = later(self._files.clock.now(), call.countdown)
            slot = str(filed._replace(due=max(filed.due, due)))
        return self._layout.slot(call.queue, slot)

    def admit(self, path: str) -> bool:
        """Make pending a call that waits for a concurrency limit; False if it is gone.

        Dies before the rename: the call waits. Dies after it: it is pending. Lost reply: the call
        seems to be gone, so another one is admitted too, finds no permit and waits again.
        """
        name = AttemptName.parse(os.path.basename(path))
        if name is None:
            self._files.clear_away(path, "its name is not one of an invocation")
            return False
        if name.cancelled:
            self._endings.end_cancelled(path, name)
            return False
        home = self._layout.home(path)
        admitted = self._files.move(path, home)
        self._fs.ring(self._layout.bell(home.split("/")[-3]))
        return admitted


def _before(parents: Sequence[str], at: str) -> Sequence[str]:
    return parents[: parents.index(at)] if at in parents else parents
