"""A worker's own presence in the spool: record, lock, beat and folder of claims."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import SpoolVersionError
from fsqueue.spool.disk.identity import host_name, this_process, worker_name
from fsqueue.spool.format.names import AttemptName, new_token
from fsqueue.spool.format.records import WorkerRecord

if TYPE_CHECKING:
    from filelock import BaseFileLock

    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.store.store import Store

log = logging.getLogger(__name__)


class Worker:
    """One claimant. The folder ``running/<name>`` is its alone, so a claim's path is unique.

    Args:
        store: the spool.
        queues: the queues it serves.
        runner: the kind of its slots, for those who look.
        concurrency: how many calls it runs at a time.
        resources: what it has, as a profile.

    Attributes:
        name: new with each registration.
        record: what the others read of it, once it is registered.
        claimed: how many attempts it has taken.
        lost: how many it tried to take, and somebody else was faster.
    """

    def __init__(
        self,
        store: Store,
        *,
        queues: tuple[str, ...],
        runner: str,
        concurrency: int,
        resources: str = "",
    ) -> None:
        self._store = store
        self._resources = resources
        self._queues, self._runner, self._concurrency = queues, runner, concurrency
        self._mutex = threading.Lock()
        self._taken: set[str] = set()
        self._claims: dict[str, Claim] = {}
        # What was held at the last beat, and whether the server has it back.
        self._let_go_of: dict[str, bool] = {}
        self._lock: BaseFileLock | None = None
        self.name = ""
        self.record: WorkerRecord | None = None
        self.claimed = self.lost = 0

    def register(self) -> None:
        """Appear in the spool, under a new name each time.

        The folder comes last: nobody takes a worker without folder for one that holds work.
        Dies in between: a record without folder, which a reaper removes.
        """
        store, layout = self._store, self._store.layout
        self.name = worker_name(new_token(6))
        self._release_lock()
        self._lock = store.fs.lock(layout.worker_lock(self.name))
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
        )
        temporary = layout.tmp(self.name, 0)
        store.fs.create(temporary, [msgspec.json.encode(self.record)])
        store.files.move(temporary, layout.worker_record(self.name))
        store.files.make_folders(layout.running(self.name))

    def beat(self) -> None:
        """Show that this worker lives, and read the file server's clock on the way."""
        self._store.clock.sync(self._store.layout.worker_beat(self.name))

    def is_registered(self) -> bool:
        """Whether the others still hold this worker for alive: its folder is there."""
        return self._store.fs.has_folder(self._store.layout.running(self.name))

    def deregister(self) -> None:
        """Leave; does nothing while claims are left in the folder, which a reaper gives back."""
        store, layout = self._store, self._store.layout
        if store.fs.rmdir(layout.running(self.name)):
            remove_worker_files(store, self.name)
        self._release_lock()

    def abandon(self) -> None:
        """Leave a spool that is not there any more: nothing in the root is this worker's."""
        self._release_lock()

    def _release_lock(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def keep_alive(self) -> None:
        """Do what a worker must do every heartbeat; one that was taken for dead begins anew.

        Raises:
            SpoolReplacedError: the root holds another spool, in which this worker has no business.
            OSError: the root is gone for the moment, say; the claims are kept until it is back.
        """
        if self._is_missing():
            self._register_afresh()
            return
        self.beat()
        self.return_strays()
        self._let_go()

    def _is_missing(self) -> bool:
        """Whether this worker's folder is missing from a spool that is there."""
        if self.is_registered():
            return False
        self._store.files.check_spool()
        # Again: the root may have come back in between, with the folder and the claims in it.
        return not self.is_registered()

    def _register_afresh(self) -> None:
        former = self.name
        self.register()
        log.warning("worker %s was taken for dead; it registers afresh as %s", former, self.name)
        remove_worker_files(self._store, former)

    def _let_go(self) -> None:
        """Let other hosts move what this one has held since the last beat, should it die.

        Only that: it costs a request or two, and a call that is claimed is read a little later.
        """
        with self._mutex:
            claims = dict(self._claims)
        for name, claim in claims.items():
            if self._let_go_of.get(name) is False:
                self._store.fs.let_go(claim.path)
        self._let_go_of = {name: name in self._let_go_of for name in claims}

    def claim(self, origin: str) -> Claim | None:
        """Take a pending attempt; None if somebody else has it.

        Two threads of this worker must not try one name at once: the later one would find
        it in the common folder and think that its rename's reply was lost.
        """
        name = origin.rpartition("/")[2]
        with self._mutex:
            if name in self._taken:
                return None
            self._taken.add(name)
        try:
            claim = self._store.claim(origin, self.name)
        except BaseException:
            self._forget(name)
            raise
        if claim is None:
            self._forget(name)
            with self._mutex:
                self.lost += 1
            return None
        with self._mutex:
            self.claimed += 1
            self._claims[name] = claim
        return claim

    def release(self, claim: Claim) -> bool:
        """Stop holding a claim; False if it was not held any more.

        Whoever gets True alone may complete the claim or give it back.
        """
        with self._mutex:
            return self._claims.pop(str(claim.name), None) is not None

    def forget(self, name: AttemptName) -> None:
        """The attempt's file has left the folder: its name may be claimed again."""
        self._forget(str(name))

    def _forget(self, name: str) -> None:
        with self._mutex:
            self._taken.discard(name)

    def return_strays(self) -> None:
        """Give back what lies in this worker's folder without being one of its claims.

        A name is taken before its file is, and forgotten after the file has left.
        """
        folder = self._store.layout.running(self.name)
        for text in self._store.fs.names(folder, fresh=True):
            name = AttemptName.parse(text)
            with self._mutex:
                stray = text not in self._taken
            if stray and name is not None:
                try:
                    self._store.return_stray(f"{folder}/{text}", name)
                except SpoolVersionError as error:
                    self._store.files.leave_alone(error)
                except PermissionError as error:  # its mailbox is closed, say
                    self._store.files.pass_over(f"{folder}/{text}", error)

    @property
    def claims(self) -> list[Claim]:
        """What this worker holds."""
        with self._mutex:
            return list(self._claims.values())


def remove_worker_files(store: Store, worker: str) -> None:
    """Remove what a worker without folder has left; the record late, as it is what others list.

    After it the request to drain: whoever makes one looks for the record afterwards.
    """
    layout = store.layout
    for path in (
        layout.worker_beat(worker),
        layout.worker_lock(worker),
        layout.worker_record(worker),
        layout.drain(worker),
    ):
        try:
            store.fs.discard(path)
        except (IsADirectoryError, PermissionError) as error:
            store.files.pass_over(path, error)
