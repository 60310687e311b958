"""The project whose worker and callers the acceptance tests start."""

import asyncio
import contextlib
import ctypes
import faulthandler
import logging
import os
import resource
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fsqueue import FSQueue, current_invocation

app = FSQueue("acceptance")  # its root comes from FSQUEUE__ROOT

_LONGEST_HOLD = 120.0
_LOOK = 0.01


def note(folder, name):
    """Append a line with this process's id, in one write."""
    with open(os.path.join(folder, name), "a", encoding="ascii") as file:
        file.write(f"{os.getpid()}\n")


def _wait_for(folder, *names):
    deadline = time.monotonic() + _LONGEST_HOLD
    while not all(Path(folder, name).exists() for name in names):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{names} did not all come into {folder}")
        time.sleep(_LOOK)


# -- plain ------------------------------------------------------------------------------


@app.direct_task
def pid():
    return os.getpid()


@app.direct_task
def describe(first, /, *rest, flag=True, **named):
    return first, rest, flag, named, os.getpid()


@app.direct_task
def fail(text):
    raise LookupError(text)


@app.direct_task
def nap(seconds):
    time.sleep(seconds)
    return os.getpid()


@app.direct_task
async def async_nap(seconds):
    await asyncio.sleep(seconds)
    return os.getpid()


@app.task
def square(number):
    return number * number, os.getpid()


@app.task
def square_of(result):
    """Takes what `square` returns, and so an invocation of it."""
    return result[0] * result[0]


@app.task
def chain(folder, length):
    """Make the next call of a chain, and do not wait for it."""
    note(folder, "links")
    if length > 1:
        chain(folder, length - 1)


@app.task(max_attempts=1000)
def square_at_any_cost(number):
    return number * number


@app.task
def reject(text):
    raise LookupError(text)


# -- bodies that the test holds in the middle ----------------------------------------------


def _hold(folder):
    note(folder, "starts")
    _wait_for(folder, "release")
    note(folder, "ends")
    return os.getpid()


@app.direct_task
def hold(folder):
    return _hold(folder)


@app.direct_task
async def async_hold(folder):
    return await asyncio.to_thread(_hold, folder)


@app.direct_task(resources={"gpu": 1})
def hold_on_gpu(folder):
    return _hold(folder)


@app.task
def process_id():
    return os.getpid()


@app.task
def process_ids_within(walltime):
    return os.getpid(), process_id.options(walltime=walltime)().result


@app.task
def gpus_seen(folder=None):
    """The GPUs that a library would find, and those that fsqueue names; with the process."""
    if folder is not None:
        _hold(folder)
    return _gpus_seen()


def _gpus_seen():
    return os.environ.get("CUDA_VISIBLE_DEVICES"), current_invocation().devices, os.getpid()


@app.task(resources={"gpu": 1})
def gpus_seen_within(needed):
    before = _gpus_seen()
    return before, gpus_seen.options(resources={"gpu": needed})().result, _gpus_seen()


@app.task(resources={"gpu": 1}, max_attempts=2)
def die_on_first_gpu(folder):
    if current_invocation().attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return _gpus_seen()


@app.task
def hold_later(folder):
    return _hold(folder)


@app.task(running_concurrency="task", running_limit=1)
def hold_alone(folder):
    return _hold(folder)


@app.task(timeout=1.0)
def hold_briefly(folder):
    return _hold(folder)


@app.task(timeout=1.0)
def sleep_in_c(folder):
    """Keep Python from running: ctypes.PyDLL holds its lock during a call."""
    note(folder, "starts")
    ctypes.PyDLL(None).sleep(60)


@app.direct_task(
    parallel_func=lambda call: [(call["folder"],)] * 4,
    aggregate_func=list,
)
def hold_many(folder):
    return _hold(folder)


@app.direct_task
def hold_within(folder):
    return hold(folder)


def _one_each(call):
    return [{"folder": call["folder"], "names": [name]} for name in call["names"]]


