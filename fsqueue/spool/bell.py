"""Wake-ups on this machine: a listener is woken by a touch of its bell.

A bell is one file, so the kernel merges the touches of a busy moment into one event. Watching
the folders themselves costs an event a file, and watchdog holds back everything behind a file
that is renamed away (see docs/design.md, Waiting). Nobody relies on a bell: all waiting polls.

Of watchdog this takes the reader of inotify alone: its observers hand each event through three
threads, which costs more than the rest of a call.
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

    from fsqueue.spool.filesystem import Filesystem

log = logging.getLogger(__name__)

_mutex = threading.Lock()
_readers: dict[int, InotifyFD] = {}


class _Bell:
    """What watchdog calls, in its thread, for each event of a watched file."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self.rings = True

    def on_event(self, event: InotifyEvent) -> None:
        del event
        try:
            self._wake()
        except Exception:
            # The thread is everybody's; and whoever waits here polls as well.
            log.exception("a wake-up failed")

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        del wd
        self.rings = False

    def on_queue_overflow(self) -> None:
        self._wake()


@contextlib.contextmanager
def listening(fs: Filesystem, path: str, wake: Callable[[], object]) -> Iterator[bool]:
    """Call `wake` from another thread after each touch of `path`; yields whether that works."""
    if sys.platform != "linux":
        yield False
        return
    from watchdog.observers.inotify_c import CallbackId, InotifyConstants, Mask

    bell = _Bell(wake)
    number = CallbackId(id(bell))
    try:
        fs.touch(path)
        reader = _reader()
        # A link in its place is the bell: it is the link that is touched.
        mask = Mask(InotifyConstants.IN_ATTRIB | InotifyConstants.IN_DONT_FOLLOW)
        watch = reader.add_callback(os.fsencode(path), mask, bell, number)
    except OSError as error:  # too many inotify watches, say
        log.warning("no wake-ups by file events (%s); polling instead", error)
        yield False
        return
    try:
        yield True
    finally:
        if bell.rings:  # the kernel drops the watch itself if the file was removed
            reader.remove_callbacks([(watch, number)])


def _reader() -> InotifyFD:
    """The one reader of this process; a forked child starts its own."""
    from watchdog.observers.inotify_c import InotifyFD

    with _mutex:
        reader = _readers.get(os.getpid())
        if reader is None or not reader.is_alive():
            reader = InotifyFD()
            reader.start()
            _readers.clear()
            _readers[os.getpid()] = reader
        return reader
