"""Every operation of the protocol, ended or failed at every one of its filesystem calls.

Each case builds a spool of its own, runs one operation with one fault, lets others recover as
they would, and then walks the spool.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import tempfile
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from fsqueue.errors import EnvelopeError
from fsqueue.spool.backlog import Backlog
from fsqueue.spool.expiry import expire
from fsqueue.spool.layout import DEFAULT_PRIORITY, AttemptName, Slot
from fsqueue.spool.liveness import Observer
from fsqueue.spool.opening import open_store
from fsqueue.spool.reaper import reap
from fsqueue.spool.records import Call, Failure, Outcome
from fsqueue.spool.states import State
from fsqueue.spool.store import Store
from fsqueue.spool.worker import Worker
from fsqueue.testing import CRASH_STATUS, Fault, FaultyFilesystem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fsqueue.spool.store import Claim

QUEUE = "default"
CLIENT = "client0001"
ID = f"{CLIENT}-1"
MAX_ATTEMPTS = 3
LATE = b"published by the worker that was taken for dead"
BODY = b"published by a worker of the recovery"
OWN = b"published by the operation itself"


def in_child(action: Callable[[], object]) -> int:
    """Run in a forked process; returns its exit status, 0 if the action returned."""
    return status_of(start_child(action))


def start_child(action: Callable[[], object]) -> int:
    with warnings.catch_warnings():  # pytest-xdist has a thread that takes no lock of ours
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        status = 1
        try:
            action()
            status = 0
        except BaseException:  # noqa: BLE001 - nothing may leave a forked child
            os.write(2, traceback.format_exc().encode())
        finally:
            os._exit(status)
    return child


def status_of(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def folder() -> Iterator[str]:
    """Parent of many spools, in memory where that is possible."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    path = tempfile.mkdtemp(prefix="fsqueue-sweep-", dir=base)
    yield path
    shutil.rmtree(path)


def worker_of(store: Store) -> Worker:
    worker = Worker(store, queues=(QUEUE,), runner="thread", concurrency=1)
    worker.register()
    return worker


def call_of(store: Store, invocation_id: str = ID, *, age: float = 1.0, keep: bool = True) -> Call:
    now = store.clock.now()
    return Call(
        id=invocation_id,
        spool=store.info.id,
        task="tasks.f",
        queue=QUEUE,
        slot=str(Slot(DEFAULT_PRIORITY, now - age)),
        created=now,
        python="3",
        codec="cloudpickle",
        max_attempts=MAX_ATTEMPTS,
        keep=keep,
        segments=(9,),
    )


def outcome_of(store: Store, name: AttemptName, state: State = State.SUCCEEDED) -> Outcome:
    return Outcome(
        id=name.invocation_id,
        spool=store.info.id,
        attempt=name.attempt,
        state=state,
        worker="w",
        started=0.0,
        ended=0.0,
        codec="cloudpickle",
        failure=Failure("ValueError", "bad") if state is State.FAILED else None,
    )


def work(store: Store, worker: Worker) -> list[int]:
    """Run all that is pending, as a runner does; returns the attempts that ran."""
    ran = []
    backlog = Backlog(store, QUEUE)
    while (origin := backlog.next()) is not None:
        claim = worker.claim(origin)
        if claim is None:
            continue
        try:
            store.read_call(claim)
        except EnvelopeError as error:
            worker.release(claim)
            store.quarantine(claim.path, claim.name, str(error))
        else:
            worker.release(claim)
            store.complete(claim, outcome_of(store, claim.name), [BODY])
        worker.forget(claim.name)
        ran.append(claim.name.attempt)
    return ran


