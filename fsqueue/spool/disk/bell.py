"""Bells: files whose touch wakes the listeners on the same machine.

Since a bell is a single file, the kernel merges the touches of a busy moment into one event.
Watching the folders would cost an event per file, and watchdog delays all events that follow a
rename out of the folder (see docs/design/disk-and-waiting.md). Bells only save time: every waiting
process polls as well.

Only watchdog's inotify reader is used. Its observers pass each event through three threads, which
would cost more than the rest of a call.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from watchdog.observers.inotify_c import InotifyEvent, InotifyFD, WatchDescriptor

    from fsqueue.spool.disk.filesystem import Filesystem

log = logging.getLogger(__name__)

_mutex = threading.Lock()
_readers: dict[int, InotifyFD] = {}
_warned = False


class _Bell:
    """Callbacks for the events of one bell; watchdog calls them in its thread."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self.rings = True

    def on_event(self, event: InotifyEvent) -> None:
        del event
        try:
            self._wake()
        except Exception:
            # All listeners share this thread, and they poll as well.
            log.exception("a wake-up failed")

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        del wd
        self.rings = False

    def on_queue_overflow(self) -> None:
        self._wake()


@contextlib.contextmanager
def listening(fs: Filesystem, path: str, wake: Callable[[], object]) -> Iterator[bool]:
    """Call `wake` in another thread after each touch of `path`; yields whether that works."""
    if sys.platform != "linux":
        yield False
        return
    bell = _Bell(wake)
    try:
        # It may lie on a network filesystem that fails just now.
        from watchdog.observers.inotify_c import CallbackId, InotifyConstants, Mask

        number = CallbackId(id(bell))
        fs.touch(path)
        reader = _reader()
        # If a link stands in its place, the link itself is watched, as it is what `ring` touches.
        mask = Mask(InotifyConstants.IN_ATTRIB | InotifyConstants.IN_DONT_FOLLOW)
        watch = reader.add_callback(os.fsencode(path), mask, bell, number)
    except (ImportError, OSError, RuntimeError) as error:  # too many watches, or threads
        log.log(_severity(), "no wake-ups by file events (%s); polling instead", error)
        yield False
        return
    try:
        yield True
    finally:
        if bell.rings:  # the kernel drops the watch itself if the file was removed
            reader.remove_callbacks([(watch, number)])


def _severity() -> int:
    """A warning the first time: a process that cannot listen tries again and again."""
    global _warned
    warned, _warned = _warned, True
    return logging.DEBUG if warned else logging.WARNING


def _reader() -> InotifyFD:
    """The one reader of this process; a forked child starts its own.

    Raises:
        ImportError: watchdog cannot be read.
        OSError: there are too many inotify instances, or open files.
        RuntimeError: there are too many threads.
    """
    from watchdog.observers.inotify_c import InotifyFD

    with _mutex:
        reader = _readers.get(os.getpid())
        if reader is None or not reader.is_alive():
            _check_room()
            reader = InotifyFD()
            reader.start()
            _readers.clear()
            _readers[os.getpid()] = reader
        return reader


def _check_room() -> None:
    """See that a reader can have its thread and its three descriptors.

    One that gets only some of them keeps those for ever.

    Raises:
        OSError: there are too many open files.
        RuntimeError: there are too many threads.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    thread = threading.Thread(target=bool, name="fsqueue-room", daemon=True)
    thread.start()
    thread.join()
