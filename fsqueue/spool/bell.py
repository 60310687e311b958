"""Wake-ups on this machine: a listener is woken by a touch of its bell.

A bell is one file, so the kernel merges the touches of a busy moment into one event. Watching
the folders themselves costs an event a file, and watchdog holds back everything behind a file
that is renamed away (see docs/design.md, Waiting). Nobody relies on a bell: all waiting polls.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from watchdog.events import FileSystemEvent
    from watchdog.observers.api import BaseObserver

    from fsqueue.spool.filesystem import Filesystem

log = logging.getLogger(__name__)

_mutex = threading.Lock()
_observers: dict[int, BaseObserver] = {}


def _observer() -> BaseObserver:
    """The one observer of this process; a forked child starts its own."""
    from watchdog.observers import Observer

    with _mutex:
        observer = _observers.get(os.getpid())
        if observer is None or not observer.is_alive():
            observer = Observer()
            observer.daemon = True
            observer.start()
            _observers.clear()
            _observers[os.getpid()] = observer
        return observer


@contextlib.contextmanager
def listening(fs: Filesystem, path: str, wake: Callable[[], object]) -> Iterator[bool]:
    """Call `wake` from another thread after each touch of `path`; yields whether that works."""
    from watchdog.events import FileAttribEvent, FileModifiedEvent, FileSystemEventHandler

    class Handler(FileSystemEventHandler):
        def dispatch(self, event: FileSystemEvent) -> None:
            del event
            wake()

    try:
        fs.touch(path)
        observer = _observer()
        # watchdog 7.1 asks the kernel for attribute changes only if modifications are wanted.
        watch = observer.schedule(
            Handler(), path, event_filter=[FileAttribEvent, FileModifiedEvent]
        )
    except OSError as error:  # too many inotify watches, say
        log.warning("no wake-ups by file events (%s); polling instead", error)
        yield False
        return
    try:
        yield True
    finally:
        # The observer has dropped the watch itself if the file was removed.
        with contextlib.suppress(KeyError):
            observer.unschedule(watch)
