"""A spool in whose every field of text stand hostile texts, each in a record of its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from crowd import count_for_all
from monitor_harness import CORPUS, opened

from fsqueue.monitor.pages.page import TriggerInfo
from fsqueue.spool.admin.glance import read_latest, write_latest
from fsqueue.spool.admin.snapshot import RunningCall, WorkerInfo
from fsqueue.spool.features.body_reports import Progress
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import FleetRecord, Member, PastRecord
from fsqueue.spool.format.records import BatchJob, ClientRecord
from fsqueue.spool.history.entries import Entry, Sums, TaskSums
from fsqueue.spool.history.journal import hour_of

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

TRIGGERS = [TriggerInfo(task=text, trigger=text, next=4e9, handled=None) for text in CORPUS]
WORKER = "node-0-aaaaaa"


def forge(root: str) -> None:
    """Write what anybody who can write to the spool may write."""
    store = opened(root)
    _forge_journal(store)
    _forge_clients(store)
    _forge_fleets(store)
    count_for_all(store)  # so the last look is one of a worker
    latest = read_latest(store)
    assert latest is not None
    workers = tuple(_worker(number, text) for number, text in enumerate(CORPUS))
    snapshot = msgspec.structs.replace(latest.snapshot, workers=workers)
    write_latest(store, msgspec.structs.replace(latest, snapshot=snapshot))


def _forge_journal(store: Store) -> None:
    now = store.clock.now() - 30
    hour = hour_of(now)
    store.fs.make_folders(store.layout.journal_hour(hour))
    lines = [
        Entry(
            id=f"abcd-{number}", task=text, queue=text, attempt=1, state="failed",
            started=now, wait=0.1, run=0.2, failure=text, fp=f"{number:08x}", at=text,
            message=text, failed=1, label=text, evidence=text,
        )
        for number, text in enumerate(CORPUS)
    ]  # fmt: skip
    sums = Sums(
        serial=1, began=now - 99, since=now - 10, until=now, slots=4, busy=9.0,
        tasks={text: TaskSums(calls=2, failed=1, seconds=1.0, run={3: 2}, wait={3: 2},
                              failed_label=text) for text in CORPUS},
        queues=dict.fromkeys(CORPUS, 2), failures={each.fp: 1 for each in lines},
    )  # fmt: skip
    layout = store.layout
    data = b"".join(msgspec.json.encode(each) + b"\n" for each in lines)
    store.files.append(layout.journal_lines(hour, WORKER), data)
    store.files.append(layout.journal_sums(hour, WORKER), msgspec.json.encode(sums) + b"\n")


def _forge_clients(store: Store) -> None:
    for number, text in enumerate(CORPUS):
        name = f"client{number:04}"
        record = ClientRecord(
            name=name, host=text, pid=7, started=store.clock.now(), user=text, command=text,
            folder=text, parent=text,
        )  # fmt: skip
        Path(store.layout.client_record(name)).write_bytes(msgspec.json.encode(record))


def _forge_fleets(store: Store) -> None:
    for number, text in enumerate(CORPUS):
        fleet = FleetFiles(store.files, f"fleet{number % 18:02}")
        fleet.define(
            FleetRecord(
                name=text, system=text, app_id=text, queues=(text,), walltime=60.0, slots=4,
                resources=text,
            )
        )  # fmt: skip
        fleet.note(text, text)
        fleet.mark("paused", text)
        past = PastRecord(kind="vanished", at=store.clock.now(), id=text, detail=text)
        fleet.free(Member("abcdef", number + 1), past)


def _worker(number: int, text: str) -> WorkerInfo:
    call = RunningCall(
        id=f"efgh-{number}", attempt=1, seconds=3.0,
        progress=Progress(done=1.0, total=2.0, message=text),
    )  # fmt: skip
    return WorkerInfo(
        name=WORKER if number == 0 else f"node-{number}-aaaaaa", state="alive", host=text, pid=7,
        runner=text, queues=(text,), slots=4, resources=text, age=9.0, beat=1.0, draining=False,
        running=(call,), held=1, left=60.0,
        batch=BatchJob(system=text, job=text, array_task=text, fleet=text, token=text),
    )  # fmt: skip
