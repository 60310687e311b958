"""Callers and workers where there is no inotify: watchdog's events wake them."""

from __future__ import annotations

import asyncio
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from unit.test_spool_events import ME, PATIENCE, Waiting

from fsqueue.spool.wakeups import watching
from integration import sample_tasks as sample
from integration.conftest import working


@pytest.fixture
def told_by_watchdog():
    """This process is told of files by watchdog."""
    watching.begin_anew(native=False)
    shared = watching.watches()
    yield shared
    assert shared.handle is None
    assert shared._observing is not None
    watching.begin_anew(native=True)


def test_a_caller_is_woken_and_lists_nothing(told_by_watchdog, spool):
    waiting = Waiting(spool)  # its clock stands still, so no poll is due
    with ThreadPoolExecutor(1) as pool:
        for number in range(1, 20):
            future = waiting.start(pool, number, PATIENCE)
            waiting.arrive(number)
            assert future.result(PATIENCE)
    assert waiting.polls() == 0
    waiting.waiter.close()
    shutil.rmtree(waiting.store.layout.mailbox(ME))


def test_calls_are_claimed_and_their_results_collected(told_by_watchdog, make_app):
    app = make_app(watch="events", poll_interval=60.0)
    direct, later = app.direct_task(sample.add), app.direct_task(sample.async_add)
    with working(app):
        for number in range(30):
            assert direct(number) == number + 1
        for number in range(10):
            assert asyncio.run(later(number)) == number + 1


def test_a_watchdog_that_cannot_be_loaded_is_done_without(monkeypatch, make_app, caplog):
    """As if it lay on a network home that fails just now."""
    monkeypatch.delitem(sys.modules, "fsqueue.spool.wakeups.observing", raising=False)
    monkeypatch.setitem(sys.modules, "watchdog.events", None)
    watching.begin_anew(native=False)
    try:
        app = make_app(watch="events", poll_interval=0.05)
        direct = app.direct_task(sample.add)
        with working(app):
            assert direct(1) == 2
        assert "polling instead" in caplog.text
    finally:
        watching.begin_anew(native=True)


def test_each_kind_of_watch_is_told(told_by_watchdog, tmp_path):
    told = []
    bell, folder = tmp_path / "bell", tmp_path / "folder"
    bell.touch()
    folder.mkdir()
    alarm = watching.Alarm()

    def note(name):
        told.append(name)
        alarm.set()

    for path, mask in ((bell, 0x4), (folder, 0x180)):
        assert told_by_watchdog.add(watching.Watch(str(path), mask, note))
    bell.touch()
    assert alarm.wait(60)
    (folder / "tmp").touch()
    (folder / "tmp").rename(folder / "name")
    while "name" not in told:
        alarm.clear()
        assert alarm.wait(60)
    assert "" in told
