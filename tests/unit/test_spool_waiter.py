from __future__ import annotations

import asyncio
import errno
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from support import open_store, wait_until

from fsqueue.spool.caller.async_waiting import arrival
from fsqueue.spool.caller.waiter import Waiter
from fsqueue.testing import Fault, FaultyFilesystem

pytestmark = pytest.mark.concurrent

ME, OTHER = "client0001", "client0002"
PATIENCE = 60
thread_pool = ThreadPoolExecutor(200)


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
        self.silences, self.events = 0, events
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

    def watch(self, *invocation_ids: str) -> Future[bool]:
        """A wait in a thread of its own, which has begun."""
        before = sum(map(len, list(self.waiter._waiting.values())))
        future = thread_pool.submit(self.waiter.wait, invocation_ids, PATIENCE)
        wait_until(
            lambda: (
                future.done()
                or sum(map(len, list(self.waiter._waiting.values())))
                >= before + len(invocation_ids)
            )
        )
        return future

    def arrive(self, invocation_id: str) -> None:
        path = self.store.layout.done(invocation_id)
        self.store.fs.make_folders(path.rpartition("/")[0])
        self.store.fs.create(path, [b"outcome"])

    def clear(self) -> None:
        self.waiter.close()
        self.fs.inject()
        for client in (ME, OTHER):
            for mailbox in (self.store.layout.mailbox, self.store.layout.kept_mailbox):
                for name in self.fs.names(mailbox(client)):
                    self.fs.unlink(f"{mailbox(client)}/{name}")
                self.fs.rmdir(mailbox(client))


@pytest.fixture(params=[False, True], ids=["polling", "events"])
def waiting(request, spool):
    waiting = Waiting(spool, events=request.param)
    yield waiting
    waiting.clear()


def test_an_outcome_that_arrives_wakes_all_who_wait_for_it(waiting):
    futures = [waiting.watch(f"{ME}-1") for _ in range(3)]
    other = waiting.watch(f"{ME}-2")
    waiting.arrive(f"{ME}-1")
    for future in futures:
        assert future.result(PATIENCE)
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
    future = thread_pool.submit(waiting.waiter.wait, [f"{ME}-1"], None)
    wait_until(lambda: waiting.fs.clock_offset)
    waiting.arrive(f"{ME}-1")
    assert future.result(PATIENCE)
    waiting.clear()


def test_an_outcome_that_is_there_already(waiting):
    waiting.arrive(f"{ME}-1")
    assert waiting.waiter.wait([f"{ME}-1"], PATIENCE)
    assert waiting.waiter.has_seen(f"{ME}-1")
    assert waiting.waiter.wait([f"{ME}-1"], PATIENCE)


def test_an_outcome_of_another_client_pending_or_kept(waiting):
    future = waiting.watch(f"{OTHER}-1")
    waiting.arrive(f"{OTHER}-1")
    assert future.result(PATIENCE)
    waiting.fs.make_folders(waiting.store.layout.kept_mailbox(OTHER))
    waiting.fs.create(waiting.store.layout.kept(f"{OTHER}-2"), [])
    assert waiting.waiter.wait([f"{OTHER}-2"], PATIENCE)


def test_one_of_several_outcomes_ends_the_wait(waiting):
    future = waiting.watch(f"{ME}-1", f"{ME}-2", f"{OTHER}-1")
    waiting.arrive(f"{ME}-2")
    assert future.result(PATIENCE)
    assert not waiting.waiter._waiting


def test_a_wait_without_an_outcome_ends_in_time_and_is_forgotten(waiting):
    assert not waiting.waiter.wait([f"{ME}-1"], 0.01)
    assert not waiting.waiter._waiting
    waiting.arrive(f"{ME}-1")
    assert waiting.waiter.wait([f"{ME}-1"], PATIENCE)


