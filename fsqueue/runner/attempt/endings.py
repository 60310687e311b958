"""How attempts end: what `execute` returns, and the step that settles it in the spool."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.runner.attempt import permits
from fsqueue.runner.attempt.answers import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.runner.attempt.context import Execution, WorkerContext
    from fsqueue.spool.format.claim import Claim

log: logging.Logger = logging.getLogger(__name__)

_LONGEST_PAUSE = 5.0


class Finished(NamedTuple):
    """An attempt whose body has ended, or was not run. `settle` does the rest."""

    context: WorkerContext
    claim: Claim
    ending: Ending
    step: Callable[[], object] | None = None
    """Publishes the answer, or moves the call's file. None: that is left to the worker's loop."""
    execution: Execution | None = None
    """The execution; None if the call could not be read."""


def settle(finished: Finished, release: Callable[[Claim], bool]) -> Ending:
    """Release the claim of an attempt and publish its answer, or move its file.

    Only one thread settles an attempt: the one that has run the body, or that of its time limit.
    The worker retries errors of the shared directory for as long as it lives, because only it has
    the answer.

    Args:
        finished: what `execute` returned.
        release: releases the claim; False if the worker has lost it.
    """
    context, claim, ending, step, execution = finished
    try:
        if step is None:
            return ending
        if (execution is not None and not execution.settle()) or not release(claim):
            return Ending.GIVEN_BACK
        retry_io(context, step)
    finally:
        if execution is not None and execution.call.lanes:
            permits.leave(execution)
    if ending is Ending.FINISHED and execution is not None and execution.caller_gone:
        return Ending.UNWANTED
    return ending


def retry_io(context: WorkerContext, step: Callable[..., Any], *args: Any) -> Any:
    """Repeat a step until the shared directory works again, or the worker aborts."""
    pause = 0.05
    while True:
        try:
            return step(*args)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and _spool_exists(context):
                raise
            log.warning("the shared directory fails (%s); trying again in %.2f s", error, pause)
            if context.aborted.wait(pause):
                raise
            pause = min(2 * pause, _LONGEST_PAUSE)


def _spool_exists(context: WorkerContext) -> bool:
    """Whether the spool is there. If not, it may be unmounted, so a missing file proves nothing.

    Raises:
        SpoolReplacedError: the root holds another spool.
    """
    try:
        context.store.files.check_spool()
    except OSError:
        return False
    return True
