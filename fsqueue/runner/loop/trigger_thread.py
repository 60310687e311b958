"""A worker's thread that fires triggers on ticks and events.

It is separate from the upkeep thread, because triggers may run functions of the user, which can be
slow.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import TYPE_CHECKING

from fsqueue.spool.wakeups.bell import listening
from fsqueue.spool.wakeups.watching import Alarm

if TYPE_CHECKING:
    from fsqueue.runner.host import Host

log: logging.Logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0


class TriggerThread:
    """Fires due triggers while a worker runs."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._stopping = False
        self._wake = Alarm()
        self._thread: threading.Thread | None = None

    def start_if_needed(self) -> None:
        """Start the thread once there are triggers to poll: modules may be imported late."""
        if self._thread is None and self._host.triggers.needs_attention:
            thread = threading.Thread(target=self._run, name="fsqueue-triggers", daemon=True)
            try:
                thread.start()
            except RuntimeError as error:  # the limit of processes is reached
                log.warning("cannot start the thread of the triggers, trying again: %s", error)
            else:
                self._thread = thread

    def stop(self) -> None:
        """Stop the thread and wait for its end."""
        self._stopping = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        store, app_id = self._host.store, self._host.app_id
        bell = store.layout.event_bell(app_id)
        heard = listening(store.files.touch, bell, self._wake.set) if self._host.events else None
        with heard or contextlib.nullcontext():
            after_error = _FIRST_PAUSE
            while not self._stopping:
                try:
                    pause, after_error = self._host.triggers.attend(), _FIRST_PAUSE
                except Exception:
                    # A failure must not end this thread. Ticks and events wait for the next try.
                    log.exception("triggers: trying again in %.2g s", after_error)
                    pause, after_error = after_error, min(2 * after_error, _LONGEST_PAUSE)
                self._wake.wait(pause)
                self._wake.clear()
