"""Weeks of calls of all fates, whose clients and workers leave or die: nothing piles up."""

from __future__ import annotations

import os

from hosts import ClientHost, ReaperHost, ServerTime, WorkerHost
from support import publish_call, read_record, rewrite
from sweep import ARGUMENTS, MAX_ATTEMPTS, QUEUE, RESULT_TTL, outcome_of, walk

from fsqueue.spool.format.states import State
from fsqueue.spool.store.lookup import cancel
from fsqueue.spool.worker.backlog.folder import FolderBacklog
from fsqueue.spool.worker.expiry import expire
from fsqueue.spool.worker.reaper import reap

DAY = 86_400.0
CALLS = 16


class Days:
    """A spool, and what happens there in a day."""

    def __init__(self, root: str) -> None:
        self.root, self.time = root, ServerTime()
        self.reaper = ReaperHost(root, self.time)
        self.number = 0

    def one(self, *, orderly: bool) -> None:
        """Calls are made and run; who is not orderly dies with what it holds."""
        self.number += 1
        client = ClientHost(self.root, self.time, f"client{self.number:04d}")
        dying, worker = (WorkerHost(self.root, self.time) for _ in range(2))
        for host in (dying, worker):
            host.start()
        ids = self.publish(client)
        self.claim(dying)
        dying_name, name = dying.worker.name, worker.worker.name
        dying.die()
        reap(self.reaper.store, dying_name, "killed")
        self.run_all(worker)
        for index, invocation_id in enumerate(ids[:-4]):  # nobody asks for the last ones
            client.store.outcomes.collect(invocation_id, keep=index % 2 == 0)
        if orderly:
            worker.worker.deregister()
            client.client.close()
        worker.die()
        client.die()
        reap(self.reaper.store, name, "killed")
        self.night()

    def publish(self, client: ClientHost) -> list[str]:
        blob = client.store.blobs.put(b"%d" % self.number * 100)
        receipts = [
            publish_call(
                client.client,
                client.client.new_id(),
                "tasks.f",
                QUEUE,
                [ARGUMENTS],
                max_attempts=MAX_ATTEMPTS,
                keep=index % 2 == 0,
                blob=blob,
            )
            for index in range(CALLS)
        ]
        rewrite(receipts[1].path, read_record(receipts[1].path)[:60])
        assert cancel(client.store, receipts[2].invocation_id, receipts[2].path)
        assert cancel(client.store, receipts[3].invocation_id, None)
        half = client.store.layout.tmp("gone", self.number)
        client.store.fs.create(half, [b"fsqueue"])  # by somebody who died then
        return [receipt.invocation_id for receipt in receipts]

    def claim(self, host: WorkerHost):
        origin = FolderBacklog(host.store, QUEUE).next()
        return None if origin is None else host.worker.claim(origin)

    def run_all(self, host: WorkerHost) -> None:
        for _ in range(3 * CALLS):
            origin = host.backlog.next()
            if origin is None:
                return
            if (claim := host.worker.claim(origin)) is None:
                continue
            host.worker.release(claim)
            if os.lstat(claim.path).st_size < 100:
                host.store.endings.quarantine(claim.path, claim.name, "it is truncated")
            else:
                number = int(claim.name.invocation_id.rpartition("-")[2])
                state = State.FAILED if number % 3 == 0 else State.SUCCEEDED
                host.store.endings.complete(
                    claim, outcome_of(host.store, claim.name, state), [b"value"]
                )
            host.worker.forget(claim)
        raise AssertionError("it never ends")

    def night(self) -> None:
        self.time.now += DAY
        self.reaper.store.files.sync_clock()
        expire(self.reaper.store, result_ttl=RESULT_TTL)

    def kinds(self) -> dict[str, int]:
        """How many files and folders there are, by the folder at the top."""
        files, folders = walk(self.root)
        found: dict[str, int] = {}
        for path in (*files, *folders):
            top = path.partition("/")[0]
            found[top] = found.get(top, 0) + 1
        return found


def test_a_month_leaves_no_more_than_a_fortnight(folder):
    days = Days(f"{folder}/spool")
    seen = []
    for number in range(31):
        days.one(orderly=number % 2 == 0)
        seen.append(days.kinds())
    assert seen[30] == seen[28] == seen[14]
    assert seen[29] == seen[15]
    assert {"done", "kept", "failed", "quarantine", "tmp", "blobs"} <= {
        kind for kind, count in seen[30].items() if count > 1
    }, "all kinds are there"
    for _ in range(10):
        days.night()
    assert FolderBacklog(days.reaper.store, QUEUE).next() is None  # removes empty slots
    assert {kind: count for kind, count in days.kinds().items() if count > 1} == {"pending": 2}
