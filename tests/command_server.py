"""Commands of fsqueue as forks of a process that has imported the package.

Most of what a short command or a worker costs is its imports: a third of a second of a processor.
Forks share them. What is a fork is a process like any other in all else: it has a session, an
environment and files of its own, runs the same main function, and ends as an interpreter ends, but
for the modules that it shares, which are not taken to pieces: that would copy nearly all memory.
Tests of the start of an interpreter, and of what surrounds it, start one.

A worker's first fork server of slots is such a fork, too. It has the environment, the folder, the
limits and the signals of the process that starts it.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import functools
import gc
import importlib
import json
import os
import pkgutil
import resource
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from multiprocessing import util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, ModuleType

# They are read when an interpreter starts.
_OF_INTERPRETERS = ("PYTHON", "LC_", "LANG", "LD_", "COVERAGE", "TZ")
_LONGEST_MESSAGE = 1 << 20
_HIGH = 100
# What functions of the package import when they are called.
_IMPORTED_LATE = (
    *("encodings.ascii", "filelock", "tomllib", "rich.console", "rich.logging", "rich.progress"),
    *("rich.table", "rich.text"),
)
# Modules that are taken to pieces at the end of each process.
_OF_EACH = ("__main__", "builtins", "sys")
# Numbers of Linux for `prctl`.
_SET_NAME, _DROP_FROM_BOUNDING_SET = 15, 24
_SIGNALS = sorted(signal.valid_signals())
_LIMITS = [getattr(resource, name) for name in dir(resource) if name.startswith("RLIMIT_")]
_HERE = os.path.abspath(__file__)


# A prefix of commands: root reads everything, and lists everything, but for this.
LIKE_OTHERS = ("setpriv", "--bounding-set", "-dac_override,-dac_read_search")


def can_fork(env: dict[str, str]) -> bool:
    """Whether a fork knows all that an interpreter would do about this environment."""
    return sys.platform == "linux" and all(
        env.get(name) == os.environ.get(name)
        for name in {*env, *os.environ}
        if name.startswith(_OF_INTERPRETERS)
    )


def of_interpreters() -> dict[str, str]:
    """The variables of this process's environment that a fork cannot change."""
    return {key: value for key, value in os.environ.items() if key.startswith(_OF_INTERPRETERS)}


class Forked:
    """One command, with the interface of `subprocess.Popen`."""

    def __init__(self, server: Server, pid: int, args: tuple[str, ...]) -> None:
        self._server = server
        self.pid, self.args = pid, args
        self.returncode: int | None = None

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.returncode = self._server.status_of(self.pid, timeout, self.args)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@functools.cache
def server() -> Server:
    """The server of this process; it ends with it."""
    return Server()


