"""The loop of ``fsqueue top``: looks at the spool, handles keys, and draws the screen."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import TYPE_CHECKING

from fsqueue.cli.screen.terminal import Terminal
from fsqueue.cli.screen.view import Look, Marks, View
from fsqueue.errors import FSQueueError
from fsqueue.spool.files.root import check_spool

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.admin.glance import Glance, Looks

# Looking takes at most this share of the time.
_REST = 10
# Seconds between two updates of the age of old figures.
_TICK = 1.0


def can_run() -> bool:
    """Whether standard output is a terminal that can show a screen."""
    return sys.stdout.isatty() and os.environ.get("TERM", "dumb") != "dumb"


class Watcher:
    """Looks at the spool in a thread, so that keys work while the file server does not answer.

    Args:
        looks: looks at the spool.
        wake: called after each look.
    """

    def __init__(self, looks: Looks, wake: Callable[[], None]) -> None:
        self._looks, self._wake = looks, wake
        self._glance: Glance = looks.look()
        self._problem = ""
        self._asked = threading.Event()
        self._ended, self._took = time.monotonic(), 0.0
        threading.Thread(target=self._watch, name="fsqueue-top", daemon=True).start()

    @property
    def latest(self) -> Look:
        """The latest look that succeeded."""
        glance = self._glance
        return Look(glance, self._looks.age(glance), self._problem)

    def ask(self) -> None:
        """Start a look, unless one is in progress."""
        if not self._asked.is_set():
            self._asked.set()

    def due_in(self, interval: float) -> float:
        """Seconds until the next look; infinite while one is in progress."""
        if self._asked.is_set():
            return float("inf")
        return max(0.0, self._ended + max(interval, _REST * self._took) - time.monotonic())

    def _watch(self) -> None:
        while True:
            self._asked.wait()
            began = time.monotonic()
            try:
                store = self._looks.store
                if store.files.info.id:  # otherwise there is no spool yet
                    check_spool(store.fs, store.layout, store.files.info.id)
                self._glance, self._problem = self._looks.look(), ""
            except (OSError, FSQueueError) as error:
                self._problem = f"the shared directory fails: {error}"
            self._ended = time.monotonic()
            self._took = self._ended - began
            self._asked.clear()
            self._wake()


def run(looks: Looks, interval: float) -> None:
    """Show the spool on the terminal until the user quits.

    Args:
        looks: looks at the spool.
        interval: seconds between two looks.
    """
    keys = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else None
    encoding = sys.stdout.encoding or "utf-8"
    terminal = Terminal(keys, sys.stdout.fileno(), encoding)
    watcher = Watcher(looks, terminal.wake)
    view = View(interval, Marks.of(encoding))
    with terminal.taken():
        while True:
            size = terminal.size
            terminal.draw(view.lines(watcher.latest, *size), size)
            for key in terminal.wait(_pause(watcher, view, interval)):
                if key in {"q", "Q"} and not view.wants_keys:
                    return
                if key == "r" and not view.wants_keys:
                    watcher.ask()
                view.press(key)
            if not view.paused and watcher.due_in(interval) <= 0:
                watcher.ask()


def _pause(watcher: Watcher, view: View, interval: float) -> float:
    """How long to wait for a key: until the next look, or until an age on the screen is wrong."""
    return _TICK if view.paused else min(_TICK, watcher.due_in(interval))
