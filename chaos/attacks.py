"""The schedule of attacks, which depends only on the seed."""

from __future__ import annotations

import random
from typing import NamedTuple

# Number of attacks of each kind in one round. A round is shuffled like a deck of cards, so that a
# run of a minute has each kind at least once.
DECK = {
    "kill a worker": 6,
    "kill a node": 2,
    "kill a slot": 6,
    "kill a fork server": 1,
    "kill a reaper": 2,
    "kill a caller": 3,
    "stop a worker": 3,
    "stop a worker past its lease": 3,
    "stop a slot": 2,
    "stop a slot past the lease": 1,
    "stop a caller": 1,
    "orphan a stopped slot": 2,
    "drain a worker": 2,
    "abort a worker": 1,
    "fill the disk": 1,
    "use up the inodes": 1,
}
_LONG = frozenset({"stop a worker past its lease", "stop a slot past the lease"})
_FIRST = 1.0
_PACE = (0.3, 1.3)


class Attack(NamedTuple):
    """One attack of the schedule."""

    at: float
    """Seconds after the start."""
    kind: str
    pick: float
    """Picks one of the targets that exist at that time, as a fraction of their list."""
    hold: float
    """Seconds until a stopped process continues, or the disk has room again."""


def schedule(seed: int, seconds: float, lease: float) -> list[Attack]:
    """The attacks of a run, in order."""
    rng = random.Random(seed)
    attacks = []
    deck: list[str] = []
    at = _FIRST
    while at < seconds:
        if not deck:
            deck = [kind for kind, count in DECK.items() for _ in range(count)]
            rng.shuffle(deck)
        kind = deck.pop()
        hold = lease * rng.uniform(1.2, 2.0) if kind in _LONG else rng.uniform(0.05, 1.5)
        attacks.append(Attack(round(at, 3), kind, rng.random(), round(hold, 3)))
        at += rng.uniform(*_PACE)
    return attacks
