"""Time limits of bodies."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from fsqueue.common.offloading import when_threads_start
from fsqueue.common.values import LONGEST
from fsqueue.errors import TaskTimeoutError
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.event_loop.cleanup import CLEANUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.format.records import Call

log: logging.Logger = logging.getLogger(__name__)

TIMED_OUT: Final = 75
"""Exit status of a slot's process whose body took too long."""

# A header could have been written with a negative number.
_SHORTEST = 0.001

_NO_LIMIT: Final = contextlib.nullcontext()


def time_limit(
    execution: Execution, give_up: Callable[[BaseException], bool], *, killable: bool
) -> contextlib.AbstractContextManager[None]:
    """Limit the block, which runs a body, to the timeout of its call.

    The caller gets the error at once. A coroutine is cancelled and may clean up. A thread cannot
    be killed: its slot is occupied until the body ends by itself.

    Args:
        give_up: settles the call with an error; False if it has been settled already.
        killable: end this process when the time is up.
    """
    return _limit(execution, give_up, killable) if execution.call.timeout else _NO_LIMIT


@contextlib.contextmanager
def _limit(
    execution: Execution, give_up: Callable[[BaseException], bool], killable: bool
) -> Iterator[None]:
    # The timeout of a batch is the sum of those of its calls.
    seconds = min(max(execution.call.timeout, _SHORTEST), LONGEST)
    mutex = threading.Lock()

    def expire() -> None:
        # The body's thread waits for this at the end of the block: no other call may begin in a
        # process that is about to end.
        with mutex:
            if not execution.body_ended and give_up(timeout_error(execution.call)):
                log.warning("%s took longer than %g s", execution.claim.name, seconds)
                cancelled = _cancel(execution, killable=killable)
                if killable:
                    os._exit(TIMED_OUT)
                if not cancelled:
                    execution.end_programs()
                    log.warning("%s goes on in a thread: its slot is lost", execution.claim.name)

    def start() -> threading.Timer:
        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        return timer

    what = f"the timeout of {execution.claim.name}"
    timer = when_threads_start(start, what, execution.context.aborted)
    if killable:
        # The worker kills a body that keeps Python from running, as in a long call into C.
        execution.context.on_limit(seconds)
    try:
        yield
    finally:
        timer.cancel()
        if killable:
            execution.context.on_limit(None)
        with mutex:
            execution.body_ended = True


def _cancel(execution: Execution, *, killable: bool) -> bool:
    """Cancel a coroutine, and wait for it if its process is to end; False for a plain body."""
    if not execution.interrupt(Ending.GIVEN_BACK) or execution.run is None:
        return False
    if killable:
        execution.context.on_limit(CLEANUP)
        execution.run.wait(CLEANUP)
    return True


def timeout_error(call: Call) -> TaskTimeoutError:
    """The error of an attempt that took too long."""
    return TaskTimeoutError(
        f"{call.task} ran longer than its timeout of {call.timeout:g} s (invocation {call.id}). "
        "Set a longer `timeout`, or `retry_for=TimeoutError`."
    )