@dataclass
class Stage:
    """One spool, one worker over a faulty filesystem, and others over a healthy one."""

    root: str
    fs: FaultyFilesystem = field(default_factory=FaultyFilesystem)

    def __post_init__(self) -> None:
        self.store = open_store(self.root, self.fs)
        self.healthy = open_store(self.root)
        self.worker = worker_of(self.store)
        self.others = [worker_of(self.healthy)]
        self.layout = self.store.layout
        self.call = call_of(self.store)
        self.claim: Claim | None = None
        self.origin = ""
        self.returned: object = None
        self.seen: bytes | None = None

    @property
    def rescuer(self) -> Worker:
        return self.others[0]

    def publish(self, *, attempt: int = 1, age: float = 1.0) -> None:
        self.call = call_of(self.store, age=age)
        path = self.healthy.publish(self.call, [b"arguments"])
        self.origin = path.removesuffix(".1") + f".{attempt}"
        os.rename(path, self.origin)

    def take(self, *, attempt: int = 1) -> None:
        self.publish(attempt=attempt)
        self.claim = self.worker.claim(self.origin)

    def publish_outcome(self, attempt: int, content: bytes) -> None:
        name = AttemptName(ID, attempt)
        self.healthy.publish_outcome(outcome_of(self.healthy, name), [content])

    def close(self) -> None:
        for worker in (self.worker, *self.others):
            if worker._lock is not None:
                worker._lock.release()

    # -- walking -----------------------------------------------------------------------

    def files(self) -> list[str]:
        return sorted(
            os.path.relpath(os.path.join(folder, name), self.root)
            for folder, _, names in os.walk(self.root)
            for name in names
        )

    def places(self) -> list[str]:
        """Where the call's file is, unless it is finished."""
        return [path for path in self.files() if path.startswith(("pending/", "running/"))]

    def content(self) -> bytes | None:
        """What the outcome says to whoever looks."""
        data = self.healthy.peek(ID)
        return None if data is None else bytes(self.healthy.read_outcome(ID, data)[1])


# -- the operations -----------------------------------------------------------------------


@dataclass(frozen=True)
class Operation:
    name: str
    prepare: Callable[[Stage], object]
    run: Callable[[Stage], object]
    retry: str = "run"
    """What the runner does when it fails: "run" it again, "work" on, or leave it to a "reaper"."""
    contents: frozenset[bytes] = frozenset({BODY})
    """What the outcome may say in the end."""
    attempts: int = 2
    """Highest attempt that may publish it."""
    accepted: bool = True

    def __str__(self) -> str:
        return self.name


def _claim(stage: Stage) -> object:
    return stage.worker.claim(stage.origin)


def _claim_and_read(stage: Stage) -> object:
    claim = stage.worker.claim(stage.origin)
    assert claim is not None
    try:
        return stage.store.read_call(claim)
    except EnvelopeError as error:  # a file that may not be read goes into quarantine
        stage.worker.release(claim)
        return stage.store.quarantine(claim.path, claim.name, str(error))


def _complete(state: State) -> Callable[[Stage], object]:
    def run(stage: Stage) -> object:
        assert stage.claim is not None
        stage.worker.release(stage.claim)
        return stage.store.complete(
            stage.claim, outcome_of(stage.store, stage.claim.name, state), [OWN]
        )

    return run


def _give_back(stage: Stage) -> object:
    assert stage.claim is not None
    stage.worker.release(stage.claim)
    try:
        return stage.store.give_back(stage.claim)
    finally:
        stage.worker.forget(stage.claim.name)


def _reap(stage: Stage) -> object:
    """The faulty process reaps; who is dead is another worker."""
    return reap(stage.store, stage.others[-1].name, "killed")


def _dead_worker(*, attempt: int = 1, outcome: bool = False, damaged: bool = False):
    def prepare(stage: Stage) -> None:
        stage.others.append(worker_of(stage.healthy))
        stage.publish(attempt=attempt)
        claim = stage.others[-1].claim(stage.origin)
        assert claim is not None
        if outcome:
            stage.publish_outcome(attempt, LATE)
        if damaged:
            with open(claim.path, "r+b") as file:
                file.truncate(60)

    return prepare


