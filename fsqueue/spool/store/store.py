"""The store: one process's handle on a spool. It publishes calls and provides all other steps.

Each step says what a crash leaves behind: "Dies before the rename" means that the process dies just
before it. "Lost reply" happens on network filesystems: the server carries out a request, but its
reply is lost, and the client's retry is answered as if it were the first request.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from fsqueue.spool.features.blobs import Blobs
from fsqueue.spool.features.deduplication import Deduplication
from fsqueue.spool.features.dependencies import Dependencies
from fsqueue.spool.features.limits import Limits
from fsqueue.spool.features.result_cache import ResultCache
from fsqueue.spool.files.calls import Calls
from fsqueue.spool.files.outcomes import Outcomes
from fsqueue.spool.files.sleepers import Sleepers
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import AttemptName
from fsqueue.spool.store.claims import Claims
from fsqueue.spool.store.endings import Endings
from fsqueue.spool.store.recovery import Recovery
from fsqueue.spool.store.waiting import Waiting
from fsqueue.spool.wakeups.recalls import available

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.clock import ServerClock
    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.layout import Layout
    from fsqueue.spool.format.records import Call

log: logging.Logger = logging.getLogger(__name__)


class Store:
    """One process's handle on a spool.

    Attributes:
        files: reads and writes files. Its `fs`, `layout` and `clock` are also available here.
        calls: reads calls' files.
        outcomes: the outcomes in ``done/`` and ``kept/``.
        endings: completes, cancels and gives up calls.
        blobs: arguments that many calls share.
        cache: results that other calls may reuse.
        claims: claims calls, and gives them back.
        recovery: recovers claims that no worker is handling.
        waiting: moves waiting calls on.
        limits: manages concurrency limits and the calls that wait for them.
        dependencies: tracks which calls wait for which others.
        deduplication: publishes at most one pending call per key.
    """

    def __init__(self, files: Files) -> None:
        self.files: Files = files
        self.fs: Filesystem = files.fs
        self.layout: Layout = files.layout
        self.clock: ServerClock = files.clock
        self.calls: Calls = Calls(files)
        self.outcomes: Outcomes = Outcomes(files)
        self.endings: Endings = Endings(files, self.calls, self.outcomes)
        self.blobs: Blobs = Blobs(files)
        self.cache: ResultCache = ResultCache(files)
        self.waiting: Waiting = Waiting(files, self.calls, self.outcomes, self.endings, self.blobs)
        self.limits: Limits = Limits(files, self.waiting.admit)
        self.dependencies: Dependencies = Dependencies(
            self.outcomes, self.waiting.move_on, self.waiting.renew_needs
        )
        self.outcomes.on_end = self.dependencies.ended
        self.deduplication: Deduplication = Deduplication(files, self.limits)
        self.claims: Claims = Claims(
            files, self.outcomes, self.endings, self.dependencies, self.waiting, self.blobs
        )
        self.recovery: Recovery = Recovery(
            files, self.calls, self.endings, self.dependencies, self.limits, self.withdraw
        )

    def push(self) -> None:
        """Let an NFSv4 server wake sleepers on all hosts, and this process, if the system can."""
        if available():
            files = self.files
            files.sleepers = Sleepers(self.fs, self.layout, files.make_folders, files.with_folder)

    # -- publish ------------------------------------------------------------------------

    def publish(
        self,
        call: Call,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer] = (),
    ) -> str:
        """Make a call pending; returns its path.

        Dies before the rename: the call was not accepted, a file in ``tmp/`` expires.
        Dies after it: the call is pending.
        """
        target = f"{self.layout.slot(call.queue, call.slot)}/{call.id}.1"
        self.files.place(target, envelope.encode(call, payload, self.files.key, buffers))
        return target

    def publish_after(
        self,
        call: Call,
        payload: Sequence[bytes | memoryview],
        buffers: Sequence[Buffer],
        parent: str,
    ) -> str:
        """File a call under the parent that it waits for; returns its path.

        The publisher must check afterwards whether the parent has ended: see `Dependencies`. Dies
        before that check: if the parent ends later, the worker that ends it finds the call. If it
        had ended already, upkeep finds the call.
        """
        target = f"{self.layout.after(parent)}/{call.id}.1"
        self.files.place(target, envelope.encode(call, payload, self.files.key, buffers))
        return target

    def withdraw(self, path: str) -> bool:
        """Take back a pending call whose result is unwanted; False if a worker has claimed it."""
        try:
            self.fs.unlink(path)
        except FileNotFoundError:
            return False
        name = AttemptName.parse(os.path.basename(path))
        if name is not None:
            self.dependencies.ended(name.invocation_id)
        return True
