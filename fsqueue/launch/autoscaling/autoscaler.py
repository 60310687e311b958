"""The autoscaler: submits and cancels batch jobs of workers to match the number of due calls.

`Autoscaler` carries out the decisions of `decide`, once per tick. Any number of autoscalers may
work for one fleet, on any host, and each may be killed at any time. All state is in the spool, so a
tick may also run in a process of its own, started by cron.
"""

from __future__ import annotations

import getpass
import logging
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import FSQueueError
from fsqueue.launch.autoscaling.decisions import Decisions, FleetView, Snapshot, decide
from fsqueue.launch.autoscaling.demand import due_calls, free_workers
from fsqueue.launch.batch import BatchError, batch_system, list_jobs, run
from fsqueue.launch.fleet import Fleet
from fsqueue.launch.pace import Pace
from fsqueue.spool.format.names import queue_folder
from fsqueue.spool.format.resources import NONE, needs_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fsqueue.launch.autoscaling.decisions import Decision
    from fsqueue.launch.batch import Command, Listed, Reply
    from fsqueue.launch.sightings import JobInfo
    from fsqueue.spool.fleets.records import FleetRecord, Member
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)

# While nothing changes, the batch system's jobs are listed less often, by this factor.
_QUIET = 10
# Seconds between the first checks, doubled up to a tick: programs make calls soon after launching.
_FIRST_PAUSE = 1.0


class Managed(NamedTuple):
    """A fleet that an autoscaler manages, and the template of its jobs' scripts.

    The script comes from the autoscaler's own configuration, never from the spool.
    """

    name: str
    script_of: Callable[[str, int], str]
    record: FleetRecord | None = None
    """Its definition, for a dry run on a spool that has none: a dry run writes nothing."""


class _Listing(NamedTuple):
    at: float
    signature: object
    """The state at that time: while it stays the same, another listing can wait."""


