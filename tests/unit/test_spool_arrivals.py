"""A worker that has found its queue empty claims what events name, without a listing."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest
from support import open_store

from fsqueue import FSQueue
from fsqueue.runner.loop.bells import WorkerBells
from fsqueue.runner.shared.resource_pool import ResourcePool
from fsqueue.spool.format.names import PAUSED, Slot
from fsqueue.spool.format.resources import NONE
from fsqueue.spool.wakeups.watching import Alarm, watches
from fsqueue.spool.worker.backlog.arrivals import _MOST_NAMES, Arrivals
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.backlog.worker import WorkerBacklog
from fsqueue.testing import FaultyFilesystem

QUEUE = "t.default"


class StillFilesystem(FaultyFilesystem):
    """Its clock stands still: after a second a worker lists its queue whatever it hears."""

    def __init__(self) -> None:
        super().__init__()
        self._began = super().monotonic()
        self.on_look: Callable[[], object] = int

    def monotonic(self) -> float:
        self.on_look()
        return self._began + self.clock_offset


class Queue:
    def __init__(self, root: str) -> None:
        self.fs = StillFilesystem()
        self.store = store = open_store(root, self.fs)
        store.files.sync_clock()
        store.files.make_folders(store.layout.queue(QUEUE))
        self.backlog, self.announced = FolderBacklog(store, QUEUE), 0
        self.backlog.arrivals = Arrivals(store, QUEUE, self._announce)
        self.now = int(store.clock.now())
        self.publish(0)
        assert self.next() == "c-0.1"
        assert self.next() is None
        self.fs.inject()

    def _announce(self) -> None:
        self.announced += 1

    def slot(self, priority: int = 4, later: int = 0) -> str:
        return self.store.layout.slot(QUEUE, str(Slot(priority, self.now + later)))

    def publish(self, number: int, slot: str | None = None) -> None:
        folder = slot or self.slot()
        os.makedirs(folder, exist_ok=True)
        path = f"{self.store.layout.tmp_folder}/{number}"
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
        os.rename(path, f"{folder}/c-{number}.1")

    def next(self) -> str | None:
        """Claim the next attempt, after what events there are."""
        if watches().handle is not None:
            watches().take()
        path = self.backlog.next()
        if path is None:
            return None
        os.unlink(path)
        return os.path.basename(path)

    def listings(self) -> int:
        return self.fs.count("listdir")


@pytest.fixture
def queue(spool):
    queue = Queue(spool)
    yield queue
    queue.backlog.arrivals.end()
    folder = queue.store.layout.queue(QUEUE)
    for slot in os.listdir(folder):
        os.rmdir(f"{folder}/{slot}") if slot != PAUSED else os.unlink(f"{folder}/{slot}")


def test_an_attempt_that_an_event_names_is_found_without_a_listing(queue):
    for number in range(1, 30):
        before = queue.announced
        queue.publish(number)
        assert queue.next() == f"c-{number}.1"
        assert queue.announced > before
        assert queue.next() is None
    assert queue.listings() == 0


def test_it_is_quiet_once_all_that_is_known_was_tried(queue):
    """Then a thread that lingers need not search after its call."""
    for number in range(1, 10):
        queue.publish(number)
        assert queue.next() == f"c-{number}.1"
        assert queue.backlog.is_quiet
    queue.publish(10)
    queue.publish(11)
    watches().take()
    assert not queue.backlog.is_quiet, "two were heard of"
    assert queue.next() in {"c-10.1", "c-11.1"}
    assert not queue.backlog.is_quiet, "one is left"
    assert queue.next() is not None
    assert queue.backlog.is_quiet
    queue.publish(12, queue.slot(later=-1))
    watches().take()
    assert not queue.backlog.is_quiet, "a slot has come, whose calls must be listed"
    assert queue.next() == "c-12.1"


def test_it_is_not_quiet_while_another_thread_takes_what_has_arrived(queue):
    asked = []
    thread = threading.Thread(target=lambda: asked.append(queue.backlog.is_quiet))

    def ask():
        if thread.ident is None and not queue.backlog.arrivals.paths:  # nor candidates yet
            thread.start()
            thread.join(0.2)  # it has to wait

    for number in (1, 2):
        queue.publish(number)
    watches().take()
    queue.fs.on_look = ask
    assert queue.next() in {"c-1.1", "c-2.1"}
    thread.join()
    assert asked == [False], "one call is left"
    assert queue.next() is not None


def test_a_few_attempts_at_once_all_come(queue):
    for number in range(1, _MOST_NAMES):
        queue.publish(number)
    found = {queue.next() for _ in range(1, _MOST_NAMES)}
    assert found == {f"c-{number}.1" for number in range(1, _MOST_NAMES)}
    assert queue.next() is None
    assert queue.listings() == 0


def test_many_attempts_are_listed(queue):
    for number in range(1, 40):
        queue.publish(number)
    assert {queue.next() for _ in range(1, 40)} == {f"c-{number}.1" for number in range(1, 40)}
    assert queue.listings() >= 2


def test_many_attempts_are_announced_no_more_until_they_are_listed(queue):
    before, many = queue.announced, range(1, 10 * _MOST_NAMES)
    for number in many:
        queue.publish(number)
    found = {queue.next() for _ in many}
    assert found == {f"c-{number}.1" for number in many}
    assert queue.announced - before == _MOST_NAMES + 1
    assert queue.next() is None
    queue.fs.inject()
    queue.publish(0)
    assert queue.next() == "c-0.1"
    assert queue.listings() == 0, "it is watched again"


def test_a_new_slot_is_listed_once_and_then_watched(queue):
    queue.publish(1, queue.slot(later=-1))
    assert queue.next() == "c-1.1"
    assert queue.next() is None
    before = queue.listings()
    for number in range(2, 20):
        queue.publish(number, queue.slot(later=-1 * (number % 2)))
        assert queue.next() == f"c-{number}.1"
    assert queue.listings() == before


def test_the_higher_priority_comes_first(queue):
    queue.publish(1, queue.slot(priority=2))
    queue.publish(2, queue.slot(priority=7))
    assert {queue.next(), queue.next()} == {"c-1.1", "c-2.1"}
    assert queue.next() is None
    before = queue.listings()
    first, second = sorted([queue.slot(priority=2), queue.slot(priority=7)])
    queue.publish(3, second)
    queue.publish(4, first)
    assert [queue.next(), queue.next()] == ["c-4.1", "c-3.1"]
    assert queue.listings() == before


def test_an_attempt_that_is_not_due_waits(queue):
    queue.publish(1, queue.slot(later=3600))
    assert queue.next() is None
    queue.publish(2, queue.slot(later=3600))
    assert queue.next() is None
    assert queue.backlog.next_due < float("inf")
    for number in (1, 2):
        os.unlink(f"{queue.slot(later=3600)}/c-{number}.1")


def test_a_pause_is_noticed(queue):
    os.close(os.open(f"{queue.store.layout.queue(QUEUE)}/{PAUSED}", os.O_CREAT | os.O_WRONLY))
    queue.publish(1)
    assert queue.next() is None
    assert queue.backlog.paused
    os.unlink(f"{queue.slot()}/c-1.1")


def test_events_that_are_dropped_cost_one_poll(queue):
    queue.publish(1)
    os.read(watches().handle, 1 << 16)
    assert queue.next() is None
    queue.backlog.expire()  # as after a pause in which nothing was heard
    assert queue.next() == "c-1.1"


def test_a_slot_that_is_removed_and_made_again_is_watched_again(queue):
    os.rmdir(queue.slot())
    queue.publish(1)
    assert queue.next() == "c-1.1"
    assert queue.next() is None
    before = queue.listings()
    queue.publish(2)
    assert queue.next() == "c-2.1"
    assert queue.listings() == before


def test_calls_that_come_before_each_search_are_listed_once(queue):
    """The caller of the call before is quicker than the worker's next search."""
    queue.publish(1, queue.slot(later=-1))
    assert queue.next() == "c-1.1"  # from a listing, as the slot is new
    before = queue.listings()
    for number in range(2, 50):
        queue.publish(number, queue.slot(later=-1))
        assert queue.next() == f"c-{number}.1"
    assert queue.listings() == before
    assert queue.next() is None


