"""Wakes the sleepers of all hosts, by their tokens, when calls become pending or end."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from fsqueue.spool.format.layout import TOKENS
from fsqueue.spool.format.names import client_of, split_profile
from fsqueue.spool.wakeups.rings import ALL, Ringer
from fsqueue.spool.wakeups.tokens import Token

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.format.layout import Layout


class Sleepers:
    """The sleepers of a spool, as one process of it wakes them and becomes one.

    Args:
        make_folders: makes a folder of the spool.
        with_folder: takes a step that makes a file, whose folder may be missing.
    """

    def __init__(
        self,
        fs: Filesystem,
        layout: Layout,
        make_folders: Callable[[str], object],
        with_folder: Callable[[str, Callable[[], None]], None],
    ) -> None:
        self._fs, self._layout = fs, layout
        self._make_folders, self._with_folder = make_folders, with_folder
        self._pending = f"{layout.pending_folder}/"
        self._ringer = Ringer(fs, self._prepare)

    def _prepare(self, folder: str) -> None:
        """Make a queue's folder of tokens: an NFS client remembers that one was missing.

        A client makes its own one, before it publishes anything.
        """
        if "." in folder.rpartition("/")[2].removesuffix(TOKENS):
            with contextlib.suppress(OSError):
                self._make_folders(folder)

    def moved(self, path: str) -> None:
        """Wake a worker if a call has become pending by this move."""
        if path.startswith(self._pending):
            queue, profile = split_profile(path[len(self._pending) :].partition("/")[0])
            # Only some of the workers may have the resources that a profile names.
            self._ringer.ring(self._layout.tokens(queue), ALL if profile else 1)

    def changed(self, queue: str) -> None:
        """Wake all workers of a queue."""
        self._ringer.ring(self._layout.tokens(queue), ALL)

    def ended(self, invocation_id: str) -> None:
        """Wake the client of a call that has an outcome now."""
        self._ringer.ring(self._layout.tokens(client_of(invocation_id)))

    def enter(self, listener: str) -> None:
        """Make the folder of a listener's tokens, before any other process asks for it."""
        self._make_folders(self._layout.tokens(listener))

    def token(
        self,
        listener: str,
        owner: Callable[[], str],
        poll_interval: float,
        on_ring: Callable[[], object],
    ) -> Token:
        """A token of this process; see `Token`.

        Args:
            listener: a client, or a queue's folder name.
            owner: returns the name of this client or worker.
            poll_interval: longest pause between polls without it, in seconds.
            on_ring: called after a ring, in a thread of its own.
        """
        folder = self._layout.tokens(listener)
        return Token(self._fs, self._with_folder, folder, owner, poll_interval, on_ring)
