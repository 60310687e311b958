"""Rendezvous: two hosts that examine one directory find each other through it.

Each host makes a workspace with a file ``here``, touches that file while it waits, and lists the
other workspaces for one whose file changes. A workspace admits one guest: the host whose `mkdir`
of the folder ``guest`` succeeds. The guest then leaves its token as a file ``guest.<token>``.
Before a host enters another workspace it closes its own, by the same `mkdir`. It enters only
workspaces whose token is smaller than its own, so that two hosts cannot enter each other's.

No host asks for a name that it has not seen in a listing: a filesystem's client that once heard
that a name does not exist may believe so for minutes.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from fsqueue.doctor.findings import Finding, Verdict, in_words
from fsqueue.doctor.heartbeat import Heartbeat
from fsqueue.doctor.races import examine_jointly
from fsqueue.doctor.session import Session
from fsqueue.doctor.timing import clock_offset
from fsqueue.doctor.visibility import measure_visibility
from fsqueue.doctor.wakeups import measure_wakeups
from fsqueue.doctor.workspace import FOLDER, Workspace
from fsqueue.errors import FSQueueError
from fsqueue.spool.disk.identity import boot_id, host_name
from fsqueue.spool.format.records import FORMAT

if TYPE_CHECKING:
    from collections.abc import Mapping

_HERE, _GUEST, _CARD, _TOGETHER = "here", "guest", "guest.", "together"
_PAUSE = 0.1


class NoPeerError(FSQueueError):
    """No other host came to examine the directory."""


@dataclass(frozen=True, slots=True)
class Introduction:
    """What a host reports about itself to the other one."""

    host: str
    boot: str
    format: int
    """Format of the spools that its fsqueue makes."""
    offset: float
    """Seconds by which the file server's clock is ahead of this host's."""


def meet(place: Workspace, patience: float) -> Session:
    """Find the examination of another host that wants a peer.

    Args:
        place: the workspace of this host.
        patience: longest time to wait for another host, in seconds.

    Raises:
        NoPeerError: no other host came.
    """
    fs, deadline = place.fs, time.monotonic() + patience
    seen: dict[str, float] = {}
    while time.monotonic() < deadline:
        fs.touch(place.path(_HERE))
        if guest := _guest(place):
            return _session(place, place, guest)
        for token in _others(place):
            moved = _moves(place, token, seen)
            if moved and token < place.token:
                entered = _enter(place, token)
                if entered:
                    return _session(place, entered, token)
        time.sleep(_PAUSE)
    raise NoPeerError(
        f"no other host came within {patience:g} s: run the same command on another host at the "
        "same time"
    )


def heartbeat_between(place: Workspace, other: str) -> Heartbeat:
    """The heartbeat between this host's examination and the one with token `other`."""
    return Heartbeat(place, Workspace(place.fs, place.root, other), place.token, other)


def _session(place: Workspace, leader: Workspace, other: str) -> Session:
    # In a subfolder: the host has already used these names together with its partner.
    together = Workspace(place.fs, place.root, f"{leader.token}/{_TOGETHER}")
    session = Session(together, heartbeat_between(place, other), leads=leader is place)
    session.open()
    return session


def _others(place: Workspace) -> list[str]:
    names = place.fs.names(f"{place.root}/{FOLDER}", fresh=True)
    return sorted(name for name in names if name != place.token)


def _moves(place: Workspace, token: str, seen: dict[str, float]) -> bool:
    """Whether a host is waiting there: whether its file was touched since the first check."""
    folder = f"{place.root}/{FOLDER}/{token}"
    if _HERE not in place.fs.names(folder, fresh=True):
        return False
    try:
        stamp = place.fs.modified(f"{folder}/{_HERE}")
    except OSError:
        return False
    return stamp != seen.setdefault(token, stamp)


def _guest(place: Workspace) -> str:
    """The token of the guest. Empty if there is none, or if it has not left its token yet."""
    names = place.fs.names(place.folder, fresh=True)
    return next((name.removeprefix(_CARD) for name in names if name.startswith(_CARD)), "")


def _enter(place: Workspace, token: str) -> Workspace | None:
    """Enter another workspace, unless that one or this one has a guest already."""
    fs, other = place.fs, Workspace(place.fs, place.root, token)
    try:
        fs.mkdir(place.path(_GUEST))
    except FileExistsError:
        return None  # another host is entering this workspace
    try:
        fs.mkdir(other.path(_GUEST))
    except (FileExistsError, FileNotFoundError):
        fs.rmdir(place.path(_GUEST))
        return None
    fs.create(other.path(f"{_CARD}{place.token}"), [b""])
    return other


def introduce(session: Session) -> tuple[Introduction, Introduction]:
    """Exchange introductions; returns this host's and the other one's."""
    place = session.place
    offset = round(clock_offset(place.fs, place.path(f"clock-{session.me}")), 6)
    mine = Introduction(host_name(), boot_id(), FORMAT, offset)
    return mine, Introduction(**session.exchange("introduction", asdict(mine)))


def examine_with_peer(session: Session) -> tuple[list[Finding], Mapping[str, str]]:
    """Run everything that takes two hosts. Returns the findings, and the names of the hosts.

    Raises:
        PartnerLostError: the other host has left.
    """
    mine, theirs = introduce(session)
    found = [_hosts(mine, theirs), _clocks(mine, theirs)]
    found += measure_visibility(session)
    found += examine_jointly(session)
    found.append(measure_wakeups(session))
    session.close()
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
