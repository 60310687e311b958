"""A call's relatives: its parents, whose results it uses, and the calls waiting for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.admin.locate import find_in, locate
from fsqueue.spool.files.headers import outcome_of
from fsqueue.spool.files.whereabouts import attempts_in
from fsqueue.spool.format.names import split_member
from fsqueue.spool.format.records import Call
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.format.records import Outcome
    from fsqueue.spool.store.store import Store

MOST: Final = 200
"""The most calls to list; any others are only counted."""
# The most call files to read: each takes several file operations.
_READ = 16
_LEVELS = 2


class Relative(msgspec.Struct, frozen=True, kw_only=True):
    """A relative of the call."""

    id: str
    level: int
    """-1: a parent of the call; 1: a child, which waits for the call; -2 and 2: grandparents and
    grandchildren."""
    state: str
    """Empty if not looked up."""
    task: str = ""
    label: str = ""
    of: str = ""
    """The relative one level closer to the call that links to this one."""


class Family(msgspec.Struct, frozen=True, kw_only=True):
    """A call's relatives, as far as the bounds allow."""

    relatives: tuple[Relative, ...]
    more: int = 0
    """How many calls are not listed."""


class _Search:
    def __init__(self, store: Store, glance: Glance) -> None:
        self.store, self.glance = store, glance
        self.found: dict[str, Relative] = {}
        self.more = 0
        self._reads = 0

    def add(self, ids: Iterable[str], level: int, of: str) -> Iterator[tuple[str, Call | None]]:
        """Add calls; yields the id of each new one, and its header if it was read."""
        for each in ids:
            carrier, _ = split_member(each)
            if carrier in self.found:
                continue
            if len(self.found) >= MOST:
                self.more += 1
                continue
            call, outcome, state = self._read(carrier, of if level > 0 else "")
            header = call or outcome
            self.found[carrier] = Relative(
                id=carrier,
                level=level,
                state=state,
                task=header.task if header else "",
                label=header.label if header else "",
                of=of,
            )
            yield carrier, call

    def _read(self, carrier: str, waits_for: str) -> tuple[Call | None, Outcome | None, str]:
        """A call's header and state; `waits_for` is the parent in whose folder it waits, if any."""
        if self._reads >= _READ:
            return None, None, ""
        self._reads += 1
        store = self.store
        if waits_for:
            place = find_in(store, carrier, store.layout.after(waits_for))
        else:
            try:
                outcome = outcome_of(store.files, carrier)
            except (OSError, EnvelopeError):
                outcome = None
            if outcome is not None:
                return None, outcome, str(outcome.state)
            place = locate(store, carrier, self.glance)
        if place is None:
            return None, None, ""
        running = place[0].startswith(f"{store.layout.running_folder}/")
        state = str(State.RUNNING if running else State.PENDING)
        try:
            call, _ = store.files.decode(store.files.read_file(place[0]), Call, place[0])
        except (OSError, EnvelopeError):
            return None, None, state
        return call, None, state


def family_of(store: Store, carrier: str, call: Call | None, glance: Glance) -> Family:
    """A call's parents, grandparents, children and grandchildren.

    Parents are known while the call's file exists, which is until the call succeeds. The children
    are those that are waiting for it now.

    Args:
        carrier: the invocation whose file holds the call.
        call: its header.
        glance: the latest look at the spool.
    """
    search = _Search(store, glance)
    search.found[carrier] = Relative(id=carrier, level=0, state="")
    above = [(carrier, call)]
    below = [carrier]
    for level in range(1, _LEVELS + 1):
        above = [
            (parent, header)
            for child, known in above
            for parent, header in search.add(known.after if known else (), -level, child)
        ]
        below = [
            waiting
            for parent in below
            for waiting, _ in search.add(_waiting_for(store, parent), level, parent)
        ]
    del search.found[carrier]
    return Family(relatives=tuple(search.found.values()), more=search.more)


def _waiting_for(store: Store, parent: str) -> list[str]:
    waiting = attempts_in(store.files, store.layout.after(parent))
    return sorted({name.invocation_id for name in waiting})