@app.direct_task(parallel_func=_one_each, aggregate_func=list)
def meet(folder, names):
    """Come back only when all members of the fan-out run at the same time."""
    (mine,) = names
    note(folder, f"here-{mine}")
    _wait_for(folder, "here-a", "here-b")
    return mine, os.getpid()


# -- bodies that take their process down -----------------------------------------------------


def _crash(how):
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    faulthandler.disable()
    match how:
        case "exit":
            os._exit(3)
        case "exit 0":
            os._exit(0)
        case "exit 0 in C":
            ctypes.CDLL(None)._exit(0)
        case "segfault":
            ctypes.string_at(0)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    raise ValueError(how)


@app.direct_task
def crash(folder, how):
    note(folder, "starts")
    _crash(how)


@app.direct_task(max_attempts=1)
def crash_for_good(folder, how):
    note(folder, "starts")
    _crash(how)


@app.direct_task
def crash_once(folder, how):
    note(folder, "starts")
    with contextlib.suppress(FileExistsError):
        Path(folder, "crashed").touch(exist_ok=False)
        _crash(how)
    return os.getpid()


# -- nested --------------------------------------------------------------------------------


@app.direct_task
def fib(number):
    return number if number < 2 else fib(number - 1) + fib(number - 2)


@app.direct_task
def hold_and_fib(folder, number):
    _hold(folder)
    return fib(number)


@app.direct_task
async def fib_async(number):
    if number < 2:
        return number
    return sum(await asyncio.gather(fib_async(number - 1), fib_async(number - 2)))


@app.direct_task
async def sum_of_fibs(numbers):
    parts = [asyncio.to_thread(fib, number) for number in numbers]
    return sum(await asyncio.gather(*parts))


@app.direct_task
def fibs_by_threads(numbers):
    with ThreadPoolExecutor(len(numbers)) as pool:
        return list(pool.map(fib, numbers))


@app.direct_task
def crash_by_nesting(folder):
    """The call of a call that crashes: its caller's body is in the same process."""
    note(folder, "starts")
    return crash_once(folder, "exit")


# -- bodies that say something ------------------------------------------------------------


@app.task(capture_output=True)
def chat(folder):
    """Say two lines and report, wait for the release, and say one more."""
    print("first \x1b[31mline")
    logging.getLogger("chat").warning("a warning")
    current_invocation().progress(1, 4, "a \x1b quarter")
    note(folder, "starts")
    _wait_for(folder, "release")
    thread = threading.Thread(target=lambda: print("last line, of a thread"))
    thread.start()
    thread.join()
    return os.getpid()


@app.task(capture_output=True, max_attempts=2)
def chat_and_die(folder):
    print(f"attempt {current_invocation().attempt}", flush=True)
    current_invocation().progress(current_invocation().attempt, 4)
    note(folder, "starts")
    _wait_for(folder, "release")
    return os.getpid()


# -- taking turns -------------------------------------------------------------------------


def _here(entry):
    """Whether the process still runs instructions whose mark this is."""
    pid = int(entry.partition(".")[0])
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] not in b"ZXx"
    except (FileNotFoundError, ProcessLookupError):
        return False


@app.task(running_concurrency="task", running_limit=2, max_attempts=20)
def visit(folder, number):
    """Returns how many of its kind are running; a process that was killed has left its mark."""
    mark = Path(folder, f"{os.getpid()}.{threading.get_ident()}.{number}")
    mark.touch()
    try:
        inside = [name for name in os.listdir(folder) if _here(name)]
        time.sleep(0.01)
        return len(inside)
    finally:
        mark.unlink(missing_ok=True)


# -- bodies that nothing can end ----------------------------------------------------------


@app.task
def leave_a_thread(folder):
    """Return, and leave a thread that Python waits for at its exit."""
    threading.Thread(target=_hold, args=(folder,)).start()
    return os.getpid()


@app.task(timeout=1.0)
def wait_for_another(outer, inner):
    """Hold a place past its time, while the call that it waits for goes on in the same thread."""
    note(outer, "starts")
    return hold(inner)
