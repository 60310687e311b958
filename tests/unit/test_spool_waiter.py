from __future__ import annotations

import errno
import threading

import pytest
from support import wait_until

from fsqueue.spool.caller.waiter import _LONG_LISTING, Waiter
from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import Fault, FaultyFilesystem

pytestmark = pytest.mark.concurrent

ME, OTHER = "client0001", "client0002"
PATIENCE = 60


class Waiting:
    def __init__(
        self,
        root: str,
        *,
        events: bool = False,
        fs: FaultyFilesystem | None = None,
        poll_interval: float = 0.02,
    ) -> None:
        self.fs = fs or FaultyFilesystem()
        self.store = open_store(root, self.fs)
        self.silences = 0
        self.waiter = Waiter(
            self.store.outcomes,
            ME,
            events=events,
            poll_interval=poll_interval,
            on_silence=self.silence,
        )

    def silence(self) -> bool:
        self.silences += 1
        return True

    def arrive(self, invocation_id: str) -> None:
        path = self.store.layout.done(invocation_id)
        self.store.fs.make_folders(path.rpartition("/")[0])
        self.store.fs.create(path, [b"outcome"])
        self.fs.ring(self.store.layout.bell(ME))

    def clear(self) -> None:
        self.waiter.close()
        self.fs.inject()
        for client in (ME, OTHER):
            for mailbox in (self.store.layout.mailbox, self.store.layout.kept_mailbox):
                for name in self.fs.names(mailbox(client)):
                    self.fs.unlink(f"{mailbox(client)}/{name}")
                self.fs.rmdir(mailbox(client))
        self.fs.discard(self.store.layout.bell(ME))


@pytest.fixture(params=[False, True], ids=["polling", "events"])
def waiting(request, spool):
    waiting = Waiting(spool, events=request.param)
    yield waiting
    waiting.clear()


def test_an_outcome_that_arrives_wakes_all_who_wait_for_it(waiting):
    futures = [waiting.waiter.watch(f"{ME}-1") for _ in range(3)]
    other = waiting.waiter.watch(f"{ME}-2")
    waiting.arrive(f"{ME}-1")
    for future in futures:
        assert future.result(PATIENCE) is None
    assert not other.done()


class HangsOnce(FaultyFilesystem):
    """One listing takes very long, as while the file server is away."""

    def names(self, path, **options):
        try:
            return super().names(path, **options)
        finally:
            if "/done/" in path and not self.clock_offset:
                self.clock_offset = 1000.0


def test_polling_continues_after_a_poll_that_hung(spool):
    waiting = Waiting(spool, fs=HangsOnce())
    future = waiting.waiter.watch(f"{ME}-1")
    wait_until(lambda: waiting.fs.clock_offset)
    waiting.arrive(f"{ME}-1")
    future.result(PATIENCE)
    waiting.clear()


def test_an_outcome_that_is_there_already(waiting):
    waiting.arrive(f"{ME}-1")
    waiting.waiter.watch(f"{ME}-1").result(PATIENCE)
    waiting.waiter.watch(f"{ME}-1").result(PATIENCE)


def test_an_outcome_of_another_client_pending_or_kept(waiting):
    future = waiting.waiter.watch(f"{OTHER}-1")
    waiting.arrive(f"{OTHER}-1")
    future.result(PATIENCE)
    waiting.fs.make_folders(waiting.store.layout.kept_mailbox(OTHER))
    waiting.fs.create(waiting.store.layout.kept(f"{OTHER}-2"), [])
    waiting.waiter.watch(f"{OTHER}-2").result(PATIENCE)


def test_a_cancelled_wait_is_forgotten(waiting):
    future = waiting.waiter.watch(f"{ME}-1")
    assert future.cancel()
    wait_until(lambda: not waiting.waiter._waiting)
    waiting.arrive(f"{ME}-1")
    waiting.waiter.watch(f"{ME}-1").result(PATIENCE)


def test_an_abandoned_outcome_is_removed_when_it_comes(waiting):
    waiting.waiter.watch(f"{ME}-9")
    waiting.waiter.abandon(f"{ME}-1")
    waiting.arrive(f"{ME}-1")
    wait_until(lambda: not waiting.fs.exists(waiting.store.layout.done(f"{ME}-1")))


