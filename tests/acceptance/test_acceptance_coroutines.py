"""Coroutine bodies: they share an event loop, and can be cancelled."""

import asyncio
import contextlib
import importlib
import signal
import socketserver
import sys
import threading

import pytest
from acceptance_harness import alive, timed_out, wait_until

from fsqueue.errors import CancelledError


@pytest.fixture
def tasks(site, monkeypatch):
    """The module `coroutine_tasks`, imported anew for the site."""
    monkeypatch.syspath_prepend(str(site.project))
    monkeypatch.delitem(sys.modules, "coroutine_tasks", raising=False)
    yield importlib.import_module("coroutine_tasks")
    sys.modules.pop("coroutine_tasks", None)


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        with contextlib.suppress(OSError):
            for line in self.rfile:
                self.wfile.write(line)


@pytest.fixture
def echo():
    """Port of a server that answers each line with that line."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads, server.block_on_close = True, False
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


async def together(*calls):
    return await asyncio.gather(*calls)


def test_what_a_module_keeps_between_calls_stays_usable(site, kind, tasks, echo):
    site.worker(kind, 1).wait_for_start()

    async def one_after_another():
        return [await tasks.ask(echo, word) for word in "abc"]

    assert asyncio.run(one_after_another()) == ["a", "b", "c"]


def test_concurrent_calls_share_a_connection_and_a_lock(site, kind, tasks, echo):
    site.worker(kind, 3).wait_for_start()
    words = [f"word{number}" for number in range(12)]

    async def all_at_once():
        return await asyncio.gather(*(tasks.ask(echo, word) for word in words))

    async def locked():
        return await asyncio.gather(*(tasks.run_alone(0.02) for _ in range(9)))

    assert asyncio.run(all_at_once()) == words
    assert all(asyncio.run(locked()))


@pytest.mark.parametrize("cleaning", [0.05, 3600.0], ids=["cleans up", "hangs while it cleans up"])
def test_a_cancelled_coroutine_cleans_up(site, kind, tasks, cleaning):
    worker = site.worker(kind, 1).wait_for_start()
    marks = site.folder("marks")
    call = tasks.wait_for_cancel(marks.folder, cleaning)
    (body,) = marks.wait_for_starts(1)

    assert call.cancel()

    with pytest.raises(CancelledError):
        call.get(60)
    assert site.call(site.tasks.pid).result(60)  # its slot is free
    assert marks.pids("cleaned") == ([body] if cleaning < 1 else [])
    wait_until(lambda: not site.files("running"), "nothing is running")
    if kind == "process":
        wait_until(lambda: not alive(body), "the process of the slot has ended")
    assert worker.popen.poll() is None


@pytest.mark.parametrize("cleaning", [0.05, 3600.0], ids=["cleans up", "hangs while it cleans up"])
def test_a_coroutine_that_times_out_cleans_up(site, kind, tasks, cleaning):
    site.worker(kind, 1).wait_for_start()

    def make(seconds, folder):
        return tasks.wait_for_cancel.options(timeout=seconds)(folder, cleaning)

    _, marks = timed_out(site, make)

    assert site.call(site.tasks.pid).result(60)
    assert len(marks.pids("cleaned")) == (1 if cleaning < 1 else 0)
    wait_until(lambda: not site.files("running"), "nothing is running")


@pytest.mark.parametrize("how", ["the grace is over", "a second signal"])
def test_a_coroutine_that_is_given_back_cleans_up(site, kind, tasks, how):
    grace = "0.5" if how == "the grace is over" else "60"
    worker = site.worker(kind, 2, FSQUEUE__STOP_GRACE=grace).wait_for_start()
    marks, stuck = site.folder("marks"), site.folder("stuck")
    call = tasks.wait_for_cancel(marks.folder)
    hanging = tasks.wait_for_cancel(stuck.folder, 3600.0)
    (body,) = marks.wait_for_starts(1)
    stuck.wait_for_starts(1)

    worker.signal(signal.SIGTERM)
    worker.wait_for_log("stopping")
    if how == "a second signal":
        wait_until(lambda: worker.signal(signal.SIGTERM) or worker.popen.poll() is not None, "ends")
    # The last of the signals may meet a process that has no handler any more.
    killed = {128 + signal.SIGTERM, -signal.SIGTERM}
    assert worker.wait() in ({0} if how == "the grace is over" else killed)

    assert marks.pids("cleaned") == [body]
    assert site.names("running") == []
    assert sorted(site.files("pending")) == sorted([f"{call.id}.1", f"{hanging.id}.1"])
    marks.release()
    site.worker(kind, 2).wait_for_start()
    assert call.get(60) != body


@pytest.mark.parametrize("how", ["task", "timeout", "interrupt"])
def test_an_await_that_is_given_up_cancels_the_body(site, kind, tasks, how):
    site.worker(kind, 1).wait_for_start()
    marks = site.folder("marks")

    async def give_up():
        call = asyncio.ensure_future(tasks.wait_to_be_dropped(marks.folder))
        await asyncio.to_thread(marks.wait_for_starts, 1)
        if how == "task":
            call.cancel()
            await call
        elif how == "timeout":
            async with asyncio.timeout(0.01):
                await call
        else:
            signal.raise_signal(signal.SIGINT)
            await call

    # `asyncio.run` hears of Ctrl-C only by Python's own handler, which another test may replace.
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises((asyncio.CancelledError, TimeoutError, KeyboardInterrupt)):
            asyncio.run(give_up())
    finally:
        signal.signal(signal.SIGINT, former)
    wait_until(lambda: marks.pids("cleaned"), "the coroutine was cancelled")
    wait_until(lambda: not site.files("running"), "nothing is running")
    assert site.call(site.tasks.pid).result(60)
    wait_until(lambda: not site.files("done"), lambda: f"done/ empty: {site.files('done')}")


def test_a_coroutine_that_blocks_the_loop_is_named(site, kind, tasks):
    worker = site.worker(kind, 1).wait_for_start()

    asyncio.run(tasks.block(1.5))

    worker.wait_for_log("blocks the event loop")
    worker.wait_for_log("has let the event loop go on")
    assert "time.sleep(seconds)" in worker.text()


@pytest.mark.parametrize("how", ["exit", "stop", "close", "exit in a task"])
def test_the_worker_survives_what_a_body_does_to_the_loop(site, kind, tasks, how):
    site.worker(kind, 1).wait_for_start()

    if how == "exit":
        with pytest.raises(SystemExit):
            asyncio.run(tasks.leave_the_loop(how))
    else:
        assert asyncio.run(tasks.leave_the_loop(how)) == how

    assert asyncio.run(tasks.inner(1)) == 2


def test_what_coroutines_print_is_their_own(site, kind, tasks):
    site.worker(kind, 4).wait_for_start()
    calls = [tasks.tell(word, 5) for word in "abcd"]

    assert all(call.get(60) for call in calls)

    for word, call in zip("abcd", calls, strict=True):
        lines = call.output.splitlines()
        assert set(lines) == {f"body {word}", f"child {word}", f"thread {word}"}
        assert len(lines) == 15


def test_waiting_without_await_blocks_nobody(site, kind, tasks):
    site.worker(kind, 1).wait_for_start()

    assert site.call(asyncio.run, tasks.wait_without_await(0)).result(60) == 1
    assert site.call(asyncio.run, tasks.wait_without_await(3)).result(60) == 3
    assert site.call(asyncio.run, tasks.wait_both_ways(5)).result(60)
    assert site.call(asyncio.run, tasks.spread(30)).result(60) == sum(range(1, 31))


def test_bodies_that_wait_without_await_at_the_same_time(site, kind, tasks):
    site.worker(kind, 3).wait_for_start()

    async def all_at_once():
        deep = [tasks.wait_without_await(number % 4) for number in range(12)]
        both = [tasks.wait_both_ways(3) for _ in range(4)]
        return await asyncio.gather(*deep, *both)

    found = site.call(asyncio.run, all_at_once()).result(60)
    assert found == [max(number % 4, 1) for number in range(12)] + [True] * 4


def test_decorated_coroutines(site, kind, tasks, tmp_path):
    site.worker(kind, 1).wait_for_start()

    async def main():
        return await tasks.decorated(1)

    assert asyncio.run(main()) == 2
    assert site.call(tasks.made_plain, 1).result(60) == 2
    with pytest.raises(TypeError, match="returned a coroutine"):
        site.call(tasks.secretly_async, str(tmp_path)).result(60)
    assert not (tmp_path / "ran").exists()
