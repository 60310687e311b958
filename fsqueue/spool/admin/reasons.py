"""Explains why a call is not running, for every view that shows calls (P14).

`why` is the only place that answers this. Each reason says what holds the call up and what would
resolve it. Reasons are listed in the order in which they have to be resolved.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from fsqueue.common.commands import command
from fsqueue.common.printable import counted
from fsqueue.errors import EnvelopeError
from fsqueue.spool.admin.listing import call_details
from fsqueue.spool.files.headers import outcome_of
from fsqueue.spool.fleets.coverage import fleets_that_take
from fsqueue.spool.format.names import (
    EXECUTOR_PREFIX,
    Holder,
    Slot,
    is_slot_name,
    lane_limit,
    split_profile,
)
from fsqueue.spool.format.resources import (
    NONE,
    amounts,
    in_words,
    needs_in_words,
    needs_of,
    takes,
    with_time,
)
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.admin.listing import CallDetails
    from fsqueue.spool.admin.snapshot import WorkerInfo
    from fsqueue.spool.store.store import Store

Code = Literal[
    "not_due",
    "waits_for_call",
    "paused",
    "no_worker",
    "no_resources",
    "limit",
    "busy",
    "worker_silent",
    "worker_dead",
    "cancelled",
    "expired",
    "no_worker_writes",
    "disk_full",
]
# The most permit holders of a limit to name.
_HOLDERS = 3
# A disk with a smaller share of free space counts as full.
_FULL = 0.005


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """One reason why a call is not running."""

    code: Code
    text: str
    """What holds it up, as a clause."""
    ends: str = ""
    """What would resolve it; empty if only waiting helps, or nothing does."""
    since: float | None = None
    """When it began, by the file server's clock, if known."""
    until: float | None = None
    """When it will end at the latest, if known."""

    def __str__(self) -> str:
        return f"{self.text}; ends with {self.ends}" if self.ends else self.text


class _Case:
    """A call and its circumstances."""

    def __init__(self, store: Store, details: CallDetails, glance: Glance) -> None:
        self.store, self.details, self.glance = store, details, glance
        self.now = store.clock.now()
        self.folder = details.path.rpartition("/")[0]
        self.queue = self._queue()
        self.workers = glance.snapshot.workers
        self.fit = [each for each in self.workers if self._serves(each, self.queue)]

    def _queue(self) -> str:
        """The folder name of its queue."""
        if self.details.call is not None:
            return self.details.call.queue
        parent = self.folder.rpartition("/")[0]
        return "" if parent.rpartition("/")[2] == "lanes" else parent.rpartition("/")[2]

    def serving(self, queue: str) -> list[WorkerInfo]:
        """The living workers that serve a queue."""
        return [each for each in self.workers if self._serves(each, queue)]

    @staticmethod
    def _serves(worker: WorkerInfo, queue: str) -> bool:
        held = with_time(amounts(worker.resources), worker.left)
        return worker.is_alive and takes(worker.queues, held, queue)


def why(
    store: Store, invocation_id: str, glance: Glance, details: CallDetails | None = None
) -> tuple[Reason, ...]:
    """The reasons why a call is not running, or never ran; empty if it is running or has run.

    Args:
        glance: the latest glance at the spool.
        details: the call's details, if already read.

    Raises:
        UnknownInvocationError: the invocation is not in this spool.
    """
    found = details or call_details(store, invocation_id, glance=glance)
    case = _Case(store, found, glance)
    if found.state is State.PENDING:
        return tuple(_of_pending(case))
    if found.state is State.RUNNING:
        return tuple(_of_running(case))
    return tuple(_of_ended(case))


def _of_pending(case: _Case) -> Iterator[Reason]:
    call = case.details.call
    if call is not None and 0 < call.expires < case.now:
        text = "its deadline has passed, and it will not start"
        yield Reason(
            code="expired", text=text, ends="the next worker that finds it", since=call.expires
        )
    yield from _not_due(case)
    yield from _waits_for_call(case)
    yield from _paused(case)
    unserved = list(_unserved(case))
    yield from unserved
    yield from _limit(case)
    yield from () if unserved else _busy(case)
    yield from _place(case)


