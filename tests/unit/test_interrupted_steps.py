"""Exceptions of signal handlers in the steps of a caller, at each function or instruction."""

from __future__ import annotations

import itertools
import sys
import threading

import pytest
from support import PATIENCE, open_store, wait_until

from fsqueue.results.resolver import Resolver, _Entry
from fsqueue.spool.caller.client import Client
from fsqueue.spool.wakeups import inotify
from fsqueue.spool.wakeups.watching import Watch, Watches


class Interrupted(BaseException):
    pass


class Tracer:
    """Raises an exception where the n-th function of fsqueue begins, as a signal handler can."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, frame, *_):
        if frame.f_globals.get("__name__", "").startswith("fsqueue."):
            self.number -= 1
            if self.number == 0:
                sys.settrace(None)
                raise Interrupted


class InstructionTracer:
    """Raises an exception before the n-th instruction of a module of fsqueue."""

    def __init__(self, number: int, module: str) -> None:
        self.number, self.module = number, module

    def __call__(self, frame, event, _):
        if frame.f_globals.get("__name__") != self.module:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.number -= 1
            if self.number == 0:
                sys.settrace(None)
                raise Interrupted
        return self


def interrupted(action, tracer: Tracer | InstructionTracer) -> bool:
    former = sys.gettrace()
    try:
        sys.settrace(tracer)
        action()
    except Interrupted:
        return True
    finally:
        sys.settrace(former)
    return False


def test_a_client_that_was_interrupted_while_it_registered_leaves_nothing(spool):
    store = open_store(spool)
    layout = store.layout
    for number in itertools.count(1):
        client = Client(store, events=False, poll_interval=0.05, on_silence=lambda: True)
        hit = interrupted(client.now, Tracer(number))
        client.close()
        # Its record is part of the history of runs, and expires with it.
        store.fs.discard(layout.client_record(client.name))
        for folder in (layout.clients_folder, layout.done_folder, layout.kept_folder):
            assert store.fs.names(folder) == [], number
        if not hit:
            break
    assert number > 10


def test_a_file_that_is_added_or_the_clock_that_is_read_leaves_no_temporary_file(spool):
    store = open_store(spool)
    files, layout = store.files, store.layout
    for action in (lambda: files.add_file(layout.blob("0" * 32), [b"value"]), files.sync_clock):
        for number in itertools.count(1):
            hit = interrupted(action, Tracer(number))
            assert store.fs.names(layout.tmp_folder) == [], number
            store.fs.discard(layout.blob("0" * 32))
            if not hit:
                break
        assert number > 5


@pytest.mark.skipif(sys.platform != "linux", reason="inotify is Linux's")
def test_a_watch_that_is_interrupted_at_any_instruction_blocks_no_other_and_can_begin_again(
    tmp_path,
):
    shared, heard = Watches(), []
    watch, other = (Watch(str(tmp_path), inotify.ARRIVED, heard.append) for _ in range(2))

    def add_and_remove(each):
        shared.add(each)
        shared.remove(each)

    for number in itertools.count(1):
        hit = interrupted(
            lambda: add_and_remove(watch),
            InstructionTracer(number, "fsqueue.spool.wakeups.watching"),
        )
        beside = threading.Thread(target=add_and_remove, args=(other,), daemon=True)
        beside.start()
        beside.join(PATIENCE)
        assert not beside.is_alive(), number
        shared.add(watch)
        assert watch.works, number
        (tmp_path / str(number)).touch()
        shared.take()
        assert str(number) in heard, number
        shared.remove(watch)
        if not hit:
            break
    assert number > 50
    shared.close()


class Pending:
    """A call that nobody waits for any more."""

    id = "client0001-1"


def test_an_interrupted_wake_up_of_the_resolver_silences_no_other():
    """While it was rung, the others rely on that."""
    for number in itertools.count(1):
        resolver = Resolver(list)
        entry = _Entry(resolver, Pending(), list)
        resolver.start()
        wait_until(lambda each=resolver: each._until)
        tracer = InstructionTracer(number, "fsqueue.spool.wakeups.watching")
        went_on = not interrupted(lambda: resolver.wake(entry), tracer)  # noqa: B023
        resolver.wake(entry)
        wait_until(lambda each=resolver: not each._woken, what=f"it is awake, after step {number}")
        resolver.close()
        resolver.join()
        if went_on:
            break
    assert number > 3
