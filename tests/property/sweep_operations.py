"""The table of the protocol's operations on one invocation: one entry each.

To sweep another one, add an `Operation`: what is there before, what is run, and what may be
there in the end.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from msgspec import structs
from sweep import (
    ARGUMENTS,
    BODY,
    CLIENT,
    EMPTY,
    ID,
    LATE,
    MAX_ATTEMPTS,
    OWN,
    QUEUE,
    Stage,
    outcome_of,
    worker_of,
)

from fsqueue.codec import decode_exception, encode
from fsqueue.errors import EnvelopeError
from fsqueue.runner.attempt.context import WorkerContext
from fsqueue.runner.attempt.execute import execute
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.states import State
from fsqueue.spool.store.deduplication import Key
from fsqueue.spool.store.lookup import cancel
from fsqueue.spool.worker.reaper import reap

if TYPE_CHECKING:
    from collections.abc import Callable, Container

    from fsqueue.spool.format.records import Call


KEY = Key("0" * 32)


@dataclass(frozen=True)
class Operation:
    name: str
    prepare: Callable[[Stage], object]
    run: Callable[[Stage], object]
    retry: str = "run"
    """What the runner does when it fails: "run" it again, "work" on, or leave it to a "reaper"."""
    contents: Container[bytes] = frozenset({BODY})
    """What the outcome may say in the end."""
    attempts: int = 2
    """Highest attempt that may publish it."""
    accepted: bool = True
    """The call is in the spool before the operation, which must not lose it."""
    refuses: bool = False
    """An error means that the call was not accepted."""
    keeps: bool = False
    """The outcome may lie in ``kept/`` in the end."""
    consumes: bool = False
    """The outcome may be gone in the end: its client has it."""
    temporaries: int = 1
    """Files that may be left in ``tmp/`` until they expire."""
    check: Callable[[Stage, Container[bytes]], object] = lambda *_: None
    """What must hold when the operation has returned, right away or after repetitions; it is
    given `contents` too."""

    def __str__(self) -> str:
        return self.name


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
    with open(path, "r+b") as file:
        file.truncate(60)


def late_outcome(stage: Stage) -> None:
    stage.publish(attempt=2)
    stage.publish_outcome(1, LATE)


def second_result(stage: Stage) -> None:
    stage.take()
    stage.publish_outcome(1, LATE)


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
        temporary = store.files.write_temporary(envelope.encode(stage.call, [ARGUMENTS]))
        assert store.deduplication._enter(KEY, number, stage.call, temporary)

    return prepare


# -- the operations -------------------------------------------------------------------------


def publish_by_client(stage: Stage) -> object:
    stage.client._events = True  # workers are woken by a bell
    return stage.client.publish(
        ID, "tasks.f", QUEUE, [ARGUMENTS], max_attempts=MAX_ATTEMPTS, keep=True
    )


def publish_once(invocation_id: str = ID) -> Callable[[Stage], object]:
    return lambda stage: stage.store.deduplication.publish(
        KEY, structs.replace(stage.call, id=invocation_id), [ARGUMENTS]
    )


def present_client(stage: Stage) -> None:
    stage.client._register()


def claim(stage: Stage) -> object:
    return stage.worker.claim(stage.origin)


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
            resolve={"tasks.f": body}.__getitem__,
            app_id="t",
            exclusive=False,
        )
        context.aborted = _Impatient()
        try:
            return execute(context, stage.claim, stage.worker.release)
        finally:
            stage.worker.forget(stage.claim.name)

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
        return stage.store.give_back(stage.claim)
    finally:
        stage.worker.forget(stage.claim.name)


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
    stage.worker.forget(stage.call.id + ".1")


def collect(*, keep: bool) -> Callable[[Stage], object]:
    return lambda stage: stage.store.outcomes.collect(ID, keep=keep)


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


def check_pending(stage: Stage, _: Container[bytes]) -> None:
    name = f"pending/{QUEUE}/{stage.call.slot}/{ID}.1"
    assert stage.places() == [name], "nobody has made it pending"


def check_nothing_left(stage: Stage, _: Container[bytes]) -> None:
    assert stage.places() == [], "it is finished, and to be run again"


OPERATIONS = (
    Operation(
        "publish",
        lambda _: None,
        lambda stage: stage.store.publish(stage.call, [ARGUMENTS]),
        attempts=1,
        accepted=False,
        refuses=True,
    ),
    Operation(
        "publish-first-by-client",
        lambda _: None,
        publish_by_client,
        attempts=1,
        accepted=False,
        refuses=True,
    ),
    Operation(
        "publish-next-by-client",
        present_client,
        publish_by_client,
        attempts=1,
        accepted=False,
        refuses=True,
    ),
    Operation(
        "publish-batch",
        lambda _: None,
        lambda stage: stage.store.publish(as_batch(stage.call), [ARGUMENTS, ARGUMENTS]),
        attempts=1,
        accepted=False,
        refuses=True,
    ),
    Operation(
        "publish-once",
        lambda _: None,
        publish_once(),
        attempts=1,
        accepted=False,
        refuses=True,
        temporaries=2,
    ),
    Operation(
        "publish-once-after-another",
        entered(written=False),
        publish_once(),
        temporaries=2,
        attempts=1,
        accepted=False,
        refuses=True,
    ),
    Operation(
        "publish-once-for-another",
        entered(written=True),
        publish_once(f"{CLIENT}-2"),
        attempts=1,
        accepted=False,
        check=check_pending,
    ),
    Operation(
        "execute-batch",
        with_mailbox(batch),
        run_body(_add),
        contents=frozenset({encode(42, "the value") * 2, BODY}),
    ),
    Operation(
        "cancel-pending",
        Stage.publish,
        cancel_known,
        contents=frozenset({b"", BODY}),
        check=check_cancelled,
    ),
    Operation(
        "cancel-next-attempt",
        lambda stage: stage.publish(attempt=2),
        cancel_found,
        contents=frozenset({b"", BODY}),
        check=check_cancelled,
    ),
    Operation(
        "cancel-claimed",
        with_mailbox(Stage.take),
        cancel_claimed,
        contents=frozenset({b"", OWN, BODY}),
        check=check_cancelled,
    ),
    Operation("withdraw", Stage.publish, withdraw, attempts=1, accepted=False),
    Operation("claim", Stage.publish, claim, retry="work"),
    Operation("claim-and-read", Stage.publish, claim_and_read, retry="work"),
    Operation(
        "claim-second-attempt",
        lambda stage: stage.publish(attempt=2),
        claim,
        retry="work",
        attempts=3,
    ),
    Operation("claim-of-finished", late_outcome, claim, retry="work", contents=frozenset({LATE})),
    Operation(
        "complete",
        with_mailbox(Stage.take),
        complete(State.SUCCEEDED),
        contents=frozenset({OWN, BODY}),
    ),
    Operation(
        "complete-without-mailbox",
        Stage.take,
        complete(State.SUCCEEDED),
        contents=frozenset({OWN, BODY}),
    ),
    Operation(
        "complete-failure",
        with_mailbox(Stage.take),
        complete(State.FAILED),
        contents=frozenset({OWN, BODY}),
    ),
    Operation(
        "complete-second",
        second_result,
        complete(State.SUCCEEDED),
        contents=frozenset({LATE}),
        attempts=1,
    ),
    Operation(
        "execute-value",
        with_mailbox(Stage.take),
        run_body(_add),
        contents=frozenset({encode(42, "the value"), BODY}),
    ),
    Operation(
        "execute-for-others",
        cacheable,
        run_body(_add),
        contents=frozenset({encode(42, "the value"), BODY}),
        check=check_cache,
    ),
    Operation(
        "execute-as-another",
        cached,
        run_body(_add),
        contents=frozenset({LATE, encode(42, "the value"), BODY}),
        check=check_cache,
    ),
    Operation(
        "execute-failure",
        with_mailbox(Stage.take),
        run_body(_fail),
        contents=_Raises(ZeroDivisionError),
    ),
    Operation(
        "execute-unserialisable",
        with_mailbox(Stage.take),
        run_body(_return_lock),
        contents=_Raises(Exception),
    ),
    Operation("execute-damaged", damaged_claim, run_body(_add), contents=EMPTY, attempts=1),
    Operation("give-back", Stage.take, give_back, retry="reaper", check=check_as_before),
    Operation("return-stray", stray(), keep_alive),
    Operation(
        "return-finished-stray",
        stray(outcome=True),
        keep_alive,
        contents=frozenset({LATE}),
        check=check_nothing_left,
    ),
    Operation("requeue", dead_worker(), reap_other),
    Operation(
        "reap-finished",
        dead_worker(outcome=True),
        reap_other,
        contents=frozenset({LATE}),
        check=check_nothing_left,
    ),
    Operation("lose", dead_worker(attempt=MAX_ATTEMPTS), reap_other, contents=EMPTY, attempts=3),
    Operation("quarantine", dead_worker(damaged=True), reap_other, contents=EMPTY),
    Operation(
        "collect-and-keep",
        delivered,
        collect(keep=True),
        contents=frozenset({LATE}),
        keeps=True,
        check=check_collected,
    ),
    Operation(
        "collect",
        delivered,
        collect(keep=False),
        contents=frozenset({LATE}),
        consumes=True,
        check=check_collected,
    ),
)
