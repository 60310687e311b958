"""Lists calls and shows the details of one call, without unpickling anything.

Lists are only displayed, so they read just the beginnings of files and check no digests.
`call_details` reads one call in full and verifies it.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from fsqueue.errors import EnvelopeError, UnknownInvocationError
from fsqueue.spool.admin.attempts import failed_attempts
from fsqueue.spool.admin.locate import find_in, locate
from fsqueue.spool.admin.snapshot import claimed_for, queue_names
from fsqueue.spool.files import whereabouts
from fsqueue.spool.files.headers import beginning_of, outcome_of
from fsqueue.spool.format.names import AttemptName, Slot, in_order, split_profile
from fsqueue.spool.format.records import Call, Failure, Outcome, Payload, shown
from fsqueue.spool.format.states import State
from fsqueue.spool.store.lookup import state_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fsqueue.spool.admin.attempts import Attempt
    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.store.store import Store


class CallInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One call in a list."""

    id: str
    state: State
    task: str = ""
    """Empty if unknown, for example if the call was cancelled before it ran."""
    queue: str = ""
    label: str = ""
    attempt: int
    retries: int = 0
    worker: str = ""
    age: float | None = None
    """Seconds since it was published (pending), claimed (running), or ended (otherwise)."""
    members: int = 0
    """The number of calls, if it is a batch."""
    waits_for: str = ""
    """An unfinished invocation whose result this call needs."""
    failure: Failure | None = None


class PendingCall(NamedTuple):
    """The file of a pending call."""

    path: str
    name: AttemptName
    queue: str
    slot: Slot
    waits_for: str = ""


def pending_calls(store: Store, queues: Iterable[str] | None = None) -> Iterator[PendingCall]:
    """Pending attempts, by queue, roughly in the order in which they will run.

    Calls that wait for a concurrency limit come last.

    Args:
        queues: folder names of queues; None is all.
    """
    wanted = list(queue_names(store) if queues is None else queues)
    waiting = (each for each in whereabouts.waiting_for_limits(store.files) if each.queue in wanted)
    for queue, slot, folder in itertools.chain(whereabouts.slots(store.files, wanted), waiting):
        for name in _attempts(store, folder):
            if not name.cancelled:
                yield PendingCall(f"{folder}/{name}", name, queue, slot)


def dependent_calls(store: Store, queues: Iterable[str] | None = None) -> Iterator[PendingCall]:
    """Calls that wait for the results of other calls. Reads the beginning of each file.

    Args:
        queues: folder names of the queues in which they will be pending; a name without a profile
            includes calls with any needs. None is all.
    """
    for parent, folder in whereabouts.waiting_for_calls(store.files):
        for name in _attempts(store, folder):
            call = beginning_of(store.files, f"{folder}/{name}", Call)
            slot = None if call is None else Slot.parse(call.slot)
            if call is None or slot is None or name.cancelled:
                continue
            queue = split_profile(call.queue)[0]
            if queues is None or call.queue in queues or queue in queues:
                yield PendingCall(f"{folder}/{name}", name, call.queue, slot, parent)


def _attempts(store: Store, folder: str) -> list[AttemptName]:
    """The calls in a folder, each client's in the order in which it published them."""
    return sorted(whereabouts.attempts_in(store.files, folder), key=in_order)


# -- lists --------------------------------------------------------------------------------


def list_pending(store: Store) -> Iterator[CallInfo]:
    """The pending calls, roughly in the order in which they will run; dependent calls come last."""
    for pending in itertools.chain(pending_calls(store), dependent_calls(store)):
        call = beginning_of(store.files, pending.path, Call)
        if call is None and not store.fs.exists(pending.path):
            continue  # claimed meanwhile
        age = None if call is None else max(0.0, store.clock.now() - call.created)
        found = _of_call(pending.name, State.PENDING, call, age, queue=pending.queue)
        yield msgspec.structs.replace(found, waits_for=pending.waits_for)


def list_running(store: Store) -> Iterator[CallInfo]:
    """The calls that workers have claimed."""
    for worker, folder in sorted(whereabouts.running(store.files)):
        for name in _attempts(store, folder):
            path = f"{folder}/{name}"
            call, age = beginning_of(store.files, path, Call), claimed_for(store, path)
            if age is not None:
                yield _of_call(name, State.RUNNING, call, age, worker=worker)


