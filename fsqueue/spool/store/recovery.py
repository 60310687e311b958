"""Settles claims that no worker holds any more: their worker died, or never learned of them."""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from fsqueue.common.logs import tags
from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.features.cuts import add_cut
from fsqueue.spool.files.checks import is_abandoned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fsqueue.spool.features.cuts import Cut
    from fsqueue.spool.features.dependencies import Dependencies
    from fsqueue.spool.features.limits import Limits
    from fsqueue.spool.files.calls import Calls
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.names import AttemptName
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.endings import Endings


log: logging.Logger = logging.getLogger(__name__)


class Recovery:
    """Decides about attempts in the folders of workers.

    Args:
        calls: reads the headers of calls.
        endings: ends calls that are cancelled, damaged or lost.
        dependencies: learns of calls that have ended.
        limits: takes back the permits of dead holders.
        withdraw: removes a call whose result no process wants.
    """

    def __init__(
        self,
        files: Files,
        calls: Calls,
        endings: Endings,
        dependencies: Dependencies,
        limits: Limits,
        withdraw: Callable[[str], bool],
    ) -> None:
        self._files, self._layout = files, files.layout
        self._calls, self._endings, self._dependencies = calls, endings, dependencies
        self._limits, self._withdraw = limits, withdraw

    def return_stray(self, path: str, name: AttemptName) -> None:
        """Settle an attempt that lies in a living worker's folder without the worker knowing it.

        This happens when the reply to a claim was lost and the check for it failed, too, or when
        a finished attempt could not be removed.

        Raises:
            SpoolVersionError: another version wrote it: leave it alone.
        """
        call = self._unfinished(path, name)
        if call is not None:
            self._files.move(path, f"{self._layout.slot(call.queue, call.slot)}/{name}")

    def cut_off(self, path: str, name: AttemptName, cut: Cut) -> bool:
        """Note that the end of its worker's job cuts an attempt off; the caller gives it back.

        A call that was cut off `max_cuts` times by workers that gave it nearly all their time never
        fits: it is ended with `WalltimeError`. Then this returns True.

        Dies before the line in ``cuts/``, or between it and what follows: a dead worker holds the
        attempt, and a reaper makes it the next one. The line stays, since it is true. Dies after
        the outcome: it stands, and a reaper removes the attempt. Lost reply of the line: it is
        there, and the call is given back.

        An error of the line, or of a call that cannot be read, is only logged: the caller must give
        the call back before its process ends.
        """
        try:
            if self._endings.is_over(name):
                return False
            call = self._calls.read_header(path, name)
            full = [each for each in add_cut(self._files, call.id, cut) if each.is_full]
        except (OSError, EnvelopeError, SpoolVersionError) as error:
            log.warning("it is not noted that %s was cut off: %s", name, error)
            return False
        if len(full) < call.max_cuts:
            text = "%s was cut off by the end of the job, after %.4g s"
            log.info(text, name, cut.ran, extra=tags(call.id, name.attempt, worker=cut.worker))
            return False
        self._endings.exhaust(path, name, call, full)
        self._release(path, name, call.lanes)
        return True

    def requeue(self, path: str, name: AttemptName, call: Call) -> bool:
        """Requeue the attempt of a dead worker as the next attempt; False if it is gone.

        Dies before the rename: another reaper does it. Two reapers at once: only one rename
        succeeds.
        """
        slot = self._layout.slot(call.queue, call.slot)
        return self._files.move(path, f"{slot}/{name.after_death()}")

    def recover(self, path: str, name: AttemptName, reason: str) -> None:
        """Decide about an attempt whose worker died: finished, unwanted, once more, or lost.

        Args:
            path: the attempt in the dead worker's folder.
            reason: how the worker died, for the caller's message.

        Raises:
            SpoolVersionError: another version wrote it: leave it alone.
        """
        call = self._unfinished(path, name)
        if call is None:
            return
        self._settle_dead(path, name, call, reason)
        self._release(path, name, call.lanes)

    def _settle_dead(self, path: str, name: AttemptName, call: Call, reason: str) -> None:
        if is_abandoned(call) and not self._dependencies.is_awaited(call.id):
            self._withdraw(path)
        elif name.deaths + 1 < call.max_attempts:
            if self.requeue(path, name, call):
                worker = os.path.basename(os.path.dirname(path))
                self._endings.note(name, call, worker=worker, evidence=reason)
        else:
            self._endings.lose(path, name, call, reason)

    def drop(self, path: str, name: AttemptName) -> None:
        """Remove a cancelled attempt of this worker, whose body was stopped."""
        lanes: tuple[str, ...] = ()
        with contextlib.suppress(FileNotFoundError, EnvelopeError, SpoolVersionError):
            lanes = self._calls.read_header(path, name).lanes
        self._files.remove(path)
        self._release(path, name, lanes)

    def _release(self, path: str, name: AttemptName, lanes: Iterable[str]) -> None:
        worker = os.path.basename(os.path.dirname(path))
        self._limits.release_dead(lanes, name.invocation_id, worker)

    def _unfinished(self, path: str, name: AttemptName) -> Call | None:
        """The header of an attempt that has not ended; None if it has, or is ended here."""
        if self._endings.is_over(name):
            self._dependencies.ended(name.invocation_id)
            self._files.remove(path)
            return None
        if name.cancelled:
            self._endings.end_cancelled(path, name)
            return None
        try:
            return self._calls.read_header(path, name)
        except FileNotFoundError:
            return None  # another process was faster
        except EnvelopeError as error:
            self._endings.quarantine(path, name, str(error))
            return None