def _late_outcome(stage: Stage) -> None:
    stage.publish(attempt=2)
    stage.publish_outcome(1, LATE)


def _second_result(stage: Stage) -> None:
    stage.take()
    stage.publish_outcome(1, LATE)


def _with_mailbox(prepare: Callable[[Stage], object]) -> Callable[[Stage], object]:
    def both(stage: Stage) -> None:
        stage.store.fs.make_folders(stage.layout.mailbox(CLIENT))
        prepare(stage)

    return both


EMPTY = frozenset({b""})
OPERATIONS = (
    Operation(
        "publish",
        lambda _: None,
        lambda stage: stage.store.publish(stage.call, [b"arguments"]),
        attempts=1,
        accepted=False,
    ),
    Operation("claim", Stage.publish, _claim, retry="work"),
    Operation("claim-and-read", Stage.publish, _claim_and_read, retry="work"),
    Operation(
        "claim-second-attempt",
        lambda stage: stage.publish(attempt=2),
        _claim,
        retry="work",
        attempts=3,
    ),
    Operation("claim-of-finished", _late_outcome, _claim, retry="work", contents=frozenset({LATE})),
    Operation(
        "complete",
        _with_mailbox(Stage.take),
        _complete(State.SUCCEEDED),
        contents=frozenset({OWN, BODY}),
    ),
    Operation(
        "complete-without-mailbox",
        Stage.take,
        _complete(State.SUCCEEDED),
        contents=frozenset({OWN, BODY}),
    ),
    Operation(
        "complete-failure",
        _with_mailbox(Stage.take),
        _complete(State.FAILED),
        contents=frozenset({OWN, BODY}),
    ),
    Operation(
        "complete-second",
        _second_result,
        _complete(State.SUCCEEDED),
        contents=frozenset({LATE}),
        attempts=1,
    ),
    Operation("give-back", Stage.take, _give_back, retry="reaper"),
    Operation("requeue", _dead_worker(), _reap),
    Operation("reap-finished", _dead_worker(outcome=True), _reap, contents=frozenset({LATE})),
    Operation("lose", _dead_worker(attempt=MAX_ATTEMPTS), _reap, contents=EMPTY, attempts=3),
    Operation("quarantine", _dead_worker(damaged=True), _reap, contents=EMPTY),
)


# -- what holds afterwards ------------------------------------------------------------------


def check_at_once(stage: Stage, operation: Operation, *, accepted: bool) -> None:
    """Right after the fault, before anybody recovers anything."""
    places = stage.places()
    stage.seen = stage.content()
    assert len(places) <= 1, places
    if accepted and stage.seen is None:
        assert len(places) == 1, f"lost: {stage.files()}"


def recover(stage: Stage, *, dead: bool) -> None:
    """What other processes do, and this one's worker if it lives."""
    if not dead:
        work(stage.store, stage.worker)
        assert stage.places() == [], "a living worker holds it and does not know"
        return
    for worker in (stage.worker, *stage.others[1:]):
        reap(stage.healthy, worker.name, "killed")
    work(stage.healthy, stage.rescuer)


def check_in_the_end(stage: Stage, operation: Operation, *, accepted: bool) -> None:
    files = stage.files()
    assert stage.places() == []
    outcomes = [path for path in files if path.startswith("done/")]
    assert [path for path in files if path.startswith("kept/")] == []
    if accepted:
        assert outcomes == [f"done/{CLIENT}/{ID}"], "no outcome"
    if outcomes:
        _check_outcome(stage, operation)
    known = ("spool.json", "tmp/", "done/", "failed/", "quarantine/", "workers/")
    assert [path for path in files if not path.startswith(known)] == []
    assert len([path for path in files if path.startswith("tmp/")]) <= 1
    _check_workers(stage, files)


