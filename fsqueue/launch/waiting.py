"""Waits for the workers of a fleet's jobs."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Final

from fsqueue.launch.batch import BatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from fsqueue.launch.fleet import Fleet
    from fsqueue.spool.fleets.records import Member

log: logging.Logger = logging.getLogger(__name__)

_LOOK: Final = 1.0


def wait_for_workers(fleet: Fleet, members: Collection[Member], timeout: float | None) -> bool:
    """Wait until a worker of each job has started.

    Args:
        members: the jobs.
        timeout: longest time to wait, in seconds; None: no limit.

    Returns:
        Whether all have started: False after the timeout, or if a job ended before.
    """

    def started() -> bool | None:
        missing = set(members) - set(fleet.files.born())
        if missing - set(fleet.files.slots.taken().values()):
            return False
        return True if not missing else None

    return _wait(fleet, started, timeout)


def wait_until_started(fleet: Fleet, count: int, timeout: float | None) -> bool:
    """Wait until the workers of this many jobs have started; False after the timeout.

    Args:
        timeout: longest time to wait, in seconds; None: no limit.
    """

    def started() -> bool | None:
        held = set(fleet.files.slots.taken().values())
        return True if len(held & set(fleet.files.born())) >= count else None

    return _wait(fleet, started, timeout)


def _wait(fleet: Fleet, answer: Callable[[], bool | None], timeout: float | None) -> bool:
    """Wait until there is an answer; False after the timeout."""
    began = listed = time.monotonic()
    while (found := answer()) is None:
        now = time.monotonic()
        left = float("inf") if timeout is None else began + timeout - now
        if left <= 0:
            return False
        if now - listed > fleet.pace.listing:
            listed = now
            _refresh(fleet)
        time.sleep(min(_LOOK, left))
    return found


def _refresh(fleet: Fleet) -> None:
    """Free the slots of jobs that have ended without a worker."""
    try:
        fleet.refresh()
    except BatchError as error:
        log.warning("%s: the jobs cannot be listed: %s", fleet.name, error)
