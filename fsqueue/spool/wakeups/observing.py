"""File events from watchdog, on systems without inotify, such as macOS and the BSDs.

watchdog has its own threads, which call the watches; the watches wake sleeping threads.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Protocol

from watchdog.events import FileSystemEvent, FileSystemEventHandler
from watchdog.observers import Observer

from fsqueue.spool.wakeups import inotify

if TYPE_CHECKING:
    from collections.abc import Callable

    from watchdog.observers.api import ObservedWatch


class Watch(Protocol):
    """What is watched; see `fsqueue.spool.wakeups.watching.Watch`."""

    path: str
    mask: int
    works: bool
    on_event: Callable[[str | None], object]


class _Handler(FileSystemEventHandler):
    """Tells one watch what happens in a folder."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._path = watch, os.fsencode(watch.path)
        self._of_file = bool(watch.mask & inotify.ATTRIB)

    def on_any_event(self, event: FileSystemEvent) -> None:
        watch, kind, source = self._watch, event.event_type, os.fsencode(event.src_path)
        if self._of_file:
            if source == self._path and kind in {"created", "modified", "attrib"}:
                watch.on_event("")
        elif source == self._path and kind in {"deleted", "moved"}:
            watch.works = False
            watch.on_event(None)
        elif kind in {"created", "moved"}:
            path = os.fsencode(event.dest_path) if kind == "moved" else source
            if os.path.dirname(path) == self._path:
                watch.on_event(os.fsdecode(os.path.basename(path)))


class Observing:
    """The observer of this process, with the watches that it notifies."""

    def __init__(self) -> None:
        self._observer = Observer()
        self._observer.start()
        self._handlers: dict[Watch, tuple[_Handler, ObservedWatch]] = {}

    def add(self, watch: Watch) -> None:
        """Start notifying a watch; a file is watched through its folder.

        Raises:
            OSError: the folder does not exist, or there are too many watches.
        """
        of_file = watch.mask & inotify.ATTRIB
        folder = os.path.dirname(watch.path) if of_file else watch.path
        os.stat(folder)
        self.remove(watch)
        handler = _Handler(watch)
        self._handlers[watch] = handler, self._observer.schedule(handler, folder)

    def remove(self, watch: Watch) -> None:
        """Stop notifying a watch."""
        if (known := self._handlers.pop(watch, None)) is not None:
            self._observer.remove_handler_for_watch(*known)
