"""Applications and workers in threads of the test's own process, on real files."""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from click.testing import CliRunner
from support import PATIENCE, open_store, wait_until

from fsqueue import FSQueue
from fsqueue.cli import exits
from fsqueue.cli.main import command_line
from fsqueue.testing import FaultyFilesystem
from integration import sample_tasks


class Clocked(FaultyFilesystem):
    """A filesystem whose times a test moves on by `clock_offset`: this host's and the server's."""

    def modified(self, path):
        return super().modified(path) + self.clock_offset


@contextlib.contextmanager
def working(app, runner=None):
    """A worker of the app in a thread, ready when the block begins and gone when it ends."""
    runner = runner or app.runner
    failures = []

    def run():
        try:
            runner.run()
        except BaseException as error:  # noqa: BLE001 - raised again below
            failures.append(error)

    thread = threading.Thread(target=run, name="test-worker")
    thread.start()
    try:
        yield runner
    except BaseException:
        for gate in sample_tasks.gates.values():
            gate.set()  # a body that waits would hold up the report of the failure
        raise
    finally:
        runner.stop_runner_loop()
        thread.join(60)
        assert not thread.is_alive(), "the worker does not stop"
        assert not failures, failures


@pytest.fixture
def make_app(spool):
    """Make an app on the spool; it leaves the spool when the test ends."""
    apps = []

    def make(app_id="t", **options):
        apps.append(FSQueue(app_id, **{"root": spool, **options}))
        return apps[-1]

    yield make
    for app in apps:
        app.close()


@pytest.fixture
def app(make_app):
    return make_app()


@pytest.fixture
def clock(app):
    """The clock of the app, its worker and its spool: `clock.clock_offset += seconds`."""
    return clocked(app)


@contextlib.contextmanager
def silence_of(app, clock, invocation):
    """In the block, a thread waits for a result, and nothing has come for long.

    When the block has ended, the result is awaited there.
    """
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(invocation.get, 3600.0)
        wait_until(lambda: app._session.client.waiter._waiting, what="it waits")
        clock.clock_offset += 4.0
        try:
            yield answer
            answer.result(PATIENCE)
        except BaseException:
            app.close()  # it waits no longer
            raise


def clocked(app):
    fs = Clocked(remote=app.store.fs.remote)
    app._session._store = open_store(app.store.layout.root, fs)
    return fs


@pytest.fixture
def worked(app):
    """An app with a worker."""
    with working(app):
        yield app


@pytest.fixture
def gate():
    """Make a gate for `sample_tasks.behind_gate`: an event and its name."""
    names = []

    def make():
        name = f"gate-{id(names)}-{len(names)}"
        names.append(name)
        sample_tasks.gates[name] = threading.Event()
        return sample_tasks.gates[name], name

    yield make
    for name in names:
        sample_tasks.gates[name].set()
    for name in names:
        del sample_tasks.gates[name]


@pytest.fixture
def nested(spool, monkeypatch):
    """The module `nested_tasks`, imported anew on the test's spool."""
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    name = "integration.nested_tasks"
    monkeypatch.delitem(sys.modules, name, raising=False)
    module = importlib.import_module(name)
    yield module
    module.app.close()
    sys.modules.pop(name, None)


# -- commands in this process ---------------------------------------------------------------------


@pytest.fixture
def fsqueue(spool, monkeypatch):
    """Run a command on the test's spool."""
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*arguments, expect=exits.OK, root=True):
        where = ["--root", spool] if root else []
        done = CliRunner().invoke(command_line, [*map(str, arguments), *where])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == expect, done.output
        return done

    return run


@pytest.fixture
def in_json(fsqueue):
    """Run a command and read the document that it prints."""

    def run(*arguments, **options):
        return json.loads(fsqueue(*arguments, "--json", **options).stdout)

    return run


@pytest.fixture
def failed(app, tmp_path):
    """A call that has failed once and would succeed now; its worker has left."""
    with working(app):
        invocation = app.task(sample_tasks.fail_before)(str(tmp_path / "ran"), 1)
        with pytest.raises(ConnectionError):
            invocation.get(timeout=60)
    return invocation


def registered(in_json):
    """The workers whose records are there: a worker is listed from its lock on."""
    return [each for each in in_json("workers")["workers"] if each["queues"]]
