"""Executors and their workers as processes that end, are killed and fork."""

import os
import signal
import sys
import sysconfig
from pathlib import Path

import msgspec
import pytest
from acceptance_harness import FSQUEUE, alive, wait_until

import fsqueue
from fsqueue.runner.host import EXECUTOR_APP, EXECUTOR_PREFIX
from fsqueue.spool.format.records import WorkerRecord


@pytest.fixture
def executor(site):
    executor = fsqueue.Executor(root=site.root)
    yield executor
    executor.shutdown(cancel_futures=True)


def executor_worker(site, *options):
    command = (*FSQUEUE, "worker", "--root", str(site.root), "--concurrency", "1", *options)
    return site.start(*command).wait_for_start()


def script(site, text):
    """Start a program of its own, whose functions belong to its main script."""
    path = site.base / "script.py"
    path.write_text(text, "utf-8")
    return site.start(sys.executable, str(path))


def test_a_worker_without_an_application_runs_functions_of_the_main_script(site):
    executor_worker(site)
    ran = script(
        site,
        "import os, fsqueue\n"
        "def where(): return os.getpid()\n"
        "with fsqueue.Executor() as executor:\n"
        "    assert executor.submit(where).result() != os.getpid()\n"
        "    print(sum(executor.map(lambda x: x * x, range(10))))\n",
    )
    assert ran.wait() == 0, ran.text()
    assert ran.output() == "285\n"


def test_an_application_s_worker_runs_such_calls_only_when_told_to(site, kind, executor):
    other = site.worker(kind, 1).wait_for_start()
    future = executor.submit(os.getpid)
    assert site.tasks.pid() > 0  # it works, and left the other call alone
    assert not future.done()
    told = site.worker(kind, 1, "--executor").wait_for_start()
    assert future.result(60) in {told.pid, *told.children()}
    assert other.popen.poll() is None


def test_json_is_refused_by_a_worker(site):
    ran = site.fsqueue("worker", "--root", str(site.root), FSQUEUE__SERIALIZER="json")
    assert ran.returncode == 2
    assert "functions, which JSON cannot hold" in ran.stderr


def test_the_exit_of_the_caller_waits_for_its_calls(site):
    executor_worker(site)
    mark = site.base / "mark"
    ran = script(
        site,
        "import fsqueue, pathlib\n"
        "executor = fsqueue.Executor()\n"
        f"executor.submit(lambda: pathlib.Path({str(mark)!r}).touch())\n",
    )
    assert ran.wait() == 0, ran.text()
    assert mark.exists()


def test_detached_calls_outlive_their_caller(site):
    ran = script(
        site,
        "import fsqueue\n"
        "with fsqueue.Executor(2, detach=True) as executor:\n"
        "    futures = [executor.submit(pow, 2, n) for n in range(5)]\n"
        "print(*(future.id for future in futures))\n",
    )
    assert ran.wait() == 0, ran.text()
    executor_worker(site)
    for number, invocation_id in enumerate(ran.output().split()):
        assert site.tasks.app.invocation(invocation_id).get(60) == 2**number


CALLS = {
    "submit": "futures = [executor.submit(hold, n) for n in range(5)]; futures[-1].result()",
    "map": "list(executor.map(hold, range(10), chunksize=2))",
    "joblib": """
import joblib, fsqueue.integrations.joblib
with joblib.parallel_config("fsqueue", n_jobs=5):
    joblib.Parallel(batch_size=1)(joblib.delayed(hold)(n) for n in range(50))
""",
}


@pytest.mark.parametrize("way", CALLS)
def test_a_killed_caller_leaves_nothing(site, way):
    """Its pending calls are withdrawn, and the one that runs finishes."""
    marks = site.folder("marks")
    worker = executor_worker(site, "--queue", "default")
    caller = script(
        site,
        "import fsqueue, pathlib, time\n"
        "def hold(number):\n"
        f"    folder = pathlib.Path({marks.folder!r})\n"
        "    with (folder / 'starts').open('a') as file: file.write('1\\n')\n"
        "    while not (folder / 'release').exists(): time.sleep(0.01)\n"
        f"executor = fsqueue.Executor()\n{CALLS[way]}",
    )
    marks.wait_for_starts(1)
    wait_until(lambda: site.files("pending"))
    caller.signal(signal.SIGKILL)
    caller.wait()
    marks.release()
    wait_until(lambda: not site.files("pending") and not site.files("running"))
    assert marks.pids("starts") == [1] * (2 if way == "map" else 1)  # those of one call
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0, worker.text()
    for top in ("done", "kept", "failed"):
        assert not site.names(top), top
    # A client's record is part of the history of runs, and expires with it.
    assert not [name for name in site.names("clients") if not name.endswith(".json")]


