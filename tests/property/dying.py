"""Deaths of a process in the middle of an operation, and filesystems that make them happen."""

from __future__ import annotations

import os
import traceback
import warnings
from typing import TYPE_CHECKING

from fsqueue.testing import CRASH_STATUS, Fault, FaultyFilesystem

if TYPE_CHECKING:
    from collections.abc import Callable

# Whether all deaths are those of processes.
PROCESSES_DIE = bool(os.environ.get("FSQUEUE_TESTS_KILLS"))


class Death(BaseException):
    """The end of a process, for the operation that it interrupts."""


def die(action: Callable[[], object]) -> int:
    """Run what is to die over a `MortalFilesystem`.

    Returns:
        The exit status of its process: 0 if it has come to its end.
    """
    if PROCESSES_DIE:
        return in_child(action)
    try:
        action()
    except Death:
        return CRASH_STATUS
    return 0


def in_child(action: Callable[[], object]) -> int:
    """Run in a forked process; returns its exit status, 0 if the action returned."""
    return status_of(start_child(action))


def start_child(action: Callable[[], object]) -> int:
    with warnings.catch_warnings():  # pytest-xdist has a thread that takes no lock of ours
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except Death:
            status = CRASH_STATUS
        except BaseException:  # noqa: BLE001 - nothing may leave a forked child
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    return child


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


class MortalFilesystem(FaultyFilesystem):
    """Dies in this process: from its death on, no call is made.

    Nothing else writes to a spool, so nothing there shows whether the process has ended. To fork
    for each death would take three times as long; `.ci/run --full` does it.
    """

    _dead = False

    def inject(self, *faults: Fault) -> None:
        self._dead = False
        super().inject(*faults)

    def _die(self) -> None:
        if PROCESSES_DIE:
            super()._die()
        self._dead = True
        raise Death

    def _call(self, verb, function, /, *args, **kwargs):
        if self._dead:
            raise Death
        return super()._call(verb, function, *args, **kwargs)


class InterruptibleFilesystem(MortalFilesystem):
    """Lets somebody else do something whole in the middle of an operation."""

    _left = 0
    _action: Callable[[], object] | None = None

    def interrupt(self, at: int, action: Callable[[], object]) -> None:
        """Before the call of number `at`, from 1."""
        self._left, self._action = at, action

    def heal(self) -> None:
        self.inject()
        self._action = None

    def _call(self, verb, function, /, *args, **kwargs):
        action = self._action
        if action is not None:
            self._left -= 1
            if self._left <= 0:
                self._action = None
                action()
        return super()._call(verb, function, *args, **kwargs)
