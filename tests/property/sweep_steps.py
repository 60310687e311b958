"""Steps of the operations in `sweep_operations`: preparations, runs and checks."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from msgspec import structs
from support import execute_claim, publish_call, read_record, rewrite
from sweep import (
    ARGUMENTS,
    BODY,
    CLIENT,
    ID,
    LATE,
    MAX_ATTEMPTS,
    OWN,
    QUEUE,
    Stage,
    outcome_of,
    worker_of,
)

from fsqueue.codec import decode_exception
from fsqueue.errors import EnvelopeError
from fsqueue.runner.attempt.context import Body, WorkerContext
from fsqueue.spool.features.cuts import Cut, add_cut, cuts_of
from fsqueue.spool.features.deduplication import Key
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.states import State
from fsqueue.spool.store.lookup import cancel
from fsqueue.spool.worker.reaper import reap

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from fsqueue.spool.format.records import Call


KEY = Key("0" * 32)


# -- before ---------------------------------------------------------------------------------


def dead_worker(*, attempt: int = 1, outcome: bool = False, damaged: bool = False):
    def prepare(stage: Stage) -> None:
        stage.others.append(worker_of(stage.healthy))
        stage.publish(attempt=attempt)
        claim = stage.others[-1].claim(stage.origin)
        assert claim is not None
        if outcome:
            stage.publish_outcome(attempt, LATE)
        if damaged:
            truncate(claim.path)

    return prepare


def truncate(path: str) -> None:
    rewrite(path, read_record(path)[:60])


def late_outcome(stage: Stage) -> None:
    stage.publish(attempt=2)
    stage.publish_outcome(1, LATE)


def second_result(stage: Stage) -> None:
    stage.take()
    stage.publish_outcome(1, LATE)


def with_another(prepare: Callable[[Stage], object]) -> Callable[[Stage], object]:
    """Another worker is there, whose files the operation reads."""

    def both(stage: Stage) -> None:
        assert stage.rescuer.name
        prepare(stage)

    return both


def with_mailbox(prepare: Callable[[Stage], object]) -> Callable[[Stage], object]:
    def both(stage: Stage) -> None:
        stage.store.fs.make_folders(stage.layout.mailbox(CLIENT))
        prepare(stage)

    return both


def damaged_claim(stage: Stage) -> None:
    stage.take()
    truncate(stage.claim.path)


def stray(*, outcome: bool = False) -> Callable[[Stage], object]:
    """The worker's own folder holds what the worker does not know of."""

    def prepare(stage: Stage) -> None:
        stage.publish()
        held = f"{stage.layout.running(stage.worker.name)}/{ID}.1"
        stage.healthy.fs.rename(stage.origin, held)
        if outcome:
            stage.publish_outcome(1, LATE)

    return prepare


def batch(stage: Stage) -> None:
    """Two calls in one file, claimed."""
    stage.call = as_batch(stage.call)
    stage.origin = stage.healthy.publish(stage.call, [ARGUMENTS, ARGUMENTS])
    stage.claim = stage.worker.claim(stage.origin)


def as_batch(call: Call) -> Call:
    return structs.replace(call, members=2, segments=call.segments * 2)


def delivered(stage: Stage) -> None:
    """A worker has published the outcome and retired the attempt."""
    stage.publish_outcome(1, LATE)


def entered(*, number: int = 1, written: bool) -> Callable[[Stage], object]:
    """A publisher under the key has died: before its call was pending, or when that was over."""

    def prepare(stage: Stage) -> None:
        store = stage.healthy
        call = structs.replace(stage.call, id=f"{CLIENT}-9")
        if not written:
            assert store.withdraw(store.deduplication.publish(KEY, call, [ARGUMENTS]).path)
            return
        temporary = store.layout.tmp("entering", number)
        store.files.temporary.create(temporary, envelope.encode(stage.call, [ARGUMENTS]))
        assert store.deduplication._enter(KEY, number, stage.call, temporary)

    return prepare


# -- the operations -------------------------------------------------------------------------


