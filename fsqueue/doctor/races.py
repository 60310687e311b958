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
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from fsqueue.doctor.findings import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.doctor.party import Party

_MOST, _LEAST = 600, 60
_PREPARATION = 1.0
_READING = 0.5
_BLOCK = 4096
LOCKS: Final = {"flock": fcntl.flock, "fcntl": fcntl.lockf}
# Both start anew from a barrier after so many names: none is far ahead for long.
_ROUND = 100


def examine_together(party: Party) -> list[Finding]:
    """All steps; the other one must be running them too.

    Raises:
        PartnerLostError: the other one has left.
    """
    return [
        publication(party),
        replacement(party),
        *(hold(party, contest) for contest in CONTESTS),
        *(locks(party, kind) for kind in LOCKS),
    ]


# -- races for names ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Contest:
    """A race for names.

    Args:
        name: of the finding.
        attempt: tries to win the name `name` in `folder`; FileNotFoundError and FileExistsError
            are defeats.
        fault: the verdict if a name has two winners, or none.
        absence: the verdict if there is no such operation.
        meaning: what rests on it.
    """

    name: str
    attempt: Callable[[Party, str, str], None]
    fault: Verdict
    absence: Verdict
    meaning: str

    @property
    def folder(self) -> str:
        """Name of the folder where it takes place; each side has ``<folder>.<side>`` besides."""
        return self.name.replace(" ", "-")


def _rename(party: Party, folder: str, name: str) -> None:
    party.place.fs.rename(f"{folder}/{name}", f"{folder}.{party.me}/{name}")


def _link(party: Party, folder: str, name: str) -> None:
    party.place.fs.link(f"{folder}.{party.me}/mine", f"{folder}/{name}.won")


def _create(party: Party, folder: str, name: str) -> None:
    party.place.fs.create(f"{folder}/{name}.won", [party.me.encode()])


CONTESTS: Final = (
    Contest("rename race", _rename, Verdict.BAD, Verdict.BAD, "each call is claimed by one worker"),
    Contest(
        "link race", _link, Verdict.BAD, Verdict.WEAK, "the first outcome of a call is the only one"
    ),
    Contest(
        "create race", _create, Verdict.WEAK, Verdict.BAD, "nothing: claims are made by renames"
    ),
)


def hold(party: Party, contest: Contest) -> Finding:
    """Both try to win the same names."""
    folder = party.place.path(contest.folder)
    count = _prepare(party, contest, folder)
    wins: list[int] = []
    error = "" if count else "nothing could be made"
    for start in range(0, count, _ROUND):
        party.exchange(f"{contest.name}: from {start}")
        if not error:
            won, error = _compete(party, contest, folder, range(start, min(start + _ROUND, count)))
            wins += won
    if contest.attempt is _rename and not error:
        # A rename whose reply was lost has happened all the same: the folder tells.
        mine = party.place.fs.names(f"{folder}.{party.me}", fresh=True)
        wins = sorted(int(name) for name in mine if name.isdecimal())
    theirs = party.exchange(contest.name, {"wins": wins, "error": error})
    if failed := error or theirs["error"]:
        return Finding(
            contest.name,
            contest.absence,
            f"not possible: {failed}",
            f"on this rests: {contest.meaning}",
            "use another filesystem" if contest.absence is Verdict.BAD else "see above",
        )
    return judge(contest, count, set(wins), set(theirs["wins"]))


def judge(contest: Contest, count: int, mine: set[int], theirs: set[int]) -> Finding:
    """What the winners of a race say."""
    doubles, nobody = len(mine & theirs), count - len(mine | theirs)
    wrong = doubles + nobody > 0
    return Finding(
        contest.name,
        contest.fault if wrong else Verdict.OK,
        f"{count} names: {len(mine)} won here, {len(theirs)} there, {doubles} by both, "
        f"{nobody} by nobody{'' if mine and theirs else '; one side was always the first'}",
        f"on one winner a name rests: {contest.meaning}",
        "use another filesystem" if wrong and contest.fault is Verdict.BAD else "",
        {
            "names": count,
            "here": len(mine),
            "there": len(theirs),
            "doubles": doubles,
            "nobody": nobody,
        },
    )


def _prepare(party: Party, contest: Contest, folder: str) -> int:
    """Make what is raced for; both learn how many names that is, 0 if they cannot be made."""
    fs = party.place.fs
    half, error = 0, False
    try:
        party.place.make(f"{contest.folder}.{party.me}")
        fs.create(f"{folder}.{party.me}/mine", [b"x"])
        if party.leads:
            party.place.make(contest.folder)
            half = _make(party, contest, folder, None)
    except OSError:
        error = True
    theirs = int(party.exchange(f"{contest.name}: begun", half))
    try:
        if not party.leads and not error:
            half = _make(party, contest, folder, theirs)
    except OSError:
        error = True
    failed = party.exchange(f"{contest.name}: prepared", error)
    return 0 if error or failed else 2 * half


