"""Functions that tests make tasks of: plain ones, so that each test has an app of its own."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import sys
import threading
import time
import types

from fsqueue import RetryError, current_invocation

MISSING = object()
opened_files: list = []


# -- values -----------------------------------------------------------------------------


def add(a, b=1):
    """Add."""
    return a + b


async def async_add(a, b=1):
    await asyncio.sleep(0)
    return a + b


def everything(a, b=2, /, c=3, *args, d, e=5, **kwargs):
    return a, b, c, args, d, e, kwargs


def everything_but_strict(a, /, b=2, *args, d=4, e=5, **kwargs):
    return a


def only_by_position(x, y, /):
    return x - y


def keywords(**kwargs):
    return kwargs


def confusing(args, kwargs, func, keep, call=1):
    return args, kwargs, func, keep, call


def with_sentinel(value=MISSING):
    return value is MISSING


def echo(value):
    return value


def thread_name():
    return threading.current_thread().name


async def async_thread_name():
    return threading.current_thread().name


def scaled(x, factor=10, offset=0):
    return x * factor + offset


async def async_scaled(x, factor=10, offset=0):
    return x * factor + offset


# -- time -------------------------------------------------------------------------------

gates: dict[str, threading.Event] = {}


def write_down(path, word):
    with open(path, "a", encoding="utf-8") as file:
        file.write(f"{word}\n")


def count_run(path):
    """Note that the body ran; returns how often it did so far."""
    write_down(path, "ran")
    with open(path, encoding="utf-8") as file:
        return len(file.readlines())


def behind_gate(gate, value=None, path=None):
    """Return when the test opens the gate; note that the body ran."""
    if path is not None:
        write_down(path, value)
    if not gates[gate].wait(60):
        raise TimeoutError(gate)
    return value


class ReadBehindGate:
    """An argument whose reading takes until the test opens the gate."""

    def __init__(self, gate, value):
        self.gate, self.value = gate, value

    def __reduce__(self):
        return behind_gate, (self.gate, self.value)


async def async_count_run(path):
    return count_run(path)


async def async_behind_gate(gate, value=None):
    return await asyncio.to_thread(behind_gate, gate, value)


def nap(seconds):
    time.sleep(seconds)
    return seconds


def fail_before(path, times, error=ConnectionError):
    """Fail so many times, and then tell how often the body ran."""
    ran = count_run(path)
    if ran <= times:
        raise error(f"run {ran}")
    return ran


def ask_for_retry(path, times, delay=0.0):
    ran = count_run(path)
    if ran <= times:
        raise RetryError(f"run {ran}", delay=delay)
    return ran


def report(_=None):
    here = current_invocation()
    return here.id, here.task, here.queue, here.attempt, here.retries, here.remaining


def until_cancelled(gate):
    """Wait until somebody cancels this, and then open a gate."""
    here = current_invocation()
    while not here.cancelled:
        time.sleep(0.01)
    gates[gate].set()


class Unreadable:
    """Can be pickled, and not unpickled."""

    def __reduce__(self):
        return _refuse, ()


def _refuse():
    raise ValueError("not here")


def odd(number):
    if number % 2:
        raise LookupError(number)
    return number


at_once: dict[str, int] = {}
_counting = threading.Lock()


def weigh(key, weight, limit):
    """Fails if the bodies of a key that run at once weigh more than the limit."""
    with _counting:
        at_once[key] = at_once.get(key, 0) + weight
    try:
        time.sleep(0.001)
        assert at_once[key] <= limit, at_once
    finally:
        with _counting:
            at_once[key] -= weight


def run_it(function):
    return function()


def length(text, number=0):
    return len(text) + number


# -- calls of other tasks ------------------------------------------------------------------

calls = {}


def call_inner(value):
    return calls["inner"](value)


# -- failures ---------------------------------------------------------------------------


class OwnInitError(Exception):
    def __init__(self, *, code, where):
        super().__init__(f"{code} at {where}")
        self.code = code
        self.where = where


class HoldsLockError(Exception):
    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def divide(a, b):
    return a / b  # the body's line


async def async_divide(a, b):
    return a / b  # the async body's line


def odd_fails(x):
    if x % 2:
        raise ValueError("odd", x)
    return x


async def async_odd_fails(x):
    return odd_fails(x)


def fail_with_notes():
    error = LookupError("not there", 7)
    error.add_note("looked twice")
    raise error


def fail_with_cause():
    try:
        divide(1, 0)
    except ZeroDivisionError as error:
        raise RuntimeError("cannot go on") from error


def fail_in_handling():
    with contextlib.suppress(KeyError):
        raise KeyError("suppressed elsewhere")
    try:
        divide(1, 0)
    except ZeroDivisionError:
        raise RuntimeError("while handling")  # noqa: B904


def fail_own_init():
    raise OwnInitError(code=42, where="here")


def fail_group():
    raise ExceptionGroup("two", [ValueError("one"), OwnInitError(code=1, where="member")])


def fail_holding_lock():
    raise HoldsLockError("cannot travel")


def fail_with_vanishing_class(name):
    """Raise an exception whose module the test makes vanish before the caller reads it."""
    module = types.ModuleType(name)
    module.GoneError = type("GoneError", (Exception,), {"__module__": name})
    sys.modules[name] = module
    raise module.GoneError("of another world")


def leave(status):
    sys.exit(status)


def interrupt():
    raise KeyboardInterrupt("in the body")


def unpicklable():
    return threading.Lock()


def explode():
    raise ValueError("no unpickling here")


class ExplodesWhenUnpickled:
    def __reduce__(self):
        return explode, ()


def explosive():
    return ExplodesWhenUnpickled()


class CountsPickling:
    pickled = 0

    def __reduce__(self):
        type(self).pickled += 1
        return CountsPickling, ()


class MadeByHand:
    """A value that can be sent, and not be read."""

    def __reduce__(self):
        return int, ("no number",)


# -- taking turns -----------------------------------------------------------------------


class Crowd:
    """Counts who is in at the same time."""

    def __init__(self):
        self._mutex = threading.Lock()
        self._inside = self.entries = self.most = 0

    @contextlib.contextmanager
    def inside(self):
        with self._mutex:
            self._inside += 1
            self.entries += 1
            self.most = max(self.most, self._inside)
        try:
            yield
        finally:
            with self._mutex:
                self._inside -= 1


crowds = collections.defaultdict(Crowd)


def enter(crowd, number=0):
    """Is in a crowd for a moment, long enough for others to come in too."""
    with crowds[crowd].inside():
        time.sleep(0.001)
    return number


def enter_and_fail_once(crowd):
    enter(crowd)
    if current_invocation().attempt == 1:
        raise RetryError(delay=0.05)
    return crowd


def enter_behind_gate(crowd, name):
    with crowds[crowd].inside():
        gates[name].wait(60)
    return name


# -- results as arguments -------------------------------------------------------------------


class Box:
    def __init__(self, content):
        self.content = content


def opened(box):
    return box.content


def total(numbers, *more):
    return sum(numbers) + sum(more)


def last_of_a_chain(length):
    """Wait for the end of a chain, which the only slot has to run as well."""
    link = calls["add"](0)
    for _ in range(length):
        link = link.then(calls["add"])
    return link.result


def sum_of_leaves(count):
    group = calls["add"].parallelize([(number, 0) for number in range(count)])
    return group.then(calls["total"]).result


def opened_file(path, wrapped):
    """An open file, or something that holds one; with None for `wrapped`, the path."""
    if wrapped is None:
        return path
    file = open(path, encoding="utf-8")  # noqa: SIM115 - the test is about returning it
    opened_files.append(file)
    return {"file": [file]} if wrapped else file
