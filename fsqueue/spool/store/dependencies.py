"""Calls that wait for others: each lies in the folder of one of its parents, ``after/<parent>/``.

That is the last one that is not over. Who publishes a call there looks afterwards whether that
parent is over by now; who publishes an outcome looks afterwards whether calls wait for it. So one
of both moves a call on, to the next parent that is not over or to its slot: by one rename, which
succeeds once, whoever else tries.

A worker need not look after each call: it knows whether anybody uses this, from a bell or from a
listing once in a heartbeat, and remembers for so long what it has ended.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolError
from fsqueue.spool.format.names import is_invocation_id
from fsqueue.spool.store.whereabouts import unfinished

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from fsqueue.spool.store.outcomes import Outcomes

log = logging.getLogger(__name__)

# So many parents the net looks at in one heartbeat.
_SWEEP = 200


class Dependencies:
    """One process's view of ``after/``.

    Args:
        outcomes: the outcomes of the spool.
        move_on: moves one call on whose parent is over; gets its path.
        renew: keeps what one call needs from expiring; gets its path.

    Attributes:
        in_use: each outcome that is published is followed by a look who waits for it. Processes
            that are no workers publish few.
        told: a bell tells when that begins.
    """

    def __init__(
        self,
        outcomes: Outcomes,
        move_on: Callable[[str], None],
        renew: Callable[[str], None],
    ) -> None:
        self._outcomes, self._move_on, self._renew = outcomes, move_on, renew
        self._fs, self._layout = outcomes.fs, outcomes.layout
        self.in_use, self.told = True, False
        self._ended: tuple[set[str], set[str]] | None = None
        self._swept = ""

    # -- all calls of a parent -------------------------------------------------------------

    def release(self, parent: str) -> bool:
        """Move on the calls that wait for a parent, which is over; False if none does.

        Dies in between: the rest is found by the next one who looks, and so is an empty folder.
        """
        folder = self._layout.after(parent)
        names = self._fs.names(folder, fresh=True)
        for name in names:
            try:
                self._move_on(f"{folder}/{name}")
            except PermissionError as error:  # it keeps the others from nothing
                self._outcomes.files.pass_over(f"{folder}/{name}", error)
        if names:
            self._fs.rmdir(folder)
        return bool(names)

    def is_awaited(self, parent: str) -> bool:
        """Whether a call waits for this one, as its result is an argument."""
        return bool(self._outcomes.fs.names(self._outcomes.layout.after(parent), fresh=True))

    def ended(self, parent: str) -> None:
        """An invocation is over: its outcome has just been published, or was found.

        An error does not matter to it: upkeep will find its children.
        """
        if self._ended is not None:
            self._ended[0].add(parent)  # before `in_use` is read: see `look`
        if self.in_use:
            self._release(parent)

    def helped(self, parent: str) -> None:
        """The same for a process that leaves the look to another one, which does not know of it."""
        if self._ended is None and not self.in_use:
            self._release(parent)

    def _release(self, parent: str) -> None:
        try:
            self.release(parent)
        except (OSError, SpoolError) as error:
            log.info("what waits for %s goes on later: %s", parent, error)

    # -- a worker's view --------------------------------------------------------------------

    def leave_to_parent(self) -> None:
        """Never look: the process that this one belongs to does it for both."""
        self.in_use = False

    def watch(self) -> None:
        """Look only while it is used, from now on; `look` must be called once in a while."""
        self._ended = set(), set()
        self.in_use = False

    def unwatch(self) -> None:
        """The end of that."""
        self.in_use, self.told, self._ended = True, False, None

    def turn(self) -> None:
        """Forget what had ended before the last turn."""
        if self._ended is not None:
            self._ended = set(), self._ended[0]

    def look(self) -> set[str]:
        """Find out whether it is used; returns the parents that calls wait for."""
        names = self._parents()
        if not names and self.in_use:
            # In this order: a call that is parked after the second listing rings the bell again.
            self.in_use = False
            names = self._parents()
        if names and not self.in_use:
            self.in_use = True  # before `_ended` is read: see `ended`
            recent = set[str]().union(*(self._ended or ()))
            for parent in names & recent:
                self._release(parent)
        return names

    def _parents(self) -> set[str]:
        names = self._fs.names(self._layout.after_folder, fresh=True)
        return set(filter(is_invocation_id, names))

    def sweep(self, parents: Iterable[str]) -> None:
        """The net under it all: find the parents that are over, some at a time.

        For what a process has left that died between two steps, and for stale listings.

        Args:
            parents: what `look` returned.
        """
        ahead = sorted(parents, key=lambda parent: (parent <= self._swept, parent))
        for parent in ahead[:_SWEEP]:
            self._swept = parent
            try:
                over = self._outcomes.exists(parent)
            except PermissionError as error:
                self._outcomes.files.pass_over(self._layout.done(parent), error)
                continue
            if over:
                self._release(parent)
                self._fs.rmdir(self._layout.after(parent))

    def keep(self, ttl: float) -> None:
        """Let nothing expire that a parked call needs; and move on what waits for what is nowhere.

        A call has the time at which its parents' outcomes were there last, or were to come.

        Args:
            ttl: how long outcomes are kept, in seconds.
        """
        parents = self._parents()
        for parent in parents:
            for text in self._outcomes.files.listed(self._layout.after(parent), fresh=True):
                path = f"{self._layout.after(parent)}/{text}"
                with contextlib.suppress(FileNotFoundError, EnvelopeError, PermissionError):
                    if self._outcomes.files.clock.now() - self._fs.modified(path) > ttl / 2:
                        self._renew(path)
        for parent in self._lost(parents) if parents else ():
            self._release(parent)
            self._fs.rmdir(self._layout.after(parent))

    def _lost(self, parents: set[str]) -> set[str]:
        """The parents that have no file; none if a folder cannot be listed, which may hold it."""
        try:
            return parents.difference(unfinished(self._outcomes.files))
        except PermissionError as error:
            self._outcomes.files.pass_over(error.filename, error)
            return set()
