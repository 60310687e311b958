"""NFSv4 delegations: files that the server has delegated to a client, and may recall.

A delegation blocks every change by other clients until it is returned. Tokens make use of that: the
recall notifies a token's owner.
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
    """The part of `Filesystem` that handles delegations. All system calls go through `_call`."""

    remote: bool
    _own: Ownership

    def _call(self, verb: str, function: Callable[P, R], /, *args: P.args, **kwargs: P.kwargs) -> R:
        del verb  # the name by which a faulty twin counts and selects calls
        return function(*args, **kwargs)

    def recall(self, path: str) -> None:
        """Wait until no other client holds a delegation of a file.

        A dead client's delegation lasts as long as its lease with the server. A rename would also
        wait for that, but would block all other renames on this host.
        """
        if self.remote:
            with contextlib.suppress(OSError):  # the following moves report it
                self._call("open", syscalls.recall_delegation, path)

    def let_go(self, path: str) -> None:
        """Return this host's delegation of a file, so that other hosts need not `recall` it.

        A Linux NFS client returns it before it sets a file's mode (nfs4_proc_setattr in the
        kernel's fs/nfs), so this sets the mode that the file already has.
        """
        if self.remote:
            with contextlib.suppress(OSError):
                # The cached answer is good enough: a file's type and mode do not change.
                mode = self._call("stat", os.lstat, path).st_mode
                if stat.S_ISREG(mode):
                    self._call("chmod", os.chmod, path, stat.S_IMODE(mode))

    def lease(self, path: str, told: Told) -> Handle:
        """Make a token and take a read lease on it; see `leases.take_lease`."""
        return self._call("lease", leases.take_lease, path, told, self._own.open_new)

    def ring_token(self, path: str) -> None:
        """Wake the owner of a token. If its host is dead, this blocks until the server notices.

        Raises:
            FileNotFoundError: the token is gone.
        """
        self._call("ring", leases.break_lease, path)