def _check_outcome(stage: Stage, operation: Operation) -> None:
    content = stage.content()
    assert content in operation.contents
    if stage.seen is not None:
        assert content == stage.seen, "the outcome was replaced"
    data = stage.healthy.collect(ID, keep=False)
    assert data is not None
    outcome, _ = stage.healthy.read_outcome(ID, data)
    assert outcome.attempt <= operation.attempts
    assert stage.healthy.collect(ID, keep=False) is None, "a second outcome"


def _check_workers(stage: Stage, files: list[str]) -> None:
    alive = {worker.name for worker in (stage.worker, stage.rescuer)}
    left = {path.split("/")[1].rpartition(".")[0] for path in files if path.startswith("workers/")}
    assert left <= alive, "files of a dead worker"


def stages(folder: str, operation: Operation) -> Iterator[tuple[int, Stage]]:
    """Prepared spools, one for each filesystem call of the operation, counted by a dry run."""
    dry = Stage(f"{folder}/dry")
    operation.prepare(dry)
    dry.fs.inject()
    operation.run(dry)
    count = len(dry.fs.trace)
    dry.close()
    assert count
    for number in range(1, count + 1):
        stage = Stage(f"{folder}/{number}")
        operation.prepare(stage)
        yield number, stage
        stage.close()


# -- the sweeps -----------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_the_process_dies_at_every_call(folder, operation, after):
    for number, stage in stages(folder, operation):
        stage.fs.inject(Fault.crash(after=after, at=number))
        assert in_child(lambda: operation.run(stage)) == CRASH_STATUS, number  # noqa: B023
        check_at_once(stage, operation, accepted=operation.accepted)
        recover(stage, dead=True)
        check_in_the_end(stage, operation, accepted=operation.accepted)


ERRORS = (errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EACCES)


def run_with_fault(stage: Stage, operation: Operation) -> tuple[bool, bool]:
    """Run and, if it fails, do what the runner does; returns (accepted, whether it dies then)."""
    try:
        stage.returned = operation.run(stage)
    except FileNotFoundError:
        pytest.fail(f"it looks as if the claim was lost: {stage.fs.trace}")
    except OSError:
        check_at_once(stage, operation, accepted=operation.accepted)
        if operation.retry == "reaper":
            return operation.accepted, True
        if operation.retry == "run":
            if not operation.accepted:
                assert stage.places() == [], "a call that was not accepted is pending"
            stage.returned = operation.run(stage)
    return True, False


def sweep_of_faults(folder: str, operation: Operation, fault: Callable[[int], Fault]) -> None:
    for number, stage in stages(folder, operation):
        stage.fs.inject(fault(number))
        accepted, dead = run_with_fault(stage, operation)
        check_at_once(stage, operation, accepted=accepted)
        if operation.retry == "work" and stage.worker.claims:
            (claim,) = stage.worker.claims
            assert stage.worker.release(claim)
            stage.store.complete(claim, outcome_of(stage.store, claim.name), [BODY])
            stage.worker.forget(claim.name)
        recover(stage, dead=dead)
        check_in_the_end(stage, operation, accepted=accepted)


@pytest.mark.parametrize("code", ERRORS, ids=errno.errorcode.get)
@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_every_call_fails_once(folder, operation, code):
    if code == errno.EACCES:  # what may not be read goes into quarantine, and its caller knows
        operation = replace(operation, contents=operation.contents | EMPTY)
    sweep_of_faults(folder, operation, lambda number: Fault.fail(code, at=number))


@pytest.mark.parametrize("operation", OPERATIONS, ids=str)
def test_the_reply_of_every_call_is_lost(folder, operation):
    sweep_of_faults(folder, operation, lambda number: Fault.lost_reply(at=number))


# -- what a lost reply must not look like -----------------------------------------------------


@pytest.fixture
def stage(folder: str) -> Iterator[Stage]:
    stage = Stage(f"{folder}/spool")
    yield stage
    stage.close()


