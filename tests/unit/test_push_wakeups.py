"""Tokens and rings. Leases work on local files, too, so no file server is needed here."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from push_side import CLIENT, POLL, QUEUE, sides
from pushing import ENV, Mounted
from support import PATIENCE, wait_until

from fsqueue import FSQueue
from fsqueue.runner.loop.dozing import Dozing
from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.disk.leases import Told, is_broken, take_lease
from fsqueue.spool.format.resources import NONE
from fsqueue.spool.wakeups.recalls import recalls
from fsqueue.spool.wakeups.rings import VIEW
from fsqueue.spool.worker.backlog.folder import FRESH_FOR
from fsqueue.spool.worker.backlog.worker import WorkerBacklog
from fsqueue.spool.worker.expiry import expire
from fsqueue.spool.worker.registration import Worker
from fsqueue.testing import Fault

pytestmark = [
    pytest.mark.concurrent,
    pytest.mark.skipif(sys.platform != "linux", reason="only Linux has leases"),
]
RING = """
import sys
from pushing import ENV, Mounted
Mounted().ring_token(sys.argv[1])
"""


@pytest.fixture
def side(spool):
    with sides(spool) as make:
        yield make


# -- being woken ------------------------------------------------------------------------------


def test_a_ring_of_another_process_wakes_the_owner_once(side):
    sleeper = side()
    token = sleeper.armed()
    path = token.path
    subprocess.run([sys.executable, "-c", RING, path], check=True, timeout=PATIENCE, env=ENV)
    wait_until(lambda: sleeper.woken == ["w"])
    wait_until(lambda: not os.path.exists(path) and not token.path, what="it is gone")
    token.arm()
    wait_until(lambda: token.path not in {"", path}, what="a new token")


def test_a_call_wakes_one_worker_and_two_calls_two(side):
    sleeper, publisher = side(), side()
    tokens = [sleeper.armed(name=name) for name in ("a", "b", "c")]
    publisher.pending()
    wait_until(lambda: len(sleeper.woken) == 1)
    publisher.pending()
    wait_until(lambda: len(sleeper.woken) == 2)
    wait_until(lambda: sum(bool(each.path) for each in tokens) == 1, what="one token is left")
    publisher.pending()
    wait_until(lambda: sorted(sleeper.woken) == ["a", "b", "c"])


def test_a_call_that_needs_resources_and_a_resumed_queue_wake_all(side):
    sleeper, publisher = side(), side()
    for wake in (
        lambda: publisher.pending(queue=f"{QUEUE}.gpu-1"),
        lambda: publisher.store.files.sleepers.changed(QUEUE),
    ):
        for name in ("a", "b"):
            sleeper.armed(name=name)
        publisher.fs.clock_offset += 3.0
        sleeper.woken.clear()
        wake()
        wait_until(lambda: sorted(sleeper.woken) == ["a", "b"])


def test_a_token_is_made_by_one_call(side):
    """Each call on its path would be a request to the server, or several."""
    sleeper = side()
    sleeper.store.files.sleepers.enter(QUEUE)
    sleeper.fs.inject()
    path = sleeper.armed().path
    assert [op.verb for op in sleeper.fs.trace if op.path == path] == ["lease"]


def test_a_publisher_looks_for_tokens_again_after_a_while(side):
    """It must be less than a second: calls of a second, one after another, are rung."""
    sleeper, publisher = side(), side()
    publisher.pending()
    folder = publisher.store.layout.tokens(QUEUE)
    wait_until(lambda: publisher.fs.listings(folder) == 1)
    sleeper.armed()
    publisher.fs.clock_offset += 0.8
    publisher.pending()
    wait_until(lambda: sleeper.woken == ["w"])


@pytest.mark.parametrize("poll_interval", [0.1, 1.0])
def test_a_worker_relies_on_its_token_only_after_a_search_with_young_listings(side, poll_interval):
    """A search may rely on a listing of `FRESH_FOR` seconds before, and list the rest in turn."""
    sleeper = side()
    backlog = WorkerBacklog(sleeper.store, {QUEUE: 1.0}, ResourcePool(NONE), weighted=False)
    worker = Worker(sleeper.store, queues=(QUEUE,), runner="thread", concurrency=1)
    worker.register()
    dozing = Dozing(sleeper.store, backlog, worker, poll_interval, int)
    assert dozing.searches(poll_interval)
    wait_until(sleeper.listed, what="a token")
    made = sleeper.fs.monotonic()
    while dozing.searches(poll_interval):
        sleeper.fs.clock_offset += poll_interval
    searched = sleeper.fs.monotonic() - poll_interval
    assert searched - made > VIEW + FRESH_FOR
    dozing.end()
    worker.deregister()


def test_an_outcome_wakes_its_client_and_no_worker(side):
    sleeper, publisher = side(), side()
    sleeper.armed(CLIENT, "client")
    worker = sleeper.armed()
    publisher.store.files.sleepers.ended(f"{CLIENT}-1")
    wait_until(lambda: sleeper.woken == ["client"])
    assert worker.path


def test_a_token_that_is_not_wanted_any_more_is_removed(side):
    sleeper = side()
    token = sleeper.armed()
    token.disarm()
    wait_until(lambda: not sleeper.listed())
    token.arm()
    token.end()  # before it is there, or just after
    wait_until(lambda: not sleeper.listed())
    assert sleeper.woken == []


def test_it_settles_only_when_all_publishers_must_have_seen_it(side):
    sleeper = side()
    began = sleeper.fs.monotonic()
    token = sleeper.armed()
    assert token.longer(POLL, began + VIEW) == POLL, "the token is younger than that"
    assert not token.settled
    sleeper.fs.clock_offset += 2 * VIEW
    assert token.longer(POLL, began + VIEW) == POLL, "what counts is what a poll has found"
    assert token.longer(POLL, sleeper.fs.monotonic()) >= 10
    assert token.settled
    assert token.longer(POLL / 10, sleeper.fs.monotonic()) == POLL / 10, "it polls after news"


def test_a_new_token_has_not_settled(side):
    sleeper = side()
    token = sleeper.armed()
    sleeper.fs.clock_offset += 2 * VIEW
    token.longer(POLL, sleeper.fs.monotonic())
    assert token.settled
    token.disarm()
    wait_until(lambda: not sleeper.listed())
    assert not token.settled
    token.arm()
    wait_until(lambda: token.path and not token.settled)


# -- what goes wrong --------------------------------------------------------------------------


class Hangs(Mounted):
    """Rings of tokens of dead hosts return when the server gives these up."""

    def __init__(self) -> None:
        super().__init__()
        self.given_up = threading.Event()

    def ring_token(self, path: str) -> None:
        if "/dead." in path:
            self.given_up.wait(PATIENCE)
        super().ring_token(path)


def test_a_ring_of_a_dead_host_holds_up_nobody(side):
    sleeper, publisher = side(), side(Hangs())
    for name in ("dead", "a"):
        sleeper.armed(name=name)
    publisher.pending()  # it returns, whichever it rings first
    wait_until(lambda: sleeper.woken == ["a"])
    publisher.fs.clock_offset += 3.0
    sleeper.armed(name="b")
    publisher.pending()
    wait_until(lambda: sleeper.woken == ["a", "b"], what="the hanging one is not rung again")
    publisher.fs.given_up.set()


def test_a_token_of_a_dead_process_is_removed_and_another_one_rung(side):
    sleeper, publisher = side(), side()
    sleeper.armed()
    left = [f"{sleeper.store.layout.tokens(QUEUE)}/gone.{number}" for number in range(3)]
    for path in left:
        Path(path).touch()
    for _ in range(2):  # whichever it takes first
        publisher.pending()
        wait_until(lambda: sleeper.woken == ["w"] or not any(map(os.path.exists, left)))
    wait_until(lambda: sleeper.woken == ["w"])


def test_a_server_that_grants_no_lease_now_is_asked_again_later(side):
    sleeper = side(Mounted(Fault.fail(errno.EAGAIN, verb="lease", at=None)))
    token = sleeper.token()
    wait_until(lambda: token.refusal)
    assert not sleeper.listed()
    token.arm()
    assert sleeper.fs.count("lease") == 1
    sleeper.fs.inject()
    sleeper.fs.clock_offset += 31.0
    token.arm()
    wait_until(lambda: token.path)


def test_a_token_is_opened_again_if_the_server_delegates_no_new_file(tmp_path):
    def create(_path, handle, _flags, _access):
        handle.open(os.O_CREAT | os.O_RDWR)  # as a file that is open for writing has no lease

    told = Told(threading.get_native_id(), signal.SIGRTMAX)
    handle = take_lease(str(tmp_path / "token"), told, create)
    assert not is_broken(handle)
    handle.close()


def test_a_filesystem_without_leases_is_asked_once(side):
    sleeper = side(Mounted(Fault.fail(errno.EINVAL, verb="lease", at=None)))
    token = sleeper.token()
    wait_until(lambda: token.refusal)
    sleeper.fs.clock_offset += 1e6
    for _ in range(3):
        assert token.longer(1.0, sleeper.fs.monotonic()) == 1.0
    assert sleeper.fs.count("lease") == 1
    assert not sleeper.listed()


def test_an_hour_old_tokens_are_removed_and_those_of_a_gone_client_with_it(side):
    sweeper = side()
    store, layout, fs = sweeper.store, sweeper.store.layout, sweeper.fs
    store.files.sync_clock()
    old, young = f"{layout.tokens(QUEUE)}/old.1", f"{layout.tokens(QUEUE)}/young.1"
    fs.make_folders(layout.tokens(QUEUE))
    for path in (old, young):
        Path(path).touch()
    os.utime(old, (1.0, 1.0))
    fs.touch(layout.client_lock(CLIENT))  # nobody holds it
    fs.make_folders(layout.tokens(CLIENT))
    Path(f"{layout.tokens(CLIENT)}/{CLIENT}.1").touch()
    expire(store, result_ttl=1e6)
    assert sweeper.listed() == ["young.1"]
    assert not os.path.exists(layout.tokens(CLIENT))


def test_only_an_nfs4_mount_has_tokens(spool, tmp_path):
    app = FSQueue("t", root=spool, watch="push")
    assert app.store.files.sleepers is None
    assert app._session.events
    app.close()


def test_no_descriptor_and_no_second_thread_is_left(side):
    sleeper, publisher = side(), side()
    sleeper.armed()
    before = os.listdir("/proc/self/fd"), len(os.listdir("/proc/self/task"))
    token = sleeper.token(name="x")
    for count in range(1, 6):
        wait_until(lambda: token.path)
        publisher.store.files.sleepers.changed(QUEUE)
        wait_until(lambda count=count: sleeper.woken.count("x") == count)
        wait_until(lambda: not token.path)
        publisher.fs.clock_offset += 3.0
        token.arm()
    token.end()
    wait_until(lambda: not recalls()._held or len(recalls()._held) <= 1)
    wait_until(lambda: len(os.listdir("/proc/self/task")) <= before[1])
    assert len(os.listdir("/proc/self/fd")) <= len(before[0])


LEAVES = """
import sys
from pushing import ENV, Mounted
from support import open_store

store = open_store(sys.argv[1], Mounted())
store.push()
store.files.sleepers.moved(f"{store.layout.pending_folder}/t.default/s/1")
"""


def test_a_process_that_ends_right_after_its_call_rings_first(side, spool):
    sleeper = side()
    sleeper.armed()
    subprocess.run([sys.executable, "-c", LEAVES, spool], check=True, timeout=PATIENCE, env=ENV)
    wait_until(lambda: sleeper.woken)
