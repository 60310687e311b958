"""The cost of waiting: idle workers and blocked callers, in calls to the filesystem."""

from __future__ import annotations

import os
import threading

import pytest
from spool_pair import StillClock
from support import open_store, publish_call, wait_until

from fsqueue import FSQueue
from fsqueue.spool.wakeups.watching import watches
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import FaultyFilesystem


def listed(fs, folder):
    return [op for op in fs.trace if op.verb == "listdir" and op.path == folder]


def beats(trace):
    return sum(op.verb == "utime" and op.path.endswith(".beat") for op in trace)


class Waiting:
    """A thread that waits for an outcome."""

    def __init__(self, client, invocation_id: str) -> None:
        self._client, self._id = client, invocation_id
        self._thread = threading.Thread(target=client.waiter.wait, args=([invocation_id], None))
        self._thread.start()

    def sleeps(self) -> bool:
        """Whether this thread does, and not only one of a worker in this process."""
        return any(each.thread == self._thread.ident for each in list(watches()._sleepers))

    def end(self) -> None:
        self._client.waiter.collected(self._id)
        self._thread.join()


class OnRemoteFiles:
    """An application that treats its spool as if it were on a network filesystem."""

    def __init__(self, root: str, make=FaultyFilesystem) -> None:
        # The default is a second, with a tenth as many polls.
        self.app = FSQueue("costs", root=root, poll_interval=0.1)
        self.fs = make(remote=True)
        self.app._session._store = open_store(root, self.fs)

    def looks(self, folder: str, count: int) -> None:
        wait_until(lambda: len(listed(self.fs, folder)) >= count, what=f"{count} looks")


@pytest.fixture
def served(spool):
    """An application with a worker that has backed off, as there is nothing to do."""
    served = OnRemoteFiles(spool)
    runner = served.app.make_runner()
    thread = threading.Thread(target=runner.run)
    thread.start()
    queue = served.app.store.layout.queue("costs.default")
    served.looks(queue, 20)
    yield served
    runner.stop_runner_loop()
    thread.join()
    served.app.close()


