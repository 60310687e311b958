"""Finds a call's file and state by invocation id."""

from __future__ import annotations

import functools
import itertools
from typing import TYPE_CHECKING

from fsqueue.errors import UnknownInvocationError
from fsqueue.spool.files import whereabouts
from fsqueue.spool.format.names import AttemptName, Slot, client_of, is_slot_name
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fsqueue.spool.disk.content import Content
    from fsqueue.spool.store.store import Store

# How many attempts to check by name; later ones are found by listing.
_USUAL_ATTEMPTS = 3


def find_pending(
    store: Store, invocation_id: str, hint: str | None = None, *, lanes: bool = False
) -> str | None:
    """Path of a pending attempt; None if there is none.

    Args:
        hint: where it was published; a requeued call keeps its slot.
        lanes: include calls that wait for a concurrency limit.
    """
    waiting = _waiting_folders(store) if lanes else ()
    folders: Iterable[str] = itertools.chain(waiting, _slots(store, hint))
    for attempt in range(_USUAL_ATTEMPTS):  # nearly all calls are on their first attempt
        name, checked = str(AttemptName(invocation_id, attempt + 1)), []
        for folder in folders:
            if _is_there(store, f"{folder}/{name}", fresh=attempt == 0):
                return f"{folder}/{name}"
            checked.append(folder)
        folders = checked
    return None


def find_dependent(store: Store, invocation_id: str) -> str | None:
    """Path of a call that waits for other calls; None if it does not wait.

    The cost grows with the number of calls that others wait for.
    """
    path = None
    for _, folder in whereabouts.waiting_for_calls(store.files):
        path = f"{folder}/{AttemptName(invocation_id, 1)}"
        if _is_there(store, path, fresh=True):
            return path
    # It may meanwhile have moved to another folder, or have another name.
    for _, folder in whereabouts.waiting_for_calls(store.files) if path else ():
        found = _find_in(store, invocation_id, folder)
        if found is not None:
            return found
    return None


def _is_there(store: Store, path: str, *, fresh: bool) -> bool:
    """Whether a call's file exists; False if this user may not access its folder."""
    try:
        return store.fs.exists(path, fresh=fresh)
    except PermissionError as error:
        store.files.pass_over(path.rpartition("/")[0], error)
        return False


def find_due(store: Store, invocation_id: str, hint: str) -> str | None:
    """Path of a pending attempt that may start now; None if there is none.

    Args:
        hint: where it was published; a requeue keeps the slot, and a retry takes a later one.
    """
    found = find_pending(store, invocation_id, hint)
    if found is not None:
        return found if is_due(store, found) else None
    queue, _, first = hint.rpartition("/")[0].rpartition("/")
    for name in store.files.listed(queue, fresh=True):
        if name > first and is_slot_name(name):
            path = _find_in(store, invocation_id, f"{queue}/{name}")
            if path is not None and is_due(store, path):
                return path
    return None


def is_due(store: Store, path: str) -> bool:
    """Whether a pending attempt may start now."""
    slot = Slot.parse(path.split("/")[-2])
    return slot is not None and slot.due <= store.clock.now()


def _find_in(store: Store, invocation_id: str, folder: str) -> str | None:
    for name in store.files.listed(folder, fresh=True):
        if name.startswith(f"{invocation_id}."):
            return f"{folder}/{name}"
    return None


def find_pending_by_listing(store: Store, invocation_id: str) -> str | None:
    """Like `find_pending`, but finds any attempt, at a cost that grows with the backlog."""
    for folder in (*_waiting_folders(store), *_slots(store, None)):
        path = _find_in(store, invocation_id, folder)
        if path is not None:
            return path
    return None


def _slots(store: Store, hint: str | None) -> Iterator[str]:
    if hint is not None:
        yield hint.rpartition("/")[0]
        return
    yield from (each.path for each in whereabouts.slots(store.files))


def _waiting_folders(store: Store) -> Iterator[str]:
    """Folders of calls waiting for a limit. Check them before the slots, where calls go next."""
    return (each.path for each in whereabouts.waiting_for_limits(store.files))


