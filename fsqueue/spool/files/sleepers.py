"""Wakes sleeping processes on all hosts, through their tokens, when calls become pending or end."""

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
    from fsqueue.spool.disk.syscalls import Handle
    from fsqueue.spool.format.layout import Layout


class Sleepers:
    """Wakes sleepers on behalf of one process, and creates this process's own tokens.

    Args:
        make_folders: creates a folder of the spool.
        with_folder: runs a step that creates a file whose folder may be missing.
    """

    def __init__(
        self,
        fs: Filesystem,
        layout: Layout,
        make_folders: Callable[[str], object],
        with_folder: Callable[[str, Callable[[], Handle]], Handle],
    ) -> None:
        self._fs, self._layout = fs, layout
        self._make_folders, self._with_folder = make_folders, with_folder
        self._pending = f"{layout.pending_folder}/"
        self._ringer = Ringer(fs, self._prepare)

    def _prepare(self, folder: str) -> None:
        """Create a queue's token folder early: an NFS client caches that it is missing.

        A client creates its own before it publishes anything.
        """
        if "." in folder.rpartition("/")[2].removesuffix(TOKENS):
            with contextlib.suppress(OSError):
                self._make_folders(folder)

    def moved(self, path: str) -> None:
        """Wake a worker if this move made a call pending."""
        if path.startswith(self._pending):
            queue, profile = split_profile(path[len(self._pending) :].partition("/")[0])
            # Perhaps only some of the workers have the resources in the profile.
            self._ringer.ring(self._layout.tokens(queue), ALL if profile else 1)

    def changed(self, queue: str) -> None:
        """Wake all workers of a queue."""
        self._ringer.ring(self._layout.tokens(queue), ALL)

    def ended(self, invocation_id: str) -> None:
        """Wake the client of a call that now has an outcome."""
        self._ringer.ring(self._layout.tokens(client_of(invocation_id)))

    def enter(self, listener: str) -> None:
        """Create a listener's token folder before any other process looks for it."""
        self._make_folders(self._layout.tokens(listener))

    def token(
        self,
        listener: str,
        owner: Callable[[], str],
        poll_interval: float,
        on_ring: Callable[[], object],
    ) -> Token:
        """Create a token for this process; see `Token`.

        Args:
            listener: a client, or a queue's folder name.
            owner: returns the name of this client or worker.
            poll_interval: the longest pause between polls without the token, in seconds.
            on_ring: called after a ring, in a separate thread.
        """
        folder = self._layout.tokens(listener)
        return Token(self._fs, self._with_folder, folder, owner, poll_interval, on_ring)
