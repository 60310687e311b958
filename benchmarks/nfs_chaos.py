"""Attack a queue over a real NFS server with two clients, then account for every call.

    python nfs_chaos.py --seconds 600 [3 | 4.2]

FSQUEUE_NFS_LAB is the folder of nfslab.py, as for ``tests/nfs``, whose harness this uses. On each
host is a worker with either kind of records and of wake-ups; so are the callers. Workers and
a host are killed, and the server twice. The exit code is 0 if all calls are accounted for.
"""

import argparse
import itertools
import random
import sys
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"
sys.path[:0] = [str(HERE), str(TESTS / "nfs"), str(TESTS)]

from conftest import compile_ahead, disk_in_memory  # noqa: E402
from nfs import load_lab  # noqa: E402
from nfs_harness import Site  # noqa: E402
from support import wait_until  # noqa: E402

KINDS = (
    {"FSQUEUE__RECORDS": "links", "FSQUEUE__WATCH": "push"},
    {"FSQUEUE__RECORDS": "files", "FSQUEUE__WATCH": "poll"},
)
COMMON = {"FSQUEUE__LEASE": "6", "FSQUEUE__HEARTBEAT": "2", "FSQUEUE__MAX_ATTEMPTS": "1000"}
CALLS, BODY = 60, "0.05"
PATIENCE = 240.0  # for callers; an NFS server that is back makes its clients wait for its grace


class Callers(threading.Thread):
    """Makes group after group of calls on host a, with one kind of settings."""

    def __init__(self, site, kind, until):
        super().__init__()
        self._site, self._kind, self._until = site, kind, until
        self.ids, self.errors = [], []
        self.start()

    def run(self):
        """Make calls until the time is over."""
        try:
            while time.monotonic() < self._until:
                self._make_calls()
        except BaseException as error:  # noqa: BLE001 - reported at the end
            self.errors.append(repr(error))

    def _make_calls(self):
        caller = self._site.caller("a", "squares", self._site.folder, CALLS, BODY, **self._kind)
        answer = caller.answer(timeout=PATIENCE)
        client = caller.published()
        self.ids += [f"{client}-{number}" for number in range(1, CALLS + 1)]
        if answer["wrong"] or answer["count"] != CALLS:
            self.errors.append(answer)


class Attacks:
    """The workers of a site, and what befalls them."""

    def __init__(self, site):
        self._site, self.counts = site, dict.fromkeys(("worker", "host", "server"), 0)
        self._workers = [self._start(*each) for each in itertools.product("ab", KINDS)]

    def _start(self, client, kind):
        return client, kind, self._site.worker(client, **COMMON, **kind)

    def kill_worker(self):
        """Kill a worker, and start another one."""
        victim = random.randrange(len(self._workers))
        client, kind, worker = self._workers[victim]
        worker.end()
        self._workers[victim] = self._start(client, kind)
        self.counts["worker"] += 1

    def kill_host(self):
        """Cut the power of host b, and boot it again."""
        self._site.lab.kill("b")
        time.sleep(random.uniform(0, 20))
        self._site.lab.boot("b")
        self._workers = [
            self._start(client, kind) if client == "b" else (client, kind, worker)
            for client, kind, worker in self._workers
        ]
        self.counts["host"] += 1

    def kill_server(self):
        """Cut the power of the server, and boot it again."""
        self._site.lab.kill("server")
        time.sleep(random.uniform(0, 5))
        self._site.lab.boot("server")
        self.counts["server"] += 1

    def stop(self):
        """Let the workers finish, and leave."""
        for _, _, worker in self._workers:
            worker.stop()


def attack(site, seconds):
    """Returns the ids of all calls, the errors and the numbers of attacks."""
    began = time.monotonic()
    attacks = Attacks(site)
    callers = [Callers(site, COMMON | kind, began + seconds) for kind in KINDS]
    servers = [began + seconds / 3, began + 2 * seconds / 3]
    while time.monotonic() < began + seconds:
        time.sleep(random.uniform(5, 15))
        if servers and time.monotonic() > servers[0]:
            servers.pop(0)
            attacks.kill_server()
        else:
            random.choice([attacks.kill_worker, attacks.kill_worker, attacks.kill_host])()
        print(f"{time.monotonic() - began:.0f} s: {attacks.counts}", flush=True)
    for caller in callers:
        caller.join()
    attacks.stop()
    errors = [error for caller in callers for error in caller.errors]
    return [each for caller in callers for each in caller.ids], errors, attacks.counts


def account(site, ids, errors):
    """What is wrong, as texts."""

    def left():
        return {top: site.files(top) for top in ("pending", "running", "quarantine")}

    wrong = list(map(str, errors))
    try:
        wait_until(lambda: not any(left().values()), timeout=60, pause=1)
    except AssertionError:
        wrong.append(f"left: {left()}")
    kept = set(site.files("kept"))
    wrong += [f"no outcome: {each}" for each in sorted(set(ids) - kept)]
    wrong += [f"nobody's outcome: {each}" for each in sorted(kept - set(ids))]
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("version", nargs="?", default="4.2", choices=("3", "4.2"))
    options = parser.parse_args()
    seen = [str(TESTS / "nfs" / "project"), str(TESTS.parent / "fsqueue")]
    compile_ahead()
    with disk_in_memory() as folder:
        lab_options = {"lease": 15, "grace": 15, "mem": "512M", "ro": seen, "dir": folder}
        with load_lab().Lab(opts=f"vers={options.version}", **lab_options) as lab:
            site = Site(lab, "chaos", sys.executable)
            ids, errors, counts = attack(site, options.seconds)
            wrong = account(site, ids, errors)
            runs, late = len(site.runs()), len(site.files("done"))
    print(f"NFS v{options.version}: {len(ids)} calls, {runs} bodies, {late} late outcomes")
    print(f"killed: {counts}")
    print("\n".join(wrong) if wrong else "all calls are accounted for")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
