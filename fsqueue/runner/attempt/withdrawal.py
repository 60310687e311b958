"""Withdrawal of direct calls whose caller is gone."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.common.logs import CALLS
from fsqueue.runner.attempt import limits

if TYPE_CHECKING:
    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.disk.identity import Process

calls = logging.getLogger(CALLS)


def withdraw(execution: Execution) -> None:
    """Remove a claimed call whose caller is gone, and admit the next call of its lanes.

    Dies before: the reaper that recovers the dead worker's attempt removes it. Dies after it:
    nothing is left of the call, and upkeep admits the next call. Lost reply: the file is gone.

    Raises:
        OSError: the shared directory fails; call it again.
    """
    context, claim = execution.context, execution.claim
    context.callers.report(execution.call)
    calls.info("%s is withdrawn: its caller is gone", claim.name, extra=claim.tags)
    context.store.withdraw(claim.path)
    limits.leave(execution)


def receiver_of(execution: Execution) -> Process | None:
    """The only process that may receive the outcome; None if another call needs it too.

    Raises:
        OSError: the shared directory fails; call it again.
    """
    call, callers = execution.call, execution.context.callers
    if call.keep or (callers.is_gone(call) and not callers.is_unwanted(call)):
        return None
    return call.caller
