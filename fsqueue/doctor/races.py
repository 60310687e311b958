"""What two do at the same time: both run these, each in a process of its own.

Every step goes through to its end on both sides, whatever fails: an error is data, too. Each
returns the findings of its own side; those on races are the same on both.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from typing import TYPE_CHECKING, Any, Final

from fsqueue.doctor.findings import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.doctor.party import Party

_MOST, _LEAST = 1000, 60
_PREPARATION = 2.0
_READING = 0.5
_BLOCK = 4096
LOCKS: Final = {"flock": fcntl.flock, "fcntl": fcntl.lockf}

_CLAIM = "claims: each call is claimed by one worker"
_OUTCOME = "outcomes: the first one of a call stands"


def examine_together(party: Party) -> list[Finding]:
    """All steps; the other one must be running them too.

    Raises:
        PartnerLostError: the other one has left.
    """
    return [replacement(party), *contests(party), *(locks(party, kind) for kind in LOCKS)]


# -- races for names ------------------------------------------------------------------------------


def contests(party: Party) -> list[Finding]:
    """Both try to move, to link and to create the same names."""
    return [
        _contest(party, "rename race", _rename, Verdict.BAD, _CLAIM),
        _contest(party, "link race", _link, Verdict.BAD, _OUTCOME),
        _contest(
            party,
            "create race",
            _create,
            Verdict.WEAK,
            "nothing of fsqueue rests on it: claims are renames, outcomes are links",
        ),
    ]


def _rename(party: Party, folder: str, name: str) -> None:
    party.place.fs.rename(f"{folder}/{name}", f"{folder}.{party.me}/{name}")


def _link(party: Party, folder: str, name: str) -> None:
    party.place.fs.link(f"{folder}.{party.me}/mine", f"{folder}/{name}.won")


def _create(party: Party, folder: str, name: str) -> None:
    party.place.fs.create(f"{folder}/{name}.won", [party.me.encode()])


def _contest(
    party: Party,
    what: str,
    attempt: Callable[[Party, str, str], None],
    fault: Verdict,
    meaning: str,
) -> Finding:
    folder = party.place.path(what.replace(" ", "-"))
    count = _prepare(party, folder, what, files=attempt is _rename)
    wins, error = _compete(party, folder, count, attempt)
    if attempt is _rename and not error:
        # A rename whose reply was lost has happened all the same: the folder tells.
        wins = sorted(
            int(name)
            for name in party.place.fs.names(f"{folder}.{party.me}", fresh=True)
            if name.isdecimal()
        )
    theirs = party.exchange(what, {"wins": wins, "error": error})
    if failed := error or theirs["error"]:
        return Finding(
            what,
            Verdict.WEAK if attempt is _link else Verdict.BAD,
            f"not possible: {failed}",
            meaning,
            "see the finding on links" if attempt is _link else "use another filesystem",
        )
    return _judge_contest(what, count, set(wins), set(theirs["wins"]), fault, meaning)


def _judge_contest(
    what: str, count: int, mine: set[int], theirs: set[int], fault: Verdict, meaning: str
) -> Finding:
    doubles, nobody = len(mine & theirs), count - len(mine | theirs)
    wrong = doubles + nobody > 0
    return Finding(
        what,
        fault if wrong else Verdict.OK,
        f"{count} names: {len(mine)} won here, {len(theirs)} there, {doubles} by both, "
        f"{nobody} by nobody",
        meaning if not wrong else f"two winners or none break {meaning}",
        "use another filesystem" if wrong and fault is Verdict.BAD else "",
        {
            "names": count,
            "here": len(mine),
            "there": len(theirs),
            "doubles": doubles,
            "nobody": nobody,
        },
    )


def _prepare(party: Party, folder: str, what: str, *, files: bool) -> int:
    """Make what is raced for; both learn how much that is."""
    fs, count = party.place.fs, 0
    with contextlib.suppress(OSError):  # then there is nothing to win, which is found out
        fs.make_folders(f"{folder}.{party.me}")
        fs.create(f"{folder}.{party.me}/mine", [b"x"])
        if party.leads:
            fs.make_folders(folder)
            deadline = time.monotonic() + _PREPARATION
            while count < _MOST and (count < _LEAST or time.monotonic() < deadline):
                if files:
                    fs.create(f"{folder}/{count}", [])
                else:  # costs the same, so that a slow filesystem is not raced for longer
                    fs.touch(f"{folder}/measure")
                count += 1
    theirs = party.exchange(f"{what}: ready", count)
    return count if party.leads else int(theirs)


def _compete(
    party: Party, folder: str, count: int, attempt: Callable[[Party, str, str], None]
) -> tuple[list[int], str]:
    wins: list[int] = []
    # Both in one order: the one who is behind loses, so catches up, and then they are abreast.
    for number in range(count):
        try:
            attempt(party, folder, str(number))
        except (FileNotFoundError, FileExistsError):
            continue
        except OSError as error:
            if error.errno == errno.ESTALE:  # the other one was quicker
                continue
            return wins, error.strerror or str(error)
        wins.append(number)
    return wins, "" if count else "nothing could be made"


# -- files that are replaced -----------------------------------------------------------------


def replacement(party: Party) -> Finding:
    """Each reads a file that the other one replaces: it is always there, and whole."""
    path = party.place.path("replaced.{}")
    _replace(party, path.format(party.me), 0)
    party.exchange("replacement: ready")
    reading, seen = party.leads, {"reads": 0, "missing": 0, "partial": 0, "stale": 0}
    for turn in range(2):  # one reads while the other one writes, and then the other way round
        if reading == (turn == 0):
            seen = _read_for_a_while(party, path.format(party.other))
        else:
            _replace_for_a_while(party, path.format(party.me))
        party.exchange(f"replacement: turn {turn}")
    theirs = party.exchange("replacement", seen)
    total = {key: seen[key] + theirs[key] for key in seen}
    wrong = total["missing"] + total["partial"] > 0 or not total["reads"]
    return Finding(
        "replacement",
        Verdict.BAD if wrong else Verdict.OK,
        f"{total['reads']} reads: {total['missing']} found no file, {total['partial']} a part of "
        f"one" + (f", {total['stale']} were cut off (ESTALE)" if total["stale"] else ""),
        "files are renamed into place: a reader sees all of one or nothing",
        "use another filesystem" if wrong else "",
        dict(total),
    )


def _content(number: int) -> bytes:
    return f"{number:08d}".encode() * (_BLOCK // 8) * (1 + number % 4)


def _replace(party: Party, path: str, number: int) -> None:
    fs = party.place.fs
    fs.create(f"{path}.new", [_content(number)])
    fs.rename(f"{path}.new", path)


def _replace_for_a_while(party: Party, path: str) -> None:
    deadline, number = time.monotonic() + _READING, 1
    # An error here shows in what the reader sees, or in the races.
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline:
            _replace(party, path, number)
            number += 1


def _read_for_a_while(party: Party, path: str) -> dict[str, int]:
    seen = {"reads": 0, "missing": 0, "partial": 0, "stale": 0}
    deadline = time.monotonic() + _READING
    while time.monotonic() < deadline:
        seen["reads"] += 1
        try:
            content = party.place.fs.read(path, fresh=True)
            if not content[:8].isdigit() or content != _content(int(content[:8])):
                seen["partial"] += 1
        except FileNotFoundError:
            seen["missing"] += 1
        except OSError:
            seen["stale"] += 1
    return seen


# -- locks --------------------------------------------------------------------------------------


def locks(party: Party, kind: str) -> Finding:
    """The leader holds a lock that the other one must not get before it is released."""
    path = party.place.path(f"lock.{kind}")
    party.place.fs.touch(path)
    handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        held = party.exchange(f"{kind}: held", _take(handle, kind) if party.leads else "")
        tried = party.exchange(f"{kind}: tried", "" if party.leads else _take(handle, kind))
        if party.leads:
            with contextlib.suppress(OSError):
                LOCKS[kind](handle, fcntl.LOCK_UN)
        party.exchange(f"{kind}: released")
        answer: Any = "" if party.leads else _take(handle, kind)
        freed = party.exchange(f"{kind}: freed", answer)
        mine = party.exchange(f"{kind}: done", [held, tried, freed])
    finally:
        os.close(handle)
    # Each has heard only what the other one said.
    held, tried, freed = [
        one or other for one, other in zip([held, tried, freed], mine, strict=True)
    ]
    return _judge_lock(kind, held, tried, freed)


def _take(handle: int, kind: str) -> str:
    """``taken``, ``refused``, or an error's text."""
    try:
        LOCKS[kind](handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            return "refused"
        return error.strerror or str(error)
    return "taken"


def _judge_lock(kind: str, held: str, tried: str, freed: str) -> Finding:
    excludes = (held, tried, freed) == ("taken", "refused", "taken")
    # fsqueue's own locks are flock's; the other kind is told for those who wonder.
    relevant = kind == "flock"
    if excludes:
        measured = "excludes, and is free when it is released"
    elif held != "taken":
        measured = f"cannot be had: {held}"
    else:
        measured = f"excludes nobody: the second one was {tried}, then {freed}"
    return Finding(
        f"{kind} lock",
        Verdict.OK if excludes or not relevant else Verdict.WEAK,
        measured,
        "locks only tell sooner that a worker or caller is gone; no move of a call takes one"
        if relevant
        else "fsqueue takes no locks of this kind",
        ""
        if excludes or not relevant
        else "deaths on other hosts are noticed by the lease: make that short",
        {"excludes": excludes},
    )
