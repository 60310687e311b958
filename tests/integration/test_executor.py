"""`fsqueue.Executor` with a worker in a thread of this process, or with its slots in processes."""

from __future__ import annotations

import concurrent.futures as cf
import gc
import os
import threading

import pytest
from support import PATIENCE, wait_until

import fsqueue
from fsqueue.errors import ConfigError
from fsqueue.executor.application import ByValue
from fsqueue.executor.constant import constant_parts
from fsqueue.executor.errors import InitializerError
from fsqueue.results.futures import CallFuture
from integration import sample_tasks
from integration.conftest import working


@pytest.fixture(params=["thread", "process"])
def served(request, spool, monkeypatch):
    """A spool with a worker of two slots that runs the calls of executors."""
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    app = ByValue(spool)
    with working(app, app.make_runner(kind=request.param, concurrency=2)):
        yield spool
    app.close()


@pytest.fixture
def in_threads(spool):
    app = ByValue(spool)
    with working(app, app.make_runner(kind="thread", concurrency=2)):
        yield spool
    app.close()


@pytest.fixture
def alone():
    gc.collect()
    wait_until(lambda: not _threads(), what="the executors of other tests have ended")


def test_functions_travel_by_value(served):
    factor = 7

    def factorial(n):
        return 1 if n < 2 else n * factorial(n - 1)

    with fsqueue.Executor(root=served) as executor:
        assert executor.submit(lambda x: x * factor, 3).result(PATIENCE) == 21
        assert executor.submit(factorial, 5).result(PATIENCE) == 120
        assert executor.submit(dict, a=1, fn=2, self=3).result(PATIENCE) == {
            "a": 1,
            "fn": 2,
            "self": 3,
        }
        error = executor.submit(divmod, 1, 0).exception(PATIENCE)
        assert isinstance(error, ZeroDivisionError)
        assert executor._max_workers == 2


def test_a_function_is_sent_as_it_is_at_each_call(in_threads):
    numbers = [1]
    with fsqueue.Executor(root=in_threads) as executor:
        first = executor.submit(lambda: sum(numbers))
        numbers.append(2)
        second = executor.submit(lambda: sum(numbers))
        assert (first.result(PATIENCE), second.result(PATIENCE)) == (1, 3)


@pytest.mark.parametrize("chunksize", ["auto", 1, 3, 100])
def test_map_yields_the_values_in_order(served, chunksize):
    with fsqueue.Executor(root=served) as executor:
        got = executor.map(pow, range(40), range(40), chunksize=chunksize, timeout=PATIENCE)
        assert list(got) == list(map(pow, range(40), range(40)))


def test_map_yields_the_values_before_an_exception(in_threads):
    with fsqueue.Executor(root=in_threads) as executor:
        values = executor.map(divmod, [1, 1, 1], [1, 0, 1], chunksize=3)
        assert next(values) == (1, 0)
        with pytest.raises(ZeroDivisionError):
            next(values)


def test_map_goes_on_after_the_block(in_threads):
    with fsqueue.Executor(root=in_threads) as executor:
        values = executor.map(str, range(2_000))
    assert list(values) == [str(n) for n in range(2_000)]


def test_a_buffer_bounds_what_map_reads(in_threads):
    items = iter(range(100))
    with fsqueue.Executor(root=in_threads) as executor:
        values = executor.map(str, items, buffersize=4)
        assert next(values) == "0"
        assert next(items) == 5


def test_what_cannot_be_serialized_fails_the_future_only(in_threads):
    with fsqueue.Executor(root=in_threads) as executor:
        failed = executor.submit(len, threading.Lock())
        with pytest.raises(fsqueue.SerializationError, match=r"the arguments of len .* argument 0"):
            failed.result()
        with pytest.raises(fsqueue.SerializationError):
            list(executor.map(threading.Lock().acquire, [1]))
        assert executor.submit(len, "abc").result(PATIENCE) == 3


class Unloadable:
    """Cannot be unpickled."""

    def __init__(self, error=ValueError):
        self.error = error

    def __reduce__(self):
        return _raise, (self.error("unloadable"),)


def _raise(error):
    raise error


@pytest.mark.parametrize("error", [ValueError, SystemExit])
@pytest.mark.parametrize(
    ("function", "argument"), [(id, Unloadable), (Unloadable, lambda error: error)]
)
def test_what_cannot_be_unpickled_fails_as_in_a_standard_pool(
    in_threads, function, argument, error
):
    """There the worker is lost, which programs handle; here it goes on."""
    with fsqueue.Executor(root=in_threads) as executor:
        failed = executor.submit(function, argument(error)).exception(PATIENCE)
        assert isinstance(failed, fsqueue.WorkerLostError)
        assert isinstance(failed, fsqueue.DeserializationError)
        assert "unloadable" in str(failed)
        with pytest.raises(fsqueue.WorkerLostError):
            list(executor.map(function, [argument(error)], timeout=PATIENCE))
        assert executor.submit(len, "abc").result(PATIENCE) == 3


class FalseError(Exception):
    def __bool__(self):
        return False


