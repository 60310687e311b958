"""What one host sees of another one's changes, and how late.

Each host watches folders that only the other one changes, by every way of looking at once, each
way in a folder of its own: a fresh look would also mend what a stale one beside it sees. How late
a change is seen is measured by the watcher's own clock from the message that it was made, which
itself is seen by a fresh listing.
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

    from fsqueue.doctor.party import Party
    from fsqueue.doctor.workplace import Workplace
    from fsqueue.spool.disk.filesystem import Filesystem

LIMIT = 15.0
_PAUSE = 0.003
_TRIALS = 4
# A fresh look that is this late still works, but everything waits for it.
_LATE = 2.0
_OLD, _NEW = b"old", b"new, and longer"


@dataclass(frozen=True, slots=True)
class Sight:
    """One way of looking, and the change that it is to see.

    Args:
        change: ``new``, ``removed``, ``replaced`` or ``touched``.
        look: whether the change is seen in a folder.
        unseen: the verdict if the change is not seen in time.
        title: for people.
    """

    change: str
    look: Callable[[Filesystem, str], bool]
    unseen: Verdict
    title: str


def _content(fs: Filesystem, folder: str) -> bytes:
    return fs.read(f"{folder}/file")


SIGHTS: Final[Mapping[str, Sight]] = {
    "fresh listing": Sight(
        "new", lambda fs, at: "file" in fs.names(at, fresh=True), Verdict.BAD,
        "a new name by listing a folder that is touched first",
    ),
    "fresh exists": Sight(
        "new", lambda fs, at: fs.exists(f"{at}/file", fresh=True), Verdict.WEAK,
        "a new name by asking for it, the folder touched first",
    ),
    "fresh absence": Sight(
        "removed", lambda fs, at: not fs.exists(f"{at}/file", fresh=True), Verdict.WEAK,
        "a removal by asking for the name, the folder touched first",
    ),
    "content": Sight(
        "replaced", lambda fs, at: _content(fs, at) == _NEW, Verdict.OK,
        "new content by opening a file",
    ),
    "beat": Sight(
        "touched", lambda fs, at: fs.modified(f"{at}/file") != 1.0, Verdict.BAD,
        "a touch by asking the server for the file's time",
    ),
    "listing": Sight(
        "new", lambda fs, at: "file" in fs.names(at), Verdict.OK, "a new name by listing alone",
    ),
    "exists": Sight(
        "new", lambda fs, at: fs.exists(f"{at}/file"), Verdict.OK,
        "a new name by asking for it alone",
    ),
    "absence": Sight(
        "removed", lambda fs, at: not fs.exists(f"{at}/file"), Verdict.OK,
        "a removal by asking for the name alone",
    ),
    "time": Sight(
        "touched", lambda fs, at: fs.status(f"{at}/file").st_mtime != 1.0, Verdict.OK,
        "a touch by asking for the time alone",
    ),
}  # fmt: skip


_RELIED: Final = {
    Verdict.BAD: "calls are found and workers seen to live in this way",
    Verdict.WEAK: "who asks early for another one's call may see its end late, or it runs again",
    Verdict.OK: "fsqueue does not rely on it",
}


def watch_each_other(party: Party) -> list[Finding]:
    """What each host sees of the other one's changes.

    Raises:
        PartnerLostError: the other one has left.
    """
    seen_by_me, changed_by_me = f"seen-by-{party.me}", f"seen-by-{party.other}"
    try:
        mine = _watch(party, seen_by_me, changed_by_me)
        theirs = party.exchange("sights", mine)
    finally:
        # Here, not by the leader: a host that believes that there is no such file cannot remove it.
        shutil.rmtree(party.place.path(changed_by_me), ignore_errors=True)
    remote = is_remote(party.place.root)
    return [_judge(name, mine[name] + theirs[name], remote=remote) for name in SIGHTS]


def _watch(party: Party, seen_by_me: str, changed_by_me: str) -> dict[str, list[float]]:
    """Prepare what the other one watches, change it, and watch."""
    place = party.place
    place.make(changed_by_me)
    for name, trial, folder in _folders(place, changed_by_me):
        place.fs.mkdir(folder)
        _before(place.fs, SIGHTS[name], folder, trial)
    party.exchange("sights: prepared")
    # What is looked at before is what a cache holds on to: no such name, an old time.
    for name, _, folder in _folders(place, seen_by_me):
        SIGHTS[name].look(place.fs, folder)
    party.exchange("sights: looked")
    for name, _, folder in _folders(place, changed_by_me):
        _change(place.fs, SIGHTS[name], folder)
    party.exchange("sights: changed")
    return _wait_for_all(party, seen_by_me)


def _folders(place: Workplace, top: str) -> list[tuple[str, int, str]]:
    return [
        (name, trial, place.path(f"{top}/{name.replace(' ', '-')}-{trial}"))
        for trial in range(_TRIALS)
        for name in SIGHTS
    ]


def _before(fs: Filesystem, sight: Sight, folder: str, trial: int) -> None:
    # A folder that was never changed has nothing to be stale about.
    fs.create(f"{folder}/other-{trial}", [])
    if sight.change != "new":
        fs.create(f"{folder}/file", [_OLD])
        fs.set_time(f"{folder}/file", 1.0)


def _change(fs: Filesystem, sight: Sight, folder: str) -> None:
    path = f"{folder}/file"
    if sight.change == "removed":
        fs.unlink(path)
    elif sight.change == "touched":
        fs.touch(path)
    else:
        fs.create(f"{path}.new", [_NEW])
        fs.rename(f"{path}.new", path)


def _wait_for_all(party: Party, top: str) -> dict[str, list[float]]:
    """How late each change was seen; those not seen in time are missing."""
    place = party.place
    waiting, begun = _folders(place, top), time.monotonic()
    late: dict[str, list[float]] = {name: [] for name in SIGHTS}
    while waiting and time.monotonic() - begun < LIMIT:
        for each in list(waiting):
            name, _, folder = each
            if _sees(place.fs, SIGHTS[name], folder):
                late[name].append(round(time.monotonic() - begun, 4))
                waiting.remove(each)
        party.signs.look()
        time.sleep(_PAUSE)
    return late


def _sees(fs: Filesystem, sight: Sight, folder: str) -> bool:
    try:
        return sight.look(fs, folder)
    except OSError:  # a file that was replaced while it was opened: not yet
        return False


def _judge(name: str, late: list[float], *, remote: bool) -> Finding:
    sight, trials = SIGHTS[name], 2 * _TRIALS
    missed, slowest = trials - len(late), max(late, default=LIMIT)
    relied = sight.unseen is not Verdict.OK
    verdict, advice = Verdict.OK, ""
    stale = missed > 0 or slowest > _LATE
    if relied and stale:
        verdict = sight.unseen if missed else Verdict.WEAK
        advice = "mount it so that less is cached, and for shorter"
    elif name == "listing" and stale and not remote:
        verdict = Verdict.BAD
        advice = (
            "this type of filesystem is not known to be shared between hosts, so folders are not "
            "touched before they are listed: please report it"
        )
    how = _RELIED[sight.unseen]
    return Finding(
        f"sees {name}",
        verdict,
        f"{sight.title}: " + (f"{missed} of {trials} not within {LIMIT:g} s" if missed
                              else f"all within {in_words(slowest)}"),
        f"how late one host sees what another one did; {how}",
        advice,
        {"slowest": slowest, "missed": missed, "trials": trials},
    )  # fmt: skip
