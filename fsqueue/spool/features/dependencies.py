"""Dependencies: calls that wait for the results of other calls, their parents.

A waiting call lies in ``after/<parent>/`` of the last of its parents that has not ended. Two checks
close the race between a call that starts waiting and a parent that ends. The publisher checks for
the parent's outcome *after* filing the call there; the worker checks for waiting calls *after*
publishing an outcome. At least one of them sees the other and releases the call: one rename moves
it to the folder of its next unfinished parent, or to its slot. Only one such rename can succeed.

A worker does not list ``after/`` for every call that it ends. It learns from a bell, or from one
listing per heartbeat, whether any calls wait at all, and remembers what it has ended since.
"""

from __future__ import annotations

import contextlib
import logging
from array import array
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolError
from fsqueue.spool.disk.listing import Listing
from fsqueue.spool.files.whereabouts import unfinished
from fsqueue.spool.format.names import is_invocation_id

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fsqueue.spool.files.outcomes import Outcomes

log: logging.Logger = logging.getLogger(__name__)

# How many parents upkeep checks in one heartbeat.
_RECOVER_AT_ONCE = 200


class Dependencies:
    """Releases the calls in ``after/`` whose parents have ended.

    Args:
        outcomes: the outcomes of the spool.
        move_on: moves the call at a path on, from a parent that has ended.
        renew: keeps what the call at a path needs from expiring.

    Attributes:
        has_waiters: calls may be waiting, so check for them after each published outcome. Always
            True outside of workers, since other processes publish few outcomes.
        bell_works: a bell rings when calls start waiting.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        move_on: Callable[[str], None],
        renew: Callable[[str], None],
    ) -> None:
        self._outcomes, self._move_on, self._renew_needs = outcomes, move_on, renew
        self._fs, self._layout = outcomes.fs, outcomes.layout
        self._after = Listing(self._fs, self._layout.after_folder)
        self.has_waiters: bool = True
        self.bell_works: bool = False
        # Hashes take a tenth of the memory of names. A collision only costs a listing.
        self._ended: tuple[array[int], array[int]] | None = None
        self._recovered = ""

    # -- all calls of a parent -------------------------------------------------------------

    def release(self, parent: str) -> bool:
        """Release the calls that wait for a parent that has ended; False if there are none.

        Dies in between: the next process that checks finds the rest, or the empty folder.
        """
        folder = self._layout.after(parent)
        names = self._fs.names(folder, fresh=True)
        for name in names:
            try:
                self._move_on(f"{folder}/{name}")
            except PermissionError as error:  # the others can still be released
                self._outcomes.files.pass_over(f"{folder}/{name}", error)
        if names:
            self._fs.rmdir(folder)
        return bool(names)

    def is_awaited(self, parent: str) -> bool:
        """Whether any call needs the result of this one as an argument."""
        return bool(self._outcomes.fs.names(self._outcomes.layout.after(parent), fresh=True))

    def ended(self, parent: str) -> None:
        """Note that an invocation has ended, and release the calls that wait for it.

        An error is only logged: upkeep will find the waiting calls.
        """
        if self._ended is not None:
            self._ended[0].append(hash(parent))  # before `has_waiters` is read: see `refresh`
        if self.has_waiters:
            self._release(parent)

    def ended_in_body(self, parent: str) -> None:
        """Like `ended`, for an invocation that a slot process has run while its own task waited.

        Normally the worker checks on behalf of its slot processes, but it does not know of this
        one.
        """
        if self._ended is None and not self.has_waiters:
            self._release(parent)

    def _release(self, parent: str) -> None:
        try:
            self.release(parent)
        except (OSError, SpoolError) as error:
            log.info("calls that wait for %s are released later: %s", parent, error)

    # -- a worker's view --------------------------------------------------------------------

    def leave_to_worker(self) -> None:
        """Never check for waiting calls: this slot process's worker does that."""
        self.has_waiters = False

    def watch(self) -> None:
        """From now on, check only while calls are waiting. Requires regular calls of `refresh`."""
        self._ended = array("q"), array("q")
        self.has_waiters = False

    def unwatch(self) -> None:
        """Undo `watch`."""
        self.has_waiters, self.bell_works, self._ended = True, False, None

    def rotate(self) -> None:
        """Forget calls that ended before the previous `rotate`."""
        if self._ended is not None:
            self._ended = array("q"), self._ended[0]

    def refresh(self) -> set[str]:
        """List the parents that calls wait for; if there are any, check for them from now on."""
        names = self._parents()
        if not names and self.has_waiters:
            # The order matters: a call that is filed after the second listing rings the bell again.
            self.has_waiters = False
            names = self._parents()
        if names and not self.has_waiters:
            self.has_waiters = True  # before `_ended` is read: see `ended`
            recent = set[int]().union(*(self._ended or ()))
            for parent in names:
                if hash(parent) in recent:
                    self._release(parent)
        return names

    def _parents(self) -> set[str]:
        return set(filter(is_invocation_id, self._after.names()))

    def recover(self, parents: Iterable[str]) -> None:
        """Release calls whose parents' ends went unnoticed; checks a few parents at a time.

        This covers processes that died between two steps, and stale listings.

        Args:
            parents: what `refresh` returned.
        """
        ahead = sorted(parents, key=lambda parent: (parent <= self._recovered, parent))
        for parent in ahead[:_RECOVER_AT_ONCE]:
            self._recovered = parent
            try:
                over = self._outcomes.exists(parent)
            except PermissionError as error:
                self._outcomes.files.pass_over(self._layout.done(parent), error)
                continue
            if over:
                self._release(parent)
                self._fs.rmdir(self._layout.after(parent))

    def renew(self, ttl: float) -> None:
        """Keep what waiting calls need from expiring, and release calls whose parent is gone.

        The modification time of a waiting call's file says when its parents' outcomes were last
        renewed.

        Args:
            ttl: how long outcomes are kept, in seconds.
        """
        parents = self._parents()
        for parent in parents:
            for text in self._outcomes.files.listed(self._layout.after(parent), fresh=True):
                path = f"{self._layout.after(parent)}/{text}"
                with contextlib.suppress(FileNotFoundError, EnvelopeError, PermissionError):
                    if self._outcomes.files.clock.now() - self._fs.modified(path) > ttl / 2:
                        self._renew_needs(path)
        for parent in self._lost(parents) if parents else ():
            self._release(parent)
            self._fs.rmdir(self._layout.after(parent))

    def _lost(self, parents: set[str]) -> set[str]:
        """The parents that have no file; empty if a folder that might hold one cannot be listed."""
        try:
            return parents.difference(unfinished(self._outcomes.files))
        except PermissionError as error:
            self._outcomes.files.pass_over(error.filename, error)
            return set()
