"""Makes calls that a signal handler interrupts with an exception, at any point.

Usage: interrupted.py ENTRY timer COUNT | line STEP | opcode STEP (from any of the first STEP on)
       interrupted.py first COUNT
       interrupted.py exit

ENTRY is a key of `CALLS`. After each burst of interruptions it makes a plain call, one in another
thread and an awaited one, so that nothing can stand still unnoticed.
"""

import asyncio
import atexit
import faulthandler
import gc
import itertools
import os
import random
import signal
import sys
import threading
import time

import echo
import tasks

PATIENCE = 90
BURST = 25
# Pools keep idle threads, so the number of threads may grow by a few, but not with each burst.
FEW = 8


armed = set()
"""Not empty while a call may be interrupted."""


class Interrupted(KeyboardInterrupt):
    """Like that of Ctrl-C, because asyncio only logs other exceptions that its callbacks raise."""


def interrupt(*_):
    raise Interrupted


def while_armed(handler):
    """Ignores late signals: another thread can receive one after the timer was set to 0."""
    return lambda *_: handler() if armed else None


def ctrl_c(*_):
    """As the user does it while `asyncio.run` runs, which then cancels its main task.

    If it strikes while `asyncio.run` ends, that can leave its handler behind, which raises an
    exception anywhere in a later loop. A loop can lose the wake-up of a task then, and a program of
    nothing but asyncio never ends either. So each round begins with Python's own handler.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        signal.raise_signal(signal.SIGINT)


def value_of(coroutine_function, *args):
    return asyncio.run(coroutine_function(*args))


def abandoned(coroutine_function, *args):
    """Use a loop that is not used again after an interruption.

    `asyncio.run` would run it until all tasks have ended. But the loop itself can lose the wake-up
    of a task when a signal handler raises an exception, even of one that only sleeps.
    """
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine_function(*args))
    finally:
        loop.close()


def later(number):
    return echo.square_later(number)


async def result_of(number):
    return await later(number).async_result()


async def results_of(*numbers):
    group = echo.square_later.parallelize([(number,) for number in numbers])
    return [value async for value in group.async_results()]


async def gathered(*values):
    return list(await asyncio.gather(*map(echo.echo_awaited, values)))


def cancelled():
    call = later(3)
    call.cancel()
    return call.status.finished


def cancelled_group():
    group = echo.square_later.parallelize([(1,), (2,)])
    group.cancel()
    return all(call.done() for call in group)


def joined():
    """The first call of a connection."""
    tasks.app.close()
    return echo.echo(1)


# The ways of the main thread into the spool, each with its value.
CALLS = {
    "direct": [(lambda: echo.echo(1), 1), (lambda: echo.squares(3), [0, 1, 4])],
    "task": [
        (lambda: tasks.square(3).result[0], 9),
        (lambda: echo.square_later.parallelize([(1,), (2,)]).results, [1, 4]),
    ],
    "awaited": [
        (lambda: value_of(echo.echo_awaited, 1), 1),
        (lambda: value_of(echo.squares_awaited, 3), [0, 1, 4]),
        (lambda: value_of(gathered, 1, 2, 3), [1, 2, 3]),
        (lambda: value_of(result_of, 3), 9),
        (lambda: value_of(results_of, 1, 2), [1, 4]),
    ],
    "abandoned": [
        (lambda: abandoned(echo.echo_awaited, 1), 1),
        (lambda: abandoned(echo.squares_awaited, 3), [0, 1, 4]),
        (lambda: abandoned(gathered, 1, 2, 3), [1, 2, 3]),
        (lambda: abandoned(result_of, 3), 9),
        (lambda: abandoned(results_of, 1, 2), [1, 4]),
    ],
    "look": [
        (lambda: later(3).status.value != "", True),
        (lambda: tasks.app.invocation(later(3).id).get(PATIENCE), 9),
        (lambda: list(tasks.app.track([later(1), later(2)])), [1, 4]),
    ],
    "cancel": [(cancelled, True), (cancelled_group, True)],
    "chain": [
        (lambda: later(2).then(echo.square_later).result, 16),
        (lambda: echo.square_once(3).result, 9),
    ],
    "emit": [(lambda: tasks.app.emit("unheard") != "", True)],
    "join": [(joined, 1)],
    "nested": [
        (lambda: echo.echo(1), 1),
        (lambda: echo.squares(3), [0, 1, 4]),
        (lambda: later(3).result, 9),
        (lambda: abandoned(gathered, 1, 2), [1, 2]),
    ],
}


def check():
    """Make calls in every way that a lock could block."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    assert echo.echo(1) == 1
    values = []
    beside = threading.Thread(target=lambda: values.append(echo.echo(2)))
    beside.start()
    beside.join()
    assert values == [2]
    assert value_of(gathered, 3, 4) == [3, 4]
    faulthandler.cancel_dump_traceback_later()


