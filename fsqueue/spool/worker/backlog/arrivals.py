"""New calls of a queue that file events report, so that a worker claims them without a listing."""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING

from fsqueue.spool.format.names import Slot
from fsqueue.spool.wakeups import inotify
from fsqueue.spool.wakeups.watching import Watch, watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fsqueue.spool.store.store import Store

_MASK = inotify.ARRIVED | inotify.ONLY_FOLDER
# With more names than this, the queue is listed instead: workers would race for the same names,
# while in a listing each begins at a different place.
_MOST_NAMES = 16
# A queue with more slots than this is listed.
_MOST_SLOTS = 50


class Arrivals:
    """The attempts that have arrived in the slots of a queue since these were listed.

    Threads that wait for file events call its methods, any number at a time. Its state changes by
    single operations, which need no lock.

    Args:
        queue: the queue's folder name.
        announce: called when something has arrived.

    Attributes:
        paths: their paths.
        missed: whether something else may have arrived, so that the queue must be listed.
        rests: whether to ignore events.
    """

    def __init__(self, store: Store, queue: str, announce: Callable[[], object]) -> None:
        self._layout, self._queue, self._announce = store.layout, queue, announce
        self._folder = Watch(self._layout.queue(queue), _MASK, self._on_slot)
        self._slots: dict[str, Watch] = {}
        self.paths: deque[str] = deque()
        self.missed: bool = True
        self.rests = False

    def begin(self) -> None:
        """Start collecting arrivals, before the queue is listed."""
        if self.rests:
            return
        watches().add(self._folder)
        self.missed = not self._folder.works
        self.paths.clear()

    def watch(self, slots: Iterable[str]) -> None:
        """Watch these slots, before they are listed."""
        for slot in slots:
            if len(self._slots) >= _MOST_SLOTS:
                self.missed = True
            if self.missed:
                return
            self._watch(slot)

    def _watch(self, slot: str) -> None:
        def on_event(name: str | None) -> None:
            if name is None:
                self._slots.pop(slot, None)
                self.missed = True
            elif len(self.paths) < _MOST_NAMES:
                self.paths.append(f"{watch.path}/{name}")
            else:
                # The slot must be listed anyway, which restarts the watch. Until then, further
                # calls would wake this worker for nothing.
                self.missed = True
                self._slots.pop(slot, None)
                watches().remove(watch)
            self._announce()

        watch = Watch(self._layout.slot(self._queue, slot), _MASK, on_event)
        if self._slots.setdefault(slot, watch) is not watch:
            return
        watches().add(watch)
        if not watch.works:
            self._slots.pop(slot, None)
            self.missed = True

    def _on_slot(self, name: str | None) -> None:
        if name is not None and Slot.parse(name) is not None and len(self._slots) < _MOST_SLOTS:
            self._watch(name)
        self.missed = True  # calls may have come before the watch, or the queue was paused
        self._announce()

    def take(self) -> list[str]:
        """The paths of the attempts that have arrived."""
        taken = []
        while self.paths:
            taken.append(self.paths.popleft())
        return taken

    def forget(self, path: str) -> None:
        """Forget an attempt that was claimed."""
        with contextlib.suppress(ValueError):
            self.paths.remove(path)

    def drop(self, listed: Iterable[str]) -> None:
        """Forget the attempts that a listing has shown, which may have arrived just before it."""
        if watches().handle is not None:
            watches().take()
        if self.paths:
            shown = set(listed)
            self.paths.extend(path for path in self.take() if path not in shown)

    def end(self) -> None:
        """End the watches."""
        self.missed = True
        for watch in (self._folder, *self._slots.values()):
            watches().remove(watch)
        self._slots.clear()
