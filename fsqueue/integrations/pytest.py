"""Fixtures of pytest for projects whose code calls tasks.

pytest finds them if fsqueue is installed. `fsqueue_app` names the application: override it in a
``conftest.py`` so that it returns yours. The other fixtures change it for the length of one test.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fsqueue import FSQueue

# Slots of the worker: several, so that calls can wait for each other.
_SLOTS = 4


@pytest.fixture
def fsqueue_app() -> FSQueue:
    """The application under test."""
    from fsqueue import FSQueue

    return FSQueue("test")


@pytest.fixture
def fsqueue_worker(
    fsqueue_app: FSQueue, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FSQueue]:
    """The application, on a temporary spool that a worker of this process serves.

    The worker has four slots, which are threads: what a test patches is patched in bodies too.
    """
    root = tmp_path_factory.mktemp("fsqueue")
    with _on(fsqueue_app, root), _served(fsqueue_app):
        yield fsqueue_app


@pytest.fixture
def fsqueue_sync(fsqueue_app: FSQueue) -> Iterator[FSQueue]:
    """The application in sync mode: calls run in the calling thread, and no files are made."""
    conf = fsqueue_app.conf
    before, conf.dev_mode_force_sync_tasks = conf.dev_mode_force_sync_tasks, True
    try:
        yield fsqueue_app
    finally:
        conf.dev_mode_force_sync_tasks = before


@contextlib.contextmanager
def _on(app: FSQueue, root: Path) -> Iterator[None]:
    conf = app.conf
    before, conf.dev_mode_force_sync_tasks = conf.dev_mode_force_sync_tasks, False
    app.move(root)
    try:
        yield
    finally:
        app.move(None)
        conf.dev_mode_force_sync_tasks = before


@contextlib.contextmanager
def _served(app: FSQueue) -> Iterator[None]:
    failures: list[BaseException] = []
    # The test may define more tasks; those of the application's modules already exist.
    queues = dict.fromkeys(("default", *(task.settings.queue for task in app.tasks.values())), 1.0)
    runner = app.make_runner(kind="thread", concurrency=_SLOTS, queues=queues)

    def run() -> None:
        try:
            runner.run()
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            failures.append(error)

    worker = threading.Thread(target=run, name="fsqueue-worker")
    worker.start()
    try:
        yield
    finally:
        runner.stop_runner_loop()
        worker.join()
    for failure in failures:
        raise failure
