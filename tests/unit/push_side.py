"""Processes that sleep and publish on one spool that they take for an NFSv4 mount."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING

from pushing import Mounted
from support import PATIENCE, open_store, wait_until

from fsqueue.spool.wakeups.recalls import recalls

if TYPE_CHECKING:
    from fsqueue.testing import FaultyFilesystem

QUEUE, CLIENT = "t.default", "client0001"
POLL = 0.01


class Side:
    """One process's part: it publishes and sleeps, on a filesystem that it takes for a remote one.

    Attributes:
        woken: a list of the tokens that were rung.
    """

    def __init__(self, root: str, fs: FaultyFilesystem | None = None) -> None:
        self.fs = fs or Mounted()
        self.store = open_store(root, self.fs)
        self.store.push()
        self.woken: list[str] = []
        self._tokens = []

    def token(self, listener: str = QUEUE, name: str = "w"):
        """A token that was asked for."""
        note = partial(self.woken.append, name)
        token = self.store.files.sleepers.token(listener, lambda: name, POLL, note)
        self._tokens.append(token)
        token.arm()
        return token

    def armed(self, listener: str = QUEUE, name: str = "w"):
        token = self.token(listener, name)
        wait_until(lambda: token.path, what="a token")
        return token

    def listed(self) -> list[str]:
        return self.fs.names(self.store.layout.tokens(QUEUE))

    def pending(self, queue: str = QUEUE) -> None:
        self.store.files.sleepers.moved(f"{self.store.layout.pending_folder}/{queue}/s/1")

    def close(self) -> None:
        for token in self._tokens:
            token.end()


@contextlib.contextmanager
def sides(root: str):
    """Makes sides of a spool, each with a filesystem of its own, and removes their tokens."""
    made: list[Side] = []

    def make(fs: FaultyFilesystem | None = None) -> Side:
        made.append(Side(root, fs))
        return made[-1]

    yield make
    for each in made:
        each.close()


def assert_none_is_made(token):
    token.arm()
    done = threading.Event()
    recalls().submit(lambda _: done.set())  # in the thread that makes tokens
    assert done.wait(PATIENCE)
    assert not token.path
