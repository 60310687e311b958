"""Spools for the pages of the monitor, and clients that ask for these pages."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import shop_tasks
from integration.conftest import working
from starlette.testclient import TestClient
from support import PATIENCE

from fsqueue import FSQueue
from fsqueue.codec import traceback_text
from fsqueue.monitor.access import Tokens
from fsqueue.monitor.looks import Watch
from fsqueue.monitor.pages.page import TriggerInfo
from fsqueue.monitor.server import Settings, application
from fsqueue.spool.admin import controls
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import FleetRecord
from fsqueue.spool.history.statistics import read_stats
from fsqueue.spool.store.open_spool import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.spool.store.store import Store

SEE, ACT = "s" * 43, "a" * 43
TOKENS = Tokens(SEE, ACT)
HOST = "http://127.0.0.1:8787"
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{123*1001}}\x1b[31m\u202e"
TRIGGERS = [
    TriggerInfo(task="shop_tasks.render", trigger="cron(0 3 * * *)", next=4e9, handled=1e9),
    TriggerInfo(task="shop_tasks.parse", trigger=f"on_event('{HOSTILE}')", next=None, handled=None),
]
CORPUS = (Path(__file__).parent / "hostile.txt").read_text("utf-8").splitlines()
# What these must have become in a page: escaped, and without characters that control anything.
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


class Shop:
    """A spool in which calls have ended, failed and wait."""

    def __init__(self, root: str, calls: int = 4, *, hostile: bool = False) -> None:
        self.root = root
        text = HOSTILE if hostile else "a dozen"
        with contextlib.ExitStack() as stack:
            app = FSQueue("shop", root=root, heartbeat=0.5)
            stack.callback(app.close)
            self.done, self.failed, self.pending, self.waiting = [], [], [], []
            if not calls:
                app.store.files.sync_clock()
                return
            label = "{page}" if hostile else "page={page}"
            render = app.task(shop_tasks.render, label=label, capture_output=True)
            parse = app.task(shop_tasks.parse, label="{text}", capture_output=True)
            gpu = app.task(shop_tasks.train, resources="gpu=1", label=text)
            archive = app.task(shop_tasks.archive, queue="archive")
            self._add_fleet(app.store, text)
            with working(app, app.make_runner(concurrency=2)):
                self.done = [render(text if hostile else n) for n in range(calls)]
                self.failed = [parse(text) for _ in range(calls)]
                if hostile:
                    self.failed += map(parse, ["\n".join(CORPUS), *CORPUS])  # the first has all
                for each in [*self.done, *self.failed]:
                    each.future().exception(timeout=PATIENCE)
            self.pending = [gpu(n) for n in range(calls)]
            for number in range(calls):
                archive(number)
            self.waiting = [self.pending[0].then(render) for _ in range(calls)]
            controls.pause(app.store, "shop.archive")
            (worker,) = read_stats(app.store, 3600.0).workers
            self.worker = worker.worker

    @staticmethod
    def _add_fleet(store: Store, text: str) -> None:
        """A fleet whose jobs have ended, and which submits no more."""
        fleet = FleetFiles(store.files, "night")
        fleet.define(
            FleetRecord(
                name="night", system="slurm", app_id="shop", queues=("nightly",), walltime=3600.0,
                slots=4, max=8,
            )
        )  # fmt: skip
        fleet.note("submitted 2 jobs", f"calls wait: {text}")
        fleet.refuse("abcdef", f"the partition is closed: {text}")
        fleet.mark("paused", f"two jobs in a row did not work: {text}")


def watch_of(root: str, filesystem=None) -> Watch:
    """Looks at a spool as often as a test asks."""
    store = open_store(root, filesystem, look=True)
    store.files.sync_clock()
    return Watch(store, heartbeat=0.5, result_ttl=1e6, pause=0.0)


def opened(root: str) -> Store:
    """A spool as a command that changes it opens it."""
    store = open_store(root)
    store.files.sync_clock()
    return store


def client_of(root: str, token: str = SEE, *, watch: Watch | None = None, **settings) -> TestClient:
    """A browser without scripts, which has been given a token already."""
    settings.setdefault("triggers", lambda: TRIGGERS)
    if settings.pop("actions", False):
        settings.setdefault("writable", lambda: opened(root))
    watch = watch or watch_of(root)
    made = Settings(watch, traceback_text, TOKENS, **settings)
    client = TestClient(application(made), base_url=HOST, follow_redirects=False)
    if token:
        client.cookies.set(f"fsqueue-{watch.store.files.info.id}", token, domain="127.0.0.1")
    return client


@contextlib.contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def pages_of(shop: Shop) -> list[str]:
    """Every page that a spool of this kind has."""
    plain = [
        "/",
        "/calls",
        "/failures",
        "/workers",
        "/runs",
        "/tasks",
        "/jobs",
        "/triggers",
        "/search",
        "/search?q=parse",
    ]
    if not shop.done:
        return plain
    run = shop.done[0].id.rpartition("-")[0]
    some = (shop.done[0], shop.failed[0], shop.pending[0], shop.waiting[0])
    return [
        *plain,
        *(f"/calls/{each.id}" for each in some),
        "/failures/ValueError",
        f"/runs/{run}",
        f"/workers/{shop.worker}",
        "/tasks/shop_tasks.render",
        "/tasks/shop_tasks.parse",
    ]