def publish_by_client(stage: Stage) -> object:
    stage.client._events = True  # workers are woken by a bell
    return publish_call(
        stage.client, ID, "tasks.f", QUEUE, [ARGUMENTS], max_attempts=MAX_ATTEMPTS, keep=True
    )


def publish_once(invocation_id: str = ID) -> Callable[[Stage], object]:
    return lambda stage: stage.store.deduplication.publish(
        KEY, structs.replace(stage.call, id=invocation_id), [ARGUMENTS]
    )


def present_client(stage: Stage) -> None:
    stage.client._register()


def claim(stage: Stage) -> object:
    return stage.worker.claim(stage.origin)


def claim_by_slot(stage: Stage) -> object:
    """A slot process claims into its worker's folder. Upkeep returns what it did not learn of."""
    found = None
    with contextlib.suppress(OSError):  # the turn is over
        found = stage.store.claims.claim(stage.origin, stage.worker.name, shared=True)
    if found is None:
        return keep_alive(stage)
    stage.worker.adopt(found)
    return found


def claim_and_read(stage: Stage) -> object:
    claim = stage.worker.claim(stage.origin)
    assert claim is not None
    try:
        return stage.store.calls.read_claimed(claim)
    except EnvelopeError as error:  # a file that may not be read goes into quarantine
        stage.worker.release(claim)
        return stage.store.endings.quarantine(claim.path, claim.name, str(error))


def complete(state: State) -> Callable[[Stage], object]:
    def run(stage: Stage) -> object:
        assert stage.claim is not None
        stage.worker.release(stage.claim)
        return stage.store.endings.complete(
            stage.claim, outcome_of(stage.store, stage.claim.name, state), [OWN]
        )

    return run


class _Impatient(threading.Event):
    """Pauses between two tries that take no time."""

    def wait(self, timeout: float | None = None) -> bool:
        del timeout
        return self.is_set()


def run_body(body: Callable[..., object]) -> Callable[[Stage], object]:
    """From the claim's file to the outcome, as the runner does it."""

    def run(stage: Stage) -> object:
        assert stage.claim is not None
        context = WorkerContext(
            store=stage.store,
            worker=lambda: stage.worker,
            resolve={"tasks.f": Body(body)}.__getitem__,
            app_id="t",
            exclusive=False,
        )
        context.aborted = _Impatient()
        try:
            return execute_claim(context, stage.claim, stage.worker)
        finally:
            stage.worker.forget(stage.claim)

    return run


def _add(a: int, b: int) -> int:
    return a + b


def _fail(a: int, b: int) -> None:
    raise ZeroDivisionError(f"{a} {b}")


def _return_lock(a: int, b: int) -> object:
    return threading.Lock()


class _Raises:
    """The contents that say that a body ended with an error of this kind."""

    def __init__(self, *kinds: type[BaseException]) -> None:
        self._kinds = kinds

    def __contains__(self, content: bytes) -> bool:
        return content == BODY or isinstance(decode_exception(memoryview(content)), self._kinds)


def cacheable(stage: Stage) -> None:
    """A claimed call whose result others may reuse."""
    stage.healthy.fs.make_folders(stage.layout.mailbox(CLIENT))
    stage.call = structs.replace(stage.call, cache=KEY.name, cache_ttl=60.0)
    stage.origin = stage.healthy.publish(stage.call, [ARGUMENTS])
    stage.claim = stage.worker.claim(stage.origin)


def cached(stage: Stage) -> None:
    """The same, and there is such a result."""
    cacheable(stage)
    other = structs.replace(
        outcome_of(stage.healthy, AttemptName(f"{CLIENT}-9", 1)),
        ended=stage.healthy.clock.now(),
        cache=KEY.name,
    )
    stage.healthy.fs.make_folders(stage.layout.mailbox("client0002"))
    assert stage.healthy.outcomes.publish(structs.replace(other, id="client0002-1"), [LATE])
    stage.healthy.fs.unlink(stage.layout.done("client0002-1"))


def check_cache(stage: Stage, contents: Container[bytes]) -> None:
    found = stage.healthy.cache.get(KEY.name, 60.0)
    assert found is None or bytes(found.payload.data) in contents


