"""Clients and servers that die or fall silent in the middle of things. They run last."""

import itertools
import re

import pytest
from nfs_harness import BRISK
from support import wait_until

LEASE = 2.0
SHORT = {"FSQUEUE__LEASE": str(LEASE)}
AGAIN = ["again", "a"]
BEAT = float(BRISK["FSQUEUE__HEARTBEAT"])
# The longest pause of a caller that polls, and then everything takes longer between such guests.
POLL, SLACK = 1.0, 1.5
# The slowest of a row of blocking calls, on guests that nobody else keeps from running.
USUAL = 0.4
# Without a delegation this is one operation. With one: the server's lease, 10 s, and more.
AT_ONCE = 5.0
AS_SOON_AS_FREE = """
while True:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        break
    except BlockingIOError:
        time.sleep(0.1)
time.time()
"""
SETTING_UP = """
import time
from fsqueue.spool.disk.filesystem import Filesystem
fs = Filesystem(remote=True)
def timed(function, *arguments):
    began = time.monotonic()
    function(*arguments)
    return time.monotonic() - began
"""


def begin_on_b(site, **env):
    """Two calls from a, one of each kind, in the middle of their bodies on b; a worker on a.

    There is no room on b for calls of others: of one that ends when the host dies, the caller may
    have the outcome and its reaper not know.
    """
    lost = site.worker("b", slots=2, **env)
    caller = site.caller("a", "held", site.folder, **env)
    invocation_id = caller.published()
    site.wait_for_runs(2)
    return lost, caller, invocation_id, site.worker("a", **env)


def now_on_a(site):
    return site.on("a", "time.time()")


def test_a_killed_worker_s_calls_come_back_on_its_host(site, record_property):
    lost = site.worker("a")
    caller = site.caller("b", "held", site.folder)
    invocation_id = caller.published()
    site.wait_for_runs(2)
    worker = site.worker("a")
    killed = site.on("b", "time.time()")
    lost.end()
    answer = caller.answer()
    assert answer["answers"] == {"direct": AGAIN, "kept": AGAIN}
    assert "is gone" in worker.log
    record_property("s from the death of a process", round(answer["ended"] - killed, 1))
    worker.stop()
    site.reconcile([invocation_id])


def test_a_silent_worker_cannot_replace_an_outcome(site):
    """A client is frozen for longer than the lease, and goes on as if nothing had happened."""
    zombie, caller, invocation_id, worker = begin_on_b(site, **SHORT)
    site.lab.guests["b"].freeze()
    try:
        assert caller.answer()["answers"] == {"direct": AGAIN, "kept": AGAIN}
        worker.wait_for("is dead")
        before = site.digest(f"kept/{invocation_id.partition('-')[0]}/{invocation_id}")
        site.allow("release")
    finally:
        site.lab.guests["b"].freeze(False)
    zombie.wait_for("registered again")
    wait_until(lambda: len([run for run in site.runs() if run.endswith("-ends")]) == 2)
    # A stop lets the bodies end and their outcomes be published.
    worker.stop()
    assert site.caller("a", "where", **SHORT).answer() == {"host": "b"}
    zombie.stop()
    after = site.digest(f"kept/{invocation_id.partition('-')[0]}/{invocation_id}")
    assert after == before
    for client in "ab":
        assert site.caller(client, "result_of", invocation_id).answer() == {"result": AGAIN}
    site.reconcile([invocation_id], late=2)


def test_the_server_is_rebooted_in_the_middle_of_a_run(site, record_property):
    """It is away for longer than the lease, and nobody is taken for dead."""
    workers = [site.worker(client, **SHORT) for client in "ab"]
    caller = site.caller("a", "squares", site.folder, 150, 0.2, **SHORT)
    client = caller.published()
    site.wait_for_runs(20)
    site.lab.kill("server")
    site.lab.boot("server")
    answer = caller.answer(timeout=100)
    assert answer["wrong"] == []
    assert answer["count"] == 150
    for worker in workers:
        worker.stop()
        assert "dead" not in worker.log
    runs = sorted(map(int, site.runs()))
    assert sorted(set(runs)) == list(range(150))
    record_property("longest wait for a result, s", round(answer["pause"], 1))
    record_property("bodies that ran twice", len(runs) - 150)
    site.reconcile(f"{client}-{number}" for number in range(1, 151))


