"""Files that an NFSv4 server has delegated to a client, and may recall.

A delegation holds up every change by others until it is returned. A token turns that to use: its
owner is told of the recall.
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from fsqueue.spool.disk import leases, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.disk.leases import Told
    from fsqueue.spool.disk.ownership import Ownership
    from fsqueue.spool.disk.syscalls import Handle

P = ParamSpec("P")
R = TypeVar("R")


class Delegations:
    """The part of `Filesystem` that concerns delegations. Its `_call` is the choke point."""

    remote: bool
    _own: Ownership

    def _call(self, verb: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        del verb  # the name under which a faulty twin counts and chooses
        return function(*args, **kwargs)

    def recall(self, path: str) -> None:
        """Wait until no other client holds a delegation of a file.

        A dead client's delegation lasts as long as its lease with the server. A rename would wait
        for that, too, and block all other renames of this host.
        """
        if self.remote:
            with contextlib.suppress(OSError):  # the moves that follow report it
                self._call("open", syscalls.recall_delegation, path)

    def let_go(self, path: str) -> None:
        """Return this host's delegation of a file, so that others need not `recall` it.

        A Linux NFS client does so before it sets a file's mode (nfs4_proc_setattr in the kernel's
        fs/nfs), so this sets the mode to what it is.
        """
        if self.remote:
            with contextlib.suppress(OSError):
                # The cached answer is good enough: a file's type and mode do not change.
                mode = self._call("stat", os.lstat, path).st_mode
                if stat.S_ISREG(mode):
                    self._call("chmod", os.chmod, path, stat.S_IMODE(mode))

    def make_token(self, path: str) -> None:
        """Make an empty file that a lease can be taken on at once; the name must not exist.

        A Linux NFS client closes a file late that was open for writing, and gets no delegation of
        it before.
        """
        self._call("create", self._own.make_token, path)

    def lease(self, path: str, told: Told) -> Handle:
        """Take a read lease on a token; see `leases.take_lease`."""
        return self._call("lease", leases.take_lease, path, told)

    def ring_token(self, path: str) -> None:
        """Wake the owner of a token. If its host is dead, this takes until the server knows that.

        Raises:
            FileNotFoundError: there is no such token any more.
        """
        self._call("ring", leases.break_lease, path)
