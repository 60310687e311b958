"""`fsqueue.Executor` with ``dev_mode_force_sync_tasks``: no worker runs."""

from __future__ import annotations

import threading
from concurrent.futures import BrokenExecutor

import pytest

import fsqueue


@pytest.fixture(autouse=True)
def inline(monkeypatch):
    monkeypatch.setenv("FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS", "True")


def test_calls_run_in_the_thread_that_submits_them(spool):
    large = bytes(range(256)) * 1000
    with fsqueue.Executor(1, root=spool) as executor:
        ran = executor.submit(lambda data: (threading.get_ident(), len(data)), large)
        assert ran.done()
        assert ran.result(0) == (threading.get_ident(), len(large))
        assert isinstance(executor.submit(divmod, 1, 0).exception(0), ZeroDivisionError)
        assert list(executor.map(pow, range(5), [2] * 5, chunksize=2)) == [0, 1, 4, 9, 16]

        def nested():
            with fsqueue.Executor(root=spool) as inner:
                return inner.submit(abs, -1).result(0)

        assert executor.submit(nested).result(0) == 1


def test_an_initializer_runs_once_before_the_first_call(spool, tmp_path):
    def start(path):
        with open(path, "a", encoding="utf-8") as file:
            file.write("x")

    path = tmp_path / "started"
    with fsqueue.Executor(root=spool, initializer=start, initargs=(str(path),)) as executor:
        assert [executor.submit(abs, -n).result(0) for n in range(2)] == [0, 1]
    assert path.read_text() == "x"


def test_a_failed_initializer_breaks_the_executor(spool):
    with fsqueue.Executor(root=spool, initializer=divmod, initargs=(1, 0)) as executor:
        assert isinstance(executor.submit(abs, 1).exception(0), BrokenExecutor)
        with pytest.raises(BrokenExecutor):
            executor.submit(abs, 1)
