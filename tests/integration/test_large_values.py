"""Large arguments and results lie in their files as they lie in memory, and are read back so."""

from __future__ import annotations

import array
import os
import pickle
import threading

import pytest
from support import open_store, wait_until

from fsqueue import FSQueue, State, triggers
from fsqueue.spool.admin import controls
from fsqueue.spool.admin.listing import call_details
from fsqueue.spool.format.envelope import unverified_header
from fsqueue.spool.format.records import Call
from fsqueue.testing import FaultyFilesystem
from integration import sample_tasks
from integration.conftest import working

SIZE = 1 << 20
LARGE = os.urandom(SIZE)


class Array:
    """Pickled as those of numpy are."""

    def __init__(self, memory):
        self.memory = memory

    def __reduce_ex__(self, protocol):
        return Array, (pickle.PickleBuffer(self.memory),)


def kind_and_value(value):
    return type(value).__name__, value


def of_array(values):
    return type(values[0].memory), bytes(values[0].memory)


def array_of(size):
    return {"array": Array(bytearray(size)), "small": Array(bytearray(b"small"))}


def change(number, values, data):
    """True if another call has not changed the common arguments before."""
    memory = values.memory
    fresh = memory[number] == 0 and not any(memory[:100])
    memory[:100] = b"x" * 100
    return fresh, id(data)


def fail_unless(path, data):
    if not os.path.exists(path):
        raise ValueError("not yet")
    return data


class Kilometres(bytes):
    pass


def pending_file(app, invocation):
    folder = app.store.layout.slot("t.default", os.listdir(app.store.layout.queue("t.default"))[0])
    return f"{folder}/{invocation.id}.1"


@pytest.mark.parametrize("key", [False, True], ids=["unsigned", "signed"])
def test_large_bytes_there_and_back(make_app, key, tmp_path):
    options = {}
    if key:
        options["signing_key_file"] = tmp_path / "key"
        options["signing_key_file"].write_bytes(b"0123456789abcdef")
        options["signing_key_file"].chmod(0o600)
    app = make_app(**options)
    task = app.task(sample_tasks.echo)
    with working(app):
        assert task(LARGE).get(timeout=60) == LARGE
        assert task(value=LARGE).get(timeout=60) == LARGE
        assert app.direct_task(sample_tasks.echo)(LARGE) == LARGE


def test_a_call_of_large_bytes_is_their_file_and_little_more(app):
    invocation = app.task(sample_tasks.add)(LARGE, b=LARGE)
    with open(pending_file(app, invocation), "rb") as file:
        data = file.read()
    assert data.endswith(LARGE + LARGE)
    assert data.partition(b"\n")[0].endswith(b" %d %d" % (SIZE, SIZE))
    assert len(data) < 2 * SIZE + 1000
    assert unverified_header(data[:1000], Call).task.endswith("add")
    invocation.abandon()


