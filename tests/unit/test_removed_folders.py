"""Every step that creates a file, in a spool whose folders were removed while it was open."""

from __future__ import annotations

import errno
import os
import shutil

import pytest
from spool_pair import QUEUE, opened_pair
from support import publish_call

from fsqueue.runner.output.reporting import Report
from fsqueue.spool.admin.controls import pause, request_drain
from fsqueue.spool.features import idempotency
from fsqueue.spool.features.body_reports import Progress, write_progress
from fsqueue.spool.features.cuts import Cut, add_cut
from fsqueue.spool.features.deduplication import Key
from fsqueue.spool.features.trigger_state import AllOfState, add_event, expect_ends, set_handled
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import FleetRecord, Member
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.format.records import Call
from fsqueue.spool.format.trigger_names import EventName
from fsqueue.spool.history.entries import Entry
from fsqueue.spool.history.journal import Journal
from fsqueue.spool.wakeups.bell import listening
from fsqueue.testing import Fault

KEY = Key("0" * 32, "content")
NAME = AttemptName("abcd-1", 1)
FLEET = FleetRecord(name="fleet", system="slurm", app_id="t", queues=("q",), walltime=60.0, slots=1)


@pytest.fixture
def pair(spool):
    with opened_pair(spool) as pair:
        pair.client.now()
        yield pair


def publish_once(pair, **fields):
    publish_call(pair.client, "abcd-9", "t.f", QUEUE, [b"x"], max_attempts=1, keep=True, **fields)


def fire(pair):
    """Publish under an idempotency key, on a filesystem with and without hard links."""
    ticket, files = pair.client.ticket(5), pair.store.files
    call = Call(
        id="abcd-6",
        spool=ticket.spool,
        task="t.f",
        queue=QUEUE,
        slot=ticket.slot,
        created=ticket.now,
        python="3",
        codec="pickle",
        max_attempts=1,
        keep=True,
        segments=(1,),
    )
    assert idempotency.fire(files, "key", call, [b"x"])
    shutil.rmtree(files.layout.fired_folder)
    pair.fs.inject(Fault.fail(errno.EPERM, at=None, verb="link"))
    assert idempotency.fire(files, "other", call, [b"x"])
    assert files.fs.exists(files.layout.fired("other"))


def call_later(pair):
    """A client reads the clock again now and then."""
    pair.fs.clock_offset += 60.0
    pair.client.now()
    lock = pair.store.fs.lock(pair.store.layout.client_lock(pair.client.name))
    assert lock is None, "others take the client for gone"


def report_output(pair):
    report = Report(pair.store, NAME)
    report.add_output("text")
    report.close()


def ring(pair):
    bell = pair.store.layout.bell(QUEUE)
    with listening(pair.store.files.touch, bell, lambda: None):
        pass
    pair.fs.discard(bell)


def happen(pair):
    state = AllOfState(pair.store.files, "0" * 32, 1)
    state.add(0, "it", b"data", lambda: True)
    state.fire(lambda _: shutil.rmtree(pair.store.layout.triggers_folder))


def write_journal(pair):
    journal = Journal(pair.store, 1)
    journal.begin()
    entry = Entry(
        id="abcd-1", task="t.f", queue="q.default", attempt=1, state="succeeded",
        started=pair.store.clock.now(), wait=0.0, run=0.0, members=1, failed=0,
    )  # fmt: skip
    journal.add(entry)
    journal.close(pair.worker.name)


def submit(pair):
    fleet = FleetFiles(pair.store.files, "fleet")
    fleet.define(FLEET)
    shutil.rmtree(fleet.folder)
    assert fleet.slots.take("token", 1, 1)
    fleet.note_birth(Member("token", 1))
    fleet.stamp("resumed")


STEPS = {
    "publish": publish_once,
    "publish once": lambda pair: publish_once(pair, once=KEY),
    "fire": fire,
    "publish after": lambda pair: publish_once(pair, parent="abcd-8"),
    "register": lambda pair: pair.worker.keep_alive(),
    "call later": call_later,
    "cancel": lambda pair: pair.store.endings.cancel_running("abcd-7"),
    "drain": lambda pair: request_drain(pair.store, pair.worker.name),
    "pause": lambda pair: pause(pair.store, QUEUE),
    "clock": lambda pair: pair.store.files.sync_clock(),
    "blob": lambda pair: pair.store.blobs.put(b"x" * 40_000),
    "progress": lambda pair: write_progress(pair.store.files, NAME, Progress(1, 2)),
    "output": report_output,
    "cut": lambda pair: add_cut(pair.store.files, "abcd-1", Cut(worker="w", at=0.0, ran=1.0)),
    "event": lambda pair: add_event(pair.store.files, "t", EventName("e", "1"), b"x"),
    "ends": lambda pair: expect_ends(pair.store.files, "t"),
    "tick": lambda pair: set_handled(pair.store.files, "0" * 32, 60.0),
    "all of": happen,
    "journal": write_journal,
    "bell": ring,
    "fleet": submit,
}
# An error of theirs must not reach the body or the worker.
ONLY_LOGS = {"output", "journal", "bell"}
REMOVES_AGAIN = {"fire", "all of"}


def remove_folders(root):
    for name in os.listdir(root):
        if name != "spool.json":
            shutil.rmtree(f"{root}/{name}")


@pytest.mark.parametrize("name", STEPS)
def test_missing_folders_are_made_again(pair, name, caplog):
    remove_folders(pair.store.layout.root)
    STEPS[name](pair)
    made = [record for record in caplog.records if "is made again" in record.message]
    assert made
    if name not in REMOVES_AGAIN:
        assert len({record.message for record in made}) == len(made)


@pytest.mark.parametrize("name", STEPS)
def test_nothing_is_made_where_there_is_no_spool(pair, name, caplog):
    """As in a bare mount point."""
    root = pair.store.layout.root
    os.rename(root, f"{root}-away")
    os.mkdir(root)
    try:
        if name in ONLY_LOGS:
            STEPS[name](pair)
            assert "holds no spool at the moment" in caplog.text
        else:
            with pytest.raises(OSError, match="holds no spool at the moment"):
                STEPS[name](pair)
        assert os.listdir(root) == []
    finally:
        os.rmdir(root)
        os.rename(f"{root}-away", root)