class Autoscaler:
    """Keeps fleets of one application at the size that is needed.

    Args:
        app_id: the application's name.
        fleets: the fleets to manage, already defined; demand goes to the first one first.
        heartbeat: seconds between two beats of a worker.
        run: runs a command of the batch system.
        pace: how patient it is.
        user: whose jobs are listed; None: this process's.
    """

    def __init__(
        self,
        store: Store,
        app_id: str,
        fleets: Iterable[Managed],
        *,
        heartbeat: float = 2.0,
        run: Callable[[Command], Reply] = run,
        pace: Pace | None = None,
        user: str | None = None,
    ) -> None:
        self._store, self._app_id, self._heartbeat = store, app_id, heartbeat
        self._run, self._pace = run, pace or Pace()
        self._user = user or getpass.getuser()
        self._managed = {each.name: each for each in fleets}
        self._fleets = {
            name: Fleet(store.files, name, run=run, pace=self._pace) for name in self._managed
        }
        self._listings: dict[str, _Listing] = {}

    def run(self, stop: threading.Event, report: Callable[[Decisions], None] | None = None) -> None:
        """Tick until `stop` is set. Errors of the batch system or the spool are logged.

        Args:
            stop: ends the run.
            report: called with the decisions of each tick.
        """
        pause = min(_FIRST_PAUSE, self._pace.tick)
        while not stop.is_set():
            try:
                found = self.tick()
                if report is not None:
                    report(found)
            except (OSError, FSQueueError) as error:
                log.warning("cannot check the fleets now, trying again: %s", error)
            stop.wait(pause)
            pause = min(2 * pause, self._pace.tick)

    def tick(self, *, dry_run: bool = False) -> Decisions:
        """Check calls, workers and jobs once, decide, and act.

        Args:
            dry_run: only decide: submit, cancel and write nothing.

        Raises:
            OSError, SpoolError: the shared directory failed; the next tick does the rest.
            ConfigError: a fleet's script cannot be made, or its batch system is not known here.
        """
        self._store.files.sync_clock()
        records = {name: self._record(name) for name in self._fleets}
        jobs = self._find_jobs(records, dry_run=dry_run)
        views = [self._view(name, records[name], jobs[name]) for name in self._fleets]
        most = 2 * sum(record.max * record.slots for record in records.values())
        snapshot = Snapshot(
            demands=due_calls(self._store, self._app_id, most),
            supplies=free_workers(self._store, heartbeat=self._heartbeat),
            fleets=views,
        )
        found = decide(snapshot, self._pace)
        if not dry_run:
            for decision in found.decisions:
                self._act(decision, jobs[decision.fleet])
        return found

    def _record(self, name: str) -> FleetRecord:
        fleet, managed = self._fleets[name], self._managed[name]
        return managed.record if managed.record and not fleet.files.record() else fleet.record

    # -- checking -----------------------------------------------------------------------

    def _find_jobs(
        self, records: Mapping[str, FleetRecord], *, dry_run: bool
    ) -> dict[str, list[JobInfo]]:
        """The jobs of all fleets, with one listing for each batch system."""
        held = {name: fleet.hold() for name, fleet in self._fleets.items()}
        # Each system is asked once, after the slots were listed.
        systems = () if dry_run else {record.system for record in records.values()}
        listings = {system: self._listing(system, held, records) for system in systems}
        found = {}
        for name, fleet in self._fleets.items():
            listing = listings.get(records[name].system)
            if listing is None:
                found[name] = fleet.sightings()
            else:
                found[name] = fleet.reconcile(held[name], listing)
        return found

    def _listing(
        self,
        system: str,
        held: Mapping[str, Mapping[Member, bool]],
        records: Mapping[str, FleetRecord],
    ) -> Sequence[Listed] | None:
        """The jobs of a batch system; None if it was not asked, or has not answered.

        A listing is used for one tick: later it would show jobs as missing that were submitted
        since.
        """
        now, last = self._store.fs.monotonic(), self._listings.get(system)
        signature = self._signature(held)
        if last is not None:
            quiet = _QUIET if signature == last.signature else 1
            if now - last.at < self._pace.listing * quiet:
                return None
        if not any(held.values()) and not self._may_have_jobs(records):
            return None
        try:
            jobs = list_jobs(batch_system(system), self._user, self._run)
        except BatchError as error:
            log.warning("the jobs cannot be listed, so none counts as ended: %s", error)
            return None
        self._listings[system] = _Listing(now, signature)
        return jobs

    def _signature(self, held: Mapping[str, Mapping[Member, bool]]) -> object:
        """A value that changes when jobs begin or end, or when the number of due calls does."""
        return (
            {name: frozenset(members) for name, members in held.items()},
            {name: fleet.files.changes() for name, fleet in self._fleets.items()},
            {(each.queue, each.walltime) for each in due_calls(self._store, self._app_id, 1)},
        )

    def _may_have_jobs(self, records: Mapping[str, FleetRecord]) -> bool:
        """Whether there may be jobs without slots, because their submitter seemed dead."""
        patience = 2 * self._pace.patience
        return any(
            self._fleets[name].files.has_submitted(patience + record.walltime)
            for name, record in records.items()
        )

    def _view(self, name: str, record: FleetRecord, jobs: list[JobInfo]) -> FleetView:
        files, now = self._fleets[name].files, self._store.clock.now()
        since, resumed = files.stamped("unneeded"), files.stamped("resumed") or 0.0
        return FleetView(
            name=name,
            queues=tuple(queue_folder(record.app_id, queue) for queue in record.queues),
            walltime=record.walltime,
            slots=record.slots,
            resources=needs_of(record.resources) or NONE,
            min=record.min,
            max=record.max,
            backlog=record.backlog,
            jobs=tuple(jobs),
            past=tuple(past for _, past in files.past() if past.at > resumed),
            stopped=files.marked("stopped") is not None,
            paused=files.marked("paused"),
            unneeded_for=None if since is None else max(0.0, now - since),
            now=now,
        )

    # -- acting -------------------------------------------------------------------------

    def _act(self, decision: Decision, jobs: Sequence[JobInfo]) -> None:
        fleet = self._fleets[decision.fleet]
        try:
            match decision.action:
                case "submit":
                    self._submit(fleet, decision)
                case "cancel":
                    self._cancel(fleet, decision, jobs)
                case "pause":
                    fleet.pause(decision.why)
                case "unneeded":
                    fleet.files.stamp("unneeded")
                case "needed":
                    fleet.files.unstamp("unneeded")
                case "wait":
                    log.info("%s: %s", decision.fleet, decision.why)
        except BatchError as error:
            log.warning("%s: %s", decision.fleet, error)

    def _submit(self, fleet: Fleet, decision: Decision) -> None:
        members = fleet.submit(decision.count, self._managed[fleet.name].script_of)
        if members:
            fleet.files.note(f"submitted {len(members)} jobs", decision.why)

    def _cancel(self, fleet: Fleet, decision: Decision, jobs: Sequence[JobInfo]) -> None:
        chosen = [job for job in jobs if job.member in decision.members]
        fleet.cancel(chosen, waiting_only=True)
        fleet.files.note(f"cancelled {len(chosen)} jobs", decision.why)
