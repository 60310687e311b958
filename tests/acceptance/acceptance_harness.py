"""Starts real workers and callers for the acceptance tests, and ends them."""

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from pathlib import Path

import psutil
import pytest
from command_server import LIKE_OTHERS, can_fork, mark_of, run, server
from support import PATIENCE, files_under, wait_until

from fsqueue import TaskTimeoutError

PROJECT = Path(__file__).parent / "project"
KINDS = ("thread", "process")
FSQUEUE = (sys.executable, "-m", "fsqueue")
"""What begins with it shares its imports with others, see `command_server`."""
MARK = "ACCEPTANCE_PROCESS"


def alive(pid):
    """Whether a process still runs instructions."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def content(path):
    """What is in a file of the kernel, read at little cost: all processes are looked at often."""
    handle = os.open(path, os.O_RDONLY)
    try:
        parts = []
        while part := os.read(handle, 1 << 16):
            parts.append(part)
        return b"".join(parts)
    finally:
        os.close(handle)


def arguments_of(command):
    """What `command_server` runs for a command of fsqueue; None for another one."""
    before = LIKE_OTHERS if command[: len(LIKE_OTHERS)] == LIKE_OTHERS else ()
    command = command[len(before) :]
    return (*before, *command[3:]) if command[:3] == FSQUEUE else None


def wait_until_idle(pid):
    """Wait until a process has neither run nor wanted to for a moment: it waits for work."""
    quiet = 0.2
    seen = [(-1, 0.0)]

    def idle():
        process = psutil.Process(pid)
        switches = process.num_ctx_switches()
        count, now = switches.voluntary + switches.involuntary, time.monotonic()
        if count != seen[-1][0] or process.status() != psutil.STATUS_SLEEPING:
            seen[-1] = (count, now)
        return now - seen[-1][1] > quiet

    wait_until(idle, f"process {pid} is idle")


def timed_out(site, make, noted="starts", shortest=1.0):
    """A call that has ended by its time limit after its body had begun; with the body's marks.

    On a busy machine even the beginning may take longer than a short limit.

    Args:
        site: the site.
        make: makes the call, with a time limit in seconds, of a body that marks this folder.
        noted: what the body notes when it has begun.
        shortest: the first limit to try.
    """
    for seconds in (shortest, 5 * shortest, 60.0):
        marks = site.folder(f"marks-{seconds:g}")
        call = make(seconds, marks.folder)
        text = f"ran longer than its timeout of {seconds:g} s"
        with pytest.raises(TaskTimeoutError, match=text):
            call.get(timeout=60 + PATIENCE)
        if marks.pids(noted):
            return call, marks
    raise AssertionError("the body does not begin")


class Started:
    """A process of the project, with its output in files and a group of its own."""

    def __init__(self, site, name, command, env):
        self.log = site.base / f"{name}.log"
        self.printed = site.base / f"{name}.out"
        env = site.env | env | {MARK: str(self.log)}
        self._mark = f"{MARK}={self.log}".encode()
        with self.log.open("wb") as err, self.printed.open("wb") as out:
            arguments = arguments_of(command) if can_fork(env) else None
            if arguments is not None:
                self.popen = server().start(arguments, str(site.project), env, out, err)
            else:
                self.popen = subprocess.Popen(
                    command,
                    cwd=site.project,
                    env=env,
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                )
        self.pid = self.popen.pid
        self._comm = f"{mark_of(self.pid)}\n".encode()

    def text(self):
        return self.log.read_text("utf-8", "replace")

    def output(self):
        return self.printed.read_text("utf-8", "replace")

    def wait_for_log(self, text):
        def there():
            assert self.popen.poll() is None or text in self.text(), (
                f"ended with {self.popen.returncode}, without {text!r}:\n{self.text()}"
            )
            return text in self.text()

        wait_until(there, lambda: f"{text!r} in the log:\n{self.text()}")

    def wait_for_start(self):
        self.wait_for_log(" serves ")
        return self

    def signal(self, number):
        self.popen.send_signal(number)

    def signal_group(self, number):
        os.killpg(self.pid, number)

    def signal_all(self, number):
        """Signal the worker and all processes below it, as a batch system does that suspends jobs.

        Slots have sessions, and so groups, of their own.
        """
        for pid in (self.pid, *self.children()):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def wait(self, timeout=PATIENCE):
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.popen.args} does not end:\n{self.text()}") from None

    def children(self):
        return [child.pid for child in psutil.Process(self.pid).children(recursive=True)]

    def semaphores(self):
        """Files of the semaphores that it shares with its slots' processes."""
        # By inode: in the process that made them they are mapped under a name that is gone.
        lines = Path(f"/proc/{self.pid}/maps").read_text("utf-8").splitlines()
        mapped = {int(line.split()[4]) for line in lines if "/dev/shm/" in line}
        entries = os.scandir("/dev/shm")
        with entries:
            return [each.path for each in entries if each.inode() in mapped]

    def group(self):
        """All processes of it that run, at any depth, itself included.

        Slots, their server and programs have groups of their own. They are known by a variable of
        the environment, or by the name of the fork server, which they have inherited.
        """
        return [pid for pid in psutil.pids() if self._is_of_it(pid) and alive(pid)]

    def _is_of_it(self, pid):
        try:
            return (
                os.getpgid(pid) == self.pid
                or self._mark in content(f"/proc/{pid}/environ").split(b"\0")
                or content(f"/proc/{pid}/comm") == self._comm
            )
        except OSError:
            return False

    def kill(self):
        """End it, and all that belongs to it."""
        found = self._kill_group()
        self.popen.wait(PATIENCE)
        if not found:
            return
        # Again and again: one of them may just have started another.
        wait_until(lambda: not self._kill_group(), lambda: f"processes end: {self.group()}")

    def _kill_group(self):
        group = self.group()
        for pid in group:
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                # It removes the semaphores of the others, and ends by itself when they have.
                if "resource_tracker" not in " ".join(process.cmdline()):
                    process.kill()
        return group