def give_back(stage: Stage) -> object:
    assert stage.claim is not None
    stage.worker.release(stage.claim)
    try:
        return stage.store.claims.give_back(stage.claim)
    finally:
        stage.worker.forget(stage.claim)


FULL = Cut(worker="w", at=0.0, ran=58.0, limit=60.0)


def cut_before(times: int) -> Callable[[Stage], object]:
    """A claimed call that the ends of some jobs have cut off before."""

    def prepare(stage: Stage) -> None:
        stage.take()
        for number in range(times):
            add_cut(stage.healthy.files, ID, structs.replace(FULL, at=float(number)))

    return prepare


def cut_off(stage: Stage) -> object:
    assert stage.claim is not None
    stage.worker.release(stage.claim)
    try:
        if stage.store.recovery.cut_off(stage.claim.path, stage.claim.name, FULL):
            return None
        return stage.store.claims.give_back(stage.claim)
    finally:
        stage.worker.forget(stage.claim)


def keep_alive(stage: Stage) -> object:
    return stage.worker.keep_alive()


def reap_other(stage: Stage) -> object:
    """The faulty process reaps; who is dead is another worker."""
    return reap(stage.store, stage.others[-1].name, "killed")


def withdraw(stage: Stage) -> object:
    return stage.store.withdraw(stage.origin)


def cancel_known(stage: Stage) -> object:
    """By the client that has made the call."""
    return cancel(stage.store, ID, stage.origin)


def cancel_found(stage: Stage) -> object:
    """By somebody who knows its id only."""
    return cancel(stage.store, ID, None)


def cancel_claimed(stage: Stage) -> None:
    """The body does not notice, and its worker publishes what it has returned."""
    cancel_found(stage)
    complete(State.SUCCEEDED)(stage)
    assert stage.claim is not None
    stage.worker.forget(stage.claim)


def collect(*, keep: bool) -> Callable[[Stage], object]:
    return lambda stage: stage.store.outcomes.collect(ID, keep=keep)


def collected(stage: Stage) -> None:
    """Another handle of the call has collected the outcome, and a late worker publishes one."""
    stage.publish_outcome(1, LATE)
    assert stage.healthy.outcomes.collect(ID, keep=True) is not None
    stage.publish_outcome(1, BODY)


def collect_twice(stage: Stage) -> object:
    """Two handles of one call, one after the other."""
    first = stage.store.outcomes.collect(ID, keep=True)
    return first and stage.store.outcomes.collect(ID, keep=True)


def check_collected(stage: Stage, contents: Container[bytes]) -> None:
    data = stage.returned
    assert isinstance(data, list), "the client has no outcome"
    assert bytes(stage.healthy.outcomes.read(ID, data)[1].data) in contents


def check_cancelled(stage: Stage, _: Container[bytes]) -> None:
    assert all(place.endswith("x") for place in stage.places()), "whoever claims it runs it"
    data = stage.healthy.outcomes.peek(ID)
    assert data is not None
    assert stage.healthy.outcomes.read(ID, data)[0].state is State.CANCELLED


def check_as_before(stage: Stage, _: Container[bytes]) -> None:
    name = f"pending/{QUEUE}/{stage.call.slot}/{ID}.1"
    assert stage.places() == [name], "a planned stop costs no attempt"


def check_cut_off(stage: Stage, contents: Container[bytes]) -> None:
    check_as_before(stage, contents)
    assert cuts_of(stage.healthy.files, ID) in ([FULL], []), "noted at most once"


def check_cut_off_or_failed(stage: Stage, contents: Container[bytes]) -> None:
    """If the last cut cannot be noted, the call is given back."""
    if stage.places():
        check_as_before(stage, contents)


def check_pending(stage: Stage, _: Container[bytes]) -> None:
    name = f"pending/{QUEUE}/{stage.call.slot}/{ID}.1"
    assert stage.places() == [name], "nobody has made it pending"


def check_nothing_left(stage: Stage, _: Container[bytes]) -> None:
    assert stage.places() == [], "it is finished, and to be run again"