def list_failed(store: Store) -> Iterator[CallInfo]:
    """The failed calls that can be retried, even if their caller has collected the outcome."""
    names = _attempts(store, store.layout.failed_folder)
    known = _noted(store, {(name.invocation_id, name.attempt) for name in names})
    for name in reversed(names):
        noted = known.get((name.invocation_id, name.attempt))
        found = failed_call(store, name) if noted is None else _of_attempt(store, name, noted)
        if found.state is State.FAILED:  # otherwise another attempt succeeded first
            yield found


def _noted(store: Store, wanted: set[tuple[str, int]]) -> dict[tuple[str, int], Attempt]:
    """Finds these attempts in the journal, which also has lines for calls that are gone."""
    found: dict[tuple[str, int], Attempt] = {}
    for each in failed_attempts(store, 0.0) if wanted else ():
        key = each.entry.id, each.entry.attempt
        if each.entry.failed and key in wanted:
            found[key] = each
            if len(found) == len(wanted):
                break
    return found


def failed_call(store: Store, name: AttemptName) -> CallInfo:
    """A call in ``failed/``; its state may differ if another attempt ended first."""
    path = store.layout.failed(name)
    call, outcome = (
        beginning_of(store.files, path, Call),
        outcome_of(store.files, name.invocation_id),
    )
    if outcome is not None:
        return _of_outcome(store, outcome, call)
    return _of_call(name, State.FAILED, call, claimed_for(store, path))


def _of_attempt(store: Store, name: AttemptName, noted: Attempt) -> CallInfo:
    """A failed call from its line in the journal, without a file operation."""
    entry = noted.entry
    return CallInfo(
        id=name.invocation_id,
        state=State.FAILED,
        **shown(entry),
        attempt=name.attempt,
        retries=name.retries,
        worker=noted.worker,
        age=max(0.0, store.clock.now() - noted.ended),
        members=entry.members,
        failure=noted.failure,
    )


def list_finished(store: Store) -> Iterator[CallInfo]:
    """The finished calls in the spool, roughly the latest first."""
    for client in _latest_first(store):
        kept = set(store.files.listed(store.layout.kept_mailbox(client), fresh=True))
        names = kept.union(store.files.listed(store.layout.mailbox(client), fresh=True))
        attempts = [name for name in (AttemptName.parse(f"{each}.1") for each in names) if name]
        for name in sorted(attempts, key=in_order, reverse=True):
            outcome = outcome_of(store.files, name.invocation_id)
            if outcome is not None:
                yield _of_outcome(store, outcome)


def list_calls(store: Store, state: State | None = None) -> Iterator[CallInfo]:
    """Calls in one state or all states, each listed once. May miss a call that moves meanwhile."""
    by_state = {State.RUNNING: [list_running], State.PENDING: [list_pending]}
    ended = [list_failed, list_finished]
    every = [*itertools.chain(*by_state.values()), *ended]
    lists = every if state is None else by_state.get(state, ended)
    seen: set[str] = set()
    for each in itertools.chain.from_iterable(calls(store) for calls in lists):
        if each.id not in seen and state in {None, each.state}:
            seen.add(each.id)
            yield each


def _latest_first(store: Store) -> list[str]:
    fs, layout = store.fs, store.layout
    clients = {*fs.names(layout.done_folder, fresh=True), *fs.names(layout.kept_folder, fresh=True)}

    def changed(client: str) -> float:
        times = [0.0]
        for folder in (layout.mailbox(client), layout.kept_mailbox(client)):
            try:
                times.append(fs.modified(folder))
            except (OSError, EnvelopeError):  # for example, a link
                continue
        return max(times)

    return sorted(clients, key=changed, reverse=True)


def _of_call(
    name: AttemptName,
    state: State,
    call: Call | None,
    age: float | None,
    *,
    worker: str = "",
    queue: str = "",
) -> CallInfo:
    return CallInfo(
        id=name.invocation_id,
        state=state,
        **{**shown(call), **({"queue": queue} if queue else {})},
        attempt=name.attempt,
        retries=name.retries,
        worker=worker,
        age=age,
        members=call.members if call else 0,
    )


