"""Rings the tokens of sleeping processes when this process has published something for them.

Publishing must not wait for a sleeper. If a sleeper's host is dead, the server answers a ring only
after it has given up that host. So every ring has its own thread.
"""

from __future__ import annotations

import _thread
import atexit
import functools
import logging
import random
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from fsqueue.errors import FSQueueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.disk.filesystem import Filesystem

log: logging.Logger = logging.getLogger(__name__)

VIEW: Final = 0.5
"""Seconds for which a process relies on its last listing of a folder of tokens."""
ALL: Final = 1 << 30
"""Ring every token in a folder."""

_PATIENCE = 0.25
# Seconds for which an ending process waits for rings that are in progress.
_LAST_RINGS = 0.5
# The most folders to remember; beyond that, idle ones are forgotten.
_MOST_VIEWS = 500


class _View:
    """What this process has seen in a folder of tokens."""

    def __init__(self) -> None:
        self.wanted: deque[int] = deque()
        self.threads: dict[None, object] = {}
        self.tokens: deque[str] = deque()
        self.rung: set[str] = set()
        self.until = float("-inf")


class Ringer:
    """Rings tokens, from any thread. State changes in single steps, as a signal may interrupt it.

    Args:
        prepare: called with a folder before it is listed for the first time.
        patience: seconds after which a ring has failed, and another token is rung. If the token
            still exists this long after a ring, its owner is dead.
    """

    def __init__(
        self, fs: Filesystem, prepare: Callable[[str], object], patience: float = _PATIENCE
    ) -> None:
        self._fs, self._prepare, self._patience = fs, prepare, patience
        self._views: dict[str, _View] = {}
        self._at_work: dict[threading.Event, None] = {}
        self._registered = False
        self._ending = threading.Event()

    def ring(self, folder: str, count: int = 1) -> None:
        """Wake up to `count` owners of tokens in a folder. This does not wait.

        If the process dies before the ring, polls find what was published.
        """
        view = self._views.get(folder) or self._add(folder)
        if not view.tokens and not view.threads and self._fs.monotonic() < view.until:
            return
        view.wanted.append(count)
        me, served = object(), False
        try:
            started = view.threads.setdefault(None, me) is not me
            served = started or self._start(self._work, folder, view, me)
        finally:  # even if a signal handler raises: otherwise nobody would ring here again
            if not served and view.threads.get(None) is me:
                view.threads.clear()

    def _add(self, folder: str) -> _View:
        if len(self._views) >= _MOST_VIEWS:
            now = self._fs.monotonic()
            for path, each in list(self._views.items()):
                if each.until < now and not each.threads:
                    self._views.pop(path, None)
        return self._views.setdefault(folder, _View())

    def _start(self, function: Callable[..., None], *args: object) -> bool:
        if not self._registered:
            self._registered = True
            atexit.register(self.finish)
        finished = threading.Event()
        self._at_work[finished] = None

        def run() -> None:
            try:
                function(*args)
            except (OSError, FSQueueError) as error:
                log.info("cannot wake a sleeper, polling will: %s", error)
            finally:
                self._at_work.pop(finished, None)
                finished.set()

        try:
            _thread.start_new_thread(run, ())
        except RuntimeError:  # there may be no more threads
            self._at_work.pop(finished, None)
            return False
        return True

    def finish(self) -> None:
        """Wait a moment for the rings that are in progress."""
        self._ending.set()
        until = time.monotonic() + _LAST_RINGS
        for each in list(self._at_work):
            each.wait(max(0.0, until - time.monotonic()))

    def _work(self, folder: str, view: _View, me: object) -> None:
        while True:
            try:
                while view.wanted:
                    self._wake(folder, view, view.wanted.popleft())
            finally:
                view.threads.clear()
            # In this order: `ring` adds its wish before it checks whether there is a thread.
            if not view.wanted or view.threads.setdefault(None, me) is not me:
                return

    def _wake(self, folder: str, view: _View, count: int) -> None:
        began = self._fs.monotonic()
        if began >= view.until:
            if view.until < 0:
                self._prepare(folder)
            names = self._fs.names(folder, fresh=True)
            view.rung.intersection_update(names)
            # Shuffled, so that simultaneous publishers seldom choose the same token.
            found = [name for name in names if name not in view.rung]
            view.tokens = deque(random.sample(found, len(found)))
            view.until = began + VIEW
        while count > 0 and view.tokens:
            name = view.tokens.popleft()
            view.rung.add(name)
            count -= self._reaches(folder, name)

    def _reaches(self, folder: str, name: str) -> bool:
        """Ring a token; False if it is gone, or its host does not answer soon."""
        rung: list[bool] = []
        over = threading.Event()
        self._start(functools.partial(self._ring, folder, name, rung, over))
        over.wait(self._patience)
        return any(rung)

    def _ring(self, folder: str, name: str, rung: list[bool], over: threading.Event) -> None:
        """Ring a token, and remove it if its owner does not.

        If the process dies after the ring, or the reply is lost, the owner is awake.
        """
        path = f"{folder}/{name}"
        try:
            self._fs.ring_token(path)
            rung.append(True)
        finally:
            over.set()
        if self._ending.wait(self._patience):
            return
        try:
            self._fs.unlink(path)
        except FileNotFoundError:
            return  # its owner has removed it
        self.ring(folder)
