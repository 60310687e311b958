"""The second process of an examination on one host.

It takes part in `races`, and removes the workplace when its parent is gone, however that ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

from fsqueue.doctor.party import Party
from fsqueue.doctor.races import examine_together
from fsqueue.doctor.workplace import LenientFilesystem, Workplace, remove

if TYPE_CHECKING:
    from collections.abc import Iterator

_FIRST, _SECOND = "first", "second"
_CODE = "from fsqueue.doctor.partner import main; main()"
_END = 10.0


@contextlib.contextmanager
def partner(place: Workplace) -> Iterator[Party]:
    """Start the second process; yields the party of this one."""
    # Before it starts: it talks at once.
    party = Party(place, _FIRST, _SECOND, leads=True)
    party.open()
    group = "" if place.fs.group is None else str(place.fs.group)
    process = subprocess.Popen(  # noqa: S603 - this interpreter, our own code
        # -P: no module of the current folder comes before the standard library's.
        [sys.executable, "-P", "-c", _CODE, place.root, place.token, group],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the parent, which ends this one
    )
    party.alive = lambda: process.poll() is None
    try:
        yield party
    finally:
        if process.stdin:
            process.stdin.close()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def main() -> None:
    """Take part until standard input ends, then clear up."""
    # A terminal that is closed, or a batch system, signals everybody: the parent decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _, root, token, group = sys.argv
    fs = LenientFilesystem(group=int(group) if group else None)
    place = Workplace(fs, root, token)
    threading.Thread(target=_take_part, args=(place,), daemon=True).start()
    sys.stdin.buffer.read()
    remove(place.folder)
    # Without waiting for the other thread, which the removal may have stopped anywhere.
    os._exit(0)


def _take_part(place: Workplace) -> None:
    party = Party(place, _SECOND, _FIRST, leads=False)
    try:
        party.exchange("hello")
        examine_together(party)
    finally:
        party.leave()
