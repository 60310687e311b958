"""joblib's backend, on real workers."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import signal
import threading
from pathlib import Path

import joblib
import numpy as np
import pytest
from support import PATIENCE, wait_until

import fsqueue
import fsqueue.integrations.joblib as integration
from fsqueue.executor import application

# Worker processes and their clients leave locks, which expire.
pytestmark = [pytest.mark.leaves_strays, pytest.mark.filterwarnings("ignore::UserWarning")]

delayed = joblib.delayed


@pytest.fixture
def served(spool, monkeypatch):
    """A spool with a worker of two slots for the calls of executors."""
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    app = application.ByValue(spool)
    with app.workers(1, concurrency=2):
        wait_until(lambda: any(each.slots for each in app.status().snapshot.workers))
        yield spool
    app.close()


# See test_p9_a_body_waits_with_one_slot.
@pytest.fixture(params=["thread", pytest.param("process", marks=pytest.mark.leaves_strays)])
def one_slot(request, spool, monkeypatch):
    monkeypatch.setenv("FSQUEUE__ROOT", spool)
    app = application.ByValue(spool)
    with app.workers(1, runner=request.param, concurrency=1):
        yield spool
    app.close()


def executor_threads():
    return [each for each in threading.enumerate() if each.name == "fsqueue-resolver"]


def written():
    """Bytes that this process has written, to anything."""
    return int(Path("/proc/self/io").read_text().partition("wchar: ")[2].split()[0])


def total(array, number):
    return float(array.sum()) + number


def nested(number):
    with joblib.parallel_config("fsqueue", n_jobs=2):
        return sum(joblib.Parallel()(delayed(pow)(each, number) for each in range(3)))


def variables(_):
    return os.environ["OMP_NUM_THREADS"], os.environ["OPENBLAS_NUM_THREADS"]


def wait_for_death(path, number):
    if number == 0:
        wait_until(lambda: os.listdir(path))
        raise LookupError("first")
    Path(path, str(number)).write_text("began", "utf-8")
    signal.pause()  # until it is killed


def test_results_are_those_of_one_job(served):
    with joblib.parallel_config("fsqueue", root=served, n_jobs=2):
        assert joblib.Parallel()(delayed(pow)(each, 2) for each in range(50)) == [
            each**2 for each in range(50)
        ]
        assert joblib.Parallel(n_jobs=1)(delayed(os.getpid)() for _ in range(2)) == 2 * [
            os.getpid()
        ]
        names = joblib.Parallel(batch_size=1)(
            delayed(lambda _: os.getpid())(each) for each in range(4)
        )
    assert os.getpid() not in names


def test_all_jobs_are_the_slots_of_all_workers(served):
    with joblib.parallel_config("fsqueue", root=served):
        assert joblib.effective_n_jobs(-1) == 2
        assert joblib.effective_n_jobs(-2) == 1
        with pytest.raises(ValueError, match="n_jobs == 0"):
            joblib.effective_n_jobs(0)


def test_a_large_array_is_written_once(served):
    array = np.arange(1_000_000.0)
    with joblib.parallel_config("fsqueue", root=served, n_jobs=2):
        before = written()
        found = joblib.Parallel(batch_size=1)(delayed(total)(array, each) for each in range(20))
        bytes_written = written() - before
    assert found == [array.sum() + each for each in range(20)]
    assert array.nbytes <= bytes_written < 1.1 * array.nbytes


@pytest.mark.parametrize("return_as", ["generator", "generator_unordered"])
def test_results_come_one_by_one(served, return_as):
    with joblib.parallel_config("fsqueue", root=served, n_jobs=2):
        found = joblib.Parallel(return_as=return_as)(delayed(abs)(-each) for each in range(5))
        assert sorted(found) == list(range(5))


def test_a_timeout_stops_the_bodies(served):
    app = application.ByValue(served)
    with (
        joblib.parallel_config("fsqueue", root=served, n_jobs=2),
        pytest.raises(multiprocessing.TimeoutError),
    ):
        joblib.Parallel(timeout=0.5)(delayed(signal.pause)() for _ in range(4))
    wait_until(lambda: not any(each.running for each in app.status().snapshot.workers))
    app.close()


def test_an_error_stops_the_other_tasks(served, tmp_path):
    app = application.ByValue(served)
    with joblib.parallel_config("fsqueue", root=served, n_jobs=2), pytest.raises(LookupError):
        joblib.Parallel(batch_size=1)(
            delayed(wait_for_death)(str(tmp_path), each) for each in (1, 0, 2, 3)
        )
    wait_until(lambda: not any(each.running for each in app.status().snapshot.workers))
    app.close()


def test_a_managed_parallel_goes_on_after_an_error(served):
    with joblib.parallel_config("fsqueue", root=served), joblib.Parallel(n_jobs=2) as parallel:
        with pytest.raises(ZeroDivisionError):
            parallel(delayed(divmod)(1, each) for each in (1, 0))
        assert parallel(delayed(divmod)(each, 1) for each in (1, 2)) == [(1, 0), (2, 0)]


def test_what_cannot_be_sent_is_an_error_of_pickle(served):

    with (
        joblib.parallel_config("fsqueue", root=served, n_jobs=2),
        pytest.raises(pickle.PicklingError, match="the task to send"),
    ):
        joblib.Parallel()(delayed(id)(threading.Lock()) for _ in range(3))


@pytest.mark.concurrent
def test_nested_calls_do_not_deadlock_with_one_slot(one_slot):
    with joblib.parallel_config("fsqueue", root=one_slot, n_jobs=2):
        found = joblib.Parallel(batch_size=1, timeout=PATIENCE)(delayed(nested)(n) for n in (1, 2))
    assert found == [3, 5]


def test_native_threads_are_limited(served):
    with joblib.parallel_config("fsqueue", root=served, n_jobs=2, inner_max_num_threads=3):
        assert joblib.Parallel()([delayed(variables)(0)]) == [("3", "3")]
    from threadpoolctl import threadpool_info

    def pools():
        np.dot(np.ones((50, 50)), np.ones((50, 50)))
        return [each["num_threads"] for each in threadpool_info()]

    with joblib.parallel_config("fsqueue", root=served, n_jobs=2, inner_max_num_threads=1):
        (numbers,) = joblib.Parallel()([delayed(pools)()])
    assert set(numbers) <= {1}


def test_a_backend_can_be_sent(served):
    backend = integration.FSQueueBackend(1, 2, root=served)
    again = pickle.loads(pickle.dumps(backend))
    assert (again.nesting_level, again.inner_max_num_threads) == (1, 2)


def test_local_workers_serve_several_calls(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with joblib.parallel_config("fsqueue", workers=2, n_jobs=-1):
        first = joblib.Parallel(batch_size=1)(delayed(os.getppid)() for _ in range(4))
        second = joblib.Parallel(batch_size=1)(delayed(os.getppid)() for _ in range(4))
    assert len({*first, *second}) <= 2


@pytest.fixture
def without_collections():
    """No cycle of objects is freed in the test."""
    gc.disable()
    yield
    gc.enable()


def workers_have_left(tmp_path):
    """Whether the threads of executors have ended, and with them their private folders."""
    return not executor_threads() and not list(tmp_path.rglob("spool.json"))


@pytest.mark.parametrize("form", [joblib.parallel_config, joblib.parallel_backend])
def test_local_workers_leave_at_the_end_of_the_block(
    tmp_path, monkeypatch, without_collections, form
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with form("fsqueue", workers=1, n_jobs=2) as config:
        parallel = joblib.Parallel(batch_size=1)
        assert parallel(delayed(abs)(-each) for each in range(3)) == [0, 1, 2]
        assert not workers_have_left(tmp_path)
    wait_until(lambda: workers_have_left(tmp_path), what="local workers leave")
    # What was made in the block works after it, with workers of its own.
    assert parallel(delayed(abs)(-each) for each in range(3)) == [0, 1, 2]
    wait_until(lambda: workers_have_left(tmp_path), what="local workers leave again")
    del config


def test_local_workers_leave_after_an_error_in_the_block(
    tmp_path, monkeypatch, without_collections
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with (
        pytest.raises(ZeroDivisionError) as caught,
        joblib.parallel_config("fsqueue", workers=1, n_jobs=2),
    ):
        joblib.Parallel(batch_size=1)(delayed(divmod)(1, each) for each in range(3))
    wait_until(lambda: workers_have_left(tmp_path), what="local workers leave")
    assert caught.tb  # its frames refer to objects of joblib


def test_results_can_be_read_after_the_block_whose_workers_make_them(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with joblib.parallel_config("fsqueue", workers=1, n_jobs=2):
        found = joblib.Parallel(batch_size=1, return_as="generator")(
            delayed(abs)(-each) for each in range(20)
        )
    assert list(found) == list(range(20))
    wait_until(lambda: workers_have_left(tmp_path), what="local workers leave")


def test_local_workers_of_a_parallel_leave_with_it(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    parallel = joblib.Parallel(2, backend="fsqueue", batch_size=1, workers=1)
    assert parallel(delayed(abs)(-each) for each in range(3)) == [0, 1, 2]
    del parallel
    gc.collect()  # its parts refer to each other
    wait_until(lambda: workers_have_left(tmp_path), what="local workers leave")


def test_no_thread_is_left(served):
    with joblib.parallel_config("fsqueue", root=served, n_jobs=2):
        joblib.Parallel()(delayed(abs)(each) for each in range(3))
    wait_until(lambda: not executor_threads())


def test_scikit_learn_finds_the_same(served):
    pytest.importorskip("sklearn")
    from sklearn.datasets import load_digits
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    X, y = (each[:200] for each in load_digits(return_X_y=True))

    def results(n_jobs):
        search = GridSearchCV(SVC(), {"C": [0.1, 1, 10]}, cv=3, n_jobs=n_jobs).fit(X, y)
        forest = RandomForestClassifier(8, random_state=0, n_jobs=n_jobs).fit(X, y)
        return search.cv_results_["mean_test_score"], forest.predict_proba(X)

    expected = results(1)
    with joblib.parallel_config("fsqueue", root=served, n_jobs=2):
        found = results(2)
    for one, other in zip(expected, found, strict=True):
        assert np.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_the_executor_is_public():
    assert issubclass(type(fsqueue.Executor), type)
