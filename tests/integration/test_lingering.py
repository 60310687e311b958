"""Slots that wait a moment for the next call themselves, while a caller makes one after another."""

from __future__ import annotations

import threading

import pytest
from support import wait_until

from fsqueue.spool.store.open_spool import open_store
from fsqueue.testing import FaultyFilesystem
from integration import sample_tasks
from integration.conftest import working
from integration.test_self_claiming import tasks  # noqa: F401 - a fixture

pytestmark = [pytest.mark.concurrent, pytest.mark.leaves_strays]  # results that the client keeps


class Claimants(FaultyFilesystem):
    """Notes which threads of this process try to claim calls."""

    def __init__(self) -> None:
        super().__init__()
        self.claimants: list[str] = []

    def rename(self, source, target):
        if "/pending/" in source and "/running/" in target:
            self.claimants.append(threading.current_thread().name)
        return super().rename(source, target)


def test_a_thread_claims_what_comes_after_its_call(make_app):
    app, fs = make_app(concurrency=1), Claimants()
    app._session._store = open_store(app.conf.root, fs)
    task, runner = app.task(sample_tasks.add), app.runner
    with working(app, runner):
        assert task(1, 1).get(60) == 2
        runner._runs[0].loop.lingering.patience = 1000.0
        assert task(2, 1).get(60) == 3
        fs.claimants.clear()
        for number in range(50):
            assert task(number, 1).get(60) == number + 1
    assert {name.rstrip("0123456789") for name in fs.claimants} == {"fsqueue-slot_"}


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_a_second_call_runs_while_the_first_one_takes_long(tasks, kind):  # noqa: F811
    """The slot that would hear of it has a call, so the claim loop listens again."""
    app = tasks.module.app
    with working(app, app.make_runner(kind=kind, concurrency=2)):
        for number in range(10):
            assert tasks.module.mark(number).get(60) == number
        held = tasks.module.hold("held")
        wait_until(lambda: tasks.runs()["held"])
        for number in range(10):
            assert tasks.module.mark(number).get(60) == number
        assert held.cancel()
        open(f"{tasks.notes}/go", "w").close()


@pytest.mark.parametrize("slots", [1, 2])
def test_calls_that_wait_for_one_of_a_process_that_lingers(tasks, slots):  # noqa: F811
    with working(tasks.module.app, tasks.runner(slots)):
        for number in range(40):
            first = tasks.module.mark(number)
            assert tasks.module.add_one(first).get(60) == number + 1
