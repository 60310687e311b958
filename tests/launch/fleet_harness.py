"""A spool, a fleet, and a cluster on PATH whose jobs do what the test says."""

from __future__ import annotations

import contextlib
import io
import math
import os
import sys
from typing import TYPE_CHECKING

from fake_cluster import FakeBatch
from fakebatch import main
from support import open_store

from fsqueue.launch.autoscaling.autoscaler import Autoscaler, Managed
from fsqueue.launch.batch import Command, Reply, Request, run, script_of
from fsqueue.launch.fleet import Fleet
from fsqueue.launch.pace import Pace
from fsqueue.launch.profiles import Profile
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import EndRecord, FleetRecord, Member
from fsqueue.spool.format.names import DEFAULT_PRIORITY, Slot
from fsqueue.testing import FaultyFilesystem

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.store.store import Store

APP, QUEUE, FLEET = "t", "t.default", "cpu"
# Two listings tell that a job has ended, however soon one follows the other. Zero would not do: the
# file server's clock is read to within a tick, and lags by as long as the reading took.
AT_ONCE = Pace(tick=0.0, listing=0.0, gap=-math.inf, patience=3600.0, back_off=0.0)


WORKER = """#!{python}
import os, sys, time
from pathlib import Path
from fsqueue.runner.processes.job import job_of
from fsqueue.spool.fleets.records import EndRecord
from fsqueue.spool.fleets.records import Member
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.store.open_spool import open_store
job = job_of(os.environ)
files = FleetFiles(open_store(Path(os.environ["FSQUEUE__ROOT"])).files, job.fleet)
files.note_birth(Member(job.token, job.number))
done = 0
for name in sorted(os.listdir({calls!r})):
    try:
        os.unlink(os.path.join({calls!r}, name))
    except FileNotFoundError:
        continue
    done += 1
    time.sleep(0.05)
end = EndRecord(reason="idle", calls=done, seconds=90.0)
files.note_end(Member(job.token, job.number), end, "worker-1-aaaaaa")
"""


def write_worker(folder: str, calls: str) -> str:
    """A program that takes the calls in a folder, as a worker does, until there are none."""
    path = f"{folder}/worker"
    with open(path, "w", encoding="utf-8") as file:
        file.write(WORKER.format(python=sys.executable, calls=calls))
    os.chmod(path, 0o755)
    return path


def call(folder: str, command: Command) -> Reply:
    """What a command of the fake cluster answers, without a process of its own."""
    out, err, given = io.StringIO(), io.StringIO(), sys.stdin
    sys.stdin = io.StringIO(command.text)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([f"{folder}/{command.argv[0]}", *command.argv[1:]])
    finally:
        sys.stdin = given
    return Reply(code, out.getvalue(), err.getvalue())


class World:
    """One fleet of one application."""

    def __init__(
        self,
        folder: str,
        system: str,
        *,
        most: int = 4,
        slots: int = 2,
        pace: Pace = AT_ONCE,
        in_process: bool = False,
        running: bool = False,
    ) -> None:
        self.in_process = in_process
        self.root, self.system, self.pace = f"{folder}/spool", system, pace
        self.cluster = FakeBatch(f"{folder}/bin", system, running=running)
        self.store = open_store(self.root)
        self.store.files.sync_clock()
        self.files = FleetFiles(self.store.files, FLEET)
        self.profile = Profile(system=system, walltime=3600.0, cores=slots, max=most)
        self.files.define(
            FleetRecord(
                name=FLEET,
                system=system,
                app_id=APP,
                queues=("default",),
                walltime=3600.0,
                slots=slots,
                max=most,
                backlog=most,
            )
        )
        self.most = most
        self._calls = 0

    def run(self, command: Command) -> Reply:
        """As `fsqueue.launch.batch.run`, with the cluster first on PATH.

        Or by calling the same program here: a thousand processes take too long for a sweep.
        """
        if self.in_process and not command.argv[0].startswith("/"):
            return call(self.cluster.folder, command)
        path = f"{self.cluster.folder}:{os.environ['PATH']}"
        return run(Command(("/usr/bin/env", f"PATH={path}", *command.argv), command.text))

    def script(self, token: str, count: int) -> str:
        return script_of(
            Request(
                profile=self.profile,
                fleet=FLEET,
                application="tasks:app",
                root=self.root,
                folder="/",
                token=token,
                count=count,
            )
        )

    def fleet(self, store: Store | None = None) -> Fleet:
        return Fleet((store or self.store).files, FLEET, run=self.run, pace=self.pace)

    def autoscaler(
        self, fs: FaultyFilesystem | None = None, run: Callable[[Command], Reply] | None = None
    ) -> Autoscaler:
        store = self.store if fs is None else self.opened(fs)
        managed = [Managed(FLEET, self.script)]
        return Autoscaler(store, APP, managed, run=run or self.run, pace=self.pace, user="me")

    def opened(self, fs: FaultyFilesystem) -> Store:
        """The spool over another filesystem."""
        return open_store(self.root, fs, expected=self.store.files.info.id)

    def demand(self, count: int) -> None:
        """Let so many calls be due, and no others."""
        folder = self.store.layout.slot(QUEUE, str(Slot(DEFAULT_PRIORITY, 1.0)))
        self.store.fs.make_folders(folder)
        for name in os.listdir(folder):
            os.unlink(f"{folder}/{name}")
        for number in range(count):
            with open(f"{folder}/client0001-{number}.1", "w", encoding="ascii"):
                pass

    # -- jobs ---------------------------------------------------------------------------

    def member(self, job_id: str) -> Member:
        """A job by its name and number, as its worker knows itself."""
        job = self.cluster.every()[job_id]
        return Member(job["name"].rpartition("-")[2], job["number"])

    def start(self, job_id: str, *, born: bool = True) -> None:
        self.cluster.set_state(job_id, "running")
        if born:
            self.files.note_birth(self.member(job_id))

    def end(self, job_id: str, reason: str | None = "idle", *, seconds: float = 300.0) -> None:
        if reason is not None:
            last = EndRecord(reason=reason, calls=1, seconds=seconds)
            self.files.note_end(self.member(job_id), last, "worker-1-aaaaaa")
        self.cluster.set_state(job_id, "ended")

    def drain(self, scaler: Autoscaler, *, ticks: int = 30) -> None:
        """All work is done: jobs start, find nothing to do, and leave."""
        self.demand(0)
        for _ in range(ticks):
            scaler.tick()
            for job_id in self.cluster.live():
                self.start(job_id)
                self.end(job_id)
            if not self.cluster.live() and not self.files.slots.taken():
                return
        raise AssertionError(f"left: {self.cluster.live()}, {self.files.slots.taken()}")

    def check(self) -> None:
        """Never more than `max` jobs, and none that the fleet does not know."""
        live = self.cluster.live()
        assert len(live) <= self.most, live
        known = [member.token for member in self.files.slots.taken().values()]
        for job in live.values():
            token = job["name"].rpartition("-")[2]
            assert token in known, f"the fleet does not know {job}"
            known.remove(token)
