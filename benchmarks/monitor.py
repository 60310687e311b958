"""The web page: the first page, the processor time of an open tab, and the memory over an hour.

A process writes what 20 busy workers would: a snapshot every 2 s, and sums, lines and gauges every
10 s, for 60 calls a second. A journal of as many calls in the last hours is there before.

The hour is simulated: the clock of the file server, and with it that process and the pause between
two looks, run faster. So the monitor takes as many looks, renders and sends as much, and forgets as
many old minutes as in an hour, in a few minutes.
"""

import argparse
import contextlib
import http.client
import http.server
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import msgspec
import psutil
from machine import describe, fresh_folder, memory_or_disk, sentence
from report import entry, write
from screen import spool as busy_spool

from fsqueue.codec import traceback_text
from fsqueue.monitor.access import Tokens
from fsqueue.monitor.looks import PAUSE, Watch
from fsqueue.monitor.server import Settings, serve
from fsqueue.monitor.sockets import listen_on_port
from fsqueue.spool.admin.glance import write_latest
from fsqueue.spool.disk.looking import LookingFilesystem
from fsqueue.spool.history.entries import Groups, Sums, TaskSums
from fsqueue.spool.history.gauges import Gauge, QueueGauge, append_gauge
from fsqueue.spool.history.journal import hour_of
from fsqueue.spool.store.open_spool import open_store

CHROMIUM = "/usr/bin/chromium"
WORKERS, LINE_EVERY, HOUR = 20, 10.0, 3600.0
CALLS = 30
"""Calls that each worker ends between two lines of its sums."""


class Fast:
    """A clock that is right at `zero`, a time of the monotonic clock, and then runs faster."""

    def __init__(self, zero, start, speed):
        self.zero, self.start, self.speed = zero, start, speed

    def now(self):
        """Seconds since the epoch."""
        return self.start + (time.monotonic() - self.zero) * self.speed

    def words(self):
        """For the command line of another process."""
        return [str(self.zero), str(self.start), str(self.speed)]


# -- the process that writes what workers would ------------------------------------------------


def feed(root, clock):
    """Write until the end."""
    store = open_store(root)
    store.files.sync_clock()
    dice = random.Random(2)
    looks = list(busy_spool(WORKERS, dice))
    names = [each.name for each in looks[0].snapshot.workers]
    began, number, serial, due = clock.now(), 0, 0, clock.now()
    while True:
        now = clock.now()
        glance = looks[number % len(looks)]
        number += 1
        snapshot = msgspec.structs.replace(
            glance.snapshot, time=now, spool=store.files.info.id, root=str(root)
        )
        write_latest(store, msgspec.structs.replace(glance, snapshot=snapshot, worker=names[0]))
        if now >= due:
            serial += 1
            for name in names:
                append(store, name, (began, due - LINE_EVERY, due), serial, dice)
            gauges = {
                queue.name: QueueGauge(due=queue.due - serial, workers=WORKERS)
                for queue in snapshot.queues
            }
            slots = 4 * WORKERS
            append_gauge(
                store, names[0],
                Gauge(at=due, queues=gauges, workers=WORKERS, slots=slots, busy=slots),
            )  # fmt: skip
            due += LINE_EVERY
        time.sleep(max(0.0, PAUSE / clock.speed - 0.001))


def append(store, name, times, serial, dice):
    """Append what one worker has done in the last seconds."""
    began, since, until = times
    tasks, groups, lines = {}, Groups(), []
    for each in range(CALLS):
        made = entry(serial * CALLS + each, dice.uniform(since, until), dice)
        groups.count(made, tasks.setdefault(made.task, TaskSums()).count(made))
        lines.append(msgspec.json.encode(made) + b"\n")
    sums = Sums(
        serial=serial, began=began, since=since, until=until, slots=4, busy=39.0, tasks=tasks,
        queues=groups.queues, failures=groups.failures, runs=groups.runs,
    )  # fmt: skip
    hour = hour_of(until)
    store.fs.make_folders(store.layout.journal_hour(hour))
    store.files.append(store.layout.journal_lines(hour, name), b"".join(lines))
    store.files.append(store.layout.journal_sums(hour, name), msgspec.json.encode(sums) + b"\n")


# -- the monitor with a fast clock -------------------------------------------------------------