def test_an_exception_that_is_false_is_raised(in_threads):
    with fsqueue.Executor(root=in_threads) as executor:
        future = executor.submit(_raise, FalseError("false"))
        for _ in range(2):  # waiting for it, and when it is there
            with pytest.raises(FalseError):
                future.result(PATIENCE)
        with pytest.raises(FalseError):
            list(executor.map(_raise, [FalseError("false")], timeout=PATIENCE))


def test_at_most_max_workers_calls_are_in_the_spool(spool):
    with fsqueue.Executor(2, root=spool) as executor:
        futures = [executor.submit(pow, 2, n) for n in range(5)]
        pending = os.path.join(spool, "pending")
        files = [name for _, _, names in os.walk(pending) for name in names]
        assert len(files) == 2
        assert all(future.cancel() for future in futures[2:])
        app = ByValue(spool)
        with working(app, app.make_runner(kind="thread")):
            assert [f.result(PATIENCE) for f in futures[:2]] == [1, 2]
        app.close()


def test_a_pending_call_can_be_cancelled_and_a_claimed_one_cannot(in_threads, tmp_path):
    gate = tmp_path / "gate"

    def wait_for(path):
        open(f"{path}.begun", "w").close()
        wait_until(lambda: os.path.exists(path))
        return "done"

    with fsqueue.Executor(root=in_threads) as executor:
        running = [executor.submit(wait_for, f"{gate}{n}") for n in range(2)]
        wait_until(lambda: all(os.path.exists(f"{gate}{n}.begun") for n in range(2)))
        waiting = executor.submit(pow, 2, 2)
        assert waiting.cancel()
        assert waiting.cancelled()
        assert not any(future.cancel() for future in running)
        for n in range(2):
            (tmp_path / f"gate{n}").touch()
        assert [future.result(PATIENCE) for future in running] == ["done", "done"]
        with pytest.raises(cf.CancelledError):
            waiting.result()


def test_a_map_with_a_buffer_reads_no_more_after_a_shutdown(in_threads):
    with fsqueue.Executor(root=in_threads) as executor:
        values = executor.map(str, range(100), buffersize=4)
    with pytest.raises(RuntimeError, match="after shutdown"):
        list(values)


def test_an_initializer_runs_once_in_a_process_before_the_calls(in_threads, tmp_path):
    def note(path):
        with open(path, "a") as file:
            file.write("x")

    path = str(tmp_path / "notes")
    with fsqueue.Executor(root=in_threads, initializer=note, initargs=(path,)) as executor:
        assert list(executor.map(abs, range(10), chunksize=1)) == list(range(10))
    assert (tmp_path / "notes").read_text() == "x"


@pytest.mark.parametrize("kind", [ValueError, SystemExit])
def test_a_failing_initializer_breaks_only_its_executor(served, caplog, kind):
    def fail():
        raise kind("no licence")

    with (
        fsqueue.Executor(root=served, initializer=fail) as broken,
        fsqueue.Executor(root=served) as other,
    ):
        error = broken.submit(abs, 1).exception(PATIENCE)
        assert isinstance(error, cf.BrokenExecutor)
        assert isinstance(error, fsqueue.WorkerLostError)
        assert "no licence" in str(error)
        with pytest.raises(cf.BrokenExecutor, match="no licence"):
            broken.submit(abs, 1)
        assert broken._broken
        assert other.submit(abs, -1).result(PATIENCE) == 1
    assert "no licence" in caplog.text


def test_a_map_ends_when_its_initializer_fails(alone, in_threads):
    def fail():
        raise ValueError("no licence")

    with fsqueue.Executor(root=in_threads, initializer=fail) as broken:
        values = broken.map(abs, range(2_000))
        with pytest.raises(cf.BrokenExecutor, match="no licence"):
            list(values)
    assert broken._dispatcher.is_idle
    assert not _threads()


@pytest.mark.parametrize("published", [False, True])
def test_a_call_that_is_published_while_its_executor_breaks_fails(alone, app, published):
    calls = []

    def publish():
        calls.append(app.task(sample_tasks.add)(1))
        executor._dispatcher.fail(InitializerError("no licence"))
        return calls[0].pending_result

    with fsqueue.Executor(root=app.root) as executor:
        dispatcher = executor._dispatcher
        if not published:
            dispatcher.fail(InitializerError("no licence"))
        future = CallFuture(publish=publish, backlog=dispatcher)
        dispatcher.submit(future, late=True)
        assert isinstance(future.exception(PATIENCE), cf.BrokenExecutor)
    assert len(calls) == published
    assert not [name for _, _, names in os.walk(f"{app.root}/pending") for name in names]
    assert not _threads()


def test_a_map_of_many_items_that_cannot_be_serialized_fails(in_threads, caplog):
    items = [threading.Lock()] * 20_000
    with fsqueue.Executor(root=in_threads) as executor, pytest.raises(fsqueue.SerializationError):
        list(executor.map(len, items))
    assert "RecursionError" not in caplog.text


