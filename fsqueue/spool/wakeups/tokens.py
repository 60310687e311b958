"""Tokens: files through which an NFSv4 server wakes a sleeping process on any host.

A process that has waited for a while without finding anything makes a token and takes a lease on
it. A process that has something for it rings the token once (`spool.wakeups.rings`), which makes
the server recall the lease. While the token exists, its owner polls rarely.
docs/design/push-wakeups.md describes the protocol and what can go wrong.
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
# A process makes a token when its pauses between polls reach so many seconds, or this share of the
# longest if that is shorter than a second.
_EARLY = 0.2
# A ring that has not come so many seconds after a poll has found its cause is lost.
_RING_TAKES = 1.0

# After two lost rings within an hour, a process polls for ten minutes as if it had no token, and
# twice as long each time it happens again, unless a day without it has passed. Rings in between
# change nothing: some publishers may ring, and others reach the spool in another way.
_TWICE_WITHIN = 3600.0
_DISTRUST, _LONGEST_DISTRUST = 600.0, 86_400.0
# Seconds before the next try with a server that did not delegate a new file.
_FIRST_PAUSE, _LONGEST_PAUSE = 30.0, 3600.0
# Errors which show that the filesystem has no leases, or that this process may not have them.
_NEVER = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EACCES, errno.EPERM})

# A name is not used twice: a publisher rings each one once.
_numbers = itertools.count(1)


class Token:
    """The tokens of one process in one folder: at most one at a time, each with a new name.

    If the process dies at any point, the token stays until somebody rings it, or it expires. If the
    reply to its creation is lost, the name is removed, and the next try makes another one.

    Args:
        make: makes a file in the folder, which may be missing, with the given step.
        folder: the folder of the token.
        owner: returns the name of this client or worker.
        poll_interval: the longest pause between two polls without a token, in seconds.
        on_ring: called in a separate thread after a ring, when the lease is already gone.

    Attributes:
        refusal: why the last try made no token; empty if it did.
    """

    def __init__(
        self,
        fs: Filesystem,
        make: Callable[[str, Callable[[], Handle]], Handle],
        folder: str,
        owner: Callable[[], str],
        poll_interval: float,
        on_ring: Callable[[], object],
    ) -> None:
        self._fs, self._make, self._folder, self._owner = fs, make, folder, owner
        self._early = _EARLY * min(poll_interval, 1.0)
        self._on_ring = on_ring
        self._wanted = self._asked = False
        self._held: dict[str, Handle] = {}
        self._since = float("inf")
        self._found_until = float("-inf")
        self._doubted_at = float("inf")
        self._missed_at, self._distrust = float("-inf"), _DISTRUST
        self._pause, self._next_try = _FIRST_PAUSE, 0.0
        self.refusal: str = ""

    @property
    def path(self) -> str:
        """The path of the token; empty if there is none."""
        return next(iter(list(self._held)), "")

    @property
    def expected(self) -> bool:
        """Whether there is a token, or one will be made when the pauses are long."""
        return bool(self._held) or self._fs.monotonic() >= self._next_try

    @property
    def settled(self) -> bool:
        """Whether a ring announces all that comes from now on, so this process polls rarely."""
        doubtful = self._doubted_at < float("inf")
        return not doubtful and self._found_until > self._since + VIEW

    def longer(self, pause: float, found_until: float) -> float:
        """The pause until the next poll: as given, or longer once a ring will end it.

        Args:
            pause: the usual pause, which grows while polls find nothing. When it is long enough, a
                token is made.
            found_until: whatever was published before has been found, by the monotonic clock. A
                publisher that listed the tokens just before this one was made does not list them
                again for a while.
        """
        if pause < self._early:
            return pause
        if self._fs.monotonic() > self._doubted_at + _RING_TAKES:
            self.missed()
        self.arm()
        self._found_until = found_until
        return _SAFETY_NET if self.settled else pause

    def arm(self) -> None:
        """Start making a token, unless there is one, or the server refused one recently."""
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
        """Make a token, and remove it if it is no longer wanted. In the thread of `recalls`."""
        path = f"{self._folder}/{self._owner()}.{next(_numbers)}"
        try:
            handle = self._make(path, lambda: self._fs.lease(path, told))
        except (OSError, FSQueueError) as error:
            self._refuse(error)
            self._discard(path)
            return
        self._pause, self.refusal = _FIRST_PAUSE, ""
        self._since, self._doubted_at = self._fs.monotonic(), float("inf")
        self._held[path] = handle
        recalls().hold(handle, self._recalled)
        if not self._wanted:  # it was disarmed meanwhile
            self._drop()

    def _refuse(self, error: Exception) -> None:
        """Do without a token for a while, or for good."""
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
        self._since = self._doubted_at = float("inf")
        try:
            self._on_ring()
        finally:
            self._drop()

    def doubt(self) -> None:
        """Record that a poll found something before its ring came, if it comes at all."""
        if self._held and self._doubted_at == float("inf"):
            self._doubted_at = self._fs.monotonic()

    def missed(self) -> None:
        """Record that a poll found something that no ring announced."""
        self._doubted_at = float("inf")
        now = self._fs.monotonic()
        if now > self._missed_at + _TWICE_WITHIN:
            self._missed_at = now
        else:
            if now > self._next_try + _LONGEST_DISTRUST:
                self._distrust = _DISTRUST
            self._missed_at, self._next_try = float("-inf"), now + self._distrust
            text = "the file server does not wake this process; polling for %g s"
            log.info(text, self._distrust)
            self._distrust = min(2 * self._distrust, _LONGEST_DISTRUST)
        self.disarm()

    def disarm(self) -> None:
        """Start removing the token."""
        self._wanted = False
        if self._held:
            self._since = float("inf")
            recalls().submit(lambda _: self._drop())

    def end(self) -> None:
        """Remove the token for good."""
        self._wanted = False
        self._drop()

    def _drop(self) -> None:
        """Remove the token, in any thread. If the process dies first, it expires or is rung."""
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