def run(arguments: tuple[str, ...], cwd: str, env: dict[str, str], timeout: float):
    """Run a command of fsqueue to its end: as a fork, or an interpreter where it takes one."""
    if can_fork(env):
        return server().run(arguments, cwd, env, timeout)
    first = len(LIKE_OTHERS) if arguments[: len(LIKE_OTHERS)] == LIKE_OTHERS else 0
    return subprocess.run(
        [*arguments[:first], sys.executable, "-m", "fsqueue", *arguments[first:]],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


class Server:
    """The client's side: starts commands, and hears of their ends."""

    def __init__(self) -> None:
        self._socket, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with there:
            self._process = subprocess.Popen(
                [sys.executable, _HERE, str(there.fileno())],
                cwd="/",
                stdin=subprocess.DEVNULL,
                pass_fds=[there.fileno()],
            )
        self._ended: dict[int, int] = {}
        self._started: list[int] = []
        self._mutex = threading.Lock()
        atexit.register(self.close)

    def close(self) -> None:
        self._socket.close()
        self._process.wait()

    def start(self, arguments: tuple[str, ...], cwd: str, env: dict[str, str], out, err) -> Forked:
        """Start ``python -m fsqueue ARGUMENTS`` in a session of its own, with open files."""
        wanted = {
            "arguments": list(map(os.fspath, arguments)),
            "cwd": cwd,
            "env": {name: os.fspath(value) for name, value in env.items()},
        }
        request = json.dumps(wanted).encode()
        with self._mutex:
            socket.send_fds(self._socket, [request], [out.fileno(), err.fileno()])
            while not self._started:
                self._receive(None)
            return Forked(self, self._started.pop(), (sys.executable, "-m", "fsqueue", *arguments))

    def run(self, arguments: tuple[str, ...], cwd: str, env: dict[str, str], timeout: float):
        """Run a command to its end, as `subprocess.run` does with `text` and `capture_output`."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            process = self.start(arguments, cwd, env, out, err)
            try:
                code = process.wait(timeout)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGKILL)
                raise
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(process.args, code, out.read(), err.read())

    def status_of(self, pid: int, timeout: float | None, args: tuple[str, ...]) -> int:
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._mutex:
                self._receive(0.0)
                if pid in self._ended:
                    return self._ended[pid]
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise subprocess.TimeoutExpired(args, timeout)
            # Another thread may take the message.
            select.select([self._socket], [], [], min(0.05, left or 0.05))

    def _receive(self, timeout: float | None) -> None:
        while select.select([self._socket], [], [], timeout)[0]:
            kind, pid, status = json.loads(self._socket.recv(_LONGEST_MESSAGE))
            if kind == "ended":
                self._ended[pid] = os.waitstatus_to_exitcode(status)
            else:
                # The kernel uses numbers of processes again.
                self._ended.pop(pid, None)
                self._started.append(pid)
            timeout = 0.0


# -- the process that forks ---------------------------------------------------------------------


def serve(connection: socket.socket) -> Callable[[], object] | None:
    """Fork for each request. Returns what a fork is to run, and None when nobody wants more."""
    heard, rings = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(rings, warn_on_full_buffer=False)
    while True:
        ready = select.select([connection, heard], [], [])[0]
        if heard in ready:
            os.read(heard, 1024)
            report_ended(connection)
        if connection in ready:
            request, handles, _, _ = socket.recv_fds(connection, _LONGEST_MESSAGE, 2)
            if not request:
                return None
            begun, begins = os.pipe()
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                for handle in (heard, rings, begun):
                    os.close(handle)
                connection.close()
                return become(json.loads(request), handles, begins)
            for handle in (*handles, begins):
                os.close(handle)
            os.read(begun, 1)  # it has its session, so it can be signalled
            os.close(begun)
            connection.send(json.dumps(["started", pid, 0]).encode())


def import_all() -> None:
    """What a command or a worker imports sooner or later."""
    import fsqueue

    for module in pkgutil.walk_packages(fsqueue.__path__, "fsqueue."):
        if not module.name.endswith(("__main__", ".slots.forkserver")):  # these act on import
            importlib.import_module(module.name)
    for name in _IMPORTED_LATE:
        importlib.import_module(name)


def keep_shared(server: int, shared: dict[str, ModuleType]) -> None:
    """At the end of a fork: let the interpreter end only the modules of its own.

    Half of what a short command cost was the clearing of those that it shares.
    """
    if os.getpid() != server:
        own = {name: each for name, each in sys.modules.items() if name not in shared}
        sys.modules.clear()
        sys.modules.update(own)


def report_ended(connection: socket.socket) -> None:
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            connection.send(json.dumps(["ended", *found]).encode())


def drop_privileges() -> None:
    """Do what `LIKE_OTHERS` does: give up CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH."""
    libc = ctypes.CDLL(None)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable: twice 32 bits of each
    libc.capget(header, sets)
    for number in (1, 2):
        libc.prctl(_DROP_FROM_BOUNDING_SET, number, 0, 0, 0)
        for each in range(3):
            sets[each] &= ~(1 << number)
    assert libc.capset(header, sets) == 0


def become(request, handles: list[int], begins: int) -> Callable[[], object]:
    """Be the process that was asked for; returns what it runs."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    for number, handle in enumerate(handles, start=1):
        os.dup2(handle, number)
        os.close(handle)
    os.close(begins)
    sys.path[0] = os.getcwd()
    arguments = request["arguments"]
    if arguments[: len(LIKE_OTHERS)] == list(LIKE_OTHERS):
        drop_privileges()
        del arguments[: len(LIKE_OTHERS)]
    if arguments[:1] == ["worker"] and "process" in arguments:
        code = lend_fork_server()
        if code is not None:
            return lambda: exec(code, {})
    return lambda: run_command(arguments)


def run_command(arguments: list[str]) -> None:
    sys.argv = ["fsqueue", *arguments]
    sys.orig_argv = [sys.executable, "-m", *sys.argv]
    runpy.run_module("fsqueue", run_name="__main__", alter_sys=True)


# -- the fork server of a worker's slots, which would import all again ---------------------------


def mark_of(worker: int) -> str:
    """The name of a worker's fork server, which its slots and what bodies fork inherit."""
    return f"of {worker}"


def lend_fork_server() -> CodeType | None:
    """Fork a process that becomes the worker's first fork server.

    It is the worker's child from the start, as the fork server must be.

    Returns:
        In the fork, when the worker wants it: what the fork server runs. In the worker: None.
    """
    from fsqueue.runner.processes.signals import REACTIONS

    mine, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    worker = os.getpid()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, REACTIONS)  # it must not end before its start
    child = os.fork()
    if child == 0:
        mine.close()
        with its:
            return become_fork_server(its, worker)
    its.close()
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    util.spawnv_passfds = functools.partial(start_lent, [(mine, child)], util.spawnv_passfds)
    return None