def test_an_abandoned_outcome_is_removed_when_it_comes(waiting):
    waiting.waiter.abandon(f"{ME}-1")
    waiting.arrive(f"{ME}-1")
    wait_until(lambda: not waiting.fs.exists(waiting.store.layout.done(f"{ME}-1")))
    wait_until(lambda: not waiting.waiter._sweeping)
    waiting.arrive(f"{ME}-1")
    waiting.arrive(f"{ME}-2")
    assert waiting.waiter.wait([f"{ME}-2"], PATIENCE)
    wait_until(
        lambda: (
            not waiting.fs.exists(waiting.store.layout.done(f"{ME}-1")) or waiting.waiter.poll()
        )  # it came after the poll that found the other one
    )


def test_an_abandoned_outcome_that_has_come_is_removed(waiting):
    waiting.arrive(f"{ME}-1")
    assert waiting.waiter.wait([f"{ME}-1"], PATIENCE)
    waiting.waiter.abandon(f"{ME}-1")
    assert not waiting.fs.exists(waiting.store.layout.done(f"{ME}-1"))
    assert not waiting.waiter.has_seen(f"{ME}-1")


def test_closing_fails_the_waits_that_are_left(waiting):
    future = waiting.watch(f"{ME}-1")
    waiting.waiter.abandon(f"{ME}-3")
    waiting.waiter.close()
    with pytest.raises(RuntimeError, match="closed"):
        future.result(PATIENCE)
    with pytest.raises(RuntimeError, match="closed"):
        waiting.waiter.wait([f"{ME}-2"], PATIENCE)
    wait_until(lambda: not waiting.waiter._sweeping)


def test_a_disk_that_fails_for_a_while_is_asked_again(waiting):
    waiting.fs.inject(Fault.fail(errno.EIO, at=None, verb="listdir"))
    future = waiting.watch(f"{OTHER}-1")
    waiting.arrive(f"{OTHER}-1")
    wait_until(lambda: waiting.fs.count("listdir") >= 2)
    assert not future.done()
    waiting.fs.inject()
    assert future.result(PATIENCE)


@pytest.mark.parametrize("closed", [ME, OTHER])
def test_a_mailbox_that_cannot_be_listed_holds_up_no_other(waiting, closed):
    (open_,) = {ME, OTHER} - {closed}
    mailbox = waiting.store.layout.mailbox(closed)
    waiting.fs.inject(Fault.fail(errno.EACCES, at=None, verb="listdir", path=mailbox))
    awaited = {client: waiting.watch(f"{client}-1") for client in (ME, OTHER)}
    for client in (ME, OTHER):
        waiting.arrive(f"{client}-1")
    assert awaited[open_].result(PATIENCE)
    if closed == OTHER or not waiting.events:  # an event needs no listing
        assert not awaited[closed].done()

    waiting.fs.inject()
    assert awaited[closed].result(PATIENCE)


def test_a_stale_listing_delays_and_loses_nothing(waiting):
    waiting.fs.make_folders(waiting.store.layout.mailbox(OTHER))
    waiting.fs.names(waiting.store.layout.mailbox(OTHER))
    waiting.fs.inject(*[Fault.stale(at=number, path="/done/") for number in (1, 2, 3)])
    future = waiting.watch(f"{OTHER}-1")
    waiting.arrive(f"{OTHER}-1")
    assert future.result(PATIENCE)
    assert waiting.fs.count("listdir") >= 4


def test_silence_is_reported_once_if_the_callback_returns_true(waiting):
    waiting.watch(f"{ME}-1")
    assert waiting.silences == 0
    waiting.fs.clock_offset += 5
    wait_until(lambda: waiting.silences == 1)
    waiting.fs.clock_offset += 5
    before = waiting.fs.count("listdir")
    wait_until(lambda: waiting.fs.count("listdir") > before + 2)
    assert waiting.silences == 1


async def test_polls_for_an_event_loop_are_no_tasks_of_it(waiting):
    """`asyncio.run` waits for its tasks, even for one whose wake-up Ctrl-C has lost."""
    waiting.fs.inject()
    wait = asyncio.ensure_future(arrival(waiting.waiter, f"{ME}-1", None, None))
    tasks = {asyncio.current_task(), wait}
    async with asyncio.timeout(PATIENCE):
        while waiting.fs.count("listdir") < 20:
            assert asyncio.all_tasks() == tasks
            await asyncio.sleep(0)
        waiting.arrive(f"{ME}-1")
        await wait