def find_waiting(
    store: Store, invocation_id: str, lanes: Iterable[str], hint: str | None = None
) -> str | None:
    """Path of a call published at `hint` that waits for one of these limits, or None."""
    for lane in lanes:
        for waiting, folder in store.limits.waiting_folders(lane):
            path = _find_in(store, invocation_id, folder) if waiting.may_hold(hint) else None
            if path is not None:
                return path
    return None


def is_running(store: Store, invocation_id: str) -> bool:
    """Whether a worker holds an attempt of the invocation."""
    return any(name.invocation_id == invocation_id for _, name, _ in whereabouts.held(store.files))


def state_of(
    store: Store,
    invocation_id: str,
    member: int | None = None,
    *,
    hint: str | None = None,
    lanes: Sequence[str] = (),
) -> State:
    """The state of an invocation, or of one call of a batch.

    Args:
        member: the call's place, if it is one of a batch.
        hint: where it was published, if known. Then the cost does not grow with the backlog, except
            for a call that waits for a retry.
        lanes: the call's concurrency limits, if known. They make a call that waits for one cheap to
            find.

    Raises:
        UnknownInvocationError: the invocation is not in this spool.
        EnvelopeError: its outcome is damaged.
    """
    # Check the places in the order in which an invocation moves, so that one that moves on cannot
    # be missed. A dead worker's attempt moves back, so do it twice, the second time without
    # guessing names.
    finders: list[Callable[[Store, str], str | None]]
    finders = [functools.partial(find_waiting, lanes=lanes, hint=hint)] if lanes else []
    finders += [] if hint is None else [functools.partial(find_pending, hint=hint)]
    finders += [find_dependent, _find_anywhere, find_pending_by_listing]
    for find in finders:
        data = store.outcomes.peek(invocation_id)
        if data is not None:
            return _state_in(store, invocation_id, data, member)
        if find(store, invocation_id) is not None:
            return State.PENDING
        if is_running(store, invocation_id):
            return State.RUNNING
    data = store.outcomes.peek(invocation_id) or store.outcomes.peek_again(invocation_id)
    if data is not None:
        return _state_in(store, invocation_id, data, member)
    raise UnknownInvocationError(
        f"{store.layout.root} knows no invocation {invocation_id} of client "
        f"{client_of(invocation_id)}: the id is mistyped, it belongs to another spool, "
        "or its result has expired. `fsqueue list` shows those that are there."
    )


_find_anywhere = functools.partial(find_pending, lanes=True)


def _state_in(store: Store, invocation_id: str, data: Content, member: int | None) -> State:
    outcome, payload = store.outcomes.read(invocation_id, data)
    return outcome.part(payload, member)[0]


def cancel(
    store: Store,
    invocation_id: str,
    hint: str | None,
    lanes: Sequence[str] = (),
    *,
    running: bool = True,
) -> bool:
    """Cancel an invocation; False if it already had an outcome.

    Args:
        hint: where it was published, if known.
        lanes: the call's concurrency limits, if known.
        running: also cancel it if a worker has claimed it.

    Raises:
        UnknownInvocationError: the invocation is not in this spool.
    """
    known = [hint] if hint is not None else []
    for path in (*known, find_waiting(store, invocation_id, lanes, hint)):
        if path is not None and store.endings.cancel_pending(path):
            return True
    state = state_of(store, invocation_id, hint=hint, lanes=lanes)
    if state.finished or (state is State.RUNNING and not running):
        return False
    for find in (find_dependent, _find_anywhere, find_pending_by_listing):
        path = find(store, invocation_id)
        if path is not None and store.endings.cancel_pending(path):
            return True
    return running and store.endings.cancel_running(invocation_id)


def withdraw(
    store: Store, invocation_id: str, hint: str, lanes: Sequence[str], *, deferred: bool
) -> bool:
    """Remove an invocation that no worker has claimed; False if it was not found.

    Args:
        hint: where it was published.
        lanes: the call's concurrency limits.
        deferred: whether it was published to wait for other calls.
    """
    dependent = find_dependent(store, invocation_id) if deferred else None
    if store.withdraw(dependent or hint):
        return True
    waiting = find_waiting(store, invocation_id, lanes, hint)
    return waiting is not None and store.withdraw(waiting)
