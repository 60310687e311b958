"""Tasks whose bodies start other processes, in every way that Python has."""

import asyncio
import contextlib
import errno
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor

from tasks import note

from fsqueue import FSQueue, TaskTimeoutError, current_invocation


def _break():
    """Fail in the process of a slot as the test wants it, and not in the worker's own."""
    try:
        with open("broken", encoding="ascii") as file:
            how = file.read()
    except OSError:
        return
    if multiprocessing.parent_process() is None:
        return
    if how == "exit":
        os._exit(3)
    if how == "other spool":
        os.environ["FSQUEUE__ROOT"] = os.path.abspath("other")
        return
    raise {"OSError": OSError, "ImportError": ImportError, "MemoryError": MemoryError}[how]("no")


_break()
app = FSQueue("programs")

_LONG = 600


def _linger(folder):
    note(folder, "programs")
    time.sleep(_LONG)


def _script(folder):
    return f"echo $$ >> {folder}/programs; exec sleep {_LONG}"


def _popen(folder, **options):
    # Kept: nobody waits for it, as for one that a library has started.
    _kept.append(subprocess.Popen(["sh", "-c", _script(folder)], **options))


_kept = []


def _double_fork(folder):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            _linger(folder)
        os._exit(0)
    os.wait()


def _daemon(folder):
    """A program that leaves its session and loses its parent."""
    subprocess.run(["sh", "-c", f"setsid sh -c '{_script(folder)}' &"], check=True)


def _fork(folder):
    if os.fork() == 0:
        _linger(folder)


def _pipeline(folder):
    _popen_script = f"( {_script(folder)} ) | ( {_script(folder)} )"
    _kept.append(subprocess.Popen(_popen_script, shell=True))


def _process(method, folder):
    multiprocessing.get_context(method).Process(target=_linger, args=(folder,)).start()


async def _of_asyncio(folder):
    await asyncio.create_subprocess_exec("sh", "-c", _script(folder))


def _pool(folder):
    pool = multiprocessing.get_context("fork").Pool(1)
    pool.apply_async(_linger, (folder,))
    _kept.append(pool._pool[0])


def _deaf(folder):
    """One that ignores what can be ignored."""
    script = f"trap '' TERM INT HUP; echo $$ >> {folder}/programs; while :; do sleep 1; done"
    _kept.append(subprocess.Popen(["sh", "-c", script], start_new_session=True))


WAYS = {
    "popen": _popen,
    "setsid": lambda folder: _popen(folder, start_new_session=True),
    "deaf": _deaf,
    "daemon": _daemon,
    "double fork": _double_fork,
    "fork": _fork,
    "pipeline": _pipeline,
    "process fork": lambda folder: _process("fork", folder),
    "process spawn": lambda folder: _process("spawn", folder),
    "process forkserver": lambda folder: _process("forkserver", folder),
    "asyncio": lambda folder: asyncio.run(_of_asyncio(folder)),
    "pool": _pool,
}


def _start(way, folder):
    note(folder, "starts")
    WAYS[way](folder)
    # Its file is there a moment before its line is.
    while not (os.path.exists(f"{folder}/programs") and os.path.getsize(f"{folder}/programs")):
        time.sleep(0.01)


@app.task
def start(way, folder):
    _start(way, folder)
    return os.getpid()


@app.task
def start_and_fail(way, folder):
    _start(way, folder)
    raise LookupError(way)


@app.task(max_attempts=1)
def start_and_wait(way, folder):
    _start(way, folder)
    note(folder, "waits")
    time.sleep(_LONG)


@app.task(max_attempts=1)
def start_and_crash(way, folder):
    _start(way, folder)
    os.kill(os.getpid(), signal.SIGKILL)


@app.task(max_attempts=1)
def run_program(folder):
    note(folder, "starts")
    subprocess.run(["sh", "-c", _script(folder)], check=False)
    note(folder, "ends")


@app.task(max_attempts=1)
def start_and_call(outer, inner):
    """The other call runs in this thread, if there is one slot."""
    _start("popen", outer)
    return start_and_wait("popen", inner).get()


@app.task(max_attempts=1)
def outlive_another(outer, inner):
    """The other call runs in this thread, and takes too long."""
    _start("popen", outer)
    with contextlib.suppress(TaskTimeoutError):
        run_program.options(timeout=5.0)(inner).get()
    note(outer, "waits")
    _until_released(outer)


@app.task(max_attempts=1)
def use_pool_until(folder):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(_note_and_wait, (folder,))


def _note_and_wait(folder):
    note(folder, "programs")
    return _until_released(folder)


def _until_released(folder):
    while not os.path.exists(f"{folder}/release"):
        time.sleep(0.01)
    return os.getpid()


@app.task
def pid():
    return os.getpid()


@app.task
def attempt():
    return os.getpid(), current_invocation().attempt


# -- pools that are kept ------------------------------------------------------------------


@functools.cache
def _executor():
    return ProcessPoolExecutor(1)


@functools.cache
def _multiprocessing_pool():
    return multiprocessing.get_context("fork").Pool(1)


@app.task
def use_executor():
    return os.getpid(), _executor().submit(os.getpid).result()


@app.task
def use_pool():
    return os.getpid(), _multiprocessing_pool().apply(os.getpid)


@app.task
def use_joblib():
    from joblib import Parallel, delayed

    return os.getpid(), Parallel(n_jobs=2)(delayed(os.getpid)() for _ in range(4))[0]


# -- forks --------------------------------------------------------------------------------


def _go_on(how, folder):
    pid = os.fork()
    if pid == 0:
        note(folder, "forks")
        if how == "raise":
            raise LookupError(how)
        if how == "exit":
            sys.exit(7)
        return -1
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@app.task
def fork_and_go_on(how, folder):
    return _go_on(how, folder)


@app.task
async def fork_and_go_on_async(how, folder):
    await asyncio.sleep(0)
    return _go_on(how, folder)


def _nothing():
    pass


@app.task
def exit_codes():
    """Of a process that ends, of one that is terminated, and of the processes of a pool."""
    context = multiprocessing.get_context("fork")
    ends = context.Process(target=_nothing)
    waits = context.Process(target=time.sleep, args=(_LONG,))
    ends.start()
    waits.start()
    waits.terminate()
    ends.join()
    waits.join()
    with context.Pool(2) as pool:
        values = pool.map(abs, [-1, -2])
    return ends.exitcode, waits.exitcode, values


# -- streams, alarms ----------------------------------------------------------------------


@app.task
def read_stdin():
    program = subprocess.run(["cat"], capture_output=True, check=True).stdout
    return sys.stdin.read(), os.read(0, 100), program


@app.task
def use_terminal():
    """Read and write the terminal in the background, as `ssh` does to ask for a password."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR)
        os.write(terminal, b"password: ")
        os.read(terminal, 1)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "it was read"


@app.task
def descriptors():
    return [os.readlink(f"/proc/self/fd/{number}") for number in range(3)]


@app.task(max_attempts=1, timeout=30.0)
def die_of_an_alarm():
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(_LONG)


@app.task(max_attempts=1, timeout=1.0)
def switch_alarms_off(folder):
    """Hold Python's lock in C for ever, without an alarm that could end it."""
    import ctypes

    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    signal.setitimer(signal.ITIMER_REAL, 0)
    note(folder, "starts")
    ctypes.PyDLL(None).sleep(_LONG)


@app.task(timeout=20.0)
def use_an_alarm():
    rung = []
    signal.signal(signal.SIGALRM, lambda *_: rung.append(True))
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    while not rung:
        time.sleep(0.001)
    return True