def test_a_claim_whose_reply_is_lost_has_one_claimant(stage):
    stage.publish()
    stage.fs.inject(Fault.lost_reply(verb="rename"))
    claim = stage.worker.claim(stage.origin)
    assert claim is not None
    assert stage.worker.claims == [claim]
    assert stage.rescuer.claim(stage.origin) is None
    assert stage.worker.claim(stage.origin) is None
    assert stage.store.read_call(claim)[0].id == ID


def test_a_claim_that_somebody_else_has_is_not_taken_for_a_lost_reply(stage):
    stage.publish()
    assert stage.rescuer.claim(stage.origin) is not None
    stage.fs.inject(Fault.lost_reply(verb="rename"))
    assert stage.worker.claim(stage.origin) is None


def test_an_outcome_whose_reply_is_lost_counts_as_published(stage):
    stage.take()
    stage.store.fs.make_folders(stage.layout.mailbox(CLIENT))
    stage.fs.inject(Fault.lost_reply(verb="link"))
    assert _complete(State.SUCCEEDED)(stage) is True
    assert stage.content() == OWN


# -- one outcome ------------------------------------------------------------------------------


def test_the_first_published_result_wins(stage):
    stage.take()
    assert _complete(State.SUCCEEDED)(stage) is True
    assert stage.claim is not None
    second = outcome_of(stage.healthy, stage.claim.name)
    assert stage.healthy.complete(stage.claim, second, [LATE]) is False
    assert stage.content() == OWN


def make_zombie(stage: Stage) -> None:
    """Its claim is reaped, and completed by somebody else."""
    stage.take()
    assert reap(stage.healthy, stage.worker.name, "silent") == 1
    assert work(stage.healthy, stage.rescuer) == [2]


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED])
def test_a_zombie_cannot_replace_the_outcome(stage, state):
    make_zombie(stage)
    assert _complete(state)(stage) is False
    assert stage.content() == BODY
    assert stage.places() == []


def test_a_zombie_that_gives_back_changes_nothing(stage):
    make_zombie(stage)
    assert _give_back(stage) is False
    assert stage.places() == []
    assert stage.content() == BODY


def test_a_zombie_after_the_client_collected_is_never_seen(stage):
    make_zombie(stage)
    first = stage.healthy.collect(ID, keep=True)
    assert _complete(State.SUCCEEDED)(stage) is True  # the mailbox was empty again
    assert stage.healthy.peek(ID) == first
    assert stage.content() == BODY


def test_a_zombie_that_was_first_ends_the_next_attempt(stage):
    stage.take()
    reap(stage.healthy, stage.worker.name, "silent")
    assert _complete(State.SUCCEEDED)(stage) is True
    assert work(stage.healthy, stage.rescuer) == []
    assert stage.places() == []
    assert stage.content() == OWN


# -- deaths beside the calls -------------------------------------------------------------------


def calls_of(run: Callable[[], object], fs: FaultyFilesystem) -> int:
    fs.inject()
    run()
    return len(fs.trace)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_worker_that_dies_while_it_registers_or_leaves_is_removed(folder, after):
    fs = FaultyFilesystem()
    store = open_store(folder, fs)
    healthy = open_store(folder)

    def come_and_go() -> None:
        worker = worker_of(store)
        worker.deregister()

    for number in range(1, calls_of(come_and_go, fs) + 1):
        fs.inject(Fault.crash(after=after, at=number))
        assert in_child(come_and_go) == CRASH_STATUS
        observer = Observer(healthy, heartbeat=1.0, lease=30.0)
        observer.discover()
        left = {*observer.dead_here(), *_advance(healthy, observer)}
        for worker in left:
            reap(healthy, worker, "killed")
        assert os.listdir(f"{folder}/workers") == [], f"{number}: {fs.trace}"
        assert os.listdir(f"{folder}/running") == []


