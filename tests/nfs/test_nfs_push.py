"""Workers and callers that an NFSv4 server wakes; on NFSv3 they poll.

Whether a server delegates a file is its own decision: after many recalls it may refuse for half a
minute. So no time has a bound that polling would not meet, and no count unless there is a token.
"""

import contextlib
import os

import pytest
from nfs_harness import LOOK, STEP
from support import wait_until

PUSH = {"FSQUEUE__WATCH": "push", "FSQUEUE__HEARTBEAT": "2"}
POLL = {"FSQUEUE__WATCH": "poll", "FSQUEUE__HEARTBEAT": "2"}
DEFAULT = {"FSQUEUE__HEARTBEAT": "2"}  # the same as push on NFSv4
# Seconds in which the worker has nothing to do, and then the caller waits.
SILENCE = float(os.environ.get("FSQUEUE_TESTS_SILENCE", "12"))
# What a client has sent, without what keeps its lease with the server.
COUNTS = """
import re, time
def counts():
    with open("/proc/self/mountstats") as file:
        text = file.read()
    found = re.findall(r"^\\s+(?!SEQUENCE|RENEW)([A-Z_0-9]+): (\\d+) ", text, re.MULTILINE)
    return {name: int(count) for name, count in found}
def requests():
    return sum(counts().values())
def published(go):
    before = counts()
    open(go, "w").close()
    while counts()["RENAME"] == before.get("RENAME"):
        time.sleep(0.001)
    time.sleep(0.02)  # for the ring, before the first poll
    return requests()
"""
REQUESTS = "requests()"
# When the server first has an outcome; the guests' clocks are that of the machine.
PUBLISHED = """
import os, time
while not any(files for _, _, files in os.walk({done!r})):
    time.sleep(0.0005)
time.time()
"""
# Upkeep costs more than polls, and its costliest part comes at every fifth beat: there is no beat
# while requests are counted.
UNHURRIED = {"FSQUEUE__HEARTBEAT": "60", "FSQUEUE__LEASE": "200"}
IDLE = min(SILENCE, 40.0)


def tokens(site):
    """Tokens in the spool, by the server."""
    return [name for name in site.files("bell") if name.rpartition(".")[2].isdigit()]


def measure(site, settings, version, record_property):
    name, settings = settings["FSQUEUE__WATCH"], settings | UNHURRIED
    worker = site.worker("b", **settings)
    go = f"go-{name}"
    caller = site.caller("a", "after_silence", site.local, go, SILENCE, **settings)
    caller.published()
    pushed = name == "push" and version != "3"
    if pushed:
        wait_until(lambda: tokens(site), timeout=30, what="a token", pause=LOOK)
    server = site.lab.remote("server")
    with site.steps("a") as client, site.steps("b") as host, contextlib.closing(server):
        client(COUNTS)
        host(COUNTS)
        host("time.sleep(6)")  # it settles, or its pauses grow
        held, before = tokens(site), host(REQUESTS)
        for _ in range(6):
            host(f"time.sleep({IDLE / 6})")
        idle = (host(REQUESTS) - before) * 60 / IDLE
        held = held if held == tokens(site) else []
        before = client(f"published('{site.local}/{go}')")
        for _ in range(6):
            client(f"time.sleep({(SILENCE - 1) / 6})")
        waited = client(REQUESTS) - before
        server.start(PUBLISHED.format(done=site.exported("done")))
        found = caller.answer(timeout=SILENCE + 40)
        found["received"] = found["had"] - server.result(STEP)
    record_property(f"requests of an idle minute, {name}", round(idle))
    received = round(1e3 * found["received"], 1)
    record_property(
        f"ms from the publication of an outcome until its caller had it, {name}", received
    )
    for what in ("started", "answered"):
        text = f"ms until a call after {SILENCE:g} s of silence was {what}, {name}"
        record_property(text, round(1e3 * found[what], 1))
    record_property(f"requests of a caller in the {SILENCE:g} s that it waited, {name}", waited)
    worker.stop()
    assert tokens(site) == []
    site.reconcile()
    return idle, held


@pytest.mark.timeout(400)  # two times a minute and more of waiting
def test_an_idle_worker_is_woken_by_a_call_and_a_caller_by_its_result(
    site, version, record_property
):
    polled, none = measure(site, POLL, version, record_property)
    pushed, held = measure(site, PUSH, version, record_property)
    assert none == []
    if version == "3":
        assert held == []
    elif held:  # otherwise the server has refused to delegate, and the worker has polled
        assert pushed < polled / 2


def test_calls_one_after_another_and_a_fan_out_are_all_answered(site, record_property):
    """Tokens come and go while there is work."""
    workers = [site.worker(name, **PUSH) for name in "ab"]
    answer = site.caller("a", "blocking", 50, **PUSH).answer()
    assert answer["wrong"] == []
    record_property("median of 50 calls, ms", round(1000 * answer["median"], 1))
    caller = site.caller("b", "squares", site.local, 100, "0.05", **PUSH)
    client = caller.published()
    answer = caller.answer()
    assert answer["wrong"] == []
    for worker in workers:
        worker.stop()
    site.reconcile(f"{client}-{number}" for number in range(1, 101))


def test_a_dead_sleeper_holds_up_neither_a_publisher_nor_the_others(site, version, record_property):
    """Its token is rung in vain, by a thread of its own; another worker takes the call."""
    doomed = site.worker("b", **DEFAULT)
    worker = site.worker("a", **DEFAULT)
    if version != "3":
        wait_until(lambda: len(tokens(site)) == 2, timeout=60, what="tokens", pause=LOOK)
    site.lab.kill("b")
    answer = site.caller("a", "blocking", 5, **PUSH).answer()
    assert answer["wrong"] == []
    record_property("slowest of 5 calls beside a dead sleeper, ms", round(1000 * answer["max"], 1))
    assert answer["max"] < 8, "the server gives up a host after 10 s"
    worker.stop()
    assert doomed.client == "b"
