"""Recovers claims that no worker is handling: the worker died, or does not know of the claim."""

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
    """Decides what to do with abandoned attempts in the workers' folders.

    Args:
        calls: reads the headers of calls.
        endings: ends calls that are cancelled, damaged or lost.
        dependencies: learns of calls that have ended.
        limits: releases the permits of dead holders.
        withdraw: removes a call whose result is no longer wanted.
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
        """Recover an attempt in a living worker's folder that the worker does not know about.

        This happens if the reply to a claim was lost and checking for the claim failed, too, or if
        a finished attempt could not be removed.

        Raises:
            SpoolVersionError: another version wrote it: leave it alone.
        """
        call = self._unfinished(path, name)
        if call is not None:
            self._files.move(path, f"{self._layout.slot(call.queue, call.slot)}/{name}")

    def cut_off(self, path: str, name: AttemptName, cut: Cut) -> bool:
        """Record that the end of its batch job interrupts an attempt; the caller gives it back.

        If a call was cut off `max_cuts` times, each time after nearly all of a worker's time, it
        does not fit into any job. Then this ends it with `WalltimeError` and returns True.

        Dies before the line in ``cuts/``, or between it and what follows: a dead worker holds the
        attempt, and a reaper makes it the next one. The line stays, since it is true. Dies after
        the outcome: it stands, and a reaper removes the attempt. Lost reply of the line: it is
        there, and the call is given back.

        If the line cannot be written or the call cannot be read, that is only logged: the caller
        must give the call back before its process ends.
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
        """Requeue a dead worker's attempt as the next attempt; False if it is gone.

        Dies before the rename: another reaper does it. Two reapers at once: only one rename
        succeeds.
        """
        slot = self._layout.slot(call.queue, call.slot)
        return self._files.move(path, f"{slot}/{name.after_death()}")

    def recover(self, path: str, name: AttemptName, reason: str) -> None:
        """Recover a dead worker's attempt: remove it if done or unwanted, requeue it, or end it.

        Args:
            path: the attempt in the dead worker's folder.
            reason: how the worker died, for the message to the caller.

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
        """Remove a cancelled attempt of this worker, after its task was stopped."""
        lanes: tuple[str, ...] = ()
        with contextlib.suppress(FileNotFoundError, EnvelopeError, SpoolVersionError):
            lanes = self._calls.read_header(path, name).lanes
        self._files.remove(path)
        self._release(path, name, lanes)

    def _release(self, path: str, name: AttemptName, lanes: Iterable[str]) -> None:
        worker = os.path.basename(os.path.dirname(path))
        self._limits.release_dead(lanes, name.invocation_id, worker)

    def _unfinished(self, path: str, name: AttemptName) -> Call | None:
        """The header of an attempt that has not ended; None if it has, or if this ends it."""
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