def test_a_listing_that_shows_a_call_forgets_its_event(queue):
    queue.publish(1, queue.slot(later=-1))
    queue.backlog.expire()
    assert queue.backlog.next() is not None  # the events have not been read yet
    watches().take()
    os.unlink(f"{queue.slot(later=-1)}/c-1.1")
    queue.publish(2, queue.slot(later=-1))
    assert queue.next() == "c-2.1"
    assert queue.next() is None


def test_names_that_a_lost_race_drops_are_listed(queue):
    for number in range(1, 5):
        queue.publish(number)
    watches().take()
    lost = []
    for times in (1, 2):
        lost.append(os.path.basename(path := queue.backlog.next()))
        os.unlink(path)
        queue.backlog.missed(times)
    found = {queue.next() for _ in range(2)}
    assert found == {f"c-{number}.1" for number in range(1, 5)} - {*lost}


def test_calls_of_other_hosts_are_found_beside_a_stream_of_events(queue):
    """Without an event, as on a network filesystem."""
    queue.publish(100)
    os.read(watches().handle, 1 << 16)
    found = []
    for number in range(1, 40):
        queue.publish(number)
        found.append(queue.next())
        queue.fs.clock_offset += 0.1
    assert "c-100.1" in found
    found.append(queue.next())
    assert set(found) == {f"c-{number}.1" for number in (*range(1, 40), 100)}


def test_a_delayed_call_is_found_when_it_is_due_beside_a_stream_of_events(queue):
    later = queue.slot(later=30)
    queue.publish(100, later)
    assert queue.next() is None
    queue.fs.clock_offset += 31
    queue.publish(1)
    assert {queue.next(), queue.next()} == {"c-1.1", "c-100.1"}


def test_a_bell_is_ignored_while_each_call_announces_itself(queue):
    """Otherwise a worker searches twice for each call that a caller makes and announces."""
    store = queue.store
    backlogs = WorkerBacklog(store, {QUEUE: 1.0}, ResourcePool(NONE), weighted=False)
    app = FSQueue("t", root=store.layout.root, watch="events")
    app._session._store = store
    bells, bell = WorkerBells(app._session, backlogs, Alarm()), store.layout.bell(QUEUE)

    def announcements(happens: Callable[[], object]) -> int:
        before = bells.count
        happens()
        watches().take()
        return bells.count - before

    def call(number: int) -> None:
        queue.publish(number)
        store.fs.ring(bell)

    with bells.listening():
        queue.publish(1)
        assert announcements(lambda: store.fs.ring(bell)) == 1, "nothing was listed yet"
        os.unlink(next(iter(backlogs)))
        assert list(backlogs) == []
        for number in range(2, 10):
            assert announcements(lambda number=number: call(number)) == 1
            os.unlink(next(iter(backlogs)))
            assert list(backlogs) == []
        os.close(os.open(store.layout.paused(QUEUE), os.O_CREAT))
        watches().take()
        assert list(backlogs) == []
        os.unlink(store.layout.paused(QUEUE))
        assert announcements(lambda: store.fs.ring(bell)) == 1, "the queue is resumed"
