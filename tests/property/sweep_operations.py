"""The table of the protocol's operations on one invocation.

To sweep another operation, add an `Operation`: its preparation, its run, and the states that may
be left at the end. The functions that it uses are in `sweep_steps`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sweep import (
    ARGUMENTS,
    BODY,
    CLIENT,
    EMPTY,
    LATE,
    MAX_ATTEMPTS,
    OWN,
    Stage,
)
from sweep_steps import (
    _add,
    _fail,
    _Raises,
    _return_lock,
    as_batch,
    batch,
    cacheable,
    cached,
    cancel_claimed,
    cancel_found,
    cancel_known,
    check_as_before,
    check_cache,
    check_cancelled,
    check_collected,
    check_cut_off,
    check_cut_off_or_failed,
    check_nothing_left,
    check_pending,
    claim,
    claim_and_read,
    claim_by_slot,
    collect,
    collect_twice,
    collected,
    complete,
    cut_before,
    cut_off,
    damaged_claim,
    dead_worker,
    delivered,
    entered,
    give_back,
    keep_alive,
    late_outcome,
    present_client,
    publish_by_client,
    publish_once,
    reap_other,
    run_body,
    second_result,
    stray,
    with_another,
    with_mailbox,
    withdraw,
)

from fsqueue.codec import encode
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable, Container


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
    late: bool = False
    """A later outcome may lie in the mailbox besides, until it expires."""
    consumes: bool = False
    """The outcome may be gone in the end: its client has it."""
    temporaries: int = 1
    """Files that may be left in ``tmp/`` until they expire."""
    check: Callable[[Stage, Container[bytes]], object] = lambda *_: None
    """What must hold when the operation has returned, right away or after repetitions; it is
    given `contents` too."""

    def __str__(self) -> str:
        return self.name


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
        with_another(lambda stage: stage.publish(attempt=2)),
        cancel_found,
        contents=frozenset({b"", BODY}),
        check=check_cancelled,
    ),
    Operation(
        "cancel-claimed",
        with_another(with_mailbox(Stage.take)),
        cancel_claimed,
        contents=frozenset({b"", OWN, BODY}),
        check=check_cancelled,
    ),
    Operation("withdraw", Stage.publish, withdraw, attempts=1, accepted=False),
    Operation("claim", Stage.publish, claim, retry="work"),
    Operation("claim-by-slot", Stage.publish, claim_by_slot, retry="work"),
    Operation(
        "claim-by-slot-second-attempt",
        lambda stage: stage.publish(attempt=2),
        claim_by_slot,
        retry="work",
        attempts=3,
    ),
    Operation("claim-by-slot-of-stray", stray(), claim_by_slot, retry="work"),
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
    Operation("cut-off", Stage.take, cut_off, retry="reaper", check=check_cut_off),
    Operation(
        "cut-off-for-good",
        cut_before(2),
        cut_off,
        retry="reaper",
        contents=EMPTY | {BODY},
        check=check_cut_off_or_failed,
    ),
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
        "collect-twice",
        delivered,
        collect_twice,
        contents=frozenset({LATE}),
        keeps=True,
        check=check_collected,
    ),
    Operation(
        "collect-after-another",
        collected,
        collect(keep=True),
        contents=frozenset({LATE}),
        keeps=True,
        late=True,
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
