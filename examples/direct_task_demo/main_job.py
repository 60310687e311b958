"""The main job: call decorated functions on a worker process, and time it.

Starts `python -m fsqueue worker tasks:app` on a new directory, calls it, shows which process
answered and how long it took, and stops it. The two processes share only the directory; on a
shared filesystem, the worker could also run on another machine.
"""

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
COMMAND = ["-m", "fsqueue", "worker", "tasks:app"]
STARTED = time.perf_counter()


@contextmanager
def worker_process(log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker where it can import tasks.py; it ends with the block in any case."""
    with log.open("wb") as output:
        worker = subprocess.Popen(  # noqa: S603  # our own interpreter and arguments
            [sys.executable, *COMMAND], cwd=HERE, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        yield worker
    except BaseException:
        print(f"the worker's output:\n{log.read_text(errors='replace')}", file=sys.stderr)
        raise
    finally:
        worker.kill()  # has no effect if the worker has ended, as it should
        worker.wait()


def wait_for_first_answer(worker: subprocess.Popen[bytes]) -> None:
    """Wait for the first answer. An invocation of an `@app.task` allows a wait with a timeout."""
    import tasks

    start = time.perf_counter()
    invocation = tasks.process_id()
    while worker.poll() is None:
        try:
            pid = invocation.get(timeout=0.5)
        except TimeoutError:
            continue
        print(f"worker   process {pid}, first answer {time.perf_counter() - start:.2f} s after")
        print(f"         python {' '.join(COMMAND)}")
        assert pid == worker.pid
        return
    raise RuntimeError(f"the worker ended with code {worker.returncode} before it answered")


def call() -> None:
    import tasks

    greeting, pid = tasks.greet("fsqueue")
    print(f"\n>>> greet('fsqueue')\n{greeting!r}, from process {pid}; the caller is {os.getpid()}")
    assert greeting == "Hello fsqueue"
    assert pid != os.getpid()


def measure() -> None:
    import tasks

    trips: list[float] = []
    for number in range(200):
        start = time.perf_counter()
        assert tasks.echo(number) == number
        trips.append(time.perf_counter() - start)
    median = statistics.median(trips) * 1000
    print(f"\n{'a call that does nothing, median of 200':<44} {median:7.2f} ms")

    start = time.perf_counter()
    with ThreadPoolExecutor(max_workers=5) as pool:
        readings = list(pool.map(tasks.highest, tasks.STATIONS))
    seconds = time.perf_counter() - start
    print(f"{'five calls of 0.5 s from five threads':<44} {seconds:7.2f} s")
    assert seconds < 2.5  # the sum of the five

    start = time.perf_counter()
    warmest = tasks.record(tasks.STATIONS)
    seconds = time.perf_counter() - start
    print(f"{'one call fanned out to five of 0.5 s':<44} {seconds:7.2f} s")
    assert warmest == max(readings)
    assert seconds < 2.5  # the sum of the five


def stop(worker: subprocess.Popen[bytes]) -> None:
    start = time.perf_counter()
    worker.send_signal(signal.SIGTERM)
    code = worker.wait(timeout=20)
    print(f"\nSIGTERM  the worker ended with code {code} in {time.perf_counter() - start:.2f} s")
    assert code == 0


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="fsqueue-demo-") as folder:
        root = Path(folder, "spool")
        os.environ["FSQUEUE__ROOT"] = str(
            root
        )  # set before tasks is imported; the worker inherits it
        print(f"caller   process {os.getpid()}, sharing {root}")
        with worker_process(Path(folder, "worker.log")) as worker:
            wait_for_first_answer(worker)
            call()
            measure()
            stop(worker)
    print(f"done in {time.perf_counter() - STARTED:.1f} s")


if __name__ == "__main__":
    main()