def test_an_abandoned_outcome_that_has_come_is_removed(waiting):
    waiting.arrive(f"{ME}-1")
    waiting.waiter.watch(f"{ME}-1").result(PATIENCE)
    waiting.waiter.abandon(f"{ME}-1")
    assert not waiting.fs.exists(waiting.store.layout.done(f"{ME}-1"))


def test_closing_fails_the_waits_that_are_left(waiting):
    future = waiting.waiter.watch(f"{ME}-1")
    waiting.waiter.close()
    for late in (future, waiting.waiter.watch(f"{ME}-2")):
        with pytest.raises(RuntimeError, match="closed"):
            late.result(PATIENCE)
    assert not any(thread.name == "fsqueue-waiter" for thread in threading.enumerate())


def test_a_disk_that_fails_for_a_while_is_asked_again(waiting):
    waiting.fs.inject(Fault.fail(errno.EIO, at=None, verb="listdir"))
    future = waiting.waiter.watch(f"{ME}-1")
    waiting.arrive(f"{ME}-1")
    wait_until(lambda: waiting.fs.count("listdir") >= 2)
    assert not future.done()
    waiting.fs.inject()
    future.result(PATIENCE)


@pytest.mark.parametrize("closed", [ME, OTHER])
def test_a_mailbox_that_cannot_be_listed_holds_up_no_other(waiting, closed):
    (open_,) = {ME, OTHER} - {closed}
    mailbox = waiting.store.layout.mailbox(closed)
    waiting.fs.inject(Fault.fail(errno.EACCES, at=None, verb="listdir", path=mailbox))
    awaited = {client: waiting.waiter.watch(f"{client}-1") for client in (ME, OTHER)}
    for client in (ME, OTHER):
        waiting.arrive(f"{client}-1")
    assert awaited[open_].result(PATIENCE) is None
    assert not awaited[closed].done()

    waiting.fs.inject()
    assert awaited[closed].result(PATIENCE) is None


def test_a_stale_listing_delays_and_loses_nothing(waiting):
    waiting.fs.make_folders(waiting.store.layout.mailbox(ME))
    waiting.fs.names(waiting.store.layout.mailbox(ME))
    waiting.fs.inject(*[Fault.stale(at=number) for number in (1, 2, 3)])
    future = waiting.waiter.watch(f"{ME}-1")
    waiting.arrive(f"{ME}-1")
    future.result(PATIENCE)
    assert waiting.fs.count("listdir") >= 4


def test_a_long_mailbox_is_not_listed_at_each_ring(spool):
    waiting = Waiting(spool, events=True, poll_interval=60)
    for number in range(_LONG_LISTING):
        waiting.arrive(f"{ME}-{number}")
    future = waiting.waiter.watch(f"{ME}-99")
    wait_until(lambda: len(waiting.waiter._arrived) == _LONG_LISTING)
    before = waiting.fs.count("listdir")
    for _ in range(50):
        waiting.waiter._quick = True  # even if the last poll was slow
        waiting.waiter._ring()
    # Those of the polls, whose pauses grow.
    assert waiting.fs.count("listdir") - before < 25
    waiting.fs.remote, waiting.waiter._quick = True, True
    before = waiting.fs.count("listdir")
    waiting.waiter._ring()
    assert waiting.fs.count("listdir") > before, "where names may be missed, listings tell"
    waiting.fs.remote = False
    waiting.arrive(f"{ME}-99")
    future.result(PATIENCE)
    waiting.clear()


def test_silence_is_reported_once_if_the_callback_returns_true(waiting):
    waiting.waiter.watch(f"{ME}-1")
    assert waiting.silences == 0
    waiting.waiter._silent_since -= 5
    wait_until(lambda: waiting.silences == 1)
    waiting.waiter._silent_since -= 5
    before = waiting.fs.count("listdir")
    wait_until(lambda: waiting.fs.count("listdir") > before + 2)
    assert waiting.silences == 1


def test_there_is_no_polling_without_waits(waiting):
    waiting.arrive(f"{ME}-1")
    waiting.waiter.watch(f"{ME}-1").result(PATIENCE)
    wait_until(lambda: not waiting.waiter._waiting)
    assert waiting.waiter._thread.is_alive()