class FastFilesystem(LookingFilesystem):
    """A filesystem whose monotonic clock runs faster; set `clock` before it is used."""

    clock: Fast

    def monotonic(self):
        """Seconds of the fast clock."""
        return (time.monotonic() - self.clock.zero) * self.clock.speed


def serve_fast(root, clock):
    """What `fsqueue monitor` does, with that clock."""
    # A server's clock is never before the time of a file on it. So this file sets the clock.
    fs = FastFilesystem(remote=True)
    fs.clock = clock
    stamp = Path(root, "locks", "upkeep")
    stamp.parent.mkdir(exist_ok=True)
    stamp.touch()
    os.utime(stamp, (clock.now(), clock.now()))
    store = open_store(root, fs, look=True)
    store.files.sync_clock()
    watch = Watch(store, heartbeat=2.0, result_ttl=1e6, pause=PAUSE / clock.speed)
    listener = listen_on_port(0)
    tokens = Tokens.fresh(actions=False)
    print(f"http://127.0.0.1:{listener.getsockname()[1]}/?token={tokens.see}", flush=True)
    serve(Settings(watch, traceback_text, tokens), listener)


# -- measuring ---------------------------------------------------------------------------------


@contextlib.contextmanager
def running(*command):
    """A process of a monitor, and its link."""
    with subprocess.Popen([sys.executable, *map(str, command)], stdout=subprocess.PIPE,
                          text=True) as process:  # fmt: skip
        try:
            link = None
            while link is None:
                line = process.stdout.readline()
                assert line, "the monitor has ended"
                link = re.search(r"http://127\S+", line)
            yield process.pid, link[0]
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


@contextlib.contextmanager
def feeding(root, clock):
    with subprocess.Popen([sys.executable, __file__, "feed", str(root), *clock.words()]) as process:
        try:
            yield
        finally:
            process.kill()


def cpu_of(pid):
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


def get(link, path="/"):
    """Fetch a page; milliseconds and its size."""
    address, _, token = link.removeprefix("http://").partition("/?token=")
    began = time.monotonic()
    connection = http.client.HTTPConnection(address, timeout=60)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    answer = connection.getresponse()
    body = answer.read()
    assert answer.status == 200, body[:300]
    connection.close()
    return 1000 * (time.monotonic() - began), len(body)


@contextlib.contextmanager
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


IS_PAINTED = "() => performance.getEntriesByName('first-contentful-paint').length"
PARTS = """() => {
  const page = performance.getEntriesByType("navigation")[0];
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  const style = performance.getEntriesByType("resource").filter((e) => e.name.endsWith("css"));
  return {"answer begins": page.responseStart, "answer ends": page.responseEnd,
    "style is there": style.length ? style[0].responseEnd : page.responseEnd,
    "page is ready": page.domContentLoadedEventEnd, "painted": paint.startTime,
    "bytes": page.encodedBodySize};
}"""