def _of_outcome(store: Store, outcome: Outcome, call: Call | None = None) -> CallInfo:
    return CallInfo(
        id=outcome.id,
        state=outcome.state,
        **shown(outcome if outcome.task or call is None else call),
        attempt=outcome.attempt,
        retries=outcome.retries,
        worker=outcome.worker,
        age=max(0.0, store.clock.now() - outcome.ended),
        members=len(outcome.members),
        failure=outcome.failure,
    )


# -- one call -------------------------------------------------------------------------------


class CallDetails(NamedTuple):
    """Everything the spool holds for one invocation; headers and payloads are verified."""

    state: State
    name: AttemptName | None
    """The name of the call's file, if it exists."""
    path: str
    call: Call | None
    arguments: Payload
    outcome: Outcome | None
    result: Payload


def call_details(
    store: Store, invocation_id: str, member: int | None = None, glance: Glance | None = None
) -> CallDetails:
    """Read everything the spool holds for one invocation.

    Args:
        member: the call's place, if it is one of a batch.
        glance: the latest one. It says which worker holds which call, and so makes this cheap.

    Raises:
        UnknownInvocationError: the invocation is not in this spool.
        EnvelopeError: its outcome is damaged.
    """
    outcome, result = _outcome(store, invocation_id)
    if outcome is not None:
        state, _, _ = outcome.part(result, member)
        found = _kept_file(store, outcome)
    else:
        found = locate(store, invocation_id, glance) or _failed_file(store, invocation_id)
        if found is None:
            state = state_or_failure(store, invocation_id, member)
            found = _find_file(store, invocation_id)
            outcome, result = _outcome(store, invocation_id)
        else:
            state = _state_at(store, found[0])
    path, name = found or ("", None)
    call, arguments = _read_call(store, path) if path else (None, Payload(b""))
    return CallDetails(state, name, path, call, arguments, outcome, result)


def _outcome(store: Store, invocation_id: str) -> tuple[Outcome | None, Payload]:
    data = store.outcomes.peek(invocation_id)
    return (None, Payload(b"")) if data is None else store.outcomes.read(invocation_id, data)


def _state_at(store: Store, path: str) -> State:
    folder, parent = path.rpartition("/")[0], path.rpartition("/")[0].rpartition("/")[0]
    if parent == store.layout.running_folder:
        return State.RUNNING
    return State.FAILED if folder == store.layout.failed_folder else State.PENDING


def _kept_file(store: Store, outcome: Outcome) -> tuple[str, AttemptName] | None:
    """The file of a failed call, kept so that it can be retried."""
    if outcome.state is not State.FAILED:
        return None
    name = AttemptName(outcome.id, outcome.attempt, outcome.retries)
    path = store.layout.failed(name)
    if store.fs.exists(path, fresh=True):
        return path, name
    return _failed_file(store, outcome.id)  # another attempt lost it, or it is being moved


def _failed_file(store: Store, invocation_id: str) -> tuple[str, AttemptName] | None:
    layout = store.layout
    return find_in(store, invocation_id, layout.failed_folder) or find_in(
        store, invocation_id, layout.quarantine_folder
    )


def state_or_failure(store: Store, invocation_id: str, member: int | None) -> State:
    """The state of an invocation, even if it failed and its caller has collected the outcome.

    Raises:
        UnknownInvocationError: the invocation is not in this spool.
        EnvelopeError: its outcome is damaged.
    """
    try:
        return state_of(store, invocation_id, member)
    except UnknownInvocationError:
        if any(name.invocation_id == invocation_id for name in failed_names(store)):
            return State.FAILED
        raise


def _read_call(store: Store, path: str) -> tuple[Call | None, Payload]:
    try:
        return store.files.decode(store.files.read_file(path), Call, path)
    except (OSError, EnvelopeError):
        return None, Payload(b"")


def _find_file(store: Store, invocation_id: str) -> tuple[str, AttemptName] | None:
    """Path and name of a call's file. A file that moves meanwhile may be missed."""
    layout = store.layout
    folders = itertools.chain(
        (folder for _, folder in whereabouts.running(store.files)),
        (layout.failed_folder, layout.quarantine_folder),
        whereabouts.unclaimed(store.files),
    )
    for folder in folders:
        for name in reversed(_attempts(store, folder)):
            if name.invocation_id == invocation_id:
                return f"{folder}/{name}", name
    return None


def failed_names(store: Store) -> list[AttemptName]:
    """The failed calls, each client's in the order in which it published them."""
    return _attempts(store, store.layout.failed_folder)