def _not_due(case: _Case) -> Iterator[Reason]:
    if case.folder.startswith(f"{case.store.layout.after_folder}/"):
        return
    slot = Slot.parse(case.folder.rpartition("/")[2].partition("~")[0])
    if slot is not None and slot.due > case.now:
        name = case.details.name
        text = "it is not due yet"
        if name is not None and name.retries:
            text = f"it failed {counted(name.retries, 'time')} and is retried later"
        yield Reason(code="not_due", text=text, until=slot.due)


def _waits_for_call(case: _Case) -> Iterator[Reason]:
    above, _, parent = case.folder.rpartition("/")
    if above != case.store.layout.after_folder:
        return
    outcome = outcome_of(case.store.files, parent)
    state = "has ended" if outcome else "has not ended"
    yield Reason(
        code="waits_for_call",
        text=f"it waits for the result of {parent}, which {state}",
        ends=f"the end of {parent}: fsqueue show {parent}",
    )


def _paused(case: _Case) -> Iterator[Reason]:
    queue = split_profile(case.queue)[0]
    try:
        since = case.store.fs.modified(case.store.layout.paused(queue))
    except (OSError, EnvelopeError):
        return
    name = queue.partition(".")[2] or queue
    text = f"its queue {queue} is paused"
    yield Reason(code="paused", text=text, ends=command("resume", name), since=since)


def _unserved(case: _Case) -> Iterator[Reason]:
    if case.fit:
        return
    queue, profile = split_profile(case.queue)
    fleets = fleets_that_take(case.store.files, case.queue)
    job = f"a job of the fleet {', '.join(fleets)}" if fleets else ""
    dead = [each for each in case.workers if not each.is_alive and queue in each.queues]
    last = f"; the last one, {dead[-1].name}, is {dead[-1].state}" if dead else ""
    if not case.serving(queue):
        text = f"no live worker serves the queue {queue}{last}"
        yield Reason(code="no_worker", text=text, ends=job or _worker_for(queue, case.store))
    needed = needs_of(profile)
    if needed:
        who = "live worker" if fleets else "worker or fleet"
        text = f"it waits for {needs_in_words(needed)}: no {who} has that{last}"
        option = "".join(f" --resource {each}" for each in in_words(needed or NONE).split())
        yield Reason(code="no_resources", text=text, ends=job or f"a worker with{option}")


def _worker_for(queue: str, store: Store) -> str:
    """A worker that would serve a queue, and the command that starts it."""
    app, _, name = queue.partition(".")
    if not app.startswith(EXECUTOR_PREFIX):
        return f"a worker: {command('worker', queue=name or queue)}"
    version = app.removeprefix(EXECUTOR_PREFIX)
    python = f"Python {version[0]}.{version[1:]}" if version.isdecimal() else "that Python"
    return f"a worker with {python}: {command('worker', root=store.layout.root)}"


def _limit(case: _Case) -> Iterator[Reason]:
    """The concurrency limit it is waiting for, or those it will need later."""
    call = case.details.call
    lane = case.folder.rpartition("/")[0].rpartition("/")[2]
    of = f"the concurrency limit of {call.task}" if call else "a concurrency limit"
    if case.folder.startswith(f"{case.store.layout.lanes_folder}/") and lane_limit(lane):
        held, _ = _holders(case, lane)
        yield _limited(f"it waits for {of}", lane, held)
    elif call is not None and not case.folder.startswith(f"{case.store.layout.after_folder}/"):
        for each in filter(lane_limit, call.lanes):
            held, taken = _holders(case, each)
            if taken and each not in call.within:
                yield _limited(f"it needs {of}", each, held)


def _limited(how: str, lane: str, held: str) -> Reason:
    text = f"{how}: at most {lane_limit(lane)} at a time{f', held by {held}' if held else ''}"
    return Reason(code="limit", text=text, ends="the end of a call that holds a permit")