class Site:
    """A copy of the project, a spool, and the processes that work there."""

    def __init__(self, base):
        self.base = base
        self.project = base / "project"
        self.root = base / "spool"
        self.marks = base / "marks"
        self.marks.mkdir()
        shutil.copytree(PROJECT, self.project, ignore=shutil.ignore_patterns("__pycache__"))
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FSQUEUE")}
        self.env = clean | {"FSQUEUE__ROOT": str(self.root)}
        self.tasks = None
        self._started = []
        self._patch = pytest.MonkeyPatch()

    def open(self):
        """Import the project's tasks into this process too, as a caller."""
        for key in [key for key in os.environ if key.startswith("FSQUEUE")]:
            self._patch.delenv(key)
        self._patch.setenv("FSQUEUE__ROOT", str(self.root))
        self.tasks = self.load("tasks")

    def load(self, name):
        """Import a module of the project into this process."""
        spec = importlib.util.spec_from_file_location(name, self.project / f"{name}.py")
        module = importlib.util.module_from_spec(spec)
        self._patch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    def close(self):
        for process in self._started:
            process.kill()
        if self.tasks is not None:
            self.tasks.app.close()
        self._patch.undo()

    # -- processes ------------------------------------------------------------------------

    def start(self, *command, **env):
        process = Started(self, f"process-{len(self._started)}", command, env)
        self._started.append(process)
        return process

    def worker(self, kind="thread", slots=None, *options, before=(), app="tasks:app", **env):
        """Start a worker from the command line; returns before it is ready."""
        number = (*(() if slots is None else ("--concurrency", str(slots))), *options)
        command = (*FSQUEUE, "worker", app, "--runner", kind)
        return self.start(*before, *command, *number, **env)

    def run(self, *command, **env):
        """Run a process to its end."""
        env = self.env | env
        arguments = arguments_of(command)
        if arguments is not None:
            return run(arguments, str(self.project), env, 2 * PATIENCE)
        return subprocess.run(
            command,
            cwd=self.project,
            env=env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
        )

    def fsqueue(self, *arguments, **env):
        return self.run(*FSQUEUE, *arguments, **env)

    # -- calls ----------------------------------------------------------------------------

    def call(self, function, *args):
        """Make a blocking call in a thread that cannot hold up the end of the test."""
        future = Future()

        def work():
            try:
                future.set_result(function(*args))
            except BaseException as error:  # noqa: BLE001 - raised by `result`
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def folder(self, name):
        """A folder for the marks of one body."""
        path = self.marks / name
        path.mkdir()
        return Marks(path)

    # -- the spool ------------------------------------------------------------------------

    def files(self, top):
        """Names of the files in a folder of the spool, at any depth; folders may go meanwhile."""
        return sorted(os.path.basename(path) for path in files_under(self.root / top))

    def names(self, top):
        return sorted(path.name for path in (self.root / top).iterdir())


class Marks:
    """What the body of a call has noted."""

    def __init__(self, path):
        self.path = path
        self.folder = str(path)

    def pids(self, name):
        with contextlib.suppress(FileNotFoundError):
            text = (self.path / name).read_text("ascii")
            return [int(line) for line in text.splitlines() if text.endswith("\n")]
        return []

    def wait_for_starts(self, count, timeout=PATIENCE):
        """Process ids of the first `count` starts of the body."""
        wait_until(
            lambda: len(self.pids("starts")) >= count,
            lambda: f"{count} starts of the body, only {self.pids('starts')}",
            timeout=timeout,
        )
        return self.pids("starts")

    def release(self):
        (self.path / "release").touch()