def _advance(store: Store, observer: Observer) -> dict[str, str]:
    """Those who are silent for a lease, by an observer that has a clock to turn."""
    fs = FaultyFilesystem()
    patient = Observer(Store(fs, store.layout, store.info), heartbeat=1.0, lease=30.0)
    patient.discover()
    patient.dead_elsewhere()
    fs.clock_offset += 31.0
    return patient.dead_elsewhere()


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_expiry_goes_on_where_it_died(folder, after):
    for number in itertools.count(1):
        root = f"{folder}/{number}"
        fs = FaultyFilesystem()
        stage = Stage(root, fs)
        stage.publish_outcome(1, LATE)
        for path in ("clients/client0001.lock", "bell/client0001", "failed/client0001-7.1"):
            with open(f"{root}/{path}", "w", encoding="ascii"):
                pass
        for path in (f"done/{CLIENT}/{ID}", "failed/client0001-7.1"):
            os.utime(f"{root}/{path}", (1.0, 1.0))
        fs.inject(Fault.crash(after=after, at=number))
        status = in_child(lambda: expire(stage.store, result_ttl=60.0))  # noqa: B023
        expire(stage.healthy, result_ttl=60.0)
        left = [path for path in stage.files() if not path.startswith(("workers/", "spool.json"))]
        stage.close()
        assert left == [], number
        if status == 0:
            break
        assert status == CRASH_STATUS
    assert number > 10


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_client_that_dies_while_it_collects_leaves_one_outcome_or_none(folder, after, keep):
    operation = Operation(
        "collect",
        lambda stage: stage.publish_outcome(1, LATE),
        lambda stage: stage.store.collect(ID, keep=keep),
    )
    for number, stage in stages(folder, operation):
        stage.fs.inject(Fault.crash(after=after, at=number))
        assert in_child(lambda: operation.run(stage)) == CRASH_STATUS  # noqa: B023
        kept = [path for path in stage.files() if path.startswith(("done/", "kept/"))]
        assert len(kept) == 1 or (not keep and not kept)
        assert stage.content() == (LATE if kept else None)


# -- one claimant -----------------------------------------------------------------------------

CROWD = 300


def publish_many(store: Store) -> list[str]:
    store.sync_clock()
    ids = [f"{CLIENT}-{number}" for number in range(CROWD)]
    for invocation_id in ids:
        store.publish(call_of(store, invocation_id), [b"arguments"])
    return ids


def claim_all(root: str) -> list[str]:
    store = open_store(root)
    worker = worker_of(store)
    backlog = Backlog(store, QUEUE)
    mine = []
    while (origin := backlog.next()) is not None:
        claim = worker.claim(origin)
        if claim is not None:
            mine.append(claim.name.invocation_id)
    worker._lock.release()
    return mine


def test_threads_that_race_never_share_a_claim(folder):
    ids = publish_many(open_store(folder))
    with ThreadPoolExecutor(6) as pool:
        claimed = list(pool.map(claim_all, [folder] * 6))
    assert Counter(itertools.chain(*claimed)) == Counter(ids)
    names = [name for _, _, names in os.walk(f"{folder}/running") for name in names]
    assert sorted(names) == sorted(f"{invocation_id}.1" for invocation_id in ids)


def test_processes_that_race_never_share_a_claim(folder):
    ids = publish_many(open_store(f"{folder}/spool"))
    readable, writable = os.pipe()

    def race(number: int) -> None:
        os.close(writable)
        os.read(readable, 1)  # until the parent closes its end: all at once
        with open(f"{folder}/claimed-{number}", "w", encoding="ascii") as file:
            file.write("\n".join(claim_all(f"{folder}/spool")))

    children = [start_child(lambda number=number: race(number)) for number in range(3)]
    os.close(writable)
    os.close(readable)
    assert [status_of(child) for child in children] == [0, 0, 0]
    claimed = []
    for number in range(3):
        with open(f"{folder}/claimed-{number}", encoding="ascii") as file:
            claimed += file.read().split()
    assert Counter(claimed) == Counter(ids)
