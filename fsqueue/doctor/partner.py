"""The second process of an examination on one host.

It takes part in `races`, and removes the workplace when its parent is gone, however that ended.
Of an examination with another host it shows that one that its own goes on, and tells it when its
parent was killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fsqueue.doctor.life import KILLED, SignsOfLife
from fsqueue.doctor.party import Party
from fsqueue.doctor.peer import signs_between
from fsqueue.doctor.races import examine_together
from fsqueue.doctor.workplace import LenientFilesystem, Workplace, remove
from fsqueue.environment.workdir import workdir

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST, _SECOND = "first", "second"
_CODE = "from fsqueue.doctor.partner import main; main()"
_END = 10.0


@dataclass(frozen=True, slots=True)
class Partner:
    """The second process, as the first one sees it.

    Args:
        party: what both do together.
        process: the second one.
    """

    party: Party
    process: subprocess.Popen[bytes]

    def accompany(self, other: str) -> None:
        """From now on another host's examination, of this token, is to know that this one lives."""
        if self.process.stdin:
            with contextlib.suppress(OSError):  # it is gone: that shows as silence
                self.process.stdin.write(f"{other}\n".encode())
                self.process.stdin.flush()


def _import_path() -> Iterator[str]:
    """Where this process finds modules, for another one in any directory."""
    for path in sys.path:
        if path:
            yield path
        elif (here := workdir()) is not None:
            yield str(here)


@contextlib.contextmanager
def partner(place: Workplace) -> Iterator[Partner]:
    """Start the second process."""
    # Before it starts: it talks at once.
    party = _party(place, _FIRST, _SECOND)
    party.open()
    group = "" if place.fs.group is None else str(place.fs.group)
    process = subprocess.Popen(  # noqa: S603 - this interpreter, our own code
        # -P: no module of the current folder comes before the standard library's.
        [sys.executable, "-P", "-c", _CODE, place.root, place.token, group],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(_import_path())},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the parent, which ends this one
    )
    party.signs.alive = lambda: process.poll() is None
    try:
        yield Partner(party, process)
    finally:
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _party(place: Workplace, me: str, other: str) -> Party:
    # On one host a process that is gone is seen at once: nobody has to beat.
    signs = SignsOfLife(place, place, me, other, quiet=float("inf"))
    return Party(place, signs, leads=me == _FIRST)


def main() -> None:
    """Take part until standard input ends, then clear up."""
    # A terminal that is closed, or a batch system, signals everybody: the parent decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _, root, token, group = sys.argv
    fs = LenientFilesystem(group=int(group) if group else None)
    place = Workplace(fs, root, token)
    threading.Thread(target=_take_part, args=(place,), daemon=True).start()
    if other := sys.stdin.buffer.readline().decode().strip():
        _accompany(signs_between(place, other))
    remove(place.folder)
    # Without waiting for the other threads, which the removal may have stopped anywhere.
    os._exit(0)


def _accompany(signs: SignsOfLife) -> None:
    ended = threading.Event()
    threading.Thread(target=signs.beat, args=(ended,), daemon=True).start()
    sys.stdin.buffer.read()
    ended.set()
    signs.leave(KILLED)  # unless the parent has left word itself


def _take_part(place: Workplace) -> None:
    party = _party(place, _SECOND, _FIRST)
    try:
        party.exchange("hello")
        examine_together(party)
    finally:
        party.leave()