def start_lent(lent, spawn, path, arguments, handles) -> int:
    """multiprocessing's `spawnv_passfds`, which takes the lent process for a fork server."""
    code = os.fsdecode(arguments[-1])
    if not lent or not code.startswith("from multiprocessing.forkserver import main"):
        return spawn(path, arguments, handles)
    connection, child = lent.pop()
    request = {
        "code": code,
        "handles": list(handles),
        "cwd": os.getcwd(),
        "env": dict(os.environ),
        "limits": [[each, resource.getrlimit(each)] for each in _LIMITS],
        "ignored": [n for n in _SIGNALS if signal.getsignal(n) is signal.SIG_IGN],
        "blocked": list(signal.pthread_sigmask(signal.SIG_BLOCK, ())),
    }
    with connection:
        try:
            socket.send_fds(connection, [json.dumps(request).encode()], request["handles"])
        except OSError:  # somebody has ended it
            return spawn(path, arguments, handles)
    return child


def become_fork_server(connection: socket.socket, worker: int) -> CodeType:
    """Wait until the worker wants its fork server, and be what it would start.

    Raises:
        SystemExit: the worker has ended.
    """
    data, handles, _, _ = socket.recv_fds(connection, _LONGEST_MESSAGE, 2)
    if not data:
        os._exit(0)
    request = json.loads(data)
    connection.close()
    # The numbers that they are to have may be those of others among them.
    high = [fcntl.fcntl(handle, fcntl.F_DUPFD, _HIGH) for handle in handles]
    for number, handle in zip(request["handles"], high, strict=True):
        os.dup2(handle, number)
    for handle in {*handles, *high} - set(request["handles"]):
        os.close(handle)
    for each, limit in request["limits"]:
        resource.setrlimit(each, limit)
    for number in request["ignored"]:
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_SET_NAME, mark_of(worker).encode(), 0, 0, 0)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    sys.argv = ["-c"]
    return compile(request["code"], "<string>", "exec")


if __name__ == "__main__":
    shared: dict[str, ModuleType] = {}
    atexit.register(keep_shared, os.getpid(), shared)  # the first: it is called after all others
    import_all()
    shared |= {name: each for name, each in sys.modules.items() if name not in _OF_EACH}
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(shared))  # it stays
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all that is shared
    run = serve(socket.socket(fileno=int(sys.argv[1])))
    if run is not None:
        run()
