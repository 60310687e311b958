"""Defines every path in the spool."""

from __future__ import annotations

from typing import Final

from fsqueue.spool.format.names import PAUSED, AttemptName, WaitingFolder, client_of, split_profile

TOKENS: Final = ".tokens"
"""Suffix of token folders."""


class Layout:
    """Paths under one root, as strings: joining them is on the hot path."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.info: str = f"{root}/spool.json"
        self.tmp_folder: str = f"{root}/tmp"  # noqa: S108 - a folder of the spool
        self.pending_folder: str = f"{root}/pending"
        self.after_folder: str = f"{root}/after"
        self.running_folder: str = f"{root}/running"
        self.done_folder: str = f"{root}/done"
        self.kept_folder: str = f"{root}/kept"
        self.failed_folder: str = f"{root}/failed"
        self.quarantine_folder: str = f"{root}/quarantine"
        self.workers_folder: str = f"{root}/workers"
        self.clients_folder: str = f"{root}/clients"
        self.blobs_folder: str = f"{root}/blobs"
        self.once_folder: str = f"{root}/once"
        self.cache_folder: str = f"{root}/cache"
        self.cancel_folder: str = f"{root}/cancel"
        self.journal_folder: str = f"{root}/journal"
        self.progress_folder: str = f"{root}/progress"
        self.output_folder: str = f"{root}/output"
        self.cuts_folder: str = f"{root}/cuts"
        self.lanes_folder: str = f"{root}/lanes"
        self.events_folder: str = f"{root}/events"
        self.fired_folder: str = f"{root}/fired"
        self.triggers_folder: str = f"{root}/triggers"
        self.locks_folder: str = f"{root}/locks"
        self.bell_folder: str = f"{root}/bell"
        self.folders: tuple[str, ...] = tuple(
            path for name, path in vars(self).items() if name.endswith("_folder")
        )
        """All top folders."""
        # Created by the first launch: most spools have no fleets, so it is not in `folders`.
        self.fleets_folder: str = f"{root}/fleet"

    def tmp(self, owner: str, serial: int) -> str:
        """Temporary file that `owner` is writing."""
        return f"{self.tmp_folder}/{owner}.{serial}"

    def queue(self, queue: str) -> str:
        """Folder of a queue's slots."""
        return f"{self.pending_folder}/{queue}"

    def paused(self, queue: str) -> str:
        """Marker of a paused queue; workers see it when they list the slots."""
        return f"{self.pending_folder}/{queue}/{PAUSED}"

    def slot(self, queue: str, slot: str) -> str:
        """Folder of one slot's pending calls."""
        return f"{self.pending_folder}/{queue}/{slot}"

    def after(self, parent: str) -> str:
        """Folder of the calls that wait for `parent` to end."""
        return f"{self.after_folder}/{parent}"

    @property
    def after_bell(self) -> str:
        """Bell that tells workers that a call has started waiting for another one.

        No queue can have this name.
        """
        return f"{self.bell_folder}/.after"

    def running(self, worker: str) -> str:
        """Folder of the calls that a worker has claimed."""
        return f"{self.running_folder}/{worker}"

    def mailbox(self, client: str) -> str:
        """A client's mailbox: outcomes that it has not collected yet."""
        return f"{self.done_folder}/{client}"

    def done(self, invocation_id: str) -> str:
        """An outcome that its client has not collected yet."""
        return f"{self.done_folder}/{client_of(invocation_id)}/{invocation_id}"

    def kept_mailbox(self, client: str) -> str:
        """Folder of outcomes that a client has collected and that are kept for others."""
        return f"{self.kept_folder}/{client}"

    def kept(self, invocation_id: str) -> str:
        """An outcome that its client has collected."""
        return f"{self.kept_folder}/{client_of(invocation_id)}/{invocation_id}"

    def cancelled(self, invocation_id: str) -> str:
        """Marker that tells an invocation's worker that it was cancelled."""
        return f"{self.cancel_folder}/{invocation_id}"

    def reported(self, name: AttemptName) -> AttemptName:
        """The name of an attempt's progress and output files: its name without suffixes."""
        return AttemptName(name.invocation_id, name.attempt)

    def progress(self, name: AttemptName) -> str:
        """The progress report of an attempt."""
        return f"{self.progress_folder}/{self.reported(name)}"

    def output(self, name: AttemptName) -> str:
        """The captured output and log messages of an attempt."""
        return f"{self.output_folder}/{self.reported(name)}"

    def cuts(self, invocation_id: str) -> str:
        """File with a line for each time that the end of a batch job interrupted the call."""
        return f"{self.cuts_folder}/{invocation_id}"

    def events(self, app_id: str) -> str:
        """Folder of an application's unhandled events."""
        return f"{self.events_folder}/{app_id}"

    def event_bell(self, app_id: str) -> str:
        """The bell of an application's events. No queue can have this name."""
        return self.bell(f"{app_id}.@events")

    def staged(self, invocation_id: str) -> str:
        """A call that will be published once its idempotency key is taken."""
        return f"{self.tmp_folder}/{invocation_id}"

    def fired(self, key: str) -> str:
        """The call that was published under an idempotency key."""
        return f"{self.fired_folder}/{key}"

    def trigger(self, key: str) -> str:
        """Folder of a trigger's state."""
        return f"{self.triggers_folder}/{key}"

    def fleet(self, name: str) -> str:
        """Folder of a fleet's files."""
        return f"{self.fleets_folder}/{name}"

    def blob(self, digest: str) -> str:
        """A large value that many calls share."""
        return f"{self.blobs_folder}/{digest}"

    def cached(self, key: str) -> str:
        """A cached result."""
        return f"{self.cache_folder}/{key}"

    def once(self, key: str) -> str:
        """Folder of the entries of a deduplication key."""
        return f"{self.once_folder}/{key}"

    def once_entry(self, key: str, number: int) -> str:
        """The entry of one call that was published under a deduplication key."""
        return f"{self.once_folder}/{key}/{number}"

    def lane(self, lane: str) -> str:
        """Folder of a concurrency limit: its permits in use, and the calls waiting for one."""
        return f"{self.lanes_folder}/{lane}"

    def in_lane(self, lane: str, name: object) -> str:
        """A permit of a concurrency limit, by number, or a folder of waiting calls."""
        return f"{self.lanes_folder}/{lane}/{name}"

    def home(self, path: str) -> str:
        """The path in its slot of a pending call, which may be waiting for a concurrency limit."""
        if "~" not in path:
            return path
        folder, _, name = path.rpartition("/")
        waiting = WaitingFolder.parse(folder.rpartition("/")[2])
        return path if waiting is None else f"{self.slot(waiting.queue, waiting.slot)}/{name}"

    def failed(self, name: AttemptName) -> str:
        """A failed call."""
        return f"{self.failed_folder}/{name}"

    def quarantined(self, name: str) -> str:
        """A quarantined file, which could not be read."""
        return f"{self.quarantine_folder}/{name}"

    def quarantine_reason(self, name: str) -> str:
        """The reason why a file is in quarantine."""
        return f"{self.quarantine_folder}/{name}.reason"

    def worker_record(self, worker: str) -> str:
        """A worker's registration."""
        return f"{self.workers_folder}/{worker}.json"

    def worker_lock(self, worker: str) -> str:
        """Lock that a worker holds until it exits."""
        return f"{self.workers_folder}/{worker}.lock"

    def worker_beat(self, worker: str) -> str:
        """File that a worker touches at each heartbeat."""
        return f"{self.workers_folder}/{worker}.beat"

    def client_lock(self, client: str) -> str:
        """Lock that a client holds until it exits."""
        return f"{self.clients_folder}/{client}.lock"

    def client_record(self, client: str) -> str:
        """A client's description of its process; it stays after the client has exited."""
        return f"{self.clients_folder}/{client}.json"

    def journal_hour(self, hour: str) -> str:
        """Folder of one hour's journals."""
        return f"{self.journal_folder}/{hour}"

    def journal_lines(self, hour: str, worker: str) -> str:
        """Journal with one line for each attempt that a worker finished in an hour."""
        return f"{self.journal_folder}/{hour}/{worker}.jsonl"

    def journal_sums(self, hour: str, worker: str) -> str:
        """Sums of the attempts that a worker finished in an hour."""
        return f"{self.journal_folder}/{hour}/{worker}.sums"

    @property
    def latest(self) -> str:
        """The latest snapshot of the spool, which the worker in charge of shared upkeep writes."""
        return f"{self.journal_folder}/latest.json"

    def journal_gauges(self, hour: str, worker: str) -> str:
        """How full the spool was in an hour: one line for each time this worker counted."""
        return f"{self.journal_folder}/{hour}/{worker}.gauges"

    @property
    def upkeep_stamp(self) -> str:
        """File that the worker in charge of shared upkeep touches."""
        return f"{self.locks_folder}/upkeep"

    def drain(self, worker: str) -> str:
        """Marker that asks a worker to finish its running calls and exit."""
        return f"{self.locks_folder}/drain.{worker}"

    def bell(self, listener: str) -> str:
        """Bell: touching it wakes a waiting client or a queue's workers.

        All profiles of a queue share one bell, separate from that of calls without needs.
        """
        if listener.count(".") > 1 and (parts := split_profile(listener))[1]:
            return self.needs_bell(parts[0])
        return f"{self.bell_folder}/{listener}"

    def leader_pipe(self, group: str) -> str:
        """Named pipe by which workers of one host and the same queues elect one that listens."""
        return f"{self.bell_folder}/.turns-{group}"

    def tokens(self, listener: str) -> str:
        """Folder of tokens: ringing one wakes a waiting client, or one of a queue's workers."""
        return f"{self.bell_folder}/{listener}{TOKENS}"

    def needs_bell(self, queue: str) -> str:
        """Bell that wakes those workers of a queue that have resources."""
        return f"{self.bell_folder}/{queue}.needs"