def test_a_forked_child_has_an_executor_without_calls(site):
    executor_worker(site)
    ran = script(
        site,
        "import fsqueue, os\n"
        "with fsqueue.Executor() as executor:\n"
        "    first = executor.submit(pow, 2, 3)\n"
        "    if (child := os.fork()) == 0:\n"
        "        assert executor.submit(pow, 2, 4).result() == 16\n"
        "        executor.shutdown()\n"
        "        os._exit(0)\n"
        "    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "    print(first.result())\n",
    )
    assert ran.wait() == 0, ran.text()
    assert ran.output() == "8\n"


def test_local_workers_end_with_their_executor(site):
    ran = script(
        site,
        "import fsqueue, os\n"
        "with fsqueue.Executor(workers=2) as executor:\n"
        "    assert executor._max_workers == 2\n"
        "    print(executor.submit(os.getpid).result())\n",
    )
    assert ran.wait() == 0, ran.text()
    pid = int(ran.output())
    wait_until(lambda: not alive(pid))


@pytest.mark.parametrize("way", ["executor", "joblib"])
def test_local_workers_of_a_killed_caller_leave(site, way):
    """No process stays that nothing would end any more."""
    pids = site.base / "pids"
    ran = script(
        site,
        "import fsqueue, os, pathlib, signal\n"
        "def note(number):\n"
        f"    path = pathlib.Path({str(pids)!r})\n"
        "    path.with_suffix('.new').write_text(f'{os.getpid()} {os.getppid()}')\n"
        "    path.with_suffix('.new').rename(path)\n"
        + {
            "executor": "executor = fsqueue.Executor(workers=1)\nexecutor.submit(note, 1)\n",
            "joblib": "import joblib, fsqueue.integrations.joblib\n"
            "with joblib.parallel_config('fsqueue', workers=1, n_jobs=2):\n"
            "    joblib.Parallel(batch_size=1)(joblib.delayed(note)(n) for n in range(2))\n"
            "    signal.pause()\n",
        }[way]
        + "signal.pause()\n",
    )
    wait_until(pids.exists)
    ran.signal(signal.SIGKILL)
    ran.wait()
    slot, worker = map(int, pids.read_text().split())
    wait_until(lambda: not alive(slot) and not alive(worker))


def test_a_call_that_kills_its_workers_fails_alone(site, executor):
    executor_worker(site)
    lost = executor.submit(os._exit, 3)
    assert executor.submit(pow, 2, 3).result(60) == 8
    with pytest.raises(fsqueue.WorkerLostError):
        lost.result(60)


def test_a_caller_is_told_the_versions_of_the_workers(site, executor, caplog):
    """Calls by value never go to another version of Python."""
    worker = executor_worker(site)
    (path,) = (site.root / "workers").glob("*.json")
    record = msgspec.json.decode(path.read_bytes(), type=WorkerRecord)
    # As if it ran another version: nothing else here knows the worker's.
    other = EXECUTOR_APP.removeprefix(EXECUTOR_PREFIX)[0] + "99"
    queues = tuple(each.replace(EXECUTOR_APP, EXECUTOR_PREFIX + other) for each in record.queues)
    worker.signal(signal.SIGSTOP)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(record, queues=queues)))
    future = executor.submit(pow, 2, 3)
    wait_until(lambda: "fsqueue worker --root" in caplog.text)
    assert f"no worker with Python {sysconfig.get_python_version()}" in caplog.text
    assert "The workers there have Python 3.99" in caplog.text
    # The same command again would start another of those.
    assert f"Start one with: {sys.executable} -m fsqueue worker --root {site.root}" in caplog.text
    assert future.cancel()
    worker.signal(signal.SIGCONT)
    assert Path(worker.log).exists()
