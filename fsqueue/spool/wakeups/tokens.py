"""Tokens: files by whose ring an NFSv4 server wakes one process that sleeps, on any host.

A process that has waited in vain for a while makes a token and takes a lease on it. A process that
has something for it rings the token (`spool.wakeups.rings`), once. While the token lies there, its
owner polls rarely. docs/design/push-wakeups.md has the protocol and what can go wrong.
"""

from __future__ import annotations

import errno
import itertools
import logging
from typing import TYPE_CHECKING

from fsqueue.errors import FSQueueError
from fsqueue.spool.wakeups.recalls import recalls
from fsqueue.spool.wakeups.rings import VIEW

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.disk.leases import Told
    from fsqueue.spool.disk.syscalls import Handle

log: logging.Logger = logging.getLogger(__name__)

# Seconds between two polls of a process that has a token.
_SAFETY_NET = 30.0
# A process makes a token when its pauses between polls reach this share of the longest.
_EARLY = 0.25

# After two pushes were lost in a row, a process polls for this many seconds as it does without, and
# for twice as long each time that it happens again: somebody reaches the spool in another way.
_DISTRUST, _LONGEST_DISTRUST = 600.0, 86_400.0
_MISSED = 2
# Pauses, in seconds, before a server is asked again that has not delegated a new file.
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0
# The filesystem has no leases, or this process may not have them.
_NEVER = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM})

# A name is not used twice: a publisher rings each one once.
_numbers = itertools.count(1)


class Token:
    """One process's token in one folder: there is one at a time, each with a name of its own.

    Dies at any point: the token stays until somebody rings it, or it expires. Lost reply to its
    creation: the name exists, so it is removed, and the next try makes another one.

    Args:
        make: makes a file in the folder, which may be missing, by the given step.
        folder: where it lies.
        owner: returns the name of this client or worker.
        poll_interval: the longest pause between two polls without a token, in seconds.
        on_ring: called in a thread of its own after a ring. By then there is no lease any more.

    Attributes:
        refusal: why there was no token the last time; empty if there was one.
    """

    def __init__(
        self,
        fs: Filesystem,
        make: Callable[[str, Callable[[], None]], None],
        folder: str,
        owner: Callable[[], str],
        poll_interval: float,
        on_ring: Callable[[], object],
    ) -> None:
        self._fs, self._make, self._folder, self._owner = fs, make, folder, owner
        # A publisher that has just looked here does not look again for a while. Until then, and
        # for a poll after that, this process polls as without a token.
        self._settles_in = VIEW + 2 * poll_interval
        self._early = _EARLY * poll_interval
        self._on_ring = on_ring
        self._wanted = self._asked = False
        self._held: dict[str, Handle] = {}
        self._since = float("inf")
        self._missed, self._distrust = 0, _DISTRUST
        self._pause, self._next_try = _FIRST_PAUSE, 0.0
        self.refusal: str = ""

    @property
    def path(self) -> str:
        """Where the token is; empty if there is none."""
        return next(iter(list(self._held)), "")

    @property
    def settled(self) -> bool:
        """Whether every ring reaches this process, so that it need not poll often."""
        return self._fs.monotonic() > self._since + self._settles_in

    def longer(self, pause: float) -> float:
        """The pause until the next poll: as given, or longer once a ring will end it.

        Args:
            pause: it grows while polls find nothing. When it is long enough, a token is made.
        """
        if pause < self._early:
            return pause
        self.arm()
        return _SAFETY_NET if self.settled else pause

    def arm(self) -> None:
        """Have a token soon, unless there is one, or the server has refused one lately."""
        self._wanted = True
        if self._asked or self._fs.monotonic() < self._next_try:
            return
        self._asked = True
        try:
            recalls().submit(self.take)
        except FSQueueError as error:
            self._refuse(error)
        except BaseException:  # of a signal handler
            self._asked = False
            raise

    def take(self, told: Told) -> None:
        """Make a token, and remove it if it is not wanted any more. In the thread of `recalls`."""
        path = f"{self._folder}/{self._owner()}.{next(_numbers)}"
        try:
            self._make(path, lambda: self._fs.make_token(path))
            handle = self._fs.lease(path, told)
        except (OSError, FSQueueError) as error:
            self._refuse(error)
            self._discard(path)
            return
        self._pause, self.refusal = _FIRST_PAUSE, ""
        self._held[path] = handle
        recalls().hold(handle, self._recalled)
        self._since = self._fs.monotonic()
        if not self._wanted:  # any more
            self._drop()

    def _refuse(self, error: Exception) -> None:
        """Poll as without a token for a while, or for good."""
        self.refusal = str(error)
        if getattr(error, "errno", None) in _NEVER or isinstance(error, FSQueueError):
            text = "no wake-ups by the file server in %s (%s); polling instead"
            log.info(text, self._folder, error)
            self._next_try = float("inf")
        else:
            self._next_try = self._fs.monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)
        self._asked = False

    def _recalled(self) -> None:
        self._missed, self._distrust = 0, _DISTRUST
        self._since = float("inf")
        try:
            self._on_ring()
        finally:
            self._drop()

    def missed(self) -> None:
        """Note that a poll has found what no ring has announced."""
        self._missed += 1
        if self._missed >= _MISSED:
            self._missed = 0
            self._next_try = self._fs.monotonic() + self._distrust
            text = "the file server does not wake this process; polling for %g s"
            log.info(text, self._distrust)
            self._distrust = min(2 * self._distrust, _LONGEST_DISTRUST)
        self.disarm()

    def disarm(self) -> None:
        """Have no token soon."""
        self._wanted = False
        if self._held:
            self._since = float("inf")
            recalls().submit(lambda _: self._drop())

    def end(self) -> None:
        """Have no token any more."""
        self._wanted = False
        self._drop()

    def _drop(self) -> None:
        """Remove the token, in any thread. Dies before: it expires, or somebody rings it."""
        self._since = float("inf")
        self._asked = False
        for path, handle in list(self._held.items()):
            recalls().drop(handle)
            self._discard(path)
            self._held.pop(path, None)

    def _discard(self, path: str) -> None:
        try:
            self._fs.discard(path)
        except OSError as error:
            log.info("%s stays until it expires: %s", path, error)