@pytest.mark.parametrize(
    "value",
    [
        LARGE,
        b"small",
        bytearray(LARGE),
        Kilometres(LARGE),
        array.array("d", [1.5] * SIZE),
        [LARGE, {"again": LARGE}],
        "x" * SIZE,
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_is_large_keeps_its_type(app, value):
    with working(app):
        assert app.task(kind_and_value)(value).get(timeout=60) == (type(value).__name__, value)


@pytest.mark.parametrize("memory", [bytes, bytearray])
@pytest.mark.parametrize("size", [10, SIZE])
def test_an_array_is_as_writable_as_it_was(app, memory, size):
    with working(app):
        found = app.task(of_array)([Array(memory(size))]).get(timeout=60)
    assert found == (memory, bytes(size))


def test_an_array_in_a_result(app):
    with working(app):
        invocation = app.task(array_of)(SIZE)
        value = invocation.get(timeout=60)
        value["array"].memory[0] = 1
        assert value["small"].memory == b"small"
        assert invocation.get(timeout=60)["array"].memory == bytes(SIZE), "each look has its own"


def test_more_arrays_than_a_first_line_names(app):
    values = [Array(bytes([number]) * (1 << 18)) for number in range(70)]
    invocation = app.task(of_array)(values)
    with open(pending_file(app, invocation), "rb") as file:
        assert file.readline().count(b" %d" % (1 << 18)) == 64
    with working(app):
        assert invocation.get(timeout=60) == (bytes, bytes(1 << 18))


@pytest.mark.parametrize("size", [1, 2, "auto"])
def test_a_fan_out_of_large_bytes(app, size):
    values = [bytes([number]) * SIZE for number in range(4)]
    with working(app):
        task = app.task(parallel_batch_size=size)(sample_tasks.echo)
        assert task.parallelize([(value,) for value in values]).get(timeout=60) == values


def test_a_failed_call_is_run_again_with_its_buffers(app, tmp_path):
    path = str(tmp_path / "ready")
    with working(app):
        task = app.task(retry_for=ValueError, max_retries=1, retry_delay=0.01)(fail_unless)
        invocation = task(path, LARGE)
        with pytest.raises(ValueError, match="not yet"):
            invocation.get(timeout=60)
        (failed,) = wait_until(lambda: list(controls.retryable(app.store)))
        (tmp_path / "ready").touch()
        again = app.invocation(controls.retry_failed(app.store, failed))
        assert again.get(timeout=60) == LARGE


def test_a_damaged_call_is_set_aside_whole(app):
    invocation = app.task(sample_tasks.echo)(LARGE)
    path = pending_file(app, invocation)
    with open(path, "r+b") as file:
        file.seek(SIZE // 2)
        file.write(b"changed")
    size = os.path.getsize(path)
    with working(app), pytest.raises(Exception, match="digest does not match"):
        invocation.get(timeout=60)
    assert os.path.getsize(app.store.layout.quarantined(f"{invocation.id}.1")) == size


def test_an_operator_can_look_at_it(app):
    with working(app):
        invocation = app.task(sample_tasks.echo)(LARGE)
        wait_until(lambda: invocation.status is State.SUCCEEDED)
    assert call_details(app.store, invocation.id).result.buffers == [LARGE]


# -- common arguments -------------------------------------------------------------------------


@pytest.fixture
def traced(spool):
    """An application whose operations on files can be counted."""
    app = FSQueue("t", root=spool, concurrency=4)
    fs = FaultyFilesystem()
    app._session._store = open_store(app.conf.root, fs)
    yield app, fs
    app.close()


def test_a_large_common_argument_is_written_once_and_read_once(traced):
    app, fs = traced
    fs.inject()
    task = app.task(sample_tasks.length)
    group = task.parallelize([{"number": n} for n in range(100)], common_args={"text": LARGE})
    (blob,) = os.listdir(app.store.layout.blobs_folder)
    assert len([op for op in fs.trace if op.verb == "link" and op.target.endswith(blob)]) == 1
    # The calls, the argument, and the record of this client.
    assert len([op for op in fs.trace if op.verb == "write"]) == 102
    sizes = [
        os.path.getsize(os.path.join(folder, name))
        for folder, _, names in os.walk(app.store.layout.pending_folder)
        for name in names
    ]
    assert len(sizes) == 100
    assert max(sizes) < 1000
    fs.inject()
    with working(app):
        assert group.get(timeout=60) == [SIZE + n for n in range(100)]
    assert len([op for op in fs.trace if op.verb == "read" and blob in op.path]) == 1


def test_calls_share_common_bytes_and_nothing_that_they_can_change(app):
    common = {"values": Array(bytearray(SIZE)), "data": LARGE}
    group = app.task(change).parallelize([{"number": n} for n in range(20)], common_args=common)
    (blob,) = os.listdir(app.store.layout.blobs_folder)
    assert os.path.getsize(app.store.layout.blob(blob)) < 2 * SIZE + 1000
    with working(app):
        results = group.get(timeout=60)
    assert all(fresh for fresh, _ in results)
    assert len({address for _, address in results}) == 1


def test_many_threads_that_need_one_blob_read_it_once(traced):
    app, fs = traced
    digest = app.store.blobs.put(b"data", [LARGE, bytearray(LARGE)])
    fs.inject()
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(app.store.blobs.get(digest))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert fs.count("read") == 1
    assert len({id(payload.buffers[0]) for payload in found}) == 1
    assert len({id(payload.buffers[1]) for payload in found}) == 8


def test_a_trigger_cannot_change_a_result(make_app):
    def changes(value):
        value["array"].memory[0] = 1
        raise ValueError("seen")

    app = make_app()
    task = app.task(array_of)
    app.task(triggers=triggers.on_result(task, changes, arguments=(0,)))(kind_and_value)
    with working(app):
        assert task(SIZE).get(60)["array"].memory[0] == 0
