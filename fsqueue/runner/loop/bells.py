"""The bells of a worker: file events that announce pending calls and calls waiting for others."""

from __future__ import annotations

import contextlib
import logging
from operator import attrgetter
from typing import TYPE_CHECKING

from fsqueue.spool.wakeups.bell import listening
from fsqueue.spool.wakeups.watching import watches

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.runner.host import Host
    from fsqueue.spool.wakeups.watching import Alarm, Watch
    from fsqueue.spool.worker.backlog.worker import WorkerBacklog

log: logging.Logger = logging.getLogger(__name__)

_works = attrgetter("works")


class WorkerBells:
    """Listens to the bells of a worker's queues and of the calls that wait for others.

    Args:
        wake: set when a bell rings.

    Attributes:
        wake: as given.
        count: how many times a bell of a queue has rung.
        linger: the alarm of a thread that waits for the next call itself; see `Lingering`.
        deaf: the claim loop waits for a free slot, and no new call needs to wake it.
    """

    def __init__(self, host: Host, backlog: WorkerBacklog, wake: Alarm) -> None:
        self._store, self._backlog = host.store, backlog
        self.wake: Alarm = wake
        self._host = host
        self._dependencies = host.store.dependencies
        self._refresh_due = False
        self._heard: list[Watch] = []
        self.count: int = 0
        self.linger: Alarm | None = None
        self.deaf: bool = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[bool]:
        """Listen in the block; yields whether the bells of all queues can be heard."""
        if not self._host.events:
            yield False
            return
        with contextlib.ExitStack() as stack:
            touch, layout = self._store.files.touch, self._store.layout
            queues = self._backlog.queues
            bells = [(layout.bell(queue), self._on_queue_bell) for queue in queues]
            bells += [(layout.needs_bell(queue), self._on_needs_bell) for queue in queues]
            stack.enter_context(self._backlog.listening(self._on_arrival))
            heard = [stack.enter_context(listening(touch, *each)) for each in bells]
            dependencies = listening(touch, layout.after_bell, self._on_dependency_bell)
            self._heard = [*heard, stack.enter_context(dependencies)]
            self._dependencies.bell_works = self._heard[-1].works
            self._refresh_due = True  # calls may have begun to wait before this worker listened
            yield all(each.works for each in heard)

    @property
    def hears_all(self) -> bool:
        """Whether inotify reports all calls: it works, and only this host publishes."""
        heard, native = self._heard, watches().handle is not None
        if not heard or not native or self._store.fs.remote:
            return False
        return all(map(_works, heard))

    def rest(self, *, idle: bool) -> None:
        """Stop listening.

        Args:
            idle: the worker has no call, so it need not know which calls wait for others.
        """
        self._backlog.rest(rests=True)
        for each in self._heard if idle else self._heard[:-1]:
            watches().remove(each)

    def rise(self) -> None:
        """Listen again, before the next search."""
        self._backlog.rest(rests=False)
        for each in self._heard:
            watches().add(each)
        self._refresh_due = True

    def search(self) -> None:
        """Search everything soon. From any thread."""
        self._search(needs=True)

    def _on_arrival(self) -> None:
        self._search(needs=False)

    def _on_queue_bell(self) -> None:
        # Otherwise the file event of each new call has announced it, so no search is needed.
        if not self._backlog.hears_all:
            self._search(needs=False)

    def _on_needs_bell(self) -> None:
        self._search(needs=True)

    def _search(self, *, needs: bool) -> None:
        self.count += 1
        self._backlog.bell_rang(needs=needs)
        if (linger := self.linger) is not None:
            linger.set()
        if not self.deaf:
            self.wake.set()  # even if a thread lingers, while the claim loop should not listen

    def _on_dependency_bell(self) -> None:
        if not self._dependencies.has_waiters:
            self._refresh_due = True
            self.wake.set()

    def refresh_dependencies(self) -> bool:
        """List the calls that others wait for, if their bell has rung; return whether it had."""
        if rung := self._refresh_due:
            self._refresh_due = False
            try:
                self._dependencies.refresh()
            except OSError as error:
                log.info("cannot list the calls that wait for others, upkeep will: %s", error)
        return rung

    def announce_pending(self) -> None:
        """Wake this worker and the others on this machine: calls are pending again."""
        self.wake.set()
        for queue in self._backlog.queues:
            self._store.fs.ring(self._store.layout.bell(queue))
            self._store.fs.ring(self._store.layout.needs_bell(queue))
