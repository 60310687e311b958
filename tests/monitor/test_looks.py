"""What a look at a spool costs, and what it learns."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import tempfile

import msgspec
import pytest
from crowd import add_calls, add_workers, count_for_all
from hypothesis import given
from hypothesis import strategies as st
from monitor_harness import TOKENS, client_of, watch_of
from support import open_store, wait_until
from test_costs_of_looking import BACKLOGS, READING, Million

from fsqueue.codec import traceback_text
from fsqueue.common.printable import counted
from fsqueue.monitor import words
from fsqueue.monitor.estimates import estimate
from fsqueue.monitor.pages.page import Ask
from fsqueue.monitor.server import Settings, Site
from fsqueue.spool.history.entries import Entry, Sums, TaskSums
from fsqueue.spool.history.journal import hour_of
from fsqueue.testing import FaultyFilesystem

MOST = 80
SIZES = list(itertools.product(BACKLOGS, (1, 200)))
HOUR = 3600.0


def add_journals(store, workers):
    """What these workers have ended in this hour and the last one, with a failure each."""
    now = store.clock.now()
    for ago in range(24):
        store.fs.make_folders(store.layout.journal_hour(hour_of(now - ago * HOUR)))
    for number, until in itertools.product(range(workers), (now - HOUR, now)):
        name = f"node-{number}-aaaaaa"
        sums = Sums(
            serial=1 + (until == now),
            began=now - 2 * HOUR,
            since=until - 10,
            until=until,
            slots=8,
            tasks={"t.f": TaskSums(calls=10, failed=1)},
        )
        entry = Entry(
            id=f"abcd-{number}",
            task="t.f",
            queue="q",
            attempt=1,
            state="failed",
            started=until - 1,
            wait=0.0,
            run=1.0,
            failure="ValueError",
            fp="01234567",
            failed=1,
        )
        hour = hour_of(until)
        store.files.append(store.layout.journal_sums(hour, name), encoded(sums))
        store.files.append(store.layout.journal_lines(hour, name), encoded(entry))


def encoded(record) -> bytes:
    return msgspec.json.encode(record) + b"\n"


@pytest.fixture(scope="module", params=["counted by a worker", "no worker counts"])
def spools(request):
    """Spools of each size, with journals; whether a worker has counted them."""
    found = {}
    folder = tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    watched = request.param == "counted by a worker"
    for pending, workers in SIZES:
        root = f"{folder}/{pending}-{workers}"
        fs = Million() if pending > 100 else FaultyFilesystem()
        store = open_store(root, fs)
        store.files.sync_clock()
        add_workers(store, workers)
        add_calls(store, *BACKLOGS[pending])
        add_journals(store, workers)
        if watched:
            count_for_all(store)
        found[pending, workers] = root, fs
    yield found, watched
    shutil.rmtree(folder)


def test_a_look_costs_at_most_80_operations_whatever_is_in_the_spool(spools):
    found, watched = spools
    costs = {}
    for size, (root, fs) in found.items():
        watch = watch_of(root, fs)
        for _ in range(3):
            fs.inject()
            watch.look(24 * HOUR)
            assert {each.verb for each in fs.trace} <= READING
            costs.setdefault(size, []).append(fs.count())
    assert max(map(max, costs.values())) <= MOST, costs
    if watched:  # the numbers of calls make no difference at all
        for workers in (1, 200):
            assert len({tuple(costs[pending, workers]) for pending in BACKLOGS}) == 1, costs


def test_all_journals_are_read_in_the_end(spools):
    root, fs = spools[0][100, 200]
    watch = watch_of(root, fs)
    first = watch.look(24 * HOUR)
    assert first.unread > 0
    for _ in range(400):
        look = watch.look(24 * HOUR)
        if not look.unread:
            break
    assert look.unread == 0
    assert look.stats.calls == 400 * 10
    assert len(look.failed) == 400


def test_open_pages_share_one_look(shop):
    fs = FaultyFilesystem()
    watch = watch_of(shop.root, fs)
    watch.pause = 60.0
    client = client_of(shop.root, watch=watch)
    client.get("/")
    assert watch.number == 1
    fs.inject()
    for path in ("/", "/failures", "/workers", "/tasks", "/?window=15m", "/tasks/shop_tasks.parse"):
        assert client.get(path).status_code == 200
    assert fs.count() == 0
    assert watch.number == 1


def test_the_same_page_is_not_rendered_for_each_tab(shop):
    fs = FaultyFilesystem()
    watch = watch_of(shop.root, fs)
    watch.pause = 60.0
    client = client_of(shop.root, watch=watch)
    client.get("/calls")
    fs.inject()
    for _ in range(20):
        client.get("/calls")
    assert fs.count() == 0


def test_the_first_reader_finds_the_overview_ready(shop):
    """Its templates are compiled and its look is taken when the monitor starts."""
    watch = watch_of(shop.root)
    watch.pause = 60.0
    site = Site(Settings(watch, traceback_text, TOKENS))
    site.warm_up()
    wait_until(lambda: watch.number == 1)
    ask = Ask.of("/", "", watch=watch, traceback_text=traceback_text, zone="", may_act=False)
    with asyncio.Runner() as loop:
        assert "calls wait" in loop.run(site.rendered(ask)).html
    assert watch.number == 1


def test_only_the_files_of_the_pages_are_sent(shop):
    client = client_of(shop.root)
    for name, kind in (("monitor.css", "text/css"), ("monitor.js", "text/javascript")):
        answer = client.get(f"/static/{name}")
        assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (200, kind)
    for name in ("nothing.css", "..%2fserver.py", "../server.py"):
        assert client.get(f"/static/{name}").status_code == 404


# -- estimates and words --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("due", "ended", "growth", "kind", "seconds"),
    [
        (0, [60] * 15, 0.0, "empty", 0),
        (100, [], 0.0, "unknown", 0),
        (100, [0] * 15, 0.0, "never", 0),
        (600, [60] * 15, 0.0, "done", 600),
        (600, [60] * 15, 5.0, "grows", 0),
        (60, [0] * 14 + [900], 0.0, "done", 60),  # the mean, as the median is 0
    ],
)
def test_when_a_backlog_is_empty(due, ended, growth, kind, seconds):
    found = estimate(due, ended, growth)
    assert found.kind == kind
    assert found.seconds == pytest.approx(seconds)


@given(st.integers(1, 10**9), st.lists(st.integers(0, 10**6), min_size=1, max_size=15))
def test_an_estimate_is_between_its_bounds(due, ended):
    found = estimate(due, ended)
    assert found.kind == "never" or 0 < found.early <= found.seconds <= found.late


def test_words():
    assert counted(1, "call") == "1 call"
    assert counted(86_112, "call") == "86,112 calls"
    assert [words.period(each) for each in (900, 3600, 21_600, 86_400, 604_800)] == [
        *("15 minutes", "hour", "6 hours", "24 hours", "7 days")
    ]
    assert [words.percent(*each) for each in ((0, 9), (1, 10**6), (1, 3), (9, 9))] == [
        *("0 %", "0.01 %", "33 %", "100 %")
    ]
    clock = words.Clock(1e9, words.zone_of("Europe/Berlin"))
    assert (clock.at(1e9), clock.name) == ("03:46", "UTC+02:00")
    assert clock.at(1e20) == clock.at(None) == "-"
    assert words.zone_of("../../etc/passwd") is None
