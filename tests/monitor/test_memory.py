"""What the monitor remembers after hours of looks: what is in the window, and no more."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import types
from collections import Counter

import msgspec
import pytest
from crowd import count_for_all
from monitor_harness import TOKENS, watch_of
from support import open_store

from fsqueue.codec import traceback_text
from fsqueue.monitor.pages.page import Ask
from fsqueue.monitor.server import Settings, Site
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.history.entries import Entry, Groups, Sums, TaskSums
from fsqueue.spool.history.gauges import Gauge, QueueGauge, append_gauge
from fsqueue.spool.history.journal import hour_of

STEP = 900.0
"""Seconds between two looks."""
HOURS = 3
"""All that is remembered, of a window of one hour, has come and gone after these."""
PAGES = ("/", "/failures", "/runs")
CODE = (
    *(type, types.ModuleType, types.FunctionType, types.MethodType),
    *(types.BuiltinFunctionType, types.CodeType, types.FrameType),
)


def encoded(record) -> bytes:
    return msgspec.json.encode(record) + b"\n"


class Later(Filesystem):
    """A filesystem whose monotonic clock is ahead."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class Busy:
    """A spool whose workers, runs, failures and queues are different ones in each step."""

    def __init__(self, root: str, loop: asyncio.Runner, *, counted: bool) -> None:
        self.fs, self.counted = Later(remote=True), counted
        self.store = open_store(root, self.fs)
        self.store.files.sync_clock()
        # Half a step after a full hour, so that as many hours have begun whenever the test runs.
        self.fs.ahead += STEP / 2 - self.store.clock.now() % 3600
        self.watch = watch_of(root, self.fs)
        self.site = Site(Settings(self.watch, traceback_text, TOKENS))
        self.loop, self.number = loop, 0

    def step(self) -> None:
        self.fs.ahead += STEP
        self.number += 1
        now = self.store.clock.now()
        stamp = self.store.layout.upkeep_stamp
        self.store.files.touch(stamp)
        os.utime(stamp, (now, now))  # those that only look take their time from it
        self._work(now)
        for path in (*PAGES, f"/workers/{self.worker}"):
            ask = Ask.of(
                path, "", watch=self.watch, traceback_text=traceback_text, zone="", may_act=False
            )
            assert self.loop.run(self.site.rendered(ask)).html

    @property
    def worker(self) -> str:
        return f"node-{self.number}-aaaaaa"

    def _work(self, now: float) -> None:
        store = self.store
        tasks, groups, lines = {}, Groups(), []
        for each in range(10):
            text = f"{self.number}-{each}"
            entry = Entry(
                id=f"run{self.number}-{each}", task="t.f", queue=f"q.{self.number}", attempt=1,
                state="failed", started=now - 2, wait=0.5, run=1.0, failed=1,
                failure="ValueError", fp=f"{self.number:06}{each:02}", at=f"a.py:{text}",
                message=f"message {text}", label=f"label {text}",
            )  # fmt: skip
            groups.count(entry, tasks.setdefault(entry.task, TaskSums()).count(entry))
            lines.append(encoded(entry))
        sums = Sums(
            serial=self.number, began=now - STEP, since=now - 10, until=now, slots=1, left=True,
            tasks=tasks, queues=groups.queues, failures=groups.failures, runs=groups.runs,
        )  # fmt: skip
        hour = hour_of(now)
        store.fs.make_folders(store.layout.journal_hour(hour))
        store.files.append(store.layout.journal_lines(hour, self.worker), b"".join(lines))
        store.files.append(store.layout.journal_sums(hour, self.worker), encoded(sums))
        gauge = Gauge(at=now, queues={f"q.{self.number}": QueueGauge(due=1)})
        append_gauge(store, self.worker, gauge)
        if self.counted:
            count_for_all(store, ahead=0.0)


def remembered(root: object) -> Counter[str]:
    """How many objects of each type are reached from one, apart from code."""
    found: dict[int, object] = {}
    following = [root]
    while following:
        each = following.pop()
        if id(each) not in found and not isinstance(each, CODE):
            found[id(each)] = each
            following += gc.get_referents(each)
    return Counter(type(each).__name__ for each in found.values())


@pytest.mark.parametrize("counted", [True, False], ids=["counted by a worker", "no worker counts"])
def test_what_has_left_the_window_is_forgotten(tmp_path, counted):
    """Workers, runs, queues and failures come and go, and pages are opened once."""
    steps = round(HOURS * 3600 / STEP)
    with asyncio.Runner() as loop:
        busy = Busy(str(tmp_path / "spool"), loop, counted=counted)
        found = []
        for _ in range(2):
            for _ in range(steps):
                busy.step()
            gc.collect()
            found.append((remembered(busy.site), len(busy.site.watch.look().failed)))
    (before, failed), (after, failed_later) = found
    assert failed == failed_later > 0
    # What keeps anything of each step has grown by as many.
    grown = {kind: (before[kind], after[kind]) for kind in after}
    assert not {kind: each for kind, each in grown.items() if each[1] >= each[0] + steps}


def test_attempts_share_their_texts(tmp_path):
    """They are not interned: what Python 3.12 has interned it never frees."""
    interned = getattr(sys, "getunicodeinternedsize", lambda: 0)
    with asyncio.Runner() as loop:
        busy = Busy(str(tmp_path / "spool"), loop, counted=True)
        busy.step()
        before = interned()
        for _ in range(3):
            busy.step()
        assert interned() < before + 30  # each step has thirty new texts
        failed = busy.site.watch.look().failed
    assert len({each.entry.failure for each in failed}) == 1
    assert len({id(each.entry.failure) for each in failed}) == 1