def _threads():
    return [each for each in threading.enumerate() if each.name.startswith("fsqueue-resolver")]


def test_no_thread_is_left_after_a_shutdown(alone, in_threads):
    with fsqueue.Executor(root=in_threads) as executor:
        assert list(executor.map(abs, range(3))) == [0, 1, 2]
        assert len(_threads()) == 1
    assert not _threads()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(abs, 1)


def test_an_executor_that_is_forgotten_ends_with_its_calls(alone, in_threads):
    executor = fsqueue.Executor(root=in_threads)
    values = executor.map(abs, range(-5, 5))
    del executor
    assert list(values) == [5, 4, 3, 2, 1, 0, 1, 2, 3, 4]
    wait_until(lambda: not _threads())


def test_shutdown_can_cancel_what_no_worker_has_claimed(spool):
    executor = fsqueue.Executor(root=spool)
    futures = [executor.submit(abs, n) for n in range(5)]
    executor.shutdown(cancel_futures=True)
    assert all(future.cancelled() for future in futures)


def test_json_is_refused(spool):
    with pytest.raises(ConfigError, match="functions, which JSON cannot hold"):
        fsqueue.Executor(root=spool, serializer="json")
    with pytest.raises(ConfigError, match="leave out `executor`"):
        fsqueue.FSQueue("t", root=spool, serializer="json").make_runner(executor=True)


@pytest.mark.parametrize("bad", [0, -1])
def test_numbers_must_be_positive(spool, bad):
    with pytest.raises(ValueError, match="max_workers must be greater than 0"):
        fsqueue.Executor(bad, root=spool)
    with pytest.raises(ValueError, match="workers must be greater than 0"):
        fsqueue.Executor(workers=bad, root=spool)


def test_mistaken_arguments_are_told_the_right_ones(spool):
    with pytest.raises(TypeError, match=f"shared directory as root='{spool}'"):
        fsqueue.Executor(spool)
    with pytest.raises(ConfigError, match="argument worker of an executor; did you mean workers"):
        fsqueue.Executor(root=spool, worker=2)
    with fsqueue.Executor(root=spool) as executor, pytest.raises(TypeError, match="or 'auto'"):
        executor.map(abs, [1], chunksize="big")


def test_detached_calls_can_be_collected_by_their_ids(spool):
    with fsqueue.Executor(root=spool, detach=True) as executor:
        future = executor.submit(pow, 2, 5)
        invocation_id = future.id
    app = ByValue(spool)
    with working(app, app.make_runner(kind="thread")):
        assert future.result(PATIENCE) == 32
        other = fsqueue.FSQueue("another", root=spool)
        assert other.invocation(invocation_id).get(PATIENCE) == 32
        other.close()
    app.close()
    executor.shutdown()


def test_a_caller_that_no_worker_serves_is_told_how_to_start_one(spool, caplog):
    with fsqueue.Executor(root=spool) as executor:
        future = executor.submit(abs, 1)
        wait_until(lambda: "fsqueue worker --root" in caplog.text)
        assert f"fsqueue worker --root {spool}" in caplog.text
        assert future.cancel()


def test_a_large_closure_is_sent_once_and_again_when_it_has_changed(in_threads):
    big = bytes(100_000)
    blobs = os.path.join(in_threads, "blobs")
    with fsqueue.Executor(root=in_threads) as executor:
        futures = [executor.submit(lambda n: len(big) + n, n) for n in range(10)]
        assert [future.result(PATIENCE) for future in futures] == [100_000 + n for n in range(10)]
        assert len(os.listdir(blobs)) == 1
        big = bytes(200_000)
        assert executor.submit(lambda n: len(big) + n, 1).result(PATIENCE) == 200_001


@pytest.mark.parametrize("place", ["closure", "global", "default"])
def test_large_bytes_of_a_function_are_one_object_for_all_calls_of_a_process(in_threads, place):
    big, marks = bytes(100_000), f"bytes-{place}"

    def keep(given):
        sample_tasks.gates.setdefault(marks, []).append(given)

    if place == "closure":

        def body():
            keep(big)

    elif place == "global":
        code = compile("def body(): keep(big)", "<notebook>", "exec")
        names = {"big": big, "keep": keep, "__name__": "__main__"}
        exec(code, names)
        body = names["body"]
    else:

        def body(given=big):
            keep(given)

    with fsqueue.Executor(root=in_threads) as executor:
        for _ in range(3):
            executor.submit(body).result(PATIENCE)
    found = sample_tasks.gates.pop(marks)
    assert len(found) == 3
    assert all(each is found[0] and each == big for each in found)
    assert len(os.listdir(os.path.join(in_threads, "blobs"))) == 1


@pytest.mark.parametrize("function", [abs, os.path.basename, len])
def test_a_function_that_is_sent_by_its_name_is_known_by_it(function):
    assert constant_parts(function) == (function,)


def test_a_function_that_another_has_replaced_is_not_sent_by_its_name():
    def former(path):
        return path

    former.__module__, former.__qualname__ = os.path.__name__, "basename"
    assert constant_parts(former) != (former,)
