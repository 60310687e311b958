"""Visibility: how late one host sees the changes of another one.

Each host watches folders that only the other one changes, with all kinds of checks at once. Each
check has its own folder, because a fresh check would also refresh what a stale check in the same
folder sees. The watcher measures the delay with its own clock, starting when a message says that
the change was made. It receives that message by a fresh listing.
"""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fsqueue.doctor.findings import Finding, Verdict, in_words
from fsqueue.spool.disk.mounts import is_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.doctor.session import Session
    from fsqueue.doctor.workspace import Workspace
    from fsqueue.spool.disk.filesystem import Filesystem

LIMIT = 15.0
_PAUSE = 0.003
_TRIALS = 4
# Seconds of delay from which a fresh check makes everything wait, although it works.
_LATE = 2.0
_OLD, _NEW = b"old", b"new, and longer"


@dataclass(frozen=True, slots=True)
class Check:
    """One way to check for a change.

    Args:
        change: ``new``, ``removed``, ``replaced`` or ``touched``.
        sees_change: whether the check sees the change in a folder.
        if_unseen: the verdict if it does not see the change in time.
        title: description for people.
    """

    change: str
    sees_change: Callable[[Filesystem, str], bool]
    if_unseen: Verdict
    title: str


def _content(fs: Filesystem, folder: str) -> bytes:
    return fs.read(f"{folder}/file")


CHECKS: Final[Mapping[str, Check]] = {
    "fresh listing": Check(
        "new", lambda fs, at: "file" in fs.names(at, fresh=True), Verdict.BAD,
        "a new name by listing a folder that is touched first",
    ),
    "fresh exists": Check(
        "new", lambda fs, at: fs.exists(f"{at}/file", fresh=True), Verdict.WEAK,
        "a new name by asking for it, the folder touched first",
    ),
    "fresh absence": Check(
        "removed", lambda fs, at: not fs.exists(f"{at}/file", fresh=True), Verdict.WEAK,
        "a removal by asking for the name, the folder touched first",
    ),
    "content": Check(
        "replaced", lambda fs, at: _content(fs, at) == _NEW, Verdict.OK,
        "new content by opening a file",
    ),
    "beat": Check(
        "touched", lambda fs, at: fs.modified(f"{at}/file") != 1.0, Verdict.BAD,
        "a touch by asking the server for the file's time",
    ),
    "listing": Check(
        "new", lambda fs, at: "file" in fs.names(at), Verdict.OK, "a new name by listing alone",
    ),
    "exists": Check(
        "new", lambda fs, at: fs.exists(f"{at}/file"), Verdict.OK,
        "a new name by asking for it alone",
    ),
    "absence": Check(
        "removed", lambda fs, at: not fs.exists(f"{at}/file"), Verdict.OK,
        "a removal by asking for the name alone",
    ),
    "time": Check(
        "touched", lambda fs, at: fs.status(f"{at}/file").st_mtime != 1.0, Verdict.OK,
        "a touch by asking for the time alone",
    ),
}  # fmt: skip


_RELIANCE: Final = {
    Verdict.BAD: "workers find calls, and see that other workers live, in this way",
    Verdict.WEAK: "a caller may see the end of a call late, or the call may run again",
    Verdict.OK: "fsqueue does not rely on it",
}


def measure_visibility(session: Session) -> list[Finding]:
    """Measure how late each host sees the changes of the other one.

    Raises:
        PartnerLostError: the other host has left.
    """
    seen_by_me, changed_by_me = f"seen-by-{session.me}", f"seen-by-{session.other}"
    try:
        mine = _watch(session, seen_by_me, changed_by_me)
        theirs = session.exchange("sights", mine)
    finally:
        # Each host removes its own: one that believes that a file does not exist cannot remove it.
        shutil.rmtree(session.place.path(changed_by_me), ignore_errors=True)
    remote = is_remote(session.place.root)
    return [_judge(name, mine[name] + theirs[name], remote=remote) for name in CHECKS]


def _watch(session: Session, seen_by_me: str, changed_by_me: str) -> dict[str, list[float]]:
    """Prepare what the other host watches, change it, and watch what the other host changes."""
    place = session.place
    place.make(changed_by_me)
    for name, trial, folder in _folders(place, changed_by_me):
        place.fs.mkdir(folder)
        _before(place.fs, CHECKS[name], folder, trial)
    session.exchange("sights: prepared")
    # Fills the cache with what it may keep: that a name is missing, or an old time.
    for name, _, folder in _folders(place, seen_by_me):
        CHECKS[name].sees_change(place.fs, folder)
    session.exchange("sights: looked")
    for name, _, folder in _folders(place, changed_by_me):
        _change(place.fs, CHECKS[name], folder)
    session.exchange("sights: changed")
    return _wait_for_all(session, seen_by_me)


def _folders(place: Workspace, top: str) -> list[tuple[str, int, str]]:
    return [
        (name, trial, place.path(f"{top}/{name.replace(' ', '-')}-{trial}"))
        for trial in range(_TRIALS)
        for name in CHECKS
    ]


def _before(fs: Filesystem, check: Check, folder: str, trial: int) -> None:
    # In a folder that was never changed, a cache cannot be stale.
    fs.create(f"{folder}/other-{trial}", [])
    if check.change != "new":
        fs.create(f"{folder}/file", [_OLD])
        fs.set_time(f"{folder}/file", 1.0)


def _change(fs: Filesystem, check: Check, folder: str) -> None:
    path = f"{folder}/file"
    if check.change == "removed":
        fs.unlink(path)
    elif check.change == "touched":
        fs.touch(path)
    else:
        fs.create(f"{path}.new", [_NEW])
        fs.rename(f"{path}.new", path)


def _wait_for_all(session: Session, top: str) -> dict[str, list[float]]:
    """How late each check saw its change, in seconds; those not seen in time are left out."""
    place = session.place
    waiting, begun = _folders(place, top), time.monotonic()
    late: dict[str, list[float]] = {name: [] for name in CHECKS}
    while waiting and time.monotonic() - begun < LIMIT:
        for each in list(waiting):
            name, _, folder = each
            if _sees_change(place.fs, CHECKS[name], folder):
                late[name].append(round(time.monotonic() - begun, 4))
                waiting.remove(each)
        session.heartbeat.check()
        time.sleep(_PAUSE)
    return late


def _sees_change(fs: Filesystem, check: Check, folder: str) -> bool:
    try:
        return check.sees_change(fs, folder)
    except OSError:  # the file was replaced while it was opened: not seen yet
        return False


def _judge(name: str, late: list[float], *, remote: bool) -> Finding:
    check, trials = CHECKS[name], 2 * _TRIALS
    missed, slowest = trials - len(late), max(late, default=LIMIT)
    relied = check.if_unseen is not Verdict.OK
    verdict, advice = Verdict.OK, ""
    stale = missed > 0 or slowest > _LATE
    if relied and stale:
        verdict = check.if_unseen if missed else Verdict.WEAK
        advice = "mount it with options that cache less, and for a shorter time"
    elif name == "listing" and stale and not remote:
        verdict = Verdict.BAD
        advice = (
            "this type of filesystem is not known to be shared between hosts, so folders are not "
            "touched before they are listed: please report it"
        )
    how = _RELIANCE[check.if_unseen]
    return Finding(
        f"sees {name}",
        verdict,
        f"{check.title}: " + (f"{missed} of {trials} not within {LIMIT:g} s" if missed
                              else f"all within {in_words(slowest)}"),
        f"how late one host sees the changes of another one; {how}",
        advice,
        {"slowest": slowest, "missed": missed, "trials": trials},
    )  # fmt: skip
