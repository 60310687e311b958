"""Results that stand for those of later calls."""

from __future__ import annotations

import os
from array import array
from pathlib import Path

import pytest
from support import rewrite, upgrade

from fsqueue import State
from fsqueue.spool.format import envelope
from fsqueue.spool.worker.expiry import expire_by_kind
from integration.conftest import working


def pending(app):
    return [name for _, _, names in os.walk(app.store.layout.pending_folder) for name in names]


def cached(app):
    return sorted(os.listdir(app.store.layout.cache_folder))


def once_cached(app, count=1):
    """What is cached: a result is there before its caller has it."""
    names = cached(app)
    assert len(names) == count
    return names


def counted(path, value=None):
    """Write down that the body runs, and return what was asked for."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write("x")
    if isinstance(value, Exception):
        raise value
    return value


def runs(path):
    return len(Path(path).read_text())


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "ran")


def test_a_result_stands_for_that_of_an_equal_call(app, make_app, path):
    task = app.task(call_result_cache=True)(counted)
    with working(app):
        first = task(path, {"a": 1, "b": 2})
        assert first.get(60) == {"a": 1, "b": 2}
    again = task(path, value={"b": 2, "a": 1})
    elsewhere = make_app().task(call_result_cache=True)(counted)(path, {"a": 1, "b": 2})
    assert again.status is elsewhere.status is State.SUCCEEDED
    assert again.id == elsewhere.id == first.id
    assert again.result == elsewhere.result == {"a": 1, "b": 2}
    assert again.cancel() is False
    again.abandon()
    assert pending(app) == []
    assert runs(path) == 1


async def test_it_can_be_awaited(app, path):
    task = app.task(call_result_cache=True)(counted)
    with working(app):
        assert task(path).get(60) is None
    assert await task(path).async_result() is None


def test_direct_calls_and_fan_outs_have_it_too(app, path):
    direct = app.direct_task(call_result_cache=True)(counted)
    fan_out = app.direct_task(
        call_result_cache=True,
        parallel_func=lambda call: [(call["path"], n % 3) for n in range(6)],
        aggregate_func=sum,
    )(counted)
    with working(app):
        assert direct(path, 1) == direct(path, 1) == 1
        assert fan_out(path) == 6
    assert fan_out(path) == 6, "without a worker"
    assert runs(path) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"call_result_cache_version": "2"},
        {"call_result_cache_ttl": 1e-9},
        {"serializer": "json"},
        {"call_result_cache": False},
    ],
    ids=str,
)
def test_other_options_are_other_results(app, path, change):
    task = app.task(call_result_cache=True)(counted)
    with working(app):
        assert task(path).get(60) is None
        assert task.options(**change)(path).get(60) is None
    assert runs(path) == 2


def test_other_arguments_types_and_tasks_are_other_results(app, path):
    task = app.task(call_result_cache=True)(counted)
    with working(app):
        values = [1, 1.0, True, "1", b"1"]
        got = [task(path, value).get(60) for value in values]
    assert [type(value) for value in got] == [type(value) for value in values]
    assert runs(path) == 5


def test_a_failure_is_not_reused(app, path):
    task = app.task(call_result_cache=True)(counted)
    with working(app):
        for _ in range(2):
            with pytest.raises(ValueError, match="bad"):
                task(path, ValueError("bad")).get(60)
    assert cached(app) == []
    assert runs(path) == 2


def test_large_results_are_the_callers_own(app, path):
    numbers = array("d", range(100_000))
    task = app.task(call_result_cache=True)(counted)
    with working(app):
        assert task(path, bytearray(numbers)).get(60) == bytearray(numbers)
        assert task(path, numbers.tobytes()).get(60) == numbers.tobytes()
    again = task(path, bytearray(numbers))
    first, second = again.result, again.result
    first[0] ^= 1
    assert second == again.result == bytearray(numbers)
    assert task(path, numbers.tobytes()).result == numbers.tobytes()
    assert runs(path) == 2


def test_a_call_that_was_made_before_the_result_was_there_does_not_run(app, path):
    """Its worker looks again."""
    task = app.task(call_result_cache=True)(counted)
    first, second = task(path, 7), task(path, 7)
    assert first.id != second.id
    with working(app, app.make_runner(concurrency=1)):
        assert [first.get(60), second.get(60)] == [7, 7]
    assert runs(path) == 1


def test_equal_calls_at_once_run_once(app, make_app, path):
    """Through two clients and two workers of four slots: the others wait for their turn."""
    task, other = (each.task(call_result_cache=True)(counted) for each in (app, make_app()))
    calls = [each(path, 7) for _ in range(5) for each in (task, other)]
    with working(app, app.make_runner(concurrency=4)), working(app, app.make_runner(concurrency=4)):
        assert [each.get(60) for each in calls] == [7] * 10
    assert runs(path) == 1


def damage(path):
    rewrite(path, Path(path).read_bytes()[:-1] + b"\0")


def take_from(app, path):
    """A result of other arguments, under this name."""
    (other,) = [name for name in cached(app) if name != os.path.basename(path)]
    os.replace(f"{app.store.layout.cache_folder}/{other}", path)


@pytest.mark.parametrize(
    "harm",
    [
        lambda app, path: damage(path),
        lambda app, path: rewrite(path, b""),
        lambda app, path: rewrite(path, os.urandom(100_000)),
        lambda app, path: (os.unlink(path), os.symlink("/etc/passwd", path)),
        lambda app, path: (os.unlink(path), os.mkfifo(path)),
        lambda app, path: (os.unlink(path), os.mkdir(path)),
        take_from,
    ],
    ids=["damaged", "empty", "foreign", "link", "fifo", "folder", "other"],
)
def test_what_is_damaged_is_a_miss(app, path, harm):
    task = app.task(call_result_cache=True)(counted)
    with working(app):
        assert task(path, 1).get(60) == 1
        (name,) = once_cached(app)
        assert task(path, 2).get(60) == 2
        once_cached(app, 2)
        harm(app, app.store.layout.cached(name))
        assert task(path, 1).get(60) == 1
        assert task(path, 1).get(60) == 1
    assert runs(path) == 3
    assert f"{name}.reason" in os.listdir(app.store.layout.quarantine_folder)


def test_a_forged_result_is_a_miss_in_a_signed_spool(make_app, tmp_path, path):
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    app = make_app(signing_key_file=str(key))
    task = app.task(call_result_cache=True)(counted)
    with working(app):
        assert task(path, 1).get(60) == 1
        (name,) = once_cached(app)
        found = app.store.cache.get(name, 60.0)
        forged = envelope.encode(found.outcome, [found.payload.data.tobytes()])
        rewrite(app.store.layout.cached(name), b"".join(forged))
        assert task(path, 1).get(60) == 1
    assert runs(path) == 2
    assert f"{name}.reason" in os.listdir(app.store.layout.quarantine_folder)


def test_a_newer_result_is_left_alone(app, path):
    task = app.task(call_result_cache=True)(counted)
    with working(app):
        assert task(path, 1).get(60) == 1
        (name,) = once_cached(app)
        upgrade(app.store.layout.root)
        rewrite(app.store.layout.cached(name), b"fsqueue 2 outcome\n")
        assert task(path, 1).get(60) == 1
    assert os.listdir(app.store.layout.quarantine_folder) == []


def test_results_expire_unless_their_task_keeps_them_longer(app, path):
    short, long = (
        app.task(call_result_cache=True, call_result_cache_ttl=ttl)(counted) for ttl in (1e-9, 1e9)
    )
    with working(app):
        assert short(path, 1).get(60) == 1
        assert long(path, 2).get(60) == 2
    assert expire_by_kind(app.store, result_ttl=60.0).cached_results == 0
    assert expire_by_kind(app.store, result_ttl=-1.0).cached_results == 1
    assert long(path, 2).result == 2
    assert app.store.cache.clear() == 1
    assert cached(app) == []


def test_a_call_without_the_option_leaves_nothing(app, path):
    with working(app):
        app.task(counted)(path).get(60)
    assert cached(app) == []


def test_inline_every_call_runs(make_app, path):
    app = make_app(dev_mode_force_sync_tasks=True)
    task = app.task(call_result_cache=True)(counted)
    assert [task(path, 1).result, task(path, 1).result] == [1, 1]
    assert runs(path) == 2