def test_a_dead_host_s_calls_come_back_when_the_server_frees_its_lock(
    site, version, record_property
):
    if version == "3":
        pytest.skip("an NFSv3 server never frees the locks of a host that is gone")
    _, caller, invocation_id, worker = begin_on_b(site)
    opening = f"file = open('{site.folder}/probe', 'a')\n"
    other = site.lab.remote("b")
    other(f"{opening}fcntl.flock(file, fcntl.LOCK_EX)")
    killed = now_on_a(site)
    site.lab.kill("b")
    freed = site.on("a", opening + AS_SOON_AS_FREE)
    ended = caller.answer()
    assert ended["answers"] == {"direct": AGAIN, "kept": AGAIN}
    assert "has lost its lock and is silent" in worker.log
    assert ended["ended"] - killed < 50, "not after the lease, which is 60 s"
    record_property("s from the death to the freed lock", round(freed - killed, 1))
    record_property("s from the freed lock to the outcomes", round(ended["ended"] - freed, 1))
    worker.stop()
    site.reconcile([invocation_id])


def test_a_dead_host_s_calls_come_back_after_the_lease(site, record_property):
    """The lease and one beat is what fsqueue waits; the rest is how long such guests take.

    How much that is in general on a machine that has other work, too, blocking calls on the
    reaper's host tell at the same time. They are answered while those of the dead host are lost.
    """
    _, caller, invocation_id, worker = begin_on_b(site, **SHORT)
    others = site.caller("a", "steadily", site.folder, **SHORT)
    others.wait_for("begun")
    killed = now_on_a(site)
    site.lab.kill("b")
    answer = caller.answer()
    assert answer["answers"] == {"direct": AGAIN, "kept": AGAIN}
    (silence,) = re.findall(r"was silent for (\d+) s", worker.log)
    # Pauses of the observer itself count for one beat at most.
    assert LEASE <= int(silence) <= LEASE + 2 * BEAT
    site.allow("stop")
    calls = others.answer()["calls"]
    took = answer["ended"] - killed
    record_property(f"s from the death, with a lease of {LEASE:g} s", round(took, 1))
    slowest = max(end - begin for begin, end in calls)
    record_property("slowest call of others on the reaper's host, s", round(slowest, 2))
    assert any(killed < begin and end < answer["ended"] for begin, end in calls), calls
    assert took < LEASE + (BEAT + POLL + SLACK) * max(1.0, slowest / USUAL)
    worker.stop()
    site.reconcile([invocation_id])


def kept_by_clients(site, paths):
    """Files of which the server has given a delegation, as it tells."""
    places = {path: path.replace(site.lab.mountpoint, "/export") for path in paths}
    return site.on_server(
        "inodes = [line.split()[5].rpartition(':')[2] for line in open('/proc/locks')"
        " if 'DELEG' in line]\n"
        f"[path for path, place in {places!r}.items() if str(os.stat(place).st_ino) in inodes]"
    )


def is_delegated(site, here, there, number):
    """Whether the server lets b keep a new file. For half a minute it may not, after a recall."""
    path = f"{site.folder}/kept-{number}"
    here(f"fs.create({path!r}, [b'content'])")
    here("time.sleep(1)")
    there(f"fs.read({path!r})")
    return kept_by_clients(site, [path]) == [path]


def test_who_dies_holds_up_nobody(site, version, record_property):
    """An NFSv4 server lets a client keep a file that it has opened (a delegation).

    It takes that back before anybody else changes, moves or removes the file: from a dead client
    at the end of that one's lease with the server.
    """
    beat, call, record = paths = [f"{site.folder}/{kind}" for kind in ("beat", "call", "record")]
    with site.steps("a") as here:
        here(SETTING_UP)
        for path in paths:
            here(f"fs.create({path!r}, [b'content'])")
        # A server gives no delegation of what is open for writing, and takes its time to close it.
        here("time.sleep(1)")
        with site.steps("b") as there:
            there(SETTING_UP)
            there(f"fs.modified({beat!r})")
            for path in (call, record):
                there(f"fs.read({path!r})")
                there(f"fs.let_go({path!r})")
            if version != "3":
                names = itertools.count()
                wait_until(lambda: is_delegated(site, here, there, next(names)))
        assert kept_by_clients(site, paths) == []
        site.lab.kill("b")
        took = [
            here(f"timed(fs.touch, {beat!r})"),
            here(f"timed(fs.recall, {call!r})"),
            here(f"timed(fs.rename, {call!r}, {call + '.2'!r})"),
            here(f"timed(fs.unlink, {record!r})"),
        ]
    assert max(took) < AT_ONCE
    record_property("slowest operation on what a dead client had seen, s", round(max(took), 3))