def interrupted_once(call, value, longest):
    """Whether the call was interrupted."""
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    try:
        try:
            armed.add(call)
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, longest))
            assert call() == value
        finally:
            armed.clear()
            signal.setitimer(signal.ITIMER_REAL, 0)
    except (KeyboardInterrupt, asyncio.CancelledError):  # early in asyncio.run
        signal.setitimer(signal.ITIMER_REAL, 0)
        return True
    except RuntimeError as error:
        # Before Python 3.12, a class that is just being made, as by an import, wraps what its
        # `__set_name__` methods raise.
        if not isinstance(error.__cause__, Interrupted):
            raise
        signal.setitimer(signal.ITIMER_REAL, 0)
        return True
    return False


def by_timer(calls, count, handler=interrupt):
    former = signal.signal(signal.SIGALRM, while_armed(handler))
    longest = {call: duration(call) for call, _ in calls}
    hits = 0
    for number in range(count):
        signal.signal(signal.SIGINT, signal.default_int_handler)
        call, value = calls[number % len(calls)]
        hits += interrupted_once(call, value, longest[call])
        if number % BURST == 0:
            check()
    signal.signal(signal.SIGALRM, former)
    return hits


def duration(call):
    """The time of a quick call of five, so that most of the interruptions come before its end."""
    times = []
    for _ in range(5):
        began = time.monotonic()
        call()
        times.append(time.monotonic() - began)
    return min(times)


class Tracer:
    """Raises an exception before the n-th line, or instruction, of the main thread."""

    def __init__(self, event, number):
        self.event, self.number = event, number

    def __call__(self, frame, event, _):
        frame.f_trace_opcodes = self.event == "opcode"
        if event == self.event:
            self.number -= 1
            if self.number == 0:
                sys.settrace(None)
                raise Interrupted
        return self


def by_trace(calls, event, step):
    hits = 0
    for call, value in calls:
        for number in itertools.count(random.randint(1, step), step):
            faulthandler.dump_traceback_later(PATIENCE, exit=True)
            tracer = Tracer(event, number)
            try:
                sys.settrace(tracer)
                call()
            except Interrupted:
                hits += 1
            finally:
                sys.settrace(None)
            assert call() == value
            if hits % BURST == 0:
                check()
            if tracer.number > 0:
                break
    return hits


def first(count):
    """Interrupt the first call of processes: it opens the spool and imports what it needs."""
    signal.signal(signal.SIGALRM, while_armed(interrupt))
    hits = 0
    for _ in range(count):
        child = os.fork()
        if child == 0:
            os._exit(first_call())
        _, status = os.waitpid(child, 0)
        ended = os.waitstatus_to_exitcode(status)
        assert ended in {0, 1}, ended
        hits += ended
    return hits


def first_call():
    hit = False
    try:
        hit = interrupted_once(lambda: echo.echo(1), 1, 0.15)
        check()
        wait_for_bodies()
        tasks.app.close()
    except BaseException:  # noqa: BLE001 - a child of this program must not go on with its work
        sys.excepthook(*sys.exc_info())
        return 2
    return int(hit)


def wait_for_bodies():
    """What was cancelled while it ran may still get an outcome, which the next look removes."""
    while any(files for _, _, files in os.walk(tasks.app.store.layout.running_folder)):
        time.sleep(0.01)


def threads():
    return len(os.listdir("/proc/self/task"))


def descriptors():
    gc.collect()  # an interrupted asyncio.run leaves its loop
    return len(os.listdir("/proc/self/fd"))


def settled(count, before, more=FEW):
    """Whether a count comes back to about what it was."""
    deadline = time.monotonic() + PATIENCE
    while count() > before + more:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def main(entry, how, number):
    calls = CALLS[entry]
    faulthandler.dump_traceback_later(PATIENCE, exit=True)
    for call, value in calls:  # imports what is needed
        assert call() == value
    check()
    before = threads(), descriptors()
    if how == "timer":
        hits = by_timer(calls, number, ctrl_c if entry == "awaited" else interrupt)
    else:
        hits = by_trace(calls, how, number)
    wait_for_bodies()
    check()
    assert settled(threads, before[0]), (before, [each.name for each in threading.enumerate()])
    # Trace functions also raise where no signal is handled: right before a line that closes a file.
    more = FEW if how == "timer" else 4 * FEW
    assert settled(descriptors, before[1], more), (before, descriptors())
    return hits


if __name__ == "__main__":
    if sys.argv[1] == "first":
        print(first(int(sys.argv[2])))
    elif sys.argv[1] == "exit":
        # Exit handlers run in reverse order: these two are around that of fsqueue.
        signal.signal(signal.SIGALRM, interrupt)
        atexit.register(signal.setitimer, signal.ITIMER_REAL, 0)
        check()
        atexit.register(signal.setitimer, signal.ITIMER_REAL, random.uniform(1e-5, 2e-3))
    else:
        print(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
