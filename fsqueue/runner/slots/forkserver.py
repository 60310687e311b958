"""Set-up of the fork server that starts slot processes. No other process may import this module.

The server outlives its worker by a moment, in which it ends every process below it: whatever the
worker's bodies have started. A signal to a whole group (from timeout(1), systemd or a batch system)
must reach neither the server nor the slots. So the server leaves the worker's session, and ignores
the signals that still arrive.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import signal
import time
import warnings
from multiprocessing import forkserver, reduction
from typing import TYPE_CHECKING

from fsqueue.runner.processes import descendants
from fsqueue.runner.processes.signals import leave_to_the_worker

if TYPE_CHECKING:
    import socket

_server = os.getpid()
# Seconds after the worker's death in which a body may still start processes.
_LONGEST = 5.0


def end_all() -> None:
    """End all processes below this one, until none is left."""
    if os.getpid() != _server:
        return  # a slot process, which inherits the server's handlers until it sets its own
    deadline = time.monotonic() + _LONGEST
    while descendants.end(lambda _: descendants.children(_server)):
        if time.monotonic() > deadline:
            return


def _worker_has_died(*_: object) -> None:
    end_all()
    os._exit(1)


def _aborted(error: Exception) -> OSError:
    """Convert an error to the only one after which multiprocessing's server serves on."""
    return ConnectionAbortedError(errno.ECONNABORTED, str(error))


def _survive_limits() -> None:
    """Let this server go on when it cannot start a process, and report that to the worker.

    multiprocessing's server would end, and all slots with it, if it cannot fork, or if the worker
    runs out of descriptors in the middle of a request.
    """
    fork, receive = os.fork, reduction.recvfds
    received: list[int] = []

    def receive_request(sock: socket.socket, size: int) -> list[int]:
        try:
            received[:] = receive(sock, size)
        except EOFError as error:
            raise _aborted(error) from error
        return received

    def fork_slot() -> int:
        try:
            pid = fork()
        except OSError as error:
            with contextlib.suppress(BrokenPipeError):
                forkserver.write_signed(received[1], -(error.errno or errno.EAGAIN))
            for fd in received:
                os.close(fd)
            raise _aborted(error) from error
        if pid == 0:
            os.fork, reduction.recvfds = fork, receive
        return pid

    os.fork, reduction.recvfds = fork_slot, receive_request


with contextlib.suppress(PermissionError):
    os.setsid()
descendants.adopt_orphans()
_survive_limits()
leave_to_the_worker()
if hasattr(signal, "SIGRTMIN"):
    signal.signal(signal.SIGRTMIN, _worker_has_died)
    descendants.signal_when_parent_dies(signal.SIGRTMIN)
atexit.register(end_all)
# Orphans of bodies become its children, and multiprocessing's server would warn about them.
warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")
