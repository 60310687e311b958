"""Races between two processes: both run these steps at the same time.

Both sides finish every step, even if something fails, because they exchange errors like other data.
Each side returns its own findings. The findings on races are the same on both sides.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fsqueue.doctor.findings import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.doctor.session import Session

_MOST, _LEAST = 600, 60
_PREPARATION = 1.0
_READING = 0.5
_BLOCK = 4096
_LOCKS: Final = {"flock": fcntl.flock, "fcntl": fcntl.lockf}
# Both meet at a barrier after this many names, so that neither gets far ahead.
_ROUND = 100


def examine_jointly(session: Session) -> list[Finding]:
    """Run all steps; the other process must be running them too.

    Raises:
        PartnerLostError: the other process has left.
    """
    return [
        publication(session),
        replacement(session),
        *(hold(session, contest) for contest in CONTESTS),
        *(locks(session, kind) for kind in _LOCKS),
    ]


# -- races for names ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contest:
    """A race for names.

    Args:
        name: name of the finding.
        attempt: tries to win a name in a folder; FileNotFoundError and FileExistsError mean that
            the other side has won.
        fault: the verdict if a name has two winners, or none.
        absence: the verdict if the operation does not exist.
        meaning: what depends on the operation.
    """

    name: str
    attempt: Callable[[Session, str, str], None]
    fault: Verdict
    absence: Verdict
    meaning: str

    @property
    def folder(self) -> str:
        """Name of the folder of the race; each side also has a folder ``<folder>.<side>``."""
        return self.name.replace(" ", "-")


def _rename(session: Session, folder: str, name: str) -> None:
    session.place.fs.rename(f"{folder}/{name}", f"{folder}.{session.me}/{name}")


def _link(session: Session, folder: str, name: str) -> None:
    session.place.fs.link(f"{folder}.{session.me}/mine", f"{folder}/{name}.won")


def _create(session: Session, folder: str, name: str) -> None:
    session.place.fs.create(f"{folder}/{name}.won", [session.me.encode()])


CONTESTS: Final = (
    Contest("rename race", _rename, Verdict.BAD, Verdict.BAD, "each call is claimed by one worker"),
    Contest(
        "link race", _link, Verdict.BAD, Verdict.WEAK, "the first outcome of a call is the only one"
    ),
    Contest(
        "create race", _create, Verdict.WEAK, Verdict.BAD, "nothing: workers claim calls by renames"
    ),
)


def hold(session: Session, contest: Contest) -> Finding:
    """Hold one race: both sides try to win the same names."""
    folder = session.place.path(contest.folder)
    count = _prepare(session, contest, folder)
    wins: list[int] = []
    error = "" if count else "nothing could be made"
    for start in range(0, count, _ROUND):
        session.exchange(f"{contest.name}: from {start}")
        if not error:
            won, error = _compete(
                session, contest, folder, range(start, min(start + _ROUND, count))
            )
            wins += won
    if contest.attempt is _rename and not error:
        # A rename whose reply was lost has still happened: count the files in the folder.
        mine = session.place.fs.names(f"{folder}.{session.me}", fresh=True)
        wins = sorted(int(name) for name in mine if name.isdecimal())
    theirs = session.exchange(contest.name, {"wins": wins, "error": error})
    if failed := error or theirs["error"]:
        return Finding(
            contest.name,
            contest.absence,
            f"not possible: {failed}",
            f"this depends on it: {contest.meaning}",
            "use another filesystem" if contest.absence is Verdict.BAD else "see above",
        )
    return judge(contest, count, set(wins), set(theirs["wins"]))


def judge(contest: Contest, count: int, mine: set[int], theirs: set[int]) -> Finding:
    """The finding on a race: each name must have one winner."""
    doubles, nobody = len(mine & theirs), count - len(mine | theirs)
    wrong = doubles + nobody > 0
    return Finding(
        contest.name,
        contest.fault if wrong else Verdict.OK,
        f"{count} names: {len(mine)} won here, {len(theirs)} there, {doubles} by both, "
        f"{nobody} by none{'' if mine and theirs else '; one side always came first'}",
        f"one winner for each name guarantees: {contest.meaning}",
        "use another filesystem" if wrong and contest.fault is Verdict.BAD else "",
        {
            "names": count,
            "here": len(mine),
            "there": len(theirs),
            "doubles": doubles,
            "nobody": nobody,
        },
    )


def _prepare(session: Session, contest: Contest, folder: str) -> int:
    """Make the files of a race. Returns the number of names to both sides; 0 if that failed."""
    fs = session.place.fs
    half, error = 0, False
    try:
        session.place.make(f"{contest.folder}.{session.me}")
        fs.create(f"{folder}.{session.me}/mine", [b"x"])
        if session.leads:
            session.place.make(contest.folder)
            half = _make(session, contest, folder, None)
    except OSError:
        error = True
    theirs = int(session.exchange(f"{contest.name}: begun", half))
    try:
        if not session.leads and not error:
            half = _make(session, contest, folder, theirs)
    except OSError:
        error = True
    failed = session.exchange(f"{contest.name}: prepared", error)
    return 0 if error or failed else 2 * half


def _make(session: Session, contest: Contest, folder: str, half: int | None) -> int:
    """Make every other file, `half` of them or as many as time allows; returns the number.

    Each side makes one half, because the host that made a file may have an advantage from its
    cache.
    """
    fs, count = session.place.fs, 0
    deadline = time.monotonic() + _PREPARATION
    while count < (_MOST // 2 if half is None else half):
        if half is None and count >= _LEAST // 2 and time.monotonic() > deadline:
            break
        if contest.attempt is _rename:
            fs.create(f"{folder}/{2 * count + (not session.leads)}", [])
        elif half is None:  # measures the speed: a race on a slow filesystem must not take longer
            fs.touch(f"{folder}/measure")
        count += 1
    return count


def _compete(
    session: Session, contest: Contest, folder: str, numbers: range
) -> tuple[list[int], str]:
    """Returns the numbers won, and the error that stopped the race, or an empty text."""
    wins: list[int] = []
    # Both go in the same order: the slower side loses, so it catches up until they are level.
    for number in numbers:
        try:
            contest.attempt(session, folder, str(number))
        except (FileNotFoundError, FileExistsError):
            continue
        except OSError as error:
            if error.errno == errno.ESTALE:  # the other side was quicker
                continue
            return wins, error.strerror or str(error)
        wins.append(number)
    return wins, ""


# -- files that appear, and files that are replaced ------------------------------------------


def publication(session: Session) -> Finding:
    """Each side reads files while the other side renames them into place: they must be whole."""
    session.place.make(f"published.{session.me}")
    total = _in_turns(session, "publication", _publish_for_a_while, _read_what_appears)
    wrong = total["partial"] > 0 or not total["reads"]
    return Finding(
        "publication",
        Verdict.BAD if wrong else Verdict.OK,
        f"{total['reads']} new files read: {total['partial']} in part{_cut_off(total)}",
        "calls and outcomes are whole when their names appear",
        "use another filesystem" if wrong else "",
        total,
    )


def replacement(session: Session) -> Finding:
    """Each side reads a file that the other side replaces: it must be there, and whole."""
    _rename_into_place(session, _replaced(session, session.me), 0)
    total = _in_turns(session, "replacement", _replace_for_a_while, _read_for_a_while)
    wrong = total["missing"] + total["partial"] > 0 or not total["reads"]
    return Finding(
        "replacement",
        Verdict.WEAK if wrong else Verdict.OK,
        f"{total['reads']} reads of a file that is replaced: {total['missing']} found none, "
        f"{total['partial']} a part of one{_cut_off(total)}",
        "fsqueue renames to new names only, except for outcomes if there are no hard links: of "
        "two outcomes of one call, a reader may see neither for a moment",
        "",
        total,
    )


def _in_turns(
    session: Session,
    what: str,
    write: Callable[[Session], None],
    read: Callable[[Session], dict[str, int]],
) -> dict[str, int]:
    """One side reads while the other writes, then they swap; returns the sum of both counts."""
    session.exchange(f"{what}: prepared")
    seen: dict[str, int] = {}
    for turn in range(2):
        if session.leads == (turn == 0):
            seen = read(session)
        else:
            write(session)
        session.exchange(f"{what}: turn {turn}")
    theirs = session.exchange(what, seen)
    return {key: seen[key] + theirs[key] for key in seen}


def _cut_off(total: Mapping[str, int]) -> str:
    return f", {total['stale']} were cut off (ESTALE)" if total["stale"] else ""


def _content(number: int) -> bytes:
    return f"{number:08d}".encode() * (_BLOCK // 8) * (1 + number % 4)


def _rename_into_place(session: Session, path: str, number: int) -> None:
    fs, temporary = session.place.fs, session.place.path(f"writing.{session.me}")
    fs.create(temporary, [_content(number)])
    fs.rename(temporary, path)


def _replaced(session: Session, who: str) -> str:
    return session.place.path(f"replaced.{who}")


def _publish_for_a_while(session: Session) -> None:
    folder = session.place.path(f"published.{session.me}")
    _write_for_a_while(session, lambda number: f"{folder}/{number}")


def _replace_for_a_while(session: Session) -> None:
    path = _replaced(session, session.me)
    _write_for_a_while(session, lambda _: path)


def _write_for_a_while(session: Session, path: Callable[[int], str]) -> None:
    deadline, number = time.monotonic() + _READING, 0
    # If an error stops this, the reader or the races notice its effect.
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline and number < _MOST:
            number += 1
            _rename_into_place(session, path(number), number)


def _read_what_appears(session: Session) -> dict[str, int]:
    folder, seen = session.place.path(f"published.{session.other}"), _nothing_seen()
    deadline, known = time.monotonic() + _READING, set[str]()
    while len(known) < _MOST and time.monotonic() < deadline:
        names = set(session.place.fs.names(folder, fresh=True))
        for name in names - known:
            _read(session, f"{folder}/{name}", seen)
        known = names
    return seen


def _read_for_a_while(session: Session) -> dict[str, int]:
    path, seen = _replaced(session, session.other), _nothing_seen()
    deadline, number = time.monotonic() + _READING, 0
    while number < _MOST and time.monotonic() < deadline:
        number = _read(session, path, seen)
    return seen


def _nothing_seen() -> dict[str, int]:
    return {"reads": 0, "missing": 0, "partial": 0, "stale": 0}


def _read(session: Session, path: str, seen: dict[str, int]) -> int:
    """Read a file and count what is wrong with it; returns its number, or 0 if unknown."""
    seen["reads"] += 1
    try:
        content = session.place.fs.read(path, fresh=True)
    except FileNotFoundError:
        seen["missing"] += 1
    except OSError:
        seen["stale"] += 1
    else:
        number = int(content[:8]) if content[:8].isdigit() else -1
        if number >= 0 and content == _content(number):
            return number
        seen["partial"] += 1
    return 0


# -- locks --------------------------------------------------------------------------------------


def locks(session: Session, kind: str) -> Finding:
    """The leader holds a lock. The other side must not get it before the leader releases it."""
    path = session.place.path(f"lock.{kind}")
    session.place.fs.touch(path)
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        held = session.exchange(f"{kind}: held", _take(handle, kind) if session.leads else "")
        tried = session.exchange(f"{kind}: tried", "" if session.leads else _take(handle, kind))
        if session.leads:
            with contextlib.suppress(OSError):
                _LOCKS[kind](handle, fcntl.LOCK_UN)
        session.exchange(f"{kind}: released")
        answer: Any = "" if session.leads else _take(handle, kind)
        freed = session.exchange(f"{kind}: freed", answer)
        mine = session.exchange(f"{kind}: done", [held, tried, freed])
    finally:
        os.close(handle)
    # Each side took part in only some of the steps: complete its answers by the other side's.
    held, tried, freed = [
        one or other for one, other in zip([held, tried, freed], mine, strict=True)
    ]
    return _judge_lock(kind, held, tried, freed)


def _take(handle: int, kind: str) -> str:
    """``taken``, ``refused``, or an error's text."""
    try:
        _LOCKS[kind](handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return "refused"
        return error.strerror or str(error)
    return "taken"


def _judge_lock(kind: str, held: str, tried: str, freed: str) -> Finding:
    excludes = (held, tried, freed) == ("taken", "refused", "taken")
    # fsqueue uses flock; the other kind is reported for information.
    relevant = kind == "flock"
    if excludes:
        measured = "excludes, and is free when it is released"
    elif held != "taken":
        measured = f"not possible: {held}"
    else:
        measured = f"does not exclude: the second process was {tried}, then {freed}"
    return Finding(
        f"{kind} lock",
        Verdict.OK if excludes or not relevant else Verdict.WEAK,
        measured,
        "with locks, a dead worker or caller is noticed sooner; calls move without them"
        if relevant
        else "fsqueue takes no locks of this kind",
        ""
        if excludes or not relevant
        else "only the lease shows deaths on other hosts: make it short",
        {"excludes": excludes},
    )
