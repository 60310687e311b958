"""Of the idle workers of a host, one listens; a call to the others wakes one of them."""

from __future__ import annotations

import os
import select
import signal
from collections import Counter
from multiprocessing import get_context
from pathlib import Path

import pytest
from support import wait_until

from fsqueue.spool.wakeups.leadership import Leadership
from fsqueue.spool.wakeups.watching import Alarm, Watch, begin_anew, watches

pytestmark = [
    pytest.mark.concurrent,
    pytest.mark.skipif(not hasattr(select, "epoll"), reason="only Linux wakes one of several"),
]
SPAWN = get_context("spawn")


@pytest.fixture(autouse=True)
def _watching(tmp_path):
    """There are events at all: only then do workers rest."""
    watch = Watch(str(tmp_path), 0x100, lambda _: None)
    watches().add(watch)
    yield
    watches().remove(watch)


@pytest.fixture
def leadership(tmp_path):
    """Makes the parts of workers of this process."""
    made: list[Leadership] = []

    def make(on_call=lambda: None) -> Leadership:
        made.append(Leadership(str(tmp_path / "turns"), on_call))
        assert made[-1].works
        return made[-1]

    yield make
    for each in made:
        each.close()


def rest(path: str, name: str, pipe) -> None:
    """A worker that rests until it is called, and then is called no more."""
    begin_anew()
    watches().add(Watch(os.path.dirname(path), 0x100, lambda _: None))
    alarm = Alarm()
    leadership = Leadership(path, alarm.set)
    assert leadership.rest()
    pipe.send("rests")
    while not alarm.wait(60):
        pass
    leadership.rise()
    pipe.send(name)
    pipe.recv()


class Resting:
    """Processes that rest."""

    def __init__(self, path: str, count: int) -> None:
        self.pipes, self.processes = [], []
        for number in range(count):
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=rest, args=(path, str(number), theirs), daemon=True)
            process.start()
            self.pipes.append(ours)
            self.processes.append(process)
        for pipe in self.pipes:
            assert pipe.recv() == "rests"
        for process in self.processes:  # in epoll_wait, of which no event tells
            wait_until(lambda pid=process.pid: state(pid) == "S")

    def woken(self) -> Counter[str]:
        return Counter(pipe.recv() for pipe in self.pipes if pipe.poll(0))

    def end(self) -> None:
        for process in self.processes:
            os.kill(process.pid, signal.SIGKILL)
            process.join()


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@pytest.fixture
def resting(tmp_path):
    resting = Resting(str(tmp_path / "turns"), 4)
    yield resting
    resting.end()


def test_one_of_them_leads(leadership):
    one, other = leadership(), leadership()
    assert one.take()
    assert not other.take()
    one.resign()
    assert other.take()
    assert not one.take()


def test_the_leadership_of_a_dead_process_is_free(leadership, tmp_path):
    child = os.fork()
    if child == 0:
        os._exit(not Leadership(str(tmp_path / "turns"), lambda: None).take())
    assert os.waitpid(child, 0)[1] == 0
    assert leadership().take()


def test_a_forked_child_does_not_keep_the_leadership_of_its_parent(leadership, tmp_path):
    read, write = os.pipe()
    parent = os.fork()
    if parent == 0:
        mine = Leadership(str(tmp_path / "turns"), lambda: None)
        if os.fork() == 0:  # it outlives the parent that leads
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os._exit(not mine.take())
    assert os.waitpid(parent, 0)[1] == 0
    assert leadership().take()
    os.close(write)
    os.close(read)


def test_a_call_wakes_one_of_those_that_rest(leadership, resting):
    caller, called = leadership(), Counter()
    assert caller.take()
    for number in range(1, 5):
        caller.resign()
        wait_until(lambda: called.update(resting.woken()) or called.total())
        assert called.total() == 1, number
        assert all(count == 1 for count in called.values())
        called.clear()


def test_a_call_wakes_none_that_is_suspended(leadership, resting):
    caller, called = leadership(), Counter()
    for process in resting.processes[:3]:
        os.kill(process.pid, signal.SIGSTOP)
        wait_until(lambda pid=process.pid: state(pid) == "T")
    caller.resign()
    wait_until(lambda: called.update(resting.woken()) or called)
    assert called == {"3": 1}


def test_a_call_that_none_has_heard_makes_the_next_one_search_again(leadership):
    caller, other = leadership(), leadership()
    caller.resign(2)
    assert not other.rest()
    assert other.rest()


def test_without_a_pipe_there_is_no_leader(tmp_path):
    Path(tmp_path, "turns").touch()
    assert not Leadership(str(tmp_path / "turns"), lambda: None).works
    assert not Leadership(str(tmp_path / "nowhere" / "turns"), lambda: None).works


def test_where_folders_are_shared_by_a_group_the_pipe_is(tmp_path):
    before = os.umask(0o077)
    try:
        for mode, expected in ((0o770, 0o660), (0o700, 0o600)):
            folder = tmp_path / f"{mode:o}"
            folder.mkdir()
            folder.chmod(mode)
            Leadership(str(folder / "turns"), lambda: None).close()
            assert (folder / "turns").stat().st_mode & 0o777 == expected
    finally:
        os.umask(before)
