"""The second process of an examination on one host.

It takes part in the races, and removes the workspace when its parent process is gone, however that
ended. In an examination with another host, it sends the heartbeats and reports if its parent was
killed.
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

from fsqueue.doctor.heartbeat import KILLED, Heartbeat
from fsqueue.doctor.races import examine_jointly
from fsqueue.doctor.rendezvous import heartbeat_between
from fsqueue.doctor.session import Session
from fsqueue.doctor.workspace import LenientFilesystem, Workspace, remove
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
        session: the session between the two processes.
        process: the second process.
    """

    session: Session
    process: subprocess.Popen[bytes]

    def start_heartbeat(self, other: str) -> None:
        """Start sending heartbeats to another host's examination, given by its token."""
        if self.process.stdin:
            with contextlib.suppress(OSError):  # it is gone, and the other host notices the silence
                self.process.stdin.write(f"{other}\n".encode())
                self.process.stdin.flush()


def _import_path() -> Iterator[str]:
    """This process's ``sys.path``, valid in any working directory."""
    for path in sys.path:
        if path:
            yield path
        elif (here := workdir()) is not None:
            yield str(here)


@contextlib.contextmanager
def partner(place: Workspace) -> Iterator[Partner]:
    """Start the second process."""
    # The second process sends a message as soon as it starts.
    session = _session(place, _FIRST, _SECOND)
    session.open()
    group = "" if place.fs.group is None else str(place.fs.group)
    process = subprocess.Popen(  # noqa: S603 - this interpreter, our own code
        # -P: no module of the current folder comes before the standard library's.
        [sys.executable, "-P", "-c", _CODE, place.root, place.token, group],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(_import_path())},
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for the parent, which ends the second process
    )
    session.heartbeat.alive = lambda: process.poll() is None
    try:
        yield Partner(session, process)
    finally:
        if process.stdin:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
        try:
            process.wait(_END)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _session(place: Workspace, me: str, other: str) -> Session:
    # On one host, the parent sees at once that the process is gone: no beats needed.
    heartbeat = Heartbeat(place, place, me, other, quiet=float("inf"))
    return Session(place, heartbeat, leads=me == _FIRST)


def main() -> None:
    """Take part in the examination until standard input ends, then clear up."""
    # A closing terminal or a batch system signals both processes: the parent decides.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    _, root, token, group = sys.argv
    fs = LenientFilesystem(group=int(group) if group else None)
    place = Workspace(fs, root, token)
    threading.Thread(target=_take_part, args=(place,), daemon=True).start()
    if other := sys.stdin.buffer.readline().decode().strip():
        _send_heartbeats(heartbeat_between(place, other))
    remove(place.folder)
    # Do not wait for the other threads: the removal may have blocked them anywhere.
    os._exit(0)


def _send_heartbeats(heartbeat: Heartbeat) -> None:
    ended = threading.Event()
    threading.Thread(target=heartbeat.beat, args=(ended,), daemon=True).start()
    sys.stdin.buffer.read()
    ended.set()
    heartbeat.leave(KILLED)  # unless the parent has reported a reason itself


def _take_part(place: Workspace) -> None:
    session = _session(place, _SECOND, _FIRST)
    try:
        session.exchange("hello")
        examine_jointly(session)
    finally:
        session.leave()
