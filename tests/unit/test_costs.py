"""The cost of steps in calls to the filesystem, which is the load on a file server.

`test_spool_store.py` has the costs of publishing, claiming, completing and collecting one call.
"""

from __future__ import annotations

import os

import pytest
from msgspec import structs
from spool_pair import QUEUE, opened_pair
from support import execute_claim, publish_call

from fsqueue import current_invocation
from fsqueue.codec import encode
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.attempt.context import Body, WorkerContext
from fsqueue.runner.output.reporting import Flusher
from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.features.deduplication import Key
from fsqueue.spool.format.names import AttemptName, Slot
from fsqueue.spool.format.resources import NONE
from fsqueue.spool.format.states import State
from fsqueue.spool.store.lookup import state_of
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.backlog.worker import WorkerBacklog
from fsqueue.spool.worker.limit_upkeep import LimitUpkeep
from fsqueue.testing import NAME_VERBS

BATCH = 100


SLOTS = 50


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        yield pair


def file_slots(pair, count):
    """Put one call into each of `count` slots, as if they had been published slowly."""
    now = pair.store.clock.now()
    paths = []
    for number in range(count):
        folder = pair.store.layout.slot(QUEUE, str(Slot(5, now - 100 + number)))
        pair.fs.make_folders(folder)
        paths.append(f"{folder}/{AttemptName(f'abcd-{number}', 1)}")
        pair.fs.create(paths[-1], [])
    return paths


def listed(fs, folder):
    return [op for op in fs.trace if op.verb == "listdir" and op.path == folder]


# -- batches ----------------------------------------------------------------------------------


def test_a_batch_costs_as_much_as_one_call(pair):
    payload = [b"args"] * BATCH

    def publish():
        pair.fs.inject()
        return publish_call(
            pair.client,
            pair.client.new_id(),
            "t.f",
            QUEUE,
            payload,
            max_attempts=3,
            keep=False,
            members=BATCH,
        )

    receipt = publish()
    while pair.fs.count("mkdir"):  # a second has begun, and so a slot
        receipt = publish()
    assert pair.fs.count(*NAME_VERBS) == 2
    assert pair.fs.count("write") == 1
    assert pair.fs.count("listdir") == 0

    pair.fs.inject()
    claim = pair.worker.claim(receipt.path)
    call, _ = pair.store.calls.read_claimed(claim)
    assert call.members == len(call.segments) == BATCH
    assert [operation.verb for operation in pair.fs.trace] == ["rename", "read"]

    pair.fs.inject()
    assert pair.store.endings.complete(claim, pair.outcome(claim), payload)
    assert pair.worker.release(claim)
    pair.worker.forget(claim)
    assert pair.fs.count(*NAME_VERBS) == 4
    assert pair.fs.count("write") == 1

    pair.fs.inject()
    assert pair.store.outcomes.collect(receipt.invocation_id, keep=False)
    assert [operation.verb for operation in pair.fs.trace] == ["read", "unlink"]


# -- calls that repeat others -----------------------------------------------------------------


def test_a_result_for_others_costs_one_name_more_than_one_for_its_caller(pair):
    """It has its name in `cache/` before the caller has it, so an equal call then finds it."""
    costs = []
    for key in ("", "0" * 32):
        receipt = pair.publish()
        claim = pair.worker.claim(receipt.path)
        pair.worker.release(claim)
        outcome = structs.replace(pair.outcome(claim), cache=key)
        pair.fs.inject()
        assert pair.store.endings.complete(claim, outcome, [b"value"])
        costs.append([operation.verb for operation in pair.fs.trace])
        pair.worker.forget(claim)
    costs[1].remove("link")
    assert costs[0] == costs[1]
    pair.fs.inject()
    assert pair.store.cache.get(key, 1e12) is not None
    assert [operation.verb for operation in pair.fs.trace] == ["read"]


