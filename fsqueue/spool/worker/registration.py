"""A worker's registration in the spool: its record, lock, heartbeat file and folder of claims."""

from __future__ import annotations

import functools
import logging
import threading
from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import SpoolVersionError
from fsqueue.spool.disk.identity import host_name, this_process, worker_name
from fsqueue.spool.format.names import AttemptName, new_token
from fsqueue.spool.format.records import WorkerRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from filelock import BaseFileLock

    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.records import BatchJob
    from fsqueue.spool.store.store import Store

log: logging.Logger = logging.getLogger(__name__)


class Worker:
    """One worker. No other worker uses its folder ``running/<name>``, so claims have unique paths.

    Args:
        queues: the queues it serves.
        runner: the kind of its slots, for people who list the workers.
        concurrency: how many calls it runs at a time.
        resources: its resources, as a profile.
        batch: its batch job, and when it leaves at the latest, by the present time on the file
            server's clock; called at each registration. None without a job.

    Attributes:
        name: new with each registration.
        record: its registration, as other processes read it; None until it is registered.
        shared: whether slot processes also claim into its folder.
        catch_up: reads what these have claimed; returns the names that they have recorded.
        claimed: how many attempts it has claimed.
        lost: how many attempts another worker claimed first.
        on_claim: called once, after the next claim. May be set by one thread.
    """

    def __init__(
        self,
        store: Store,
        *,
        queues: tuple[str, ...],
        runner: str,
        concurrency: int,
        resources: str = "",
        batch: Callable[[float], BatchJob | None] = lambda _: None,
    ) -> None:
        self._store = store
        self._resources, self._batch = resources, batch
        self._queues, self._runner, self._concurrency = queues, runner, concurrency
        self._mutex = threading.Lock()
        self._taken: set[str] = set()
        self._claims: dict[str, Claim] = {}
        # Claims of slot processes for attempts that another thread or slot of this worker held or
        # was trying to claim. Only one of them got each attempt.
        self._rivals: dict[str, list[Claim]] = {}
        # The claims at the last heartbeat, and whether this host has let go of each one's file.
        self._let_go_of: dict[str, bool] = {}
        self._lock: BaseFileLock | None = None
        # Held by each heartbeat, which could otherwise register a leaving worker again.
        self._presence = threading.Lock()
        self._left = False
        self.name: str = ""
        self.record: WorkerRecord | None = None
        self.claimed: int = 0
        self.lost: int = 0
        self.on_claim: Callable[[], object] | None = None
        self.shared = False
        self.catch_up: Callable[[], set[str]] = set

    def register(self) -> None:
        """Register in the spool, under a new name each time.

        The folder comes last, because a worker without a folder holds no claims. If the process
        dies in between, a reaper removes the record without a folder.
        """
        self.name = worker_name(new_token(6))
        self.abandon()
        self._enlist()
        self._store.files.make_folders(self._store.layout.running(self.name))

    def _enlist(self) -> None:
        """Make the files in ``workers/``, and that folder if only it was removed.

        If the process dies in between, a reaper considers the worker dead and removes its files. If
        this fails, the previous lock stays held, as the root may come back with its file.
        """
        store, layout = self._store, self._store.layout
        path = layout.worker_lock(self.name)
        lock: BaseFileLock | None = store.files.with_folder(path, lambda: store.fs.lock(path))
        if lock is not None:
            self.abandon()
            self._lock = lock
        self.beat()
        process = this_process()
        self.record = WorkerRecord(
            name=self.name,
            host=host_name(),
            boot=process.boot,
            pid=process.pid,
            start=process.start,
            queues=self._queues,
            runner=self._runner,
            concurrency=self._concurrency,
            started=store.clock.now(),
            resources=self._resources,
            batch=self._batch(store.clock.now()),
        )
        temporary = layout.tmp(self.name, 0)
        store.files.temporary.create(temporary, [msgspec.json.encode(self.record)])
        store.files.move(temporary, layout.worker_record(self.name))

    def beat(self) -> None:
        """Show that this worker is alive, and read the file server's clock at the same time."""
        self._store.clock.sync(self._store.layout.worker_beat(self.name))

    def is_registered(self) -> bool:
        """Whether the folder of this worker exists, so that no reaper has declared it dead."""
        return self._store.fs.has_folder(self._store.layout.running(self.name))

    def deregister(self) -> None:
        """Leave the spool. If claims are left in the folder, a reaper gives them back."""
        store, layout = self._store, self._store.layout
        with self._presence:
            self._left = True
            if store.fs.rmdir(layout.running(self.name)):
                remove_worker_files(store, self.name)
            self.abandon()

    def abandon(self) -> None:
        """Only release the lock: after the spool was replaced, nothing there belongs to it."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def keep_alive(self) -> None:
        """Do what a worker must do at every heartbeat; register again if it was declared dead.

        A worker that has left does nothing.

        Raises:
            SpoolReplacedError: the root holds another spool.
            OSError: the shared directory fails, for example because it is not mounted at the
                moment; the claims are kept until it is back.
        """
        with self._presence:
            if self._left:
                return
            if self._is_missing():
                self._register_again()
                return
            try:
                self.beat()
            except FileNotFoundError:
                self._enlist()
            self.return_strays()
            self._let_go()

    def _is_missing(self) -> bool:
        """Whether this worker's folder is missing from an existing spool."""
        if self.is_registered():
            return False
        self._store.files.check_spool()
        # The root may have come back in between, with the folder and the claims in it.
        return not self.is_registered()

    def _register_again(self) -> None:
        former = self.name
        self.register()
        log.warning("worker %s was declared dead; it registered again as %s", former, self.name)
        remove_worker_files(self._store, former)

    def _let_go(self) -> None:
        """Let other hosts move the claims that were held at the last beat, in case this host dies.

        Newer claims are left out, because this costs a request or two, and many end soon.
        """
        with self._mutex:
            claims = dict(self._claims)
        for name, claim in claims.items():
            if self._let_go_of.get(name) is False:
                self._store.fs.let_go(claim.path)
        self._let_go_of = {name: name in self._let_go_of for name in claims}

    def claim(self, origin: str) -> Claim | None:
        """Claim a pending attempt; None if another worker has it.

        Two threads of this worker must not try the same name at once: the later one would find it
        in their folder and conclude that only the reply to its rename was lost.
        """
        name, mine = origin.rpartition("/")[2], False
        try:
            with self._mutex:
                if name in self._taken:
                    return None
                self._taken.add(name)
                mine = True
            claim = self._store.claims.claim(origin, self.name, shared=self.shared)
            with self._mutex:
                if claim is None:
                    self._pass_on(name)
                    self.lost += 1
                else:
                    self.claimed += 1
                    self._claims[name] = claim
        except BaseException:  # including a signal handler's: then the file is a stray
            with self._mutex:
                if mine:
                    self._claims.pop(name, None)
                    self._pass_on(name)
            raise
        if claim is not None and (on_claim := self.on_claim) is not None:
            self.on_claim = None
            on_claim()
        return claim

    def adopt(self, claim: Claim) -> None:
        """Hold a claim that a slot process has made, or is about to make, into this folder.

        If another thread or slot has the attempt or is trying to get it, the claim is held as soon
        as that one turns out to have lost the race.
        """
        with self._mutex:
            if claim.text in self._taken:
                self._rivals.setdefault(claim.text, []).append(claim)
                return
            self._taken.add(claim.text)
            self._claims[claim.text] = claim
            self.claimed += 1

    def count(self, *, claimed: int = 0, lost: int = 0) -> None:
        """Count attempts that a slot process has tried to claim and no longer holds."""
        with self._mutex:
            self.claimed += claimed
            self.lost += lost

    def disown(self, claim: Claim) -> None:
        """Forget an adopted claim that the slot process did not get."""
        with self._mutex:
            self.lost += 1
            if self._drop_rival(claim):
                return
            self.claimed -= 1
            if self._claims.get(claim.text, claim) is claim:
                self._claims.pop(claim.text, None)
                self._pass_on(claim.text)

    def _pass_on(self, name: str) -> None:
        """Give an attempt to the next slot that has recorded it, or else to any that claims it."""
        rivals = self._rivals.get(name)
        if not rivals:
            self._taken.discard(name)
            return
        claim = rivals[0]
        self._drop_rival(claim)
        self._claims[name] = claim
        self.claimed += 1

    def _drop_rival(self, claim: Claim) -> bool:
        rivals = self._rivals.get(claim.text, [])
        left = [each for each in rivals if each is not claim]
        if left:
            self._rivals[claim.text] = left
        else:
            self._rivals.pop(claim.text, None)
        return len(left) < len(rivals)

    def release(self, claim: Claim) -> bool:
        """Stop holding a claim; False if it was no longer held.

        Only the thread that gets True may complete the claim or give it back.
        """
        with self._mutex:
            if self._rivals and self._drop_rival(claim):
                # If a thread is still trying to claim it, that thread is about to fail.
                return claim.text not in self._claims
            return self._claims.pop(claim.text, None) is not None

    def forget(self, claim: Claim) -> None:
        """Allow an attempt to be claimed again, after its file has left the folder."""
        with self._mutex:
            if self._claims.get(claim.text, claim) is not claim:
                return  # a rival has it now
            if self._rivals:
                self._pass_on(claim.text)
            else:
                self._taken.discard(claim.text)

    def return_strays(self) -> None:
        """Give back the calls in this worker's folder that are not among its claims.

        A claim's name is recorded before its file arrives, and forgotten after the file has left.
        A slot process records its claims in a pipe, so the pipe is read after the listing.
        """
        folder = self._store.layout.running(self.name)
        names = self._store.fs.names(folder, fresh=True)
        told = self.catch_up()
        for text in names:
            name = AttemptName.parse(text)
            with self._mutex:
                stray = text not in self._taken and text not in told
            if stray and name is not None:
                path = f"{folder}/{text}"
                step = functools.partial(self._store.recovery.return_stray, path, name)
                try:
                    self._store.files.unless_refused(path, step)
                except SpoolVersionError as error:
                    self._store.files.leave_alone(error)

    @property
    def claims(self) -> list[Claim]:
        """The attempts that this worker holds."""
        with self._mutex:
            return list(self._claims.values())


def remove_worker_files(store: Store, worker: str) -> None:
    """Remove the files of a worker whose folder is gone.

    The record is removed late, because others find the worker by it. The drain request is removed
    after it, because `request_drain` checks for the record after writing the request.
    """
    layout = store.layout
    for path in (
        layout.worker_beat(worker),
        layout.worker_lock(worker),
        layout.worker_record(worker),
        layout.drain(worker),
    ):
        try:
            store.files.unless_refused(path, functools.partial(store.fs.discard, path))
        except IsADirectoryError as error:
            store.files.pass_over(path, error)
