"""Threads that wait for file events: one leads, and hands over. No poll helps them here."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from support import open_store, wait_until
from unit.spool_pair import StillClock

from fsqueue.spool.caller.waiter import Waiter
from fsqueue.spool.wakeups import inotify
from fsqueue.spool.wakeups.sleeper import Sleeper
from fsqueue.spool.wakeups.watching import Alarm, Watch, Watches, watches

pytestmark = pytest.mark.concurrent

ME = "client0001"
PATIENCE = 20


class Waiting:
    def __init__(self, root: str) -> None:
        self.fs = StillClock()
        self.store = open_store(root, self.fs)
        self.waiter = Waiter(
            self.store.outcomes, ME, events=True, poll_interval=600, on_silence=lambda: True
        )
        self.fs.make_folders(self.store.layout.mailbox(ME))
        self.arrive(0)
        assert self.waiter.wait([f"{ME}-0"], PATIENCE), "the first wait lists the mailbox"
        self.fs.inject()

    def arrive(self, number: int) -> None:
        path = self.store.layout.done(f"{ME}-{number}")
        with open(f"{path}.tmp", "w"):
            pass
        os.link(f"{path}.tmp", path)
        os.unlink(f"{path}.tmp")

    def start(self, pool: ThreadPoolExecutor, number: int, timeout: float | None) -> Future[bool]:
        before = len(watches()._sleepers)
        future = pool.submit(self.waiter.wait, [f"{ME}-{number}"], timeout)
        wait_until(lambda: len(watches()._sleepers) > before)
        return future

    def polls(self) -> int:
        return self.fs.count("listdir")


@pytest.fixture
def waiting(spool):
    waiting = Waiting(spool)
    yield waiting
    waiting.waiter.close()
    folder = waiting.store.layout.mailbox(ME)
    for name in os.listdir(folder):
        os.unlink(f"{folder}/{name}")
    os.rmdir(folder)


@pytest.fixture
def pool():
    pool = ThreadPoolExecutor(64)
    yield pool
    pool.shutdown(wait=False)


def test_an_event_names_the_outcome_and_nothing_is_listed(waiting, pool):
    for number in range(1, 20):
        future = waiting.start(pool, number, PATIENCE)
        waiting.arrive(number)
        assert future.result(PATIENCE)
    assert waiting.polls() == 0


def test_an_outcome_that_came_while_nobody_waited(waiting):
    waiting.arrive(1)
    waiting.arrive(2)
    assert waiting.waiter.wait([f"{ME}-2"], PATIENCE)
    assert waiting.waiter.has_seen(f"{ME}-1")
    assert waiting.polls() == 0


def test_the_leader_wakes_the_others(waiting, pool):
    futures = [waiting.start(pool, number, PATIENCE) for number in range(1, 30)]
    for number in range(29, 0, -1):
        waiting.arrive(number)
    for future in futures:
        assert future.result(PATIENCE)
    assert waiting.polls() == 0
    assert not watches()._sleepers
    assert not watches()._office


def test_a_leader_whose_time_is_over_hands_over(waiting, pool):
    leader = waiting.start(pool, 1, None)
    follower = waiting.start(pool, 2, PATIENCE)
    waiting.waiter.collected(f"{ME}-1")  # it ends, as if another thread had collected its outcome
    assert leader.result(PATIENCE)
    waiting.arrive(2)
    assert follower.result(PATIENCE)
    assert waiting.polls() == 0


class Interrupted(BaseException):
    pass


def interrupt(*_):
    raise Interrupted


@contextlib.contextmanager
def interrupted_after(seconds):
    former = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)


def test_a_leader_that_a_signal_handler_ends_hands_over(waiting, pool):
    with interrupted_after(0.2):
        followers = [pool.submit(waiting.waiter.wait, [f"{ME}-{n}"], PATIENCE) for n in (2, 3)]
        with pytest.raises(Interrupted):
            waiting.waiter.wait([f"{ME}-1"], None)
    assert f"{ME}-1" not in waiting.waiter._waiting
    for number, follower in zip((2, 3), followers, strict=True):
        waiting.arrive(number)
        assert follower.result(PATIENCE)
    assert waiting.polls() == 0


def test_a_leader_that_has_vanished_is_replaced(waiting, pool):
    """As if two exceptions had struck one after another, so that it could not hand over."""
    gone = Sleeper()
    gone.thread = 1
    watches()._office["leader"] = gone
    future = waiting.start(pool, 1, PATIENCE)
    waiting.arrive(1)
    assert future.result(PATIENCE)
    mine = watches()._office["leader"] = Sleeper()
    mine.until = float("inf")  # but a thread has only one wait at a time
    waiting.arrive(2)
    assert waiting.waiter.wait([f"{ME}-2"], PATIENCE)


def test_a_signal_handler_that_waits_while_its_thread_leads(waiting):
    found = []
    waiting.arrive(2)

    def handler(*_):
        found.append(waiting.waiter.wait([f"{ME}-2"], PATIENCE))
        waiting.arrive(1)

    former = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert waiting.waiter.wait([f"{ME}-1"], PATIENCE)
    finally:
        signal.signal(signal.SIGALRM, former)
    assert found == [True]


def test_a_wait_goes_on_as_leader_after_a_signal_handler_that_has_waited(waiting):
    """The wait in the handler has read the event that the interrupted one waits for."""
    leaders = []

    def handler(*_):
        signal.signal(signal.SIGALRM, interrupt)
        signal.setitimer(signal.ITIMER_REAL, PATIENCE)  # the interrupted wait would sleep for ever
        leaders.append(watches()._office["leader"])
        for number in (1, 2):
            waiting.arrive(number)
        assert waiting.waiter.wait([f"{ME}-2"], None)
        leaders.append(watches()._office["leader"])

    former = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        assert waiting.waiter.wait([f"{ME}-1"], None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert len(set(leaders)) == 1
    assert "leader" not in watches()._office


def test_events_that_are_dropped_cost_one_poll(waiting, pool):
    waiting.arrive(1)
    os.read(watches().handle, 1 << 16)
    future = waiting.start(pool, 1, None)
    assert not future.done()
    waiting.fs.clock_offset += 0.11
    assert future.result(PATIENCE)
    assert waiting.polls() == 1


def test_an_overflow_is_answered_by_one_listing(waiting):
    most = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if most > 20_000:
        pytest.skip("it takes too many events")
    folder = waiting.store.layout.mailbox(ME)
    for number in range(most + 10):
        os.close(os.open(f"{folder}/x{number}", os.O_CREAT | os.O_WRONLY))
    waiting.arrive(1)
    assert waiting.waiter.wait([f"{ME}-1"], PATIENCE)
    while not waiting.waiter.has_seen(f"{ME}-1"):
        waiting.waiter.wait([f"{ME}-1"], PATIENCE)
    assert waiting.polls() == 1


def test_a_mailbox_that_was_replaced_is_watched_again(waiting, pool):
    folder = waiting.store.layout.mailbox(ME)
    os.rename(folder, f"{folder}.gone")
    os.mkdir(folder)
    future = waiting.start(pool, 1, None)
    waiting.arrive(1)
    waiting.fs.clock_offset += 0.11
    assert future.result(PATIENCE)
    polls = waiting.polls()
    waiting.arrive(2)
    assert waiting.waiter.wait([f"{ME}-2"], PATIENCE)
    assert waiting.polls() == polls
    os.unlink(f"{folder}.gone/{ME}-0")
    os.rmdir(f"{folder}.gone")


def test_a_mailbox_that_was_removed_is_listed_at_once(waiting, pool):
    folder = waiting.store.layout.mailbox(ME)
    future = waiting.start(pool, 1, None)
    os.unlink(f"{folder}/{ME}-0")
    os.rmdir(folder)
    assert future.result(PATIENCE), "it looks itself"
    os.mkdir(folder)
    waiting.arrive(1)
    while not waiting.waiter.has_seen(f"{ME}-1"):
        waiting.waiter.wait([f"{ME}-1"], 0.01)
        waiting.fs.clock_offset += 0.11


def test_many_threads_that_live_for_one_wait(waiting):
    found = []

    def wait(number: int) -> None:
        found.append(waiting.waiter.wait([f"{ME}-{number}"], PATIENCE))

    for first in range(1, 200, 20):
        threads = [threading.Thread(target=wait, args=(first + n,)) for n in range(20)]
        for n, thread in enumerate(threads):
            thread.start()
            waiting.arrive(first + n)
        for thread in threads:
            thread.join()
    assert found == [True] * 200
    assert waiting.polls() == 0
    assert not watches()._sleepers
    assert not watches()._office


def test_a_forked_child_has_its_own_descriptor(waiting, spool):
    handle = watches().handle
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            os.read(reader, 1)
            own = watches()
            status = (
                0 if own.handle is None and not os.path.lexists(f"/proc/self/fd/{handle}") else 2
            )
        os._exit(status)
    waiting.arrive(1)
    os.write(writer, b"x")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert waiting.waiter.wait([f"{ME}-1"], PATIENCE)
    assert waiting.polls() == 0
    os.close(reader)
    os.close(writer)


def test_several_spools_share_the_descriptor(waiting, tmp_path, pool):
    other = Waiting(str(tmp_path / "other"))
    first, second = waiting.start(pool, 1, PATIENCE), other.start(pool, 1, PATIENCE)
    third = waiting.start(pool, 2, PATIENCE)
    other.arrive(1)
    assert second.result(PATIENCE)
    waiting.arrive(1)
    assert first.result(PATIENCE)
    waiting.arrive(2)
    assert third.result(PATIENCE)
    other.waiter.close()
    assert (waiting.polls(), other.polls()) == (0, 0)


def test_a_file_where_a_folder_should_be_ends_no_other_watch(tmp_path):
    junk, folder = tmp_path / "junk", tmp_path / "folder"
    junk.touch()
    folder.mkdir()
    own = Watches()
    try:
        not_a_folder = Watch(str(junk), inotify.ARRIVED | inotify.ONLY_FOLDER, lambda _: None)
        assert not own.add(not_a_folder)
        assert not not_a_folder.works
        assert own.add(Watch(str(folder), inotify.ARRIVED | inotify.ONLY_FOLDER, lambda _: None))
    finally:
        own.close()


class Counting(Watches):
    """Watches that count how often their leader has listened."""

    listened = 0

    def _listen(self, sleeper, seconds):
        self.listened += 1
        super()._listen(sleeper, seconds)


def test_a_leader_takes_the_events_of_a_moment_together(tmp_path, pool):
    """Most outcomes of a fan-out are not the one that is awaited next."""
    watches, names, sleeper = Counting(), [], Sleeper()
    watches.add(Watch(str(tmp_path), inotify.ARRIVED | inotify.ONLY_FOLDER, names.append))
    sleep = pool.submit(watches.sleep, sleeper, PATIENCE)
    wait_until(lambda: watches.listened)
    files = {f"{number}" for number in range(500)}
    for name in files:
        (tmp_path / name).touch()
    wait_until(lambda: set(names) == files)
    watches.wake(sleeper)
    sleep.result(PATIENCE)
    assert watches.listened < 250
    watches.close()


def test_a_worker_without_a_free_slot_reads_no_events(tmp_path, pool):
    names, alarm = [], Alarm()
    watch = Watch(str(tmp_path), inotify.ARRIVED | inotify.ONLY_FOLDER, names.append)
    watches().add(watch)
    wait = pool.submit(alarm.wait, PATIENCE, listens=False)
    (tmp_path / "new").touch()
    alarm.set()
    assert wait.result(PATIENCE)
    assert names == []
    watches().hear()
    assert names == ["new"]
    watches().remove(watch)
