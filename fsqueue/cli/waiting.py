"""Waits until calls have ended, for ``wait``, ``result`` and ``submit --wait``."""

from __future__ import annotations

import contextlib
import functools
import time
from typing import TYPE_CHECKING, Final

from fsqueue.cli.finding.target import Target, check_id
from fsqueue.cli.output import print_error
from fsqueue.cli.overview import looks
from fsqueue.errors import UnknownInvocationError
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fsqueue.spool.caller.waiter import Waiter
    from fsqueue.spool.store.store import Store

# A caller may collect an outcome between two checks, so that it never shows up here. Only a search
# of the spool finds that out, and searches become rarer with time.
_FIRST_SEARCH, _LAST_SEARCH = 1.0, 30.0
# The reasons of only this many calls are printed: most calls wait for the same thing.
_TOLD = 3
GONE: Final = "gone"
"""The state of a call that has ended and whose caller has collected the result."""


def wait_for(
    target: Target, invocation_ids: Sequence[str], timeout: float | None
) -> dict[str, str]:
    """Wait until all calls have ended or the timeout is over, and return their states.

    Args:
        target: application and spool.
        invocation_ids: the calls.
        timeout: longest time to wait, in seconds; ``None``: no limit.

    Raises:
        UnknownInvocationError: the spool does not have one of the calls at the beginning.
    """
    store = target.look()
    states = {each: _state(store, each) for each in invocation_ids}
    for each, state in states.items():
        if state == GONE:
            raise UnknownInvocationError(
                f"{store.layout.root} knows no invocation {each}: the id is mistyped, it belongs "
                "to another spool, or its result was collected or has expired"
            )
    deadline = float("inf") if timeout is None else time.monotonic() + timeout

    def tell() -> bool:
        return tell_why(target, [each for each, state in states.items() if is_open(state)])

    with _waiting(target, store, tell) as waiter:
        pause = _FIRST_SEARCH
        while open_ids := [each for each, state in states.items() if is_open(state)]:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            waiter.wait([*{check_id(each)[0] for each in open_ids}], min(left, pause))
            states.update({each: _state(store, each) for each in open_ids})
            pause = min(2 * pause, _LAST_SEARCH)
    return states


def reasons_in_words(target: Target, invocation_id: str) -> str:
    """Why a call that has not ended does not run, a line for each reason; empty if it runs."""
    from fsqueue.spool.admin.reasons import why

    looking = looks(target)
    try:
        found = why(looking.store, check_id(invocation_id)[0], looking.look())
    except UnknownInvocationError:  # it has ended meanwhile
        return ""
    return "\n".join(map(str, found))


def tell_why(target: Target, invocation_ids: Sequence[str]) -> bool:
    """Print why the first calls do not run, each reason once; False if there is no reason."""
    texts = [(each, reasons_in_words(target, each)) for each in invocation_ids[:_TOLD]]
    for invocation_id, text in texts:
        if text:
            _tell(invocation_id, text)
    return any(text for _, text in texts)


@functools.cache  # a command may come here several times
def _tell(invocation_id: str, text: str) -> None:
    print_error(f"{invocation_id} does not run yet", text)


def is_open(state: str) -> bool:
    """Whether a call in this state has not ended."""
    return state in {State.PENDING, State.RUNNING}


def _state(store: Store, invocation_id: str) -> str:
    from fsqueue.spool.admin.listing import state_or_failure

    try:
        return str(state_or_failure(store, *check_id(invocation_id)))
    except UnknownInvocationError:
        return GONE


@contextlib.contextmanager
def _waiting(target: Target, store: Store, tell: Callable[[], bool]) -> Iterator[Waiter]:
    from fsqueue.spool.caller.waiter import Waiter
    from fsqueue.spool.format.names import new_token

    waiter = Waiter(
        store.outcomes,
        new_token(),  # a mailbox that does not exist: the results belong to other processes
        events=False,
        poll_interval=target.app.conf.poll_interval,
        on_silence=tell,
    )
    try:
        yield waiter
    finally:
        waiter.close()
