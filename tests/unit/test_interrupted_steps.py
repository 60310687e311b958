"""Exceptions of signal handlers in the steps of a caller, at the start of each function."""

from __future__ import annotations

import itertools
import sys

from support import open_store

from fsqueue.spool.caller.client import Client


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


def interrupted(action, number: int) -> bool:
    former = sys.gettrace()
    try:
        sys.settrace(Tracer(number))
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
        hit = interrupted(client.now, number)
        client.close()
        for folder in (layout.clients_folder, layout.done_folder, layout.kept_folder):
            # The record of what ran stays until it expires.
            left = [name for name in store.fs.names(folder) if not name.endswith(".json")]
            assert left == [], number
        if not hit:
            break
    assert number > 10


def test_a_file_that_is_added_or_the_clock_that_is_read_leaves_no_temporary_file(spool):
    store = open_store(spool)
    files, layout = store.files, store.layout
    for action in (lambda: files.add_file(layout.blob("0" * 32), [b"value"]), files.sync_clock):
        for number in itertools.count(1):
            hit = interrupted(action, number)
            assert store.fs.names(layout.tmp_folder) == [], number
            store.fs.discard(layout.blob("0" * 32))
            if not hit:
                break
        assert number > 5