def test_a_call_that_is_pending_already_costs_three_checks_and_no_file(pair):
    key = Key("0" * 32)
    for _ in range(2):
        pair.fs.inject()
        receipt = publish_call(
            pair.client,
            pair.client.new_id(),
            "t.f",
            QUEUE,
            [b"args"],
            max_attempts=3,
            keep=True,
            once=key,
        )
    assert [operation.verb for operation in pair.fs.trace] == ["listdir", "read", "stat"]
    assert pair.store.withdraw(receipt.path)


# -- progress and output ----------------------------------------------------------------------


def say_nothing():
    return None


def report():
    current_invocation().progress(1, 2)


def chatter():
    print("text")
    print("more")
    report()


# Short by the clock of a machine that is not busy with other things.
UNHURRIED = Flusher(first=5.0)


def cost_of(pair, function, **options):
    """The filesystem calls of a call that is run, from its claim to its outcome."""
    context = WorkerContext(
        store=pair.store,
        worker=lambda: pair.worker,
        resolve=lambda _: Body(function),
        app_id="t",
        exclusive=False,
    )
    context.flusher = UNHURRIED
    pair.store.dependencies.watch()  # as a worker does
    payload = [encode(((), {}), "arguments")]
    receipt = publish_call(
        pair.client,
        pair.client.new_id(),
        "t.f",
        QUEUE,
        payload,
        max_attempts=3,
        keep=False,
        **options,
    )
    pair.fs.inject()
    claim = pair.worker.claim(receipt.path)
    assert execute_claim(context, claim, pair.worker) is Ending.FINISHED
    pair.worker.forget(claim)
    trace = list(pair.fs.trace)
    pair.store.outcomes.collect(receipt.invocation_id, keep=False)
    return [operation for operation in trace if operation.verb != "clock"]


def test_a_call_without_output_costs_nothing_extra(pair, capsys):
    usual = [
        *("rename", "read", "create", "write", "close"),
        *("link", "unlink", "unlink"),
    ]
    assert [each.verb for each in cost_of(pair, say_nothing)] == usual
    # Neither what is printed unasked nor that it could be kept costs anything.
    assert len(cost_of(pair, lambda: print("text"))) == len(usual)
    assert len(cost_of(pair, say_nothing, capture=True)) == len(usual)


def test_a_short_call_writes_its_output_once_and_no_report(pair, capsys):
    layout = pair.store.layout
    trace = cost_of(pair, chatter, capture=True)
    of_output = [op.verb for op in trace if op.path.startswith(layout.output_folder)]
    assert of_output == ["create", "write", "close"]
    assert [op.path for op in trace if op.path.startswith(layout.progress_folder)] == []
    assert len(trace) == len(cost_of(pair, say_nothing)) + 3
    assert len(cost_of(pair, report)) == len(cost_of(pair, say_nothing))


# -- a backlog of many slots ------------------------------------------------------------------


def test_slots_are_listed_once_however_many_are_emptied(pair):
    paths = file_slots(pair, SLOTS)
    backlog = FolderBacklog(pair.store, QUEUE)
    pair.fs.inject()
    found, began = [], pair.fs.monotonic()
    while (path := backlog.next()) is not None:
        found.append(path)
        os.unlink(path)
        pair.fs.clock_offset += 0.5 / SLOTS
    passed = pair.fs.monotonic() - began
    assert found == paths
    # The one that finds nothing more is the second.
    assert len(listed(pair.fs, pair.store.layout.queue(QUEUE))) <= 2 + passed


def test_claims_and_lost_races_are_counted(pair):
    first, second = pair.publish(), pair.publish()
    assert pair.worker.claim(first.path)
    os.rename(second.path, f"{second.path}.taken")
    assert pair.worker.claim(second.path) is None
    assert (pair.worker.claimed, pair.worker.lost) == (1, 1)
    os.unlink(f"{second.path}.taken")


