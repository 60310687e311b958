"""The fleet: processes that work, call and reap. A process that ends is replaced."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

HOME = Path(__file__).resolve().parent.parent
HEARTBEAT = 0.3
LEASE = 1.5
_RESTART_PAUSE = 0.5
_TRACKERS_END = 10.0
# The semaphores of process pools are in /dev/shm. A process that is killed with its whole namespace
# leaves them there, so each namespace gets its own /dev/shm.
_FAR = (
    *("unshare", "--pid", "--mount", "--fork", "--mount-proc", "--kill-child"),
    *("sh", "-c", 'mount -t tmpfs none /dev/shm && exec "$@"', "sh"),
)


@dataclass(frozen=True)
class Post:
    """A place in the fleet that always has a process.

    The process of a far post is in its own PID namespace. To the others it is on another host: they
    cannot see whether it lives, and judge it by its lock and its heartbeat.
    """

    name: str
    kind: str
    far: bool = False

    def command(self, name: str, seed: int) -> list[str]:
        """The command that starts the next process of this post."""
        python = [*(_FAR if self.far else ()), sys.executable, "-m"]
        if self.kind == "caller":
            return [*python, "chaos.caller", name, str(seed)]
        if self.kind == "reaper":
            return [*python, "chaos.reaper"]
        slots = {"thread": "3", "process": "2"}[self.kind]
        options = ["--runner", self.kind, "--concurrency", slots]
        return [*python, "fsqueue", "worker", "chaos.tasks:app", *options]


def posts(*, far: bool) -> list[Post]:
    """All posts of the fleet."""
    return [
        Post("thread", "thread"),
        Post("thread-far", "thread", far),
        Post("process", "process"),
        Post("process-far", "process", far),
        Post("reaper", "reaper"),
        Post("reaper-far", "reaper", far),
        *(Post(f"caller{number}", "caller") for number in range(3)),
    ]


def _keep_niceness(pid: int) -> None:
    """Apply this process's niceness to a new session, whose autogroup would ignore it."""
    with contextlib.suppress(OSError):  # no autogroups here, or no permission to change one
        Path(f"/proc/{pid}/autogroup").write_text(str(os.nice(0)), "ascii")


class Member:
    """A process of the fleet."""

    def __init__(self, post: Post, name: str, base: Path, seed: int) -> None:
        self.post, self.name, self._base = post, name, base
        self.log = base / "logs" / f"{name}.log"
        env = {key: value for key, value in os.environ.items() if not key.startswith("FSQUEUE__")}
        env |= {
            "CHAOS_BASE": str(base),
            "FSQUEUE__ROOT": str(base / "spool"),
            "FSQUEUE__HEARTBEAT": str(HEARTBEAT),
            "FSQUEUE__LEASE": str(LEASE),
            "FSQUEUE__POLL_INTERVAL": "0.5",
        }
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                post.command(name, seed),
                cwd=HOME,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        _keep_niceness(self.popen.pid)
        self._process = psutil.Process(self.popen.pid)
        self.born = time.monotonic()

    def main(self) -> psutil.Process | None:
        """The process itself, rather than the one that made its namespace."""
        with contextlib.suppress(psutil.NoSuchProcess):
            if not self.post.far:
                return self._process
            for child in self._process.children():
                if "fsqueue" in child.cmdline() or "chaos." in " ".join(child.cmdline()):
                    return child
        return None

    def fork_servers(self) -> list[psutil.Process]:
        """The processes that start the slots' processes."""
        main = self.main()
        return _children(main, recursive=False) if main else []

    def slots(self) -> list[psutil.Process]:
        """The processes of slots."""
        return [slot for server in self.fork_servers() for slot in _children(server)]

    def everything(self) -> list[psutil.Process]:
        """The process and all its descendants."""
        main = self.main()
        return [main, *_children(main)] if main else []

    def is_ready(self) -> bool:
        """Whether the process handles signals; before that, a signal ends it."""
        if self.post.kind == "caller":
            return (self._base / "ledgers" / f"{self.name}.jsonl").exists()
        return b" serves " in self.log.read_bytes()

    def signal(self, number: int) -> bool:
        """Signal the process itself; False if it is gone."""
        main = self.main()
        return main is not None and send(main, number)


def send(process: psutil.Process, number: int) -> bool:
    """Signal a process; False if it is gone. psutil checks that its pid was not reused."""
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return False
    return True


def is_tracker(process: psutil.Process) -> bool:
    """Whether this is a resource tracker, which ends by itself after the processes it tracks."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return "resource_tracker" in " ".join(process.cmdline())
    return True


def _children(process: psutil.Process, *, recursive: bool = True) -> list[psutil.Process]:
    with contextlib.suppress(psutil.NoSuchProcess):
        children = process.children(recursive=recursive)
        return [child for child in children if not is_tracker(child)]
    return []


class Fleet:
    """All processes of the fleet.

    Args:
        base: the folder of the run.
        seed: seed of the callers.
        far: put the far processes into PID namespaces.
    """

    def __init__(self, base: Path, seed: int, *, far: bool) -> None:
        self._base, self._seed = base, seed
        self._started = 0
        self.exits: dict[str, int] = {}
        self.members: dict[Post, Member] = {}
        self._posts = posts(far=far)
        for post in self._posts:
            self._start(post)

    def _start(self, post: Post) -> None:
        self._started += 1
        name = f"{post.name}-{self._started}"
        self.members[post] = Member(post, name, self._base, self._seed)

    def of(self, *kinds: str) -> list[Member]:
        """The members of some kinds that are still running."""
        return [
            member
            for member in self.members.values()
            if member.post.kind in kinds and member.popen.poll() is None
        ]

    def are_ready(self, *kinds: str) -> bool:
        """Whether all members of some kinds have started and handle signals."""
        return all(
            member.popen.poll() is None and member.is_ready()
            for post, member in self.members.items()
            if post.kind in kinds
        )

    def replace_ended(self, *, except_kind: str = "") -> list[Member]:
        """Replace members that have ended, except those of one kind; returns those replaced."""
        ended = []
        for post, member in self.members.items():
            code = member.popen.poll()
            young = time.monotonic() - member.born < _RESTART_PAUSE
            if code is not None and not young and post.kind != except_kind:
                label = f"{post.kind} {code if code >= 0 else signal.Signals(-code).name}"
                self.exits[label] = self.exits.get(label, 0) + 1
                ended.append(member)
        for member in ended:
            self._start(member.post)
        return ended

    def close(self) -> None:
        """Kill all processes of this run that are left."""
        deadline = time.monotonic() + _TRACKERS_END
        while (left := self.stragglers()) and time.monotonic() < deadline:
            for process in left:
                if not is_tracker(process):
                    send(process, signal.SIGKILL)
            time.sleep(0.05)
        for process in self.stragglers():
            send(process, signal.SIGKILL)
        for member in self.members.values():
            member.popen.wait()

    def stragglers(self) -> list[psutil.Process]:
        """Processes of this run that are left, even if their worker has died."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                mine = process.environ().get("CHAOS_BASE") == str(self._base)
                if mine and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found
