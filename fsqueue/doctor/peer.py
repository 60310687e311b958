"""Two hosts examine one directory together: they find each other through it.

Each makes a workplace of its own with a file ``here``, which it touches while it waits, and looks
for others' whose file moves. A workplace has a door for one guest: the folder ``guest``, made by
whoever enters, since `mkdir` succeeds for one, who then leaves a card, ``guest.<token>``. Who
enters another's first shuts its own door in the same way; and enters only where the token is
smaller than its own, so that two cannot enter each other's.

Nobody asks for a name that he has not seen listed: a filesystem's client that was told once that
there is none may believe that for minutes.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fsqueue.doctor.findings import Finding, Verdict, in_words
from fsqueue.doctor.life import SignsOfLife
from fsqueue.doctor.party import Party
from fsqueue.doctor.races import examine_together
from fsqueue.doctor.sights import watch_each_other
from fsqueue.doctor.timing import clock_offset
from fsqueue.doctor.workplace import FOLDER, Workplace
from fsqueue.errors import FSQueueError
from fsqueue.spool.disk.identity import boot_id, host_name
from fsqueue.spool.format.records import FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping

_HERE, _GUEST, _CARD, _TOGETHER = "here", "guest", "guest.", "together"
_LOOK = 0.1


class NoPeerError(FSQueueError):
    """Nobody came to examine the directory together."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What one host tells the other one about itself."""

    host: str
    boot: str
    format: int
    """Of the spool that it would make."""
    offset: float
    """Seconds by which the file server's clock is ahead of this host's."""


def meet(place: Workplace, patience: float) -> Party:
    """Find another host's examination that wants a peer.

    Args:
        place: this one's workplace.
        patience: seconds to wait for one.

    Raises:
        NoPeerError: nobody came.
    """
    fs, deadline = place.fs, time.monotonic() + patience
    seen: dict[str, float] = {}
    while time.monotonic() < deadline:
        fs.touch(place.path(_HERE))
        if guest := _guest(place):
            return _party(place, place, guest)
        for token in _others(place):
            moved = _moves(place, token, seen)
            if moved and token < place.token:
                entered = _enter(place, token)
                if entered:
                    return _party(place, entered, token)
        time.sleep(_LOOK)
    raise NoPeerError(
        f"no other host came within {patience:g} s: run the same command on another host at the "
        "same time"
    )


def signs_between(place: Workplace, other: str) -> SignsOfLife:
    """Those of this host's examination and of another's, by that one's token."""
    return SignsOfLife(place, Workplace(place.fs, place.root, other), place.token, other)


def _party(place: Workplace, leader: Workplace, other: str) -> Party:
    # In a folder of its own: the host has used these names before, with its partner.
    together = Workplace(place.fs, place.root, f"{leader.token}/{_TOGETHER}")
    party = Party(together, signs_between(place, other), leads=leader is place)
    party.open()
    return party


def _others(place: Workplace) -> list[str]:
    names = place.fs.names(f"{place.root}/{FOLDER}", fresh=True)
    return sorted(name for name in names if name != place.token)


def _moves(place: Workplace, token: str, seen: dict[str, float]) -> bool:
    """Whether somebody waits there just now: his file was touched since the first look."""
    folder = f"{place.root}/{FOLDER}/{token}"
    if _HERE not in place.fs.names(folder, fresh=True):
        return False
    try:
        stamp = place.fs.modified(f"{folder}/{_HERE}")
    except OSError:
        return False
    return stamp != seen.setdefault(token, stamp)


def _guest(place: Workplace) -> str:
    """The token of whoever has come in; empty if nobody has, or has not said who he is."""
    names = place.fs.names(place.folder, fresh=True)
    return next((name.removeprefix(_CARD) for name in names if name.startswith(_CARD)), "")


def _enter(place: Workplace, token: str) -> Workplace | None:
    """Enter another's workplace, unless somebody was there before, here or there."""
    fs, other = place.fs, Workplace(place.fs, place.root, token)
    try:
        fs.mkdir(place.path(_GUEST))
    except FileExistsError:
        return None  # somebody is entering this one
    try:
        fs.mkdir(other.path(_GUEST))
    except (FileExistsError, FileNotFoundError):
        fs.rmdir(place.path(_GUEST))
        return None
    fs.create(other.path(f"{_CARD}{place.token}"), [b""])
    return other


def introduce(party: Party) -> tuple[Introduction, Introduction]:
    """This host and the other one."""
    place = party.place
    offset = round(clock_offset(place.fs, place.path(f"clock-{party.me}")), 6)
    mine = Introduction(host_name(), boot_id(), FORMAT, offset)
    return mine, Introduction(**party.exchange("introduction", asdict(mine)))


def examine_with_peer(party: Party) -> tuple[list[Finding], Mapping[str, str]]:
    """Everything that takes two hosts.

    Raises:
        PartnerLostError: the other one has left.
    """
    mine, theirs = introduce(party)
    found = [_hosts(mine, theirs), _clocks(mine, theirs)]
    found += watch_each_other(party)
    found += examine_together(party)
    party.part()
    return found, {"here": mine.host, "there": theirs.host}


def _hosts(mine: Introduction, theirs: Introduction) -> Finding:
    if mine.format != theirs.format:
        return Finding(
            "hosts",
            Verdict.BAD,
            f"formats {mine.format} on {mine.host} and {theirs.format} on {theirs.host}",
            "files of one version of fsqueue cannot be read by the other",
            "install one version of fsqueue on all hosts",
        )
    alone = mine.boot == theirs.boot
    return Finding(
        "hosts",
        Verdict.WEAK if alone else Verdict.OK,
        f"{mine.host} and {theirs.host}" + (": one and the same machine" if alone else ""),
        "one machine has one cache: this proves nothing about two"
        if alone
        else "what follows was measured between the two",
        "run the command on two hosts" if alone else "",
    )


def _clocks(mine: Introduction, theirs: Introduction) -> Finding:
    apart = mine.offset - theirs.offset
    order = "ahead of" if apart > 0 else "behind"
    return Finding(
        "clocks",
        Verdict.OK,
        f"{theirs.host} is {in_words(abs(apart))} {order} {mine.host}",
        "no decision compares the clocks of two hosts",
        "",
        {"apart": round(apart, 6)},
    )
