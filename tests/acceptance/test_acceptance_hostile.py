"""Files that are none, in the place of calls that a worker from the command line takes."""

import os
import socket

import pytest
from acceptance_harness import wait_until

from fsqueue.errors import EnvelopeError, InvocationCorruptError


def pending_file(site, invocation):
    (path,) = site.root.glob(f"pending/*/*/{invocation.id}.1")
    return path


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(path))


MAKE = {
    "empty": lambda path: path.touch(),
    "huge": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
    "pipe": os.mkfifo,
    "folder": os.mkdir,
    "device": lambda path: path.symlink_to("/dev/zero"),
    "secret": lambda path: path.symlink_to("/etc/passwd"),
    "socket": make_socket,
}


def test_calls_that_are_no_files(site, kind, monkeypatch):
    calls = {name: site.tasks.square(7) for name in MAKE}
    monkeypatch.chdir(site.root)  # a socket's name must be short
    for name, make in MAKE.items():
        path = pending_file(site, calls[name])
        path.unlink()
        make(path)
    worker = site.worker(kind, 2).wait_for_start()

    for invocation in calls.values():
        with pytest.raises(InvocationCorruptError, match=f"quarantine/{invocation.id}.1"):
            invocation.get(60)
    assert site.tasks.square(7).get(60)[0] == 49
    assert "root:" not in worker.text()
    assert "Traceback" not in worker.text()
    wait_until(
        lambda: len(list(site.root.glob("quarantine/*.reason"))) == len(MAKE), "all have a reason"
    )


def test_an_outcome_that_is_replaced_while_its_caller_waits(site, kind):
    site.worker(kind, 1).wait_for_start()
    marks = site.folder("held")
    invocation = site.tasks.hold_later(marks.folder)
    waiting = site.call(invocation.get)
    marks.wait_for_starts(1)
    client = invocation.id.partition("-")[0]
    os.mkfifo(site.root / "done" / client / invocation.id)

    with pytest.raises(EnvelopeError, match="not a regular file"):
        waiting.result(60)
    marks.release()
    assert site.tasks.square(7).get(60)[0] == 49
