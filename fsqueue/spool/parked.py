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
import os
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError, SpoolError, SpoolVersionError
from fsqueue.spool.client import later
from fsqueue.spool.names import DEFAULT_PRIORITY, AttemptName, Slot, client_of, is_invocation_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fsqueue.spool.moves import Moves
    from fsqueue.spool.records import Call

log = logging.getLogger(__name__)

# More parents than this are looked for by listing mailboxes, not one by one.
_FEW = 16
# So many parents the net looks at in one heartbeat.
_SWEEP = 200


class Parked:
    """One process's view of ``after/``.

    Args:
        store: the spool.

    Attributes:
        in_use: each outcome that is published is followed by a look who waits for it. Processes
            that are no workers publish few.
        told: a bell tells when that begins.
    """

    def __init__(self, store: Moves) -> None:
        self._store = store
        self.in_use, self.told = True, False
        self._ended: tuple[set[str], set[str]] | None = None
        self._swept = ""

    # -- one call -----------------------------------------------------------------------

    def move_on(self, path: str) -> None:
        """Move a call on whose parent, in whose folder it lies, is over.

        Dies before the rename: the next one who looks does it. Dies after it, or loses the reply:
        it waits for the next parent, whose end nobody may have noticed by then but upkeep.
        """
        store, layout = self._store, self._store.layout
        call, name = self._read(path)
        if call is None or name is None:
            return
        at: str | None = os.path.basename(os.path.dirname(path))
        while at is not None:
            at = self._last_unfinished(_before(call.after, at))
            target = self._slot_of(call) if at is None else layout.after(at)
            # Gone, if somebody else was faster, or the reply was lost: the look is for both.
            store.move(path, f"{target}/{name}")
            path = f"{target}/{name}"
            if at is not None and not store.has_outcome(at):
                return
        store.fs.ring(layout.bell(call.queue))

    def _read(self, path: str) -> tuple[Call | None, AttemptName | None]:
        """The header of a call that is to move; None if that is settled otherwise."""
        store = self._store
        name = AttemptName.parse(os.path.basename(path))
        if name is None:
            store.set_aside(path, "its name is not one of an invocation")
        elif name.cancelled:
            store.end_cancelled(path, name)
        else:
            try:
                return store.read_pending(path, name), name
            except FileNotFoundError:
                pass  # somebody else was faster
            except SpoolVersionError as error:
                store.leave_alone(error)
            except EnvelopeError as error:
                store.quarantine(path, name, str(error))
        return None, name

    def _slot_of(self, call: Call) -> str:
        slot = call.slot
        if call.countdown:
            filed = Slot.parse(slot) or Slot(DEFAULT_PRIORITY, 0.0)
            if self._store.clock.age == float("inf"):
                self._store.sync_clock()
            due = later(self._store.clock.now(), call.countdown)
            slot = str(filed._replace(due=max(filed.due, due)))
        return self._store.layout.slot(call.queue, slot)

    def _last_unfinished(self, parents: Sequence[str]) -> str | None:
        known = self._finished_of(parents) if len(parents) > _FEW else ()
        for parent in reversed(parents):
            if parent not in known and not self._store.has_outcome(parent):
                return parent
        return None

    def _finished_of(self, parents: Iterable[str]) -> set[str]:
        """All outcomes of the parents' clients: two listings cost less than many looks."""
        fs, layout = self._store.fs, self._store.layout
        found: set[str] = set()
        for client in {client_of(parent) for parent in parents}:
            found.update(fs.names(layout.mailbox(client), fresh=True))
            found.update(fs.names(layout.kept_mailbox(client), fresh=True))
        return found

    # -- all calls of a parent -------------------------------------------------------------

    def release(self, parent: str) -> bool:
        """Move on the calls that wait for a parent, which is over; False if none does.

        Dies in between: the rest is found by the next one who looks, and so is an empty folder.
        """
        fs, folder = self._store.fs, self._store.layout.after(parent)
        names = fs.names(folder, fresh=True)
        for name in names:
            self.move_on(f"{folder}/{name}")
        if names:
            fs.rmdir(folder)
        return bool(names)

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
        names = self._store.fs.names(self._store.layout.after_folder, fresh=True)
        return set(filter(is_invocation_id, names))

    def sweep(self, parents: Iterable[str]) -> None:
        """The net under it all: find the parents that are over, some at a time.

        For what a process has left that died between two steps, and for stale listings.

        Args:
            parents: what `look` returned.
        """
        store = self._store
        ahead = sorted(parents, key=lambda parent: (parent <= self._swept, parent))
        for parent in ahead[:_SWEEP]:
            self._swept = parent
            if store.has_outcome(parent):
                self._release(parent)
                store.fs.rmdir(store.layout.after(parent))

    def keep(self, ttl: float) -> None:
        """Let nothing expire that a parked call needs; and move on what waits for what is nowhere.

        A call has the time at which its parents' outcomes were there last, or were to come.

        Args:
            ttl: how long outcomes are kept, in seconds.
        """
        store, layout = self._store, self._store.layout
        parents = self._parents()
        for parent in parents:
            for text in store.fs.names(layout.after(parent), fresh=True):
                path = f"{layout.after(parent)}/{text}"
                with contextlib.suppress(FileNotFoundError, EnvelopeError, PermissionError):
                    if store.clock.now() - store.fs.modified(path) > ttl / 2:
                        self._renew(path)
        lost = parents.difference(self._unfinished(), self._unfinished()) if parents else ()
        for parent in lost:
            self._release(parent)
            store.fs.rmdir(layout.after(parent))

    def _renew(self, path: str) -> None:
        store = self._store
        call, _ = self._read(path)
        if call is not None:
            for parent in call.after:
                store.renew_outcome(parent)
            if call.blob:
                store.blobs.touch(call.blob)
            store.fs.set_time(path, None)

    def _unfinished(self) -> set[str]:
        """All invocations that have a file; taken twice, none is missed by moving on."""
        fs, layout = self._store.fs, self._store.layout
        folders = [layout.after(each) for each in fs.names(layout.after_folder, fresh=True)]
        for queue in fs.names(layout.pending_folder, fresh=True):
            folders += [
                layout.slot(queue, slot) for slot in fs.names(layout.queue(queue), fresh=True)
            ]
        folders += [layout.running(each) for each in fs.names(layout.running_folder, fresh=True)]
        names = (AttemptName.parse(text) for each in folders for text in fs.names(each, fresh=True))
        return {name.invocation_id for name in names if name is not None}


def _before(parents: Sequence[str], at: str) -> Sequence[str]:
    return parents[: parents.index(at)] if at in parents else parents