def first_page(root, browser):
    """Milliseconds of the first answer of a new monitor, and until it is painted."""
    rows = {}
    with running("-m", "fsqueue", "monitor", "--root", root) as (pid, link):
        before = cpu_of(pid)
        took, size = get(link)
        rows |= {"first answer of the process, ms": round(took), "its size, kB": size // 1000}
        rows["its processor time, ms"] = round(1000 * (cpu_of(pid) - before))
        later = []
        for _ in range(5):
            time.sleep(PAUSE + 0.2)  # each has a new look
            later.append(get(link)[0])
        rows["later answers with a new look, ms"] = [round(each) for each in later]
    with serving_nothing() as link:
        rows["in a new Chromium, an empty page, ms"], _ = painted(browser, link)
    with running("-m", "fsqueue", "monitor", "--root", root) as (_, link):
        first, again = painted(browser, link)
        rows["in a new Chromium, the first page of a new process, ms"] = first
        rows["in the same Chromium, again, ms"] = again
    empty = rows["in a new Chromium, an empty page, ms"]["painted"]
    rows["of the first page, Chromium itself"] = f"{100 * empty / max(1, first['painted']):.0f} %"
    return rows


class Nothing(http.server.BaseHTTPRequestHandler):
    """What a browser needs for any page."""

    def do_GET(self):
        """Answer with an empty page."""
        body = b"<!doctype html><title>nothing</title><p>nothing"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        """Print nothing."""


@contextlib.contextmanager
def serving_nothing():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def painted(browser, link):
    """The parts of the time until a page is painted, first in a new browser and then again."""
    fresh = browser.browser_type.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
    page, found = fresh.new_page(), []
    for address in (link, link.partition("?")[0]):
        page.goto(address)
        while not page.evaluate(IS_PAINTED):  # the page's policy forbids `wait_for_function`
            time.sleep(0.01)
        found.append({name: round(value) for name, value in page.evaluate(PARTS).items()})
    fresh.close()
    return found


def open_tab(root, browser, seconds):
    """The share of a core that one open tab takes."""
    rows = {}
    with running("-m", "fsqueue", "monitor", "--root", root) as (pid, link):
        before = cpu_of(pid)
        time.sleep(min(seconds, 15))
        rows["no tab, % of a core"] = round(100 * (cpu_of(pid) - before) / min(seconds, 15), 2)
        page = browser.new_page()
        page.goto(link)
        page.wait_for_selector("html.is-live")
        time.sleep(10)  # the journal of the window is read over several looks
        before, began = cpu_of(pid), time.monotonic()
        time.sleep(seconds)
        share = (cpu_of(pid) - before) / (time.monotonic() - began)
        rows["one tab, % of a core"] = round(100 * share, 2)
        page.close()
    return rows


def hour(root, browser, speed, minutes):
    """The memory of the monitor in MiB at times of a simulated hour, with a tab and streams."""
    clock = Fast(time.monotonic(), time.time() + 60, speed)
    with (
        feeding(root, clock),
        running(__file__, "serve", root, *clock.words()) as (pid, link),
    ):
        page = browser.new_page()
        page.goto(link)
        page.wait_for_selector("html.is-live")
        memory, requests = [], 0
        began = clock.now()
        for minute in range(0, minutes + 1, 5):
            while clock.now() < began + 60 * minute:
                for path in ("/", "/failures", "/workers", "/calls", "/runs", "/tasks"):
                    get(link, path)
                    requests += 1
                time.sleep(20 / speed)
            memory.append(round(psutil.Process(pid).memory_info().rss / 2**20, 1))
        looks = page.inner_text("header .live")
        used = cpu_of(pid)
        page.close()
    return {
        f"MiB every 5 of {minutes} simulated minutes": memory,
        "requests besides the tab": requests,
        "processor time, s": round(used, 1),
        "the tab says": looks,
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, default=432_000)
    parser.add_argument("--hours", type=int, default=2, help="of the journal that is there before")
    parser.add_argument("--seconds", type=float, default=60.0, help="of the open tab")
    parser.add_argument("--speed", type=float, default=20.0, help="of the simulated hour")
    parser.add_argument("--minutes", type=int, default=90, help="of it")
    parser.add_argument("--only", choices=["first", "tab", "hour"])
    parser.add_argument("--root", type=Path, default=memory_or_disk())
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args()
    machine = describe()
    rows = {}
    with fresh_folder(chosen.root) as folder, chromium() as browser:
        open_store(str(folder))
        write(folder, chosen.lines, WORKERS, chosen.hours, time.time(), random.Random(1))
        with feeding(folder, Fast(time.monotonic(), time.time(), 1.0)):
            if chosen.only in {None, "first"}:
                rows["first page"] = first_page(folder, browser)
            if chosen.only in {None, "tab"}:
                rows["open tab"] = open_tab(folder, browser, chosen.seconds)
        if chosen.only in {None, "hour"}:
            rows["an hour"] = hour(folder, browser, chosen.speed, chosen.minutes)
    if chosen.json:
        print(json.dumps({"machine": machine, "rows": rows}, indent=2))
        return
    print(f"{chosen.lines:,} lines of {chosen.hours} h, {WORKERS} workers; {sentence(machine)}")
    for name, found in rows.items():
        for what, value in found.items():
            print(f"{name}: {what}: {value}")


if __name__ == "__main__":
    if sys.argv[1:2] in (["feed"], ["serve"]):
        function = {"feed": feed, "serve": serve_fast}[sys.argv[1]]
        function(sys.argv[2], Fast(*map(float, sys.argv[3:6])))
    else:
        main()
