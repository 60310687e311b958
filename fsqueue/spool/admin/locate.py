"""Finds the file of a call by its id, at a cost that does not grow with the backlog.

The id consists of the client's name and the call's number. A client numbers its calls in the order
in which it publishes them, and slots are sorted by time. So the numbers in one slot show in which
direction to look for the call, and about how far away it is. Two or three listings find it among a
thousand slots. Calls with a countdown, or a mix of many clients, take more. After `_MOST` listings
the search gives up, and the caller lists everything.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING

from fsqueue.spool.files import whereabouts
from fsqueue.spool.format.names import AttemptName, is_slot_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.store.store import Store

_MOST = 20
_FEW = 8


def locate(
    store: Store, invocation_id: str, glance: Glance | None
) -> tuple[str, AttemptName] | None:
    """Path and name of an unfinished call's file; None if it was not found cheaply.

    Args:
        glance: the latest one, which says which worker holds which call.
    """
    # In the order in which a call moves, except that workers known to hold it come first.
    folders = itertools.chain(
        _known_workers(store, invocation_id, glance),
        itertools.islice(
            (folder for _, folder in whereabouts.waiting_for_calls(store.files)), _FEW
        ),
        itertools.islice((each.path for each in whereabouts.waiting_for_limits(store.files)), _FEW),
    )
    return (
        _first(store, invocation_id, folders)
        or _in_slots(store, invocation_id)
        or _first(store, invocation_id, _few_workers(store))
    )


def find_in(store: Store, invocation_id: str, folder: str) -> tuple[str, AttemptName] | None:
    """Path and name of the call's latest attempt in a folder; None if there is none."""
    names = [
        name
        for name in whereabouts.attempts_in(store.files, folder)
        if name.invocation_id == invocation_id
    ]
    if not names:
        return None
    name = max(names, key=lambda each: each.attempt)
    return f"{folder}/{name}", name


def _first(
    store: Store, invocation_id: str, folders: Iterable[str]
) -> tuple[str, AttemptName] | None:
    return next(filter(None, (find_in(store, invocation_id, each) for each in folders)), None)


def _known_workers(store: Store, invocation_id: str, glance: Glance | None) -> Iterator[str]:
    for worker in glance.snapshot.workers if glance else ():
        if any(call.id == invocation_id for call in worker.running):
            yield store.layout.running(worker.name)


def _few_workers(store: Store) -> Iterator[str]:
    folders = [folder for _, folder in whereabouts.running(store.files)]
    yield from folders if len(folders) <= _FEW else ()


def _in_slots(store: Store, invocation_id: str) -> tuple[str, AttemptName] | None:
    now = store.clock.now()
    for queue in store.fs.names(store.layout.pending_folder, fresh=True):
        texts = sorted(filter(is_slot_name, store.files.listed(store.layout.queue(queue))))
        # Grouped by priority and by due or delayed: in each group, later calls are in later slots.
        groups: dict[tuple[str, bool], list[str]] = {}
        for text in texts:
            priority, _, due = text.partition(".")
            groups.setdefault((priority, int(due) > 1000 * now), []).append(text)
        for group in groups.values():
            folders = [store.layout.slot(queue, text) for text in group]
            found = _search(store, invocation_id, folders)
            if found is not None:
                return found
    return None


def _search(
    store: Store, invocation_id: str, folders: Sequence[str]
) -> tuple[str, AttemptName] | None:
    """Search for a call in slots that are sorted by time."""
    client, _, text = invocation_id.rpartition("-")
    number = int(text)
    spans = deque([(0, len(folders) - 1, -1)])
    for _ in range(_MOST):
        if not spans:
            return None
        low, high, guess = spans.popleft()
        at = min(max(low, guess), high) if guess >= 0 else (low + high) // 2
        numbers = {}
        for name in whereabouts.attempts_in(store.files, folders[at]):
            owner, _, text = name.invocation_id.rpartition("-")
            if owner == client:
                numbers[int(text)] = name
        if number in numbers:
            return f"{folders[at]}/{numbers[number]}", numbers[number]
        _go_on(spans, (low, at, high), sorted(numbers), number)
    return None


def _go_on(
    spans: deque[tuple[int, int, int]],
    place: tuple[int, int, int],
    numbers: list[int],
    number: int,
) -> None:
    """Add where to look next, given the client's call numbers in one slot."""
    low, at, high = place
    before, after = (low, at - 1), (at + 1, high)
    guess = -1
    if numbers:
        step = numbers[-1] - numbers[0] + 1
        if number < numbers[0]:
            after, guess = (0, -1), max(low, at - -(-(numbers[0] - number) // step))
        elif number > numbers[-1]:
            before, guess = (0, -1), at + -(-(number - numbers[-1]) // step)
        else:  # claimed, or in one of several slots of the same second
            before, after = (max(low, at - 1), at - 1), (at + 1, min(high, at + 1))
    for first, last in (before, after):
        if first <= last:
            (spans.appendleft if guess >= 0 else spans.append)((first, last, guess))
