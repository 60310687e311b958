"""Supervised processes: which are replaced, which are not, and how they end."""

from __future__ import annotations

import os
import signal
import sys
import threading

import psutil
import pytest
from support import wait_until

from fsqueue.launch.supervisor import Supervisor
from fsqueue.runner.processes.job import RESTART

# Notes its start in a folder, and lives until SIGTERM or until a file says how to end.
PROGRAM = """
import os, signal, sys, time
folder, = sys.argv[1:]
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
open(os.path.join(folder, f"started-{os.getpid()}"), "w").close()
while True:
    try:
        os.rename(os.path.join(folder, "end"), os.path.join(folder, f"end-{os.getpid()}"))
    except FileNotFoundError:
        time.sleep(0.01)
        continue
    sys.exit(int(open(os.path.join(folder, f"end-{os.getpid()}")).read()))
"""


class Supervised:
    """A supervisor in a thread."""

    def __init__(self, folder, count=1):
        self.folder = folder
        program = folder / "worker.py"
        program.write_text(PROGRAM)
        self.supervisor = Supervisor([sys.executable, "-IS", str(program), str(folder)], count)
        self.code = None
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        self.code = self.supervisor.run()

    def started(self):
        return {int(path.name.partition("-")[2]) for path in self.folder.glob("started-*")}

    def end_one(self, code):
        """Let one of the workers end with this exit code."""
        path = self.folder / "next"
        path.write_text(str(code))
        path.rename(self.folder / "end")
        wait_until(lambda: not (self.folder / "end").exists())

    def __enter__(self):
        self.thread.start()
        wait_until(lambda: len(self.started()) == self.supervisor.count)
        return self

    def __exit__(self, *_):
        self.supervisor.stop()
        self.thread.join()
        self.supervisor.close()
        assert not any(psutil.pid_exists(pid) for pid in self.started())


@pytest.mark.parametrize("code", [1, RESTART])
def test_a_worker_that_fails_or_asks_for_it_is_replaced(tmp_path, code):
    with Supervised(tmp_path, 2) as supervised:
        supervised.end_one(code)
        wait_until(lambda: len(supervised.started()) == 3)
        assert len(supervised.supervisor.pids) == 2
    assert supervised.code == 0


def test_a_worker_that_was_killed_is_replaced(tmp_path):
    with Supervised(tmp_path) as supervised:
        (victim,) = supervised.started()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(supervised.started()) == 2)


def test_the_supervisor_ends_when_all_workers_have_left(tmp_path):
    with Supervised(tmp_path, 2) as supervised:
        supervised.end_one(0)
        supervised.end_one(0)
        supervised.thread.join()
        assert (supervised.code, len(supervised.started())) == (0, 2)


def test_each_failure_in_a_row_doubles_the_delay(tmp_path, caplog):
    with Supervised(tmp_path) as supervised:
        for count in (2, 3):
            supervised.end_one(7)
            wait_until(lambda count=count: len(supervised.started()) == count)
    said = [record.message for record in caplog.records]
    assert said == [
        "worker 1 has ended with exit code 7; the next one starts in 1 s",
        "worker 1 has ended with exit code 7; the next one starts in 2 s",
    ]


def test_a_program_that_cannot_be_started_is_tried_again(tmp_path, caplog):
    supervisor = Supervisor([str(tmp_path / "missing")], 1)
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    wait_until(lambda: caplog.records)
    supervisor.stop()
    thread.join()
    supervisor.close()
    assert caplog.records[0].message.startswith("cannot start worker 1: [Errno 2]")


def test_a_request_to_stop_is_asked_for_now_and_then(tmp_path):
    answers = iter([False, False])
    supervised = Supervised(tmp_path)

    def asked():  # not before the program has its handler
        return next(answers, bool(supervised.started()))

    code = []
    run = supervised.supervisor.run
    thread = threading.Thread(target=lambda: code.append(run(asked, 0.05)))
    thread.start()
    thread.join()
    supervised.supervisor.close()
    assert code == [0]