def _holders(case: _Case, lane: str) -> tuple[str, bool]:
    """Which calls hold a limit's permits, as text, and whether all permits are taken."""
    layout = case.store.layout
    permits = [each for each in case.store.files.listed(layout.lane(lane)) if each.isdecimal()]
    holders = []
    for number in sorted(permits, key=int)[:_HOLDERS]:
        path = layout.in_lane(lane, number)
        for text in case.store.files.listed(path):
            holder = Holder.parse(text)
            if holder is not None:
                holders.append(f"{holder.invocation_id} on {holder.worker}")
    more = len(permits) - len(holders)
    held = ", ".join([*holders, *([f"{more} more"] if more > 0 and holders else [])])
    looked_at = min(len(permits), _HOLDERS)
    return held, len(permits) >= lane_limit(lane) and len(holders) >= looked_at


def _busy(case: _Case) -> Iterator[Reason]:
    """All worker slots are busy; says how many calls are ahead, and how long that may take."""
    slots, held = sum(each.slots for each in case.fit), sum(each.held for each in case.fit)
    text = case.folder.rpartition("/")[2]
    slot = Slot.parse(text)
    if held < slots or slot is None or slot.due > case.now:
        return
    ahead = _ahead(case, text)
    recent = case.glance.recent
    rate = recent.per_second(recent.queues.get(case.queue, 0))
    place = f"at most about {counted(ahead, 'call')} may run before it" if ahead else "it is next"
    pace = f"; {rate:.3g} calls/s of its queue end" if rate else ""
    busy = "the only slot" if slots == 1 else f"all {slots} slots"
    verb = "is" if slots == 1 else "are"
    yield Reason(
        code="busy",
        text=f"{busy} of the workers that can run it {verb} busy; {place}{pace}",
        ends="the end of a running call",
        until=case.now + (ahead + 1) / rate if rate else None,
    )


def _ahead(case: _Case, slot: str) -> int:
    """Roughly how many due calls of the same queue may run before this one.

    This includes calls in the same slot: workers take the calls of one second in any order.
    """
    layout = case.store.layout
    names = case.store.files.listed(layout.queue(case.queue), fresh=True)
    slots = sorted(filter(is_slot_name, names))
    second = slot[: -len("000")]
    before = sum(name[: len(second)] <= second for name in slots) - 1
    beside = max(0, len(case.store.files.listed(case.folder)) - 1)
    row = next((each for each in case.glance.snapshot.queues if each.name == case.queue), None)
    elsewhere = max(0, row.due - 1 - beside) if row else 0
    return beside + round(elsewhere * max(0, before) / max(1, len(slots) - 1))


def _place(case: _Case) -> Iterator[Reason]:
    """The disk is full, so no worker can claim calls."""
    total, free = case.store.fs.space(case.store.layout.root)
    if free < _FULL * total:
        text = f"the disk of {case.store.layout.root} is full: {free >> 20} MiB are free"
        yield Reason(code="disk_full", text=text, ends="room on it, for example by fsqueue gc")


def _of_running(case: _Case) -> Iterator[Reason]:
    name = case.folder.rpartition("/")[2]
    holder = next((each for each in case.workers if each.name == name), None)
    others = [each for each in case.workers if each.is_alive and each.name != name]
    back = "a worker that lives gives it back" if others else "another worker: none lives"
    if holder is None:
        text = f"the worker {name} that has claimed it has left no trace but this claim"
        yield Reason(code="worker_dead", text=text, ends=back)
    elif holder.state == "dead":
        text = f"the worker {name} that has claimed it is dead: its process {holder.pid} is gone"
        yield Reason(code="worker_dead", text=text, ends=back)
    elif holder.state == "silent":
        silent = "" if holder.beat is None else f" for {holder.beat:.0f} s"
        yield Reason(
            code="worker_silent",
            text=f"the worker {name} that has claimed it has been silent{silent}",
            ends=f"its next heartbeat; or, once the lease is over, {back}",
        )


def _of_ended(case: _Case) -> Iterator[Reason]:
    outcome = case.details.outcome
    if case.details.state is State.CANCELLED:
        text = "it was cancelled"
        if outcome is not None and outcome.failure and ": " in outcome.failure.message:
            text += f": {outcome.failure.message.partition(': ')[2]}"
        ended = outcome.ended if outcome else None
        yield Reason(code="cancelled", text=text, since=ended)
    elif outcome and outcome.failure and outcome.failure.type == "InvocationExpiredError":
        text = "it was not started before its deadline"
        yield Reason(code="expired", text=text, since=outcome.ended)