def test_workers_on_one_slot_seldom_try_the_same_call(pair):
    """Each worker goes through its own list, while the others claim most of it."""
    workers, calls = 4, 400
    slot = pair.store.layout.slot(QUEUE, str(Slot(5, 1.0)))
    pair.fs.make_folders(slot)
    for number in range(calls):
        pair.fs.create(f"{slot}/abcd-{number}.1", [])
    room = ResourcePool(NONE)
    backlogs = [
        WorkerBacklog(pair.store, {QUEUE: 1.0}, room, weighted=False) for _ in range(workers)
    ]
    lost = claimed = 0
    while claimed < calls:
        for backlog in backlogs:
            for origin in backlog:
                try:
                    os.unlink(origin)
                except FileNotFoundError:
                    lost += 1
                else:
                    claimed += 1
                    break
    # With whole lists there are as many lost ones as claims, for each of the others.
    assert lost < calls / 2


def test_a_new_call_of_higher_priority_waits_for_a_second_at_most(pair):
    file_slots(pair, SLOTS)
    backlog = FolderBacklog(pair.store, QUEUE)
    os.unlink(backlog.next())
    urgent = pair.store.layout.slot(QUEUE, str(Slot(9, pair.store.clock.now() - 1)))
    pair.fs.make_folders(urgent)
    pair.fs.create(f"{urgent}/abcd-999.1", [])
    pair.fs.clock_offset += 1.1
    assert backlog.next() == f"{urgent}/abcd-999.1"


def test_the_state_of_an_own_call_costs_the_same_with_any_backlog(pair):
    def cost():
        pair.fs.inject()
        assert state_of(pair.store, receipt.invocation_id, hint=receipt.path) is State.PENDING
        return pair.fs.count()

    receipt = pair.publish()
    alone = cost()
    paths = file_slots(pair, SLOTS)
    assert cost() == alone
    for path in paths:
        os.unlink(path)


def test_a_pending_call_is_found_with_one_check_a_slot(pair):
    paths = file_slots(pair, SLOTS)
    pair.fs.inject()
    assert state_of(pair.store, f"abcd-{SLOTS // 2}") is State.PENDING
    slots = [op for op in pair.fs.trace if op.path.startswith(pair.store.layout.pending_folder)]
    # Two listings lead to the slots; the call is in the middle of them, in whatever order.
    assert len(slots) <= SLOTS + 2
    for path in paths:
        os.unlink(path)


def test_a_call_that_has_left_its_slot_is_found_nevertheless(pair):
    receipt = pair.publish()
    later = pair.store.layout.slot(QUEUE, str(Slot(5, pair.store.clock.now() + 60)))
    pair.fs.make_folders(later)
    os.rename(receipt.path, f"{later}/{receipt.invocation_id}.2r1")
    assert state_of(pair.store, receipt.invocation_id, hint=receipt.path) is State.PENDING


# -- permits ----------------------------------------------------------------------------------


def verbs_in_lanes(pair, trace):
    return [op.verb for op in trace if op.path.startswith(pair.store.layout.lanes_folder)]


def test_the_file_operations_of_a_permit(pair):
    lane = "0123456789abcdef-1"
    enter = [
        "listdir",
        "mkdir",
        "mkdir",
        "mkdir",
        "mkdir",
        "rename",
    ]  # the limit's folder is made first
    leave = ["rmdir", "rmdir", "listdir", "rmdir"]
    plain = len(cost_of(pair, say_nothing))
    trace = cost_of(pair, say_nothing, lanes=(lane,))
    assert verbs_in_lanes(pair, trace) == enter + leave
    assert len(trace) == plain + len(enter + leave)
    os.makedirs(pair.store.layout.in_lane(f"{lane}0", 1))
    trace = cost_of(pair, say_nothing, lanes=(f"{lane}0",))
    # Some of its ten permits are taken, so its folder exists and stays.
    assert verbs_in_lanes(pair, trace) == [
        *("listdir", "mkdir", "mkdir", "rename"),
        *("rmdir", "rmdir", "listdir"),
    ]


def test_upkeep_recovers_a_hundred_limits_a_round(pair):
    for number in range(250):
        os.mkdir(pair.store.layout.lane(f"{number:016d}-1"))
    upkeep = LimitUpkeep(pair.store)
    for left in (150, 50, 0):
        pair.fs.inject()
        upkeep.round()
        assert pair.fs.count() <= 1 + 100 * 4
        assert len(os.listdir(pair.store.layout.lanes_folder)) == left
