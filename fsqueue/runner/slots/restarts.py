"""Decides when to restart slot processes that could not be set up."""

from __future__ import annotations

import errno
import logging
import resource
import tempfile
import time

from fsqueue.errors import FSQueueError

log: logging.Logger = logging.getLogger(__name__)

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 10.0
# Attempts that take about 20 seconds, in which a home directory on a file server may come back.
_MOST_AT_FIRST = 8


class Restarts:
    """The pauses of a worker between attempts to set up its slot processes.

    A process may be unable to open the spool or to import the application: the disk is full,
    memory is short, or a network home is unavailable. The worker then claims nothing for this
    slot, and tries again after a pause that doubles up to 10 s. If no process has ever been set up
    since the worker started, it gives up: an operator has to check the application or the machine.
    """

    def __init__(self) -> None:
        self._worked = False
        self._failures = 0
        self._next = float("-inf")
        self._final: str | None = None

    @property
    def allowed(self) -> bool:
        """Whether the pause has ended.

        Raises:
            FSQueueError: another attempt would be useless.
        """
        if self._final is not None:
            raise FSQueueError(self._final)
        return time.monotonic() >= self._next

    def worked(self) -> None:
        """Record that a process is ready for calls."""
        self._worked = True
        self._failures = 0
        self._next = float("-inf")

    def failed(self, reason: str, *, final: bool = False) -> None:
        """Record that a process could not be set up.

        Args:
            reason: why, for the log.
            final: whether another attempt would fail in the same way.
        """
        if time.monotonic() < self._next and not final:
            return  # several processes that fail together count once
        pause = min(_FIRST_PAUSE * 2**self._failures, _LONGEST_PAUSE)
        self._failures += 1
        self._next = time.monotonic() + pause
        if final or (not self._worked and self._failures >= _MOST_AT_FIRST):
            self._final = f"the processes of the slots cannot run calls: {reason}"
            return
        text = (
            "a slot cannot run calls: %s; none is claimed for it until it can; next try in %.1f s"
        )
        log.error(text, reason, pause)


def why_not_started(error: BaseException) -> str:
    """Why a process cannot be started, and what to do."""
    what = f"the processes of the slots cannot be started ({error!r}). "
    number = getattr(error, "errno", None)
    if number in {errno.EMFILE, errno.ENFILE}:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        return f"{what}Too many files are open: the limit is {limit}. Raise it with `ulimit -n`."
    if number in {errno.EAGAIN, errno.ENOMEM}:
        return f"{what}The machine or the job is out of processes or memory (`ulimit -u`)."
    return (
        f"{what}Is the path of the temporary folder, {tempfile.gettempdir()}, too long for a "
        "socket (about 100 characters)? Then set TMPDIR to a shorter one."
    )
