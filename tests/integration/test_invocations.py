"""Points 1 and 3: what calling a Task does."""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from support import PATIENCE, async_wait_until, files_under, open_store, wait_until

from fsqueue import FSQueue, Invocation, InvocationGroup, SerializationError, State, args
from fsqueue.errors import UnknownInvocationError
from fsqueue.testing import Fault, FaultyFilesystem
from integration import sample_tasks as sample
from integration.conftest import working

# -- point 1: the root -------------------------------------------------------------------


def test_without_root_a_private_folder_is_used(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    app = FSQueue("mine")
    root = str(app._session.root)
    assert not os.listdir(tmp_path)  # nothing before the first call
    task = app.task(sample.add)
    with working(app):
        assert task(2).result == 3
    app.close()
    assert os.path.dirname(os.path.dirname(root)) == str(tmp_path)
    for folder in (root, os.path.dirname(root)):
        assert stat.S_IMODE(os.stat(folder).st_mode) == 0o700


def test_root_from_environment(spool, monkeypatch):
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    app = FSQueue("t")
    task = app.task(sample.add)
    with working(app):
        assert task(2).result == 3
    app.close()
    assert os.path.isfile(f"{spool}/spool.json")


# -- binding ------------------------------------------------------------------------------

CALLS = [
    ((1,), {"d": 4}),
    ((1, 9), {"d": 4}),
    ((1, 9, 8), {"d": 4, "e": 7}),
    ((1, 9, 8, 7, 6), {"d": 4}),
    ((1,), {"d": 4, "c": 5, "z": 6}),
    ((1,), {"d": 4, "args": (), "kwargs": {}}),
]


def test_arguments_arrive_as_in_a_plain_call(worked):
    task = worked.task(sample.everything)
    made = [task(*positional, **named) for positional, named in CALLS]
    group = task.parallelize([task.args(*positional, **named) for positional, named in CALLS])
    plain = [sample.everything(*positional, **named) for positional, named in CALLS]
    assert [invocation.result for invocation in made] == plain
    assert group.results == plain


def test_keyword_with_the_name_of_a_positional_only_parameter(worked):
    named = {"d": 4, "b": "into kwargs"}
    expected = sample.everything(1, **named)
    assert worked.task(sample.everything)(1, **named).result == expected
    assert worked.direct_task(sample.everything)(1, **named) == expected


@pytest.mark.parametrize("make", ["task", "args"])
def test_any_keyword_name_arrives(worked, make):
    task = worked.task(sample.keywords)
    names = {"self": 1, "args": 2, "func": 3, "keep": 4, "timeout": 5, "task": 6}
    if make == "task":
        assert task(**names).result == names
    else:
        assert task.parallelize([task.args(**names)]).results == [names]


def test_any_keyword_name_arrives_directly(worked):
    direct = worked.direct_task(sample.keywords)
    names = {"self": 1, "args": 2, "kwargs": 3, "submit": 4, "keep": 5}
    assert direct(**names) == names


def test_confusing_parameter_names(worked):
    direct = worked.direct_task(sample.confusing)
    assert direct(1, kwargs=2, func=3, keep=4) == (1, 2, 3, 4, 1)


def test_a_default_is_the_object_itself(worked):
    assert worked.task(sample.with_sentinel)().result is True


@pytest.mark.parametrize(
    ("positional", "named", "message"),
    [
        ((), {"d": 1}, "'a'"),
        ((1,), {}, "'d'"),
        ((1, 2, 3, 4), {}, "'d'"),
        ((1, 2, 3), {"d": 1, "c": 2}, "multiple values"),
    ],
)
def test_a_wrong_call_fails_where_it_is_made(app, spool, positional, named, message):
    task = app.task(sample.everything)
    with pytest.raises(TypeError, match=r"^everything\(\)") as caught:
        task(*positional, **named)
    assert message in str(caught.value)
    assert not os.path.exists(spool)


def test_unpicklable_argument_fails_where_it_is_made(app, spool):
    task = app.task(sample.echo)
    with pytest.raises(SerializationError, match=r"sample_tasks\.echo .*lock"):
        task({"part": [threading.Lock()]})
    with pytest.raises(SerializationError):
        task.parallelize([(1,), (threading.Lock(),)])
    with pytest.raises(SerializationError, match="common"):
        task.parallelize([()], {"value": threading.Lock()})
    with pytest.raises(SerializationError):
        app.direct_task(sample.echo)(threading.Lock())
    assert not [name for name in files_under(spool) if name.startswith(("pending", "tmp"))]


# -- invocations --------------------------------------------------------------------------


def test_the_life_of_an_invocation(app, gate):
    event, name = gate()
    task = app.task(sample.behind_gate)
    invocation = task(name, "value")
    assert isinstance(invocation, Invocation)
    assert isinstance(invocation.id, str)
    assert invocation.status is State.PENDING
    assert not invocation.done()
    with pytest.raises(TimeoutError, match=invocation.id):
        invocation.get(timeout=0.02)
    with working(app):
        wait_until(lambda: invocation.status is State.RUNNING)
        with pytest.raises(TimeoutError):
            invocation.get(timeout=0.02)
        with pytest.raises(TimeoutError):
            invocation.get(timeout=0)
        event.set()
        assert invocation.get(timeout=60) == "value"
    assert invocation.done()
    assert invocation.status is State.SUCCEEDED
    assert invocation.result == invocation.get() == invocation.get(timeout=0) == "value"


def test_a_failed_invocation_fails_each_time(worked):
    invocation = worked.task(sample.divide)(1, 0)
    wait_until(invocation.done)
    assert invocation.status is State.FAILED
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            invocation.get(timeout=60)


@pytest.mark.parametrize("function", [sample.add, sample.async_add])
async def test_async_result(worked, function):
    invocation = worked.task(function)(1, b=2)
    assert await invocation.async_result() == 3
    assert await invocation.async_result() == 3
    with pytest.raises(ZeroDivisionError):
        await worked.task(sample.async_divide)(1, 0).async_result()


def test_invocation_by_id_from_another_client(worked, make_app):
    other = make_app()
    invocation = worked.task(sample.echo)({"x": [1]})
    seen = other.invocation(invocation.id)
    assert seen.get(timeout=60) == {"x": [1]}
    assert invocation.get(timeout=60) == {"x": [1]}
    for _ in range(2):  # now from where its client keeps it
        again = other.invocation(invocation.id)
        assert again.done()
        assert again.status is State.SUCCEEDED
        assert again.get(timeout=60) == seen.get(timeout=60) == {"x": [1]}


async def test_async_invocation_by_id_from_another_client(worked, make_app):
    invocation = worked.task(sample.echo)(5)
    assert await make_app().invocation(invocation.id).async_result() == 5


def test_invocation_by_id_after_its_client_left(app, make_app):
    with working(app):
        invocations = [app.task(sample.echo)(number) for number in range(2)]
        assert invocations[0].get(timeout=60) == 0  # collected; the other one is not
        wait_until(invocations[1].done)
    app.close()
    other = make_app()
    for number, invocation in enumerate(invocations):
        assert other.invocation(invocation.id).get(timeout=60) == number


def test_invocation_by_id_in_the_process_that_made_it(worked):
    invocation = worked.task(sample.echo)(5)
    first = worked.invocation(invocation.id)
    assert first.get(timeout=60) == 5
    for _ in range(2):
        assert worked.invocation(invocation.id).get(timeout=60) == 5
    assert invocation.get(timeout=60) == first.get(timeout=60) == 5


async def test_async_invocation_by_id_in_the_process_that_made_it(worked):
    invocation = worked.task(sample.echo)(5)
    async with asyncio.timeout(PATIENCE):
        for _ in range(2):
            assert await worked.invocation(invocation.id).async_result() == 5
        assert await invocation.async_result() == 5


@pytest.mark.parametrize("handles", ["one", "many"])
def test_several_threads_wait_for_one_invocation(worked, gate, handles):
    event, name = gate()
    invocation = worked.task(sample.behind_gate)(name, "value")
    each = [invocation if handles == "one" else worked.invocation(invocation.id) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(handle.get, PATIENCE) for handle in each]
        wait_until(lambda: invocation.status is State.RUNNING)
        event.set()
        assert [future.result() for future in futures] == ["value"] * 4


@pytest.mark.parametrize("client", ["own", "other"])
async def test_unknown_id(worked, client):
    known = worked.task(sample.echo)(1)
    name = known.id.partition("-")[0] if client == "own" else "abcdefghij"
    unknown = worked.invocation(f"{name}-999999")
    for ask in (lambda: unknown.status, unknown.done, lambda: unknown.get(timeout=PATIENCE)):
        with pytest.raises(UnknownInvocationError, match=unknown.id):
            ask()
    with pytest.raises(UnknownInvocationError):
        await unknown.async_result()
    assert known.get(timeout=60) == 1


@pytest.mark.parametrize("text", ["", "x", "abcdefghij", "../../etc-1", "abcdefghij-1/..", "a-1\n"])
def test_malformed_id(app, spool, text):
    with pytest.raises(ValueError, match="not an invocation id"):
        app.invocation(text)
    assert not os.path.exists(spool)


# -- groups -------------------------------------------------------------------------------


def test_group(worked):
    task = worked.task(sample.scaled)
    items = [(1,), {"x": 2}, task.args(3, factor=2), args(4, offset=1), (5, 1)]
    group = task.parallelize(iter(items))
    assert isinstance(group, InvocationGroup)
    assert len(group) == 5
    assert all(isinstance(member, Invocation) for member in group)
    assert group.results == [10, 20, 6, 41, 5]
    assert [member.result for member in group] == group.results
    assert group[3].result == 41


async def test_async_results_come_in_order(worked):
    group = worked.task(sample.async_scaled).parallelize([(number,) for number in range(20)])
    assert [value async for value in group.async_results()] == [10 * n for n in range(20)]


def test_order_of_results_is_that_of_the_items(worked, gate):
    event, name = gate()
    task = worked.task(sample.behind_gate)
    group = task.parallelize([(name, "last"), *((name, number) for number in range(4))])
    event.set()
    assert group.results == ["last", 0, 1, 2, 3]


def test_empty_group(app, spool):
    group = app.task(sample.scaled).parallelize([])
    assert len(group) == 0
    assert not list(group)
    assert group.results == []


def test_common_args_are_serialized_once(app):
    sample.CountsPickling.pickled = 0
    task = app.task(sample.keywords)
    group = task.parallelize([{"n": n} for n in range(5)], {"shared": sample.CountsPickling()})
    assert sample.CountsPickling.pickled == 1
    with working(app):  # which pickles the results
        for number, value in enumerate(group.results):
            assert value["n"] == number
            assert isinstance(value["shared"], sample.CountsPickling)


def test_an_items_own_argument_counts_more_than_a_common_one(worked):
    items = [(1,), {"x": 2}, {"x": 3, "offset": 0}]
    shared = {"factor": 2, "offset": 1}
    assert worked.task(sample.scaled).parallelize(items, shared).results == [3, 5, 6]


def test_positional_only_parameters_by_name(worked):
    task = worked.task(sample.only_by_position)
    assert task.parallelize([{"x": 5, "y": 3}, (5, 4)]).results == [2, 1]


@pytest.mark.parametrize("bad", [(1, 2, 3, 4), {"y": 1}, 7, "text", [1], None])
def test_a_bad_item_is_named_and_no_call_is_made(app, spool, bad):
    task = app.task(sample.scaled)
    with pytest.raises(TypeError, match=r"^item 1: "):
        task.parallelize([(1,), bad, (2,)])
    assert not os.path.exists(spool)


async def test_a_failed_member_is_named(worked):
    group = worked.task(sample.odd_fails).parallelize([(0,), (2,), (3,), (5,)])
    with pytest.raises(ValueError, match="odd") as caught:
        _ = group.results
    assert caught.value.args == ("odd", 3)
    assert any("item 2 " in note for note in caught.value.__notes__)
    with pytest.raises(ValueError, match="odd") as caught:
        [value async for value in group.async_results()]
    assert any("item 2 " in note for note in caught.value.__notes__)


def test_a_group_that_cannot_be_written_is_taken_back(make_app, spool):
    app = make_app()
    task = app.task(sample.add)
    faulty = FaultyFilesystem()
    app._session._store = open_store(spool, faulty)
    faulty.inject(Fault.fail(errno.ENOSPC, verb="create", path="/tmp/", at=3))
    with pytest.raises(OSError, match="No space left"):
        task.parallelize([(n,) for n in range(5)])
    assert not list(files_under(os.path.join(spool, "pending")))


async def test_a_cancelled_wait_for_a_task_is_forgotten(app):
    invocation = app.task(sample.add)(1)
    waiting = app._session.client.waiter._waiting
    awaited = asyncio.ensure_future(invocation.async_result())
    await async_wait_until(lambda: invocation.id in waiting)
    awaited.cancel()
    with pytest.raises(asyncio.CancelledError):
        await awaited
    await async_wait_until(lambda: invocation.id not in waiting)
    with working(app):
        assert await invocation.async_result() == 2
