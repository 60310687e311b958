"""What a spool should hold, told in memory, and what one does hold.

The model knows for each invocation where its attempt is and what its outcome says. A step in
which nothing fails must take the spool exactly to where it takes the model. After a step that
was disturbed the model takes over what it finds, if the promises hold.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from sweep import MAX_ATTEMPTS, walk

from fsqueue.spool.format.names import AttemptName

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store

LOST = b""
"""The payload of a failure of the queue's own."""


class Place(NamedTuple):
    """Where the file of an attempt is."""

    holder: str
    """The worker in whose folder it is; empty: it is pending."""
    attempt: int


@dataclass
class Entry:
    """One invocation."""

    client: str
    keep: bool
    path: str
    """Where it was published."""
    place: Place | None = None
    outcome: bytes | None = None
    finished: bool = False
    """It had an outcome at some time; that may be collected or expired by now."""
    withdrawn: bool = False
    delivered: list[bytes] = field(default_factory=list)
    """What its client was given."""
    expired: bool = False
    starts: list[int] = field(default_factory=list)
    """The attempts whose bodies were started."""

    @property
    def settled(self) -> bool:
        """Nothing is promised any more about what lies in the spool."""
        return self.expired or self.withdrawn or (not self.keep and bool(self.delivered))


class Sight(NamedTuple):
    """What lies in a spool."""

    places: dict[str, list[Place]]
    outcomes: dict[str, bytes]


_KNOWN = re.compile(
    r"spool\.json|tmp/[^/]+|locks/upkeep|bell/[^/]+|clients/[a-z0-9]+\.(?:lock|json)"
    r"|workers/[\w-]+\.(json|lock|beat)|failed/[^/]+|pending/default/\d\.\d{13}/[^/]+"
    r"|running/[\w-]+/[^/]+|(done|kept)/[a-z0-9]+/[a-z0-9]+-\d+"
)


def look(store: Store) -> Sight:
    """Walk a spool.

    Raises:
        AssertionError: there is something in it that does not belong there.
    """
    places: dict[str, list[Place]] = {}
    ids = set()
    for path in walk(store.layout.root)[0]:
        assert _KNOWN.fullmatch(path), f"unknown in a spool: {path}"
        top, _, rest = path.partition("/")
        if top in {"pending", "running"}:
            name = AttemptName.parse(os.path.basename(path))
            assert name is not None, path
            holder = rest.partition("/")[0] if top == "running" else ""
            places.setdefault(name.invocation_id, []).append(Place(holder, name.attempt))
        elif top in {"done", "kept"}:
            ids.add(os.path.basename(path))
    outcomes = {}
    for invocation_id in ids:
        data = store.outcomes.peek(invocation_id)
        assert data is not None
        outcomes[invocation_id] = bytes(store.outcomes.read(invocation_id, data)[1].data)
    return Sight(places, outcomes)


class Model:
    """All invocations of a spool."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}

    def held_by(self, worker: str) -> list[tuple[str, Entry]]:
        """The invocations whose attempt is in a worker's folder."""
        return [
            (invocation_id, entry)
            for invocation_id, entry in self.entries.items()
            if entry.place is not None and entry.place.holder == worker
        ]

    # -- the steps ---------------------------------------------------------------------

    def claim(self, invocation_id: str, worker: str) -> None:
        """A worker has renamed a pending attempt into its folder, or found that it had."""
        entry = self.entries[invocation_id]
        assert entry.place is not None
        assert entry.place.holder in {"", worker}
        attempt = entry.place.attempt
        over = attempt > 1 and entry.outcome is not None
        entry.place = None if over else Place(worker, attempt)

    def finish(self, invocation_id: str, worker: str, attempt: int, content: bytes) -> bool:
        """A worker publishes an outcome; False if there was one."""
        entry = self.entries[invocation_id]
        if entry.place == Place(worker, attempt):
            entry.place = None
        first = entry.outcome is None
        if first:
            entry.outcome, entry.finished = content, True
        return first

    def give_back(self, invocation_id: str, worker: str, attempt: int) -> bool:
        """A worker gives an attempt back; False if it was taken away, or is over."""
        entry = self.entries[invocation_id]
        if entry.place != Place(worker, attempt):
            return False
        if entry.outcome is not None:
            entry.place = None
            return False
        entry.place = Place("", attempt)
        return True

    def reap(self, worker: str) -> None:
        """What a worker holds is recovered."""
        for invocation_id, entry in self.held_by(worker):
            assert entry.place is not None
            attempt = entry.place.attempt
            if entry.outcome is not None:
                entry.place = None
            elif attempt < MAX_ATTEMPTS:
                entry.place = Place("", attempt + 1)
            else:
                self.finish(invocation_id, worker, attempt, LOST)

    def return_strays(self, worker: str, known: set[str]) -> None:
        """A worker gives back what lies in its folder without being one of its claims."""
        for invocation_id, entry in self.held_by(worker):
            assert entry.place is not None
            if str(AttemptName(invocation_id, entry.place.attempt)) not in known:
                entry.place = None if entry.outcome is not None else Place("", entry.place.attempt)

    # -- the promises ------------------------------------------------------------------

    def compare(self, sight: Sight) -> None:
        """After a step in which nothing failed: the spool is where the model is."""
        for invocation_id, entry in self.entries.items():
            places = sight.places.get(invocation_id, [])
            assert places == ([entry.place] if entry.place else []), invocation_id
            assert sight.outcomes.get(invocation_id) == entry.outcome, invocation_id

    def take_over(self, sight: Sight) -> None:
        """After a step that was disturbed: the model follows the spool, within its promises."""
        self.check(sight)
        for invocation_id, entry in self.entries.items():
            places = sight.places.get(invocation_id)
            entry.place = places[0] if places else None
            entry.outcome = sight.outcomes.get(invocation_id)
            entry.finished = entry.finished or entry.outcome is not None

    def check(self, sight: Sight) -> None:
        """What holds always, whatever failed."""
        unknown = (sight.places.keys() | sight.outcomes.keys()) - self.entries.keys()
        assert not unknown, f"calls that nobody made: {unknown}"
        for invocation_id, entry in self.entries.items():
            places = sight.places.get(invocation_id, [])
            assert len(places) <= 1, f"{invocation_id} is in two places: {places}"
            outcome = sight.outcomes.get(invocation_id)
            if not entry.settled:
                _check_outcome(invocation_id, entry, places, outcome)
            if places:
                _check_attempt(invocation_id, entry, places[0])


def _check_outcome(
    invocation_id: str, entry: Entry, places: list[Place], outcome: bytes | None
) -> None:
    if entry.finished:
        assert outcome is not None, f"the outcome of {invocation_id} is gone"
    if outcome is None:
        assert places, f"{invocation_id} is lost"
    if entry.outcome is not None:
        assert outcome == entry.outcome, f"the outcome of {invocation_id} was replaced"
    assert all(each == outcome for each in entry.delivered), "the client was told otherwise"


def _check_attempt(invocation_id: str, entry: Entry, place: Place) -> None:
    assert place.attempt <= MAX_ATTEMPTS, f"{invocation_id} has too many attempts"
    if entry.place is not None:
        assert place.attempt >= entry.place.attempt, f"{invocation_id} went back"