def test_an_idle_worker_touches_and_lists_its_queue_and_beats(served):
    served.fs.inject()
    wait_until(lambda: beats(served.fs.trace) >= 2, what="two beats")
    trace = list(served.fs.trace)
    queue = served.app.store.layout.queue("costs.default")
    of_queue = [operation.verb for operation in trace if operation.path == queue]
    assert of_queue.count("listdir") >= 10
    assert len(of_queue) <= 2 * of_queue.count("listdir") + 1
    # With some of the polls it also looks for folders of calls with needs.
    of_pending = [op.verb for op in trace if op.path == served.app.store.layout.pending_folder]
    assert len(of_pending) <= 2 * (of_queue.count("listdir") // 8 + 1)
    # Its beat, the beats of others and the shared upkeep: 18 at each beat.
    upkeep = [op for op in trace if op.path not in {queue, served.app.store.layout.pending_folder}]
    assert len(upkeep) <= 13 * (beats(trace) + 1)


def test_a_blocked_caller_lists_its_mailbox_and_no_more(spool, served):
    caller = OnRemoteFiles(spool)
    session = caller.app._session
    client = session.client
    receipt = publish_call(
        client, client.new_id(), "t.f", "costs.other", [b""], max_attempts=1, keep=True
    )
    session.publishes_to.add("costs.default")
    waiting = Waiting(client, receipt.invocation_id)
    mailbox = client.store.layout.mailbox(client.name)
    caller.looks(mailbox, 20)
    caller.fs.inject()
    caller.looks(mailbox, 10)
    looks = len(listed(caller.fs, mailbox))
    workers = caller.app.store.layout.workers_folder
    asked = len(listed(caller.fs, workers))
    # A touch and a listing each, as a cached one would be believed; and whether there are workers.
    touches = [op for op in caller.fs.trace if op.verb == "utime" and op.path == mailbox]
    assert len(touches) >= looks
    assert caller.fs.count("utime", "listdir") <= 2 * looks + 4 * asked + 1
    assert caller.fs.count("read") <= 1
    waiting.end()
    os.unlink(receipt.path)
    caller.app.close()


def test_on_a_file_server_a_caller_looks_for_workers_after_3_s_and_then_every_minute(spool, served):
    caller = OnRemoteFiles(spool, StillClock)
    client = caller.app._session.client
    caller.app._session.publishes_to.add("costs.default")
    receipt = publish_call(
        client, client.new_id(), "t.f", "costs.other", [b""], max_attempts=1, keep=True
    )
    waiting = Waiting(client, receipt.invocation_id)
    workers = caller.app.store.layout.workers_folder
    for asked, seconds in enumerate((3.1, 60.1, 60.1)):
        assert len(listed(caller.fs, workers)) == asked
        # While it sleeps: a poll must not seem to take so long. The clock is still, so none begins.
        wait_until(waiting.sleeps)
        caller.fs.clock_offset += seconds
        caller.looks(workers, asked + 1)
    records = [op for op in caller.fs.trace if op.verb == "read" and op.path.endswith(".json")]
    assert len([op for op in records if op.path.startswith(workers)]) == 1
    waiting.end()
    os.unlink(receipt.path)
    caller.app.close()


def test_that_the_last_call_was_claimed_is_believed_once(spool, caplog):
    caller = OnRemoteFiles(spool, StillClock)
    client, layout = caller.app._session.client, caller.app.store.layout
    caller.app._session.publishes_to.add("costs.other")
    receipt = publish_call(
        client, client.new_id(), "t.f", "costs.other", [b""], max_attempts=1, keep=True
    )
    os.unlink(receipt.path)  # a worker has claimed it
    waiting = Waiting(client, receipt.invocation_id)
    slot = os.path.dirname(receipt.path)
    for seconds, slots, workers in ((3.1, 1, 0), (60.1, 1, 1)):
        wait_until(waiting.sleeps)
        caller.fs.clock_offset += seconds
        caller.looks(slot, slots)
        caller.looks(layout.workers_folder, workers)
        assert len(listed(caller.fs, layout.workers_folder)) == workers
    wait_until(lambda: "no worker" in caplog.text)
    waiting.end()
    caller.app.close()


def test_no_more_records_of_workers_are_read_than_needed(spool):
    caller = OnRemoteFiles(spool)
    store = caller.app.store
    queues = ("costs.default",)
    workers = [Worker(store, queues=queues, runner="thread", concurrency=1) for _ in range(4)]
    for worker in workers:
        worker.register()
    observer = caller.app._session._make_observer()
    caller.fs.inject()
    for _ in range(2):
        assert observer.unserved(["costs.default"]) == []
        records = [op for op in caller.fs.trace if op.verb == "read" and op.path.endswith(".json")]
        assert len(records) == 1
    assert observer.unserved(["costs.default", "costs.other"]) == ["costs.other"]
    assert len(observer.serving("costs.default")) == 4
    for worker in workers:
        worker.deregister()
    caller.app.close()


def doubled(number, bad):
    if number == bad:
        raise ValueError(number)
    return 2 * number


def up_to(call):
    return [(number, call["bad"]) for number in range(call["number"])]


@pytest.mark.parametrize("bad", [None, 3])
def test_the_outcomes_of_a_fan_out_leave_the_mailbox_together(served, bad):
    """While workers add others, a file server is asked once more for each one that is removed."""
    fan_out = served.app.direct_task(parallel_func=up_to, aggregate_func=sum)(doubled)
    mailbox = served.app.store.layout.mailbox(served.app._session.client.name)
    served.fs.inject()
    if bad is None:
        assert fan_out(20, None) == 380
        assert os.listdir(mailbox) == []
    else:
        with pytest.raises(ValueError, match="3"):
            fan_out(20, bad)
        wait_until(lambda: not os.listdir(mailbox), what="an empty mailbox")
    steps = [op.verb for op in served.fs.trace if os.path.dirname(op.path) == mailbox]
    steps = [verb for verb in steps if verb in {"read", "unlink"}]
    collected = 20 if bad is None else bad + 1
    assert steps[:collected] == ["read"] * collected
    assert "read" not in steps[collected:]


def test_few_outcomes_are_left_in_a_mailbox_however_large_the_fan_out(served):
    """Each one makes its listings longer."""
    fan_out = served.app.direct_task(parallel_func=up_to, aggregate_func=sum)(doubled)
    mailbox = served.app.store.layout.mailbox(served.app._session.client.name)
    served.fs.inject()
    assert fan_out(513, None) == 513 * 512
    steps = [op.verb for op in served.fs.trace if os.path.dirname(op.path) == mailbox]
    collected = [verb for verb in steps if verb in {"read", "unlink"}]
    assert collected == ["read", "unlink"] * 513
