"""Results and arguments that do not fit: on a small disk, and under a file size limit."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import pytest
from acceptance_harness import wait_until
from support import files_under

MIB = 1 << 20
DISK = 8 * MIB
LIMIT = 2 * MIB
TASKS = """
from fsqueue import FSQueue, triggers

app = FSQueue("large")

@app.task(max_attempts=1)
def make(size, kind=bytes):
    return kind(size)

@app.direct_task
def length(data):
    return len(data)

class LargeError(Exception):
    pass

@app.task
def fail(size):
    raise LargeError("the reason", bytes(size))

@app.task(retry_for=ConnectionError, retry_delay=0.0, max_retries=1)
def fail_retried(size):
    error = ConnectionError("the reason")
    error.data = bytes(size)
    raise error

@app.task(call_result_cache=True)
def cached(size):
    return bytes(size)

@app.task
def small():
    return 16 << 20

@app.task(triggers=triggers.on_status(small, arguments=lambda end: (bytes(16 << 20),)))
def triggered(data):
    return len(data)
"""


@pytest.fixture
def disk(site):
    """The site's spool on a filesystem of 8 MiB."""
    site.root.mkdir(mode=0o700)
    options = f"size={DISK},mode=700"
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "fsqueue", site.root], check=False
    )
    if made.returncode:
        pytest.skip("this user may not mount")
    try:
        yield site
    finally:
        for process in site._started:
            process.kill()
        if site.tasks is not None:
            site.tasks.app.close()
        subprocess.run(["umount", "-l", site.root], check=True)


def start(site, kind, *before):
    (site.project / "large.py").write_text(TASKS, "utf-8")
    command = (sys.executable, "-m", "fsqueue", "worker", "large:app", "--runner", kind)
    return site.start(*before, *command, "--concurrency", "1").wait_for_start()


def caller(site, code, *before):
    """What a caller prints: of each expression, its value or its error."""
    lines = [
        "import large, sys",
        "def show(work):",
        "    try: print('value', work(), flush=True)",
        "    except BaseException as error:",
        "        print(type(error).__name__, str(error).replace(chr(10), ' '), flush=True)",
        *(f"show(lambda: {each})" for each in code),
    ]
    done = site.run(*before, sys.executable, "-c", "\n".join(lines))
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def stop(worker):
    worker.signal(signal.SIGTERM)
    assert worker.wait() == 0


def stray(site):
    return [name for name in files_under(site.root) if name.startswith("tmp/")]


AFTER = "large.length(b'after')"


@pytest.mark.parametrize("task", ["make", "cached"])
def test_a_result_that_is_larger_than_the_disk(disk, kind, task):
    worker = start(disk, kind)
    refused, after = caller(disk, [f"len(large.{task}({2 * DISK}).get(60))", AFTER])
    assert refused.startswith("ResultTooLargeError ")
    assert f"the result of large.{task}" in refused
    assert f"a file of 16.0 MiB does not fit into {disk.root}" in refused
    assert "of 8.0 MiB free" in refused
    assert "return its path" in refused
    assert after == "value 5"
    stop(worker)
    assert stray(disk) == []
    assert "its result cannot be stored" in worker.text()


def test_buffers_and_batches_and_exceptions_that_are_larger_than_the_disk(disk, kind):
    worker = start(disk, kind)
    buffers, batch, error, retried, after = caller(
        disk,
        [
            f"large.make({2 * DISK}, bytearray).get(60)",
            f"large.make.options(parallel_batch_size=4).parallelize([({DISK // 2},)] * 4).get(60)",
            f"large.fail({2 * DISK}).get(60)",
            f"large.fail_retried({2 * DISK}).get(60)",
            AFTER,
        ],
    )
    assert buffers.startswith("ResultTooLargeError ")
    assert batch.startswith("ResultTooLargeError ")
    assert "try a smaller parallel_batch_size" in batch
    for text, name in ((error, "LargeError"), (retried, "ConnectionError")):
        assert text.startswith("RemoteError ")
        assert f"{name}: " in text
        assert "the reason" in text
        assert "cannot be stored" in text
    assert after == "value 5"
    stop(worker)
    assert stray(disk) == []


def test_arguments_that_are_larger_than_the_disk(disk):
    worker = start(disk, "thread")
    alone, common, item, after = caller(
        disk,
        [
            f"large.length(bytes({2 * DISK}))",
            f"large.make.parallelize([(1,)], dict(kind=bytearray({2 * DISK})))",
            f"large.make.parallelize([(1,), (bytes({2 * DISK}),), (1,)])",
            AFTER,
        ],
    )
    for refused in (alone, common, item):
        assert refused.startswith("StorageError ")
        assert f"a file of 16.0 MiB does not fit into {disk.root}" in refused
    assert after == "value 5"
    stop(worker)
    assert stray(disk) == []
    assert [name for name in files_under(disk.root) if name.startswith("pending/")] == []


def test_a_trigger_whose_arguments_are_larger_than_the_disk_holds_up_no_result(disk, kind):
    worker = start(disk, kind)
    assert caller(disk, ["large.small().get(60)", AFTER]) == [f"value {2 * DISK}", "value 5"]
    assert (
        "the arguments for task large.triggered could not be made or stored; it was not called for"
        in worker.text()
    )
    stop(worker)
    assert stray(disk) == []


def test_a_result_waits_while_the_disk_is_full_for_everybody(disk, kind):
    worker = start(disk, kind)
    filler = disk.root / "filler"
    with open(filler, "wb") as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
            file.flush()
            left = os.statvfs(disk.root)
            if left.f_bavail * left.f_frsize < MIB:
                break
    waiting = disk.call(caller, disk, [f"len(large.make({MIB + 1000}).get(50))"])
    worker.wait_for_log("does not fit into")
    os.truncate(filler, MIB)
    assert waiting.result(60) == [f"value {MIB + 1000}"]
    stop(worker)


@pytest.mark.skipif(not shutil.which("prlimit"), reason="there is no prlimit")
def test_a_file_size_limit_of_the_worker(site, kind):
    worker = start(site, kind, "prlimit", f"--fsize={LIMIT}")
    result, error, after = caller(
        site,
        [f"large.make({2 * LIMIT}).get(60)", f"large.fail({2 * LIMIT}).get(60)", AFTER],
    )
    assert result.startswith("ResultTooLargeError ")
    assert "this process may write files of at most 2.0 MiB (ulimit -f)" in result
    assert error.startswith("RemoteError ")
    assert after == "value 5"
    stop(worker)
    assert stray(site) == []


@pytest.mark.skipif(not shutil.which("prlimit"), reason="there is no prlimit")
def test_a_file_size_limit_of_the_caller(site):
    worker = start(site, "thread")
    refused, after = caller(
        site, [f"large.length(bytes({2 * LIMIT}))", AFTER], "prlimit", f"--fsize={LIMIT}"
    )
    assert refused.startswith("StorageError ")
    assert "this process may write files of at most 2.0 MiB (ulimit -f)" in refused
    assert after == "value 5"
    wait_until(lambda: not stray(site), "the temporary file is gone")
    stop(worker)