def _make(party: Party, contest: Contest, folder: str, half: int | None) -> int:
    """Make every other file, `half` of them or what time allows; returns how many.

    Each side makes its half: a file's maker may have it in a cache that is first to be recalled.
    """
    fs, count = party.place.fs, 0
    deadline = time.monotonic() + _PREPARATION
    while count < (_MOST // 2 if half is None else half):
        if half is None and count >= _LEAST // 2 and time.monotonic() > deadline:
            break
        if contest.attempt is _rename:
            fs.create(f"{folder}/{2 * count + (not party.leads)}", [])
        elif half is None:  # not needed, but a slow filesystem is not to be raced on for longer
            fs.touch(f"{folder}/measure")
        count += 1
    return count


def _compete(party: Party, contest: Contest, folder: str, numbers: range) -> tuple[list[int], str]:
    """The numbers won, and what stopped the race if something did."""
    wins: list[int] = []
    # Both in one order: the one who is behind loses, so catches up, and then they are abreast.
    for number in numbers:
        try:
            contest.attempt(party, folder, str(number))
        except (FileNotFoundError, FileExistsError):
            continue
        except OSError as error:
            if error.errno == errno.ESTALE:  # the other one was quicker
                continue
            return wins, error.strerror or str(error)
        wins.append(number)
    return wins, ""


# -- files that appear, and files that are replaced ------------------------------------------


def publication(party: Party) -> Finding:
    """Each reads files that the other one renames to new names: they are whole."""
    party.place.make(f"published.{party.me}")
    total = _in_turns(party, "publication", _publish_for_a_while, _read_what_appears)
    wrong = total["partial"] > 0 or not total["reads"]
    return Finding(
        "publication",
        Verdict.BAD if wrong else Verdict.OK,
        f"{total['reads']} new files read: {total['partial']} in part{_cut_off(total)}",
        "calls and outcomes are whole when their names appear",
        "use another filesystem" if wrong else "",
        total,
    )


def replacement(party: Party) -> Finding:
    """Each reads a file that the other one replaces: it is always there, and whole."""
    _rename_into_place(party, _replaced(party, party.me), 0)
    total = _in_turns(party, "replacement", _replace_for_a_while, _read_for_a_while)
    wrong = total["missing"] + total["partial"] > 0 or not total["reads"]
    return Finding(
        "replacement",
        Verdict.WEAK if wrong else Verdict.OK,
        f"{total['reads']} reads of a file that is replaced: {total['missing']} found none, "
        f"{total['partial']} a part of one{_cut_off(total)}",
        "fsqueue renames to new names only, but for outcomes where there are no hard links: of "
        "two outcomes of one call a reader may see neither for a moment",
        "",
        total,
    )


def _in_turns(
    party: Party,
    what: str,
    write: Callable[[Party], None],
    read: Callable[[Party], dict[str, int]],
) -> dict[str, int]:
    """One reads while the other one writes, and then the other way round; what both have seen."""
    party.exchange(f"{what}: prepared")
    seen: dict[str, int] = {}
    for turn in range(2):
        if party.leads == (turn == 0):
            seen = read(party)
        else:
            write(party)
        party.exchange(f"{what}: turn {turn}")
    theirs = party.exchange(what, seen)
    return {key: seen[key] + theirs[key] for key in seen}


def _cut_off(total: Mapping[str, int]) -> str:
    return f", {total['stale']} were cut off (ESTALE)" if total["stale"] else ""


def _content(number: int) -> bytes:
    return f"{number:08d}".encode() * (_BLOCK // 8) * (1 + number % 4)


def _rename_into_place(party: Party, path: str, number: int) -> None:
    fs, temporary = party.place.fs, party.place.path(f"writing.{party.me}")
    fs.create(temporary, [_content(number)])
    fs.rename(temporary, path)


def _replaced(party: Party, who: str) -> str:
    return party.place.path(f"replaced.{who}")


def _publish_for_a_while(party: Party) -> None:
    folder = party.place.path(f"published.{party.me}")
    _write_for_a_while(party, lambda number: f"{folder}/{number}")


def _replace_for_a_while(party: Party) -> None:
    path = _replaced(party, party.me)
    _write_for_a_while(party, lambda _: path)


def _write_for_a_while(party: Party, path: Callable[[int], str]) -> None:
    deadline, number = time.monotonic() + _READING, 0
    # An error here shows in what the reader sees, or in the races.
    with contextlib.suppress(OSError):
        while time.monotonic() < deadline and number < _MOST:
            number += 1
            _rename_into_place(party, path(number), number)


def _read_what_appears(party: Party) -> dict[str, int]:
    folder, seen = party.place.path(f"published.{party.other}"), _nothing_seen()
    deadline, known = time.monotonic() + _READING, set[str]()
    while len(known) < _MOST and time.monotonic() < deadline:
        names = set(party.place.fs.names(folder, fresh=True))
        for name in names - known:
            _read(party, f"{folder}/{name}", seen)
        known = names
    return seen


def _read_for_a_while(party: Party) -> dict[str, int]:
    path, seen = _replaced(party, party.other), _nothing_seen()
    deadline, number = time.monotonic() + _READING, 0
    while number < _MOST and time.monotonic() < deadline:
        number = _read(party, path, seen)
    return seen


def _nothing_seen() -> dict[str, int]:
    return {"reads": 0, "missing": 0, "partial": 0, "stale": 0}


def _read(party: Party, path: str, seen: dict[str, int]) -> int:
    """Read a file and count what is wrong with it; returns its number, 0 if that is not told."""
    seen["reads"] += 1
    try:
        content = party.place.fs.read(path, fresh=True)
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
