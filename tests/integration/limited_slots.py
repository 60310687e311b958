"""Workers whose slots reach limits of processes or files; started with the spool as argument."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import time
from pathlib import Path

import psutil
from limited_tasks import PATIENCE, pending, wait_until, worker

from fsqueue import FSQueue, WorkerLostError, current_invocation

app = FSQueue("limited_slots", root=sys.argv[1])
BASE = Path(sys.argv[1]).parent


@app.task
def wait_for(name):
    (BASE / f"{name}-began").mkdir()
    wait_until((BASE / name).exists)
    return os.getpid(), current_invocation().attempt


@app.task(max_attempts=1)
def crash_after(name):
    (BASE / f"{name}-began").mkdir(exist_ok=True)
    wait_until((BASE / name).exists)
    os._exit(3)


@app.task(timeout=20)
def attempt_in_time():
    return current_invocation().attempt


@app.task
async def attempt_async():
    return current_invocation().attempt


@app.task
async def attempt_nested():
    """It blocks the event loop, which needs another thread meanwhile."""
    (BASE / "nested-began").mkdir()
    while not (BASE / "nested").exists():
        time.sleep(0.01)  # noqa: ASYNC251
    return attempt_async().result


@contextlib.contextmanager
def limited(pid, kind, most):
    """Within the block, a process has no more of something."""
    soft, hard = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (most, hard))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, (soft, hard))


def threads_of_this_user():
    mine = os.getuid()
    found = psutil.process_iter(["uids", "num_threads"])
    return sum(each.info["num_threads"] for each in found if each.info["uids"].real == mine)


def fork_server():
    children = psutil.Process().children()
    (server,) = (each for each in children if "forkserver" in " ".join(each.cmdline()))
    return server


def slots():
    return [each.pid for each in fork_server().children()]


class Log:
    """What this process and its slots log; a descriptor that is open already reads it."""

    def __init__(self):
        path = BASE / "log"
        self._writer = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._reader = os.open(path, os.O_RDONLY)
        self._stderr = os.dup(2)
        os.dup2(self._writer, 2)

    def text(self):
        return os.pread(self._reader, 1 << 20, 0).decode()

    def has(self, *words):
        text = self.text()
        return all(word in text for word in words)

    def wait_for(self, *words):
        wait_until(lambda: self.has(*words))

    def show(self):
        os.write(self._stderr, self.text().encode())


@contextlib.contextmanager
def logged():
    log = Log()
    try:
        yield log
    finally:
        log.show()


@contextlib.contextmanager
def busy_worker():
    """A worker with two slots: one runs `wait_for`, and the other one has no call."""
    with worker(app.make_runner(kind="process", concurrency=2)):
        held = wait_for("release")
        wait_until((BASE / "release-began").exists)
        wait_until(lambda: len(slots()) == 2)
        yield held


def is_lost(call):
    try:
        call.get(PATIENCE)
    except WorkerLostError:
        return True
    return False


def check_that_it_works(held):
    """The body that ran meanwhile has not noticed, and both slots are there again."""
    pid, attempt = held.get(PATIENCE)
    assert attempt == 1
    assert attempt_in_time().get(PATIENCE) == 1
    wait_until(lambda: len(slots()) == 2)
    assert pid in slots()


def replace_a_slot_at_the_limit_of_processes():
    """The fork server can neither fork nor, later, give the new process its threads."""
    with logged() as log, busy_worker() as held:
        server = fork_server().pid
        with limited(server, resource.RLIMIT_NPROC, 1):
            lost = crash_after("crash")
            (BASE / "crash").mkdir()
            assert is_lost(lost)
            log.wait_for("cannot be started", "out of processes or memory")
            hard = resource.prlimit(server, resource.RLIMIT_NPROC)[1]

            def without_its_threads():
                # Others' threads come and go, so the number is a new one for each try.
                most = threads_of_this_user() + 1
                resource.prlimit(server, resource.RLIMIT_NPROC, (most, hard))
                return log.has("a slot cannot run calls", "cannot start the threads", "ulimit -u")

            wait_until(without_its_threads)
            waiting = attempt_in_time()
        (BASE / "release").mkdir()
        check_that_it_works(held)
        assert waiting.get(PATIENCE) == 1
        assert fork_server().pid == server


def replace_the_server_at_the_limit_of_processes():
    with logged() as log, busy_worker() as held:
        with limited(0, resource.RLIMIT_NPROC, 1):
            fork_server().kill()
            log.wait_for("cannot be started", "out of processes or memory")
            waiting = attempt_in_time()
        (BASE / "release-began").rmdir()
        (BASE / "release").mkdir()
        assert waiting.get(PATIENCE) == 1
        assert held.get(PATIENCE)[1] == 2, "its process died with the server"


def replace_a_slot_at_the_limit_of_files():
    with logged() as log, busy_worker() as held:
        lost = crash_after("crash")
        wait_until((BASE / "crash-began").exists)
        free = os.open(os.devnull, os.O_RDONLY)
        os.close(free)
        with limited(0, resource.RLIMIT_NOFILE, free):
            (BASE / "crash").mkdir()
            log.wait_for("Too many files are open", "ulimit -n")
            (BASE / "release").mkdir()
        assert is_lost(lost)
        check_that_it_works(held)


def run_bodies_without_another_thread(kind):
    """A time limit and an event loop need threads: the calls wait for them."""
    with logged() as log, worker(app.make_runner(kind=kind, concurrency=3)):
        holds = [wait_for(f"hold-{number}") for number in range(3)]
        for number in range(3):
            wait_until((BASE / f"hold-{number}-began").exists)
        for number in range(3):
            (BASE / f"hold-{number}").mkdir()
        here = {hold.get(PATIENCE)[0] for hold in holds}
        with contextlib.ExitStack() as stack:
            for pid in here:
                stack.enter_context(limited(pid, resource.RLIMIT_NPROC, 1))
            calls = [attempt_in_time(), attempt_async()]
            log.wait_for("the timeout of ", "the coroutine of ", "waits for another thread")
            assert pending() == []
        assert [call.get(PATIENCE) for call in calls] == [1, 1]


def block_the_event_loop_without_another_thread(kind):
    with logged() as log, worker(app.make_runner(kind=kind, concurrency=1)):
        call = attempt_nested()
        wait_until((BASE / "nested-began").exists)
        for pid in [os.getpid()] if kind == "thread" else slots():
            with limited(pid, resource.RLIMIT_NPROC, 1):
                (BASE / "nested").mkdir()
                log.wait_for("blocks the event loop waits for another thread")
        assert call.get(PATIENCE) == 1
