"""One process's connection to the spool, opened on first use."""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING

from fsqueue.environment.importable import being_imported
from fsqueue.environment.machine import default_root, unread_root
from fsqueue.errors import ConfigError
from fsqueue.spool.format.names import DEFAULT_QUEUE, split_profile
from fsqueue.spool.format.resources import NONE, in_words, needs_of, without_walltime

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fsqueue.config import Config
    from fsqueue.spool.caller.client import Client
    from fsqueue.spool.history.walltimes import LearnedWalltimes
    from fsqueue.spool.store.store import Store
    from fsqueue.spool.worker.liveness import Observer

_SLOTS_KNOWN_FOR = 5.0

log: logging.Logger = logging.getLogger(__name__)


class Session:
    """Opens the spool once per process; a forked child opens its own connection.

    Args:
        app_id: the application's name. It is part of the names of the application's queues.
        locate: returns where the application can be imported from; may raise `ConfigError`.

    Attributes:
        publishes_to: folder names of the queues to which this process publishes calls.
        advice: returns the message for a caller that no worker serves, given the existing workers;
            None: use the message for an application's calls.
    """

    def __init__(self, app_id: str, conf: Config, locate: Callable[[], str]) -> None:
        self.conf = conf
        self.app_id = app_id
        self.publishes_to: set[str] = set()
        self.advice: Callable[[Observer], str] | None = None
        self._slots: dict[str, tuple[int, float]] = {}
        self._walltimes: LearnedWalltimes | None = None
        self._locate = locate
        self._mutex = threading.RLock()
        self._store: Store | None = None
        self._expected = ""
        self._elsewhere: Path | None = None
        self._client: Client | None = None
        self._observer: Observer | None = None
        forget = weakref.WeakMethod(self._forget)
        os.register_at_fork(after_in_child=lambda: (method := forget()) and method())

    def _forget(self) -> None:
        """Drop the parent process's connection without closing it."""
        self._mutex = threading.RLock()
        if self._store is not None:
            self.expect(self._store.files.info.id)
        self._store = self._client = self._observer = self._walltimes = None

    @property
    def root(self) -> Path:
        """The shared directory."""
        return self._elsewhere or self.conf.root or default_root(self.app_id)

    def move(self, root: Path | None) -> None:
        """Use another shared directory from now on; None: the one in the settings again."""
        self.close()
        self._elsewhere = root

    @property
    def store(self) -> Store:
        """The spool; it is created if there is none yet.

        Raises:
            SpoolError: the shared directory cannot be used.
        """
        # No lock here: a signal handler may raise an exception while this thread holds one.
        store = self._store
        if store is None:
            with self._mutex:
                store = self._store = self._store or self._open()
        return store

    def look(self) -> Store:
        """The spool, which must exist, for a process that writes nothing into it.

        Raises:
            SpoolError: there is none, or it cannot be used.
        """
        return self._open(look=True)

    def _open(self, *, look: bool = False) -> Store:
        from fsqueue.spool.disk.access import check_private_folder, group_number, read_key
        from fsqueue.spool.disk.filesystem import Filesystem
        from fsqueue.spool.disk.looking import LookingFilesystem
        from fsqueue.spool.disk.mounts import asks_at_open, has_delegations, is_remote
        from fsqueue.spool.store.open_spool import open_store

        conf, root = self.conf, self.root
        fs = (LookingFilesystem if look else Filesystem)(
            remote=is_remote(str(root)),
            asks_at_open=asks_at_open(str(root)),
            group=None if conf.group is None else group_number(conf.group),
            durable=conf.durability == "power",
        )
        if root == default_root(self.app_id):
            if not look:
                fs.make_folders(str(root.parent))
            check_private_folder(str(root.parent))
        key = b"" if conf.signing_key_file is None else read_key(conf.signing_key_file)
        store = open_store(root, fs, key, expected=self._expected, records=conf.records, look=look)
        if conf.watch in {"auto", "push"} and not look and has_delegations(str(root)):
            store.push()
        return store

    def expect(self, spool_id: str) -> None:
        """Accept only this spool until `close`, and create none if it is missing."""
        self._expected = spool_id

    @property
    def events(self) -> bool:
        """Whether file events wake this process. They do not report changes by other hosts."""
        if self.conf.watch in {"auto", "push"}:
            return not self.store.fs.remote
        return self.conf.watch == "events"

    @property
    def client(self) -> Client:
        """This process's mailbox.

        Raises:
            SpoolError: the shared directory cannot be used.
        """
        client = self._client  # without the lock, as for the store
        return self._connect() if client is None else client

    def _connect(self) -> Client:
        with self._mutex:
            if self._client is None:
                from fsqueue.spool.caller.client import Client

                self._client = Client(
                    self.store,
                    events=self.events,
                    poll_interval=self.conf.poll_interval,
                    on_silence=self._warn_if_unserved,
                    keep_journal=self.conf.journal_ttl > 0,
                    command=self.conf.record_commands,
                )
                atexit.register(_close_at_exit, self._client, os.getpid())
            return self._client

    def slots(self, folder: str) -> int:
        """How many calls of a queue can run at a time, cached for a few seconds; 0 if unknown."""
        now = time.monotonic()
        count, until = self._slots.get(folder, (0, 0.0))
        if now > until:
            observer = self._make_observer()
            observer.discover()
            count = observer.slots(folder)
            self._slots[folder] = (count, now + _SLOTS_KNOWN_FOR)
        return count

    def learned_walltime(self, task: str) -> float | None:
        """The seconds that calls of a task may need, from the journal; None if it has too few."""
        with self._mutex:
            if self._walltimes is None:
                from fsqueue.spool.history.walltimes import LearnedWalltimes

                self._walltimes = LearnedWalltimes(self.store, self.conf.journal_ttl)
            return self._walltimes.of(task)

    def _make_observer(self) -> Observer:
        from fsqueue.spool.worker.liveness import Observer

        return Observer(self.store, heartbeat=self.conf.heartbeat, lease=self.conf.lease)

    def close(self) -> None:
        """Leave the spool; the next use connects again."""
        client = None
        try:
            store = self._store
            if store is not None and self._client is None and store.endings.notes:
                self._note_ends(store)
            with self._mutex:
                client, self._client, self._store, self._observer = self._client, None, None, None
                self._walltimes = None
                self._expected = ""
            if client is not None:
                client.close()
        except BaseException as error:
            # A signal handler may have raised it. Nothing else would close this client.
            if client is not None and not isinstance(error, OSError):
                client.close()
            raise

    def _note_ends(self, store: Store) -> None:
        """Record which calls this process has ended, if it has no client to do that."""
        from fsqueue.spool.format.names import new_token
        from fsqueue.spool.history.journal import write_notes

        if self.conf.journal_ttl > 0:
            write_notes(store, new_token())

    def _warn_if_unserved(self) -> bool:
        from fsqueue.spool.fleets.coverage import fleets_that_take, outlook

        observer = self._observer or self._make_observer()
        self._observer = observer  # kept, as it reads each worker's record only once
        # That a worker has taken the last call is known from one listing, without its record.
        queues = [each for each in sorted(self.publishes_to) if not self.client.saw_claim(each)]
        unserved = observer.unserved(queues) if queues else []
        if not unserved:
            return False
        if module := being_imported():
            log.warning(
                "still waiting for a result, and no worker is alive in %s: the import of %s has "
                "made this call, and the command begins after the import. In that module, put "
                'calls under: if __name__ == "__main__":',
                self.root,
                module,
            )
            return True
        if self.advice is not None:
            log.warning("%s", self.advice(observer))
            return True
        try:
            target = self._locate()
        except ConfigError:
            target = "MODULE:VARIABLE"
        for folder in unserved:
            fleets = fleets_that_take(self.store.files, folder)
            self._warn_of(folder, target, [outlook(self.store.files, each) for each in fleets])
        return True

    def if_one_runs(self) -> str:
        """What to compare if a worker is running, and this process does not see it."""
        why = ""
        if (self._elsewhere or self.conf.root) is None:
            why = f"No root is set here{unread_root()}, so other hosts cannot see this folder. "
        return f"{why}If one runs already, its log names the folder that it uses. "

    def _warn_of(self, folder: str, target: str, fleets: list[str]) -> None:
        queue, profile = split_profile(folder)
        name = queue.rpartition(".")[2]
        needed = needs_of(profile) or NONE
        has = in_words(needed)
        options = "" if name == DEFAULT_QUEUE else f" --queue {name}"
        options += "".join(
            f" --resource {each}" for each in in_words(without_walltime(needed)).split()
        )
        serves = f"the queue {name} and has {has}" if has else f"the queue {name}"
        if fleets:
            text = (
                "still waiting for a result: no worker of %r that serves %s is alive in %s yet. %s"
            )
            log.warning(text, self.app_id, serves, self.root, ". ".join(fleets))
            return
        log.warning(
            "still waiting for a result, and no worker of %r is alive in %s that serves %s. %s"
            "Start one with: FSQUEUE__ROOT=%s fsqueue worker %s%s",
            self.app_id,
            self.root,
            serves,
            self.if_one_runs(),
            self.root,
            target,
            options,
        )


def _close_at_exit(client: Client, pid: int) -> None:
    if pid != os.getpid():
        return
    try:
        if "fsqueue.common.offloading" in sys.modules:
            sys.modules["fsqueue.common.offloading"].finish()  # awaited calls that are given up
        client.close()
    except BaseException:  # of a signal handler: Python continues with the other exit handlers
        client.close()
        raise
