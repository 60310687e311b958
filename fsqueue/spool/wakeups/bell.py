"""Bells: files that wake the processes listening on the same machine when they are touched.

Since a bell is a single file, the kernel merges the touches of a busy moment into one event. Bells
only save time: every waiting process polls as well.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from fsqueue.spool.wakeups import inotify
from fsqueue.spool.wakeups.watching import Watch, watches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

log: logging.Logger = logging.getLogger(__name__)


@contextlib.contextmanager
def listening(
    touch: Callable[[str], None], path: str, wake: Callable[[], object]
) -> Iterator[Watch]:
    """Call `wake` after each touch of a bell; yields the watch, which may not work.

    Args:
        touch: creates the bell, and its folder.
        path: the bell.
        wake: called in a thread that waits with an `Alarm`, or for results.
    """

    def on_event(_: str | None) -> None:
        try:
            wake()
        except Exception:
            # The calling thread may be waiting for something else, and all listeners also poll.
            log.exception("a wake-up failed")

    watch = Watch(path, inotify.ATTRIB, on_event)
    try:
        touch(path)
    except OSError as error:
        log.warning("no wake-ups by file events (%s); polling instead", error)
    else:
        watches().add(watch)
    try:
        yield watch
    finally:
        watches().remove(watch)
