"""Wake-ups between two hosts: whether the file server delivers them, and how fast."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from fsqueue.doctor.findings import Finding, Verdict, in_words, median
from fsqueue.spool.disk.mounts import filesystem_type, has_delegations
from fsqueue.spool.wakeups import recalls
from fsqueue.spool.wakeups.tokens import Token

if TYPE_CHECKING:
    from fsqueue.doctor.session import Session

_TRIALS = 5
# Seconds for the server to delegate a file, and for a wake-up.
_PATIENCE = 3.0
_PAUSE = 0.005


def measure_wakeups(session: Session) -> Finding:
    """Let each host wake the other one by its token, several times.

    Raises:
        PartnerLostError: the other host has left.
    """
    place = session.place
    place.make(f"tokens-{session.me}")
    why = _hindrance(place.root)
    why = session.exchange("wake-ups", why) or why
    times: list[float] = []
    for trial in range(0 if why else _TRIALS):
        took, refusal = _trial(session, trial)
        why = why or refusal
        if took is not None:
            times.append(took)
    if not times:
        return Finding(
            "wake-ups",
            Verdict.OK,
            f"not pushed by the server: {why}",
            "idle workers and waiting callers poll: they notice a change after up to poll_interval",
            "",
            {"push": False},
        )
    return Finding(
        "wake-ups",
        Verdict.OK,
        f"pushed by the server, {in_words(median(times))}",
        'how soon a process on another host is woken, unless watch = "poll"',
        "",
        {"push": True, "wake": round(median(times), 6), "lost": _TRIALS - len(times)},
    )


def _hindrance(root: str) -> str:
    """Why the server cannot wake this host; empty if it may be able to."""
    if not has_delegations(root):
        return f"NFSv4 has that, and this is {filesystem_type(root) or 'of an unknown kind'}"
    return "" if recalls.available() else "this system has no leases"


def _trial(session: Session, number: int) -> tuple[float | None, str]:
    """Wake the other host, and be woken by it; returns the time of one wake-up, or why not."""
    woken = threading.Event()
    token = Token(
        session.place.fs,
        lambda _, step: step(),
        session.place.path(f"tokens-{session.me}"),
        lambda: f"token-{number}",
        0.0,
        woken.set,
    )
    try:
        path = _armed(token)
        theirs = session.exchange(f"wake-ups: token {number}", [path, token.refusal])
        took = None
        if path and theirs[0]:
            began = time.perf_counter()
            if session.leads or woken.wait(_PATIENCE):
                session.place.fs.ring_token(theirs[0])
            if woken.wait(_PATIENCE):
                took = (time.perf_counter() - began) / 2
        # The leader sees both ways.
        both = session.exchange(f"wake-ups: end of {number}", took)
        took = took if session.leads else both
    finally:
        token.end()
    refusal = token.refusal or theirs[1] or "a ring wakes nobody"
    return took, refusal


def _armed(token: Token) -> str:
    """The path of a token, once it is there; empty if there is none."""
    token.arm()
    until = time.monotonic() + _PATIENCE
    while not token.path and not token.refusal and time.monotonic() < until:
        time.sleep(_PAUSE)
    return token.path
