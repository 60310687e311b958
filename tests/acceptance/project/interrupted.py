"""Makes calls that a signal handler interrupts with an exception, at any point.

Usage: interrupted.py direct|task timer COUNT | line STEP | opcode STEP
"""

import faulthandler
import itertools
import os
import random
import signal
import sys
import time

import echo
import tasks


class Interrupted(BaseException):
    pass


def interrupt(*_):
    raise Interrupted


# The ways of the main thread into the spool, each with its value.
CALLS = {
    "direct": [(lambda: echo.echo(1), 1), (lambda: echo.squares(3), [0, 1, 4])],
    "task": [
        (lambda: tasks.square(3).result[0], 9),
        (lambda: echo.square_later.parallelize([(1,), (2,)]).results, [1, 4]),
    ],
}


def by_timer(calls, count):
    signal.signal(signal.SIGALRM, interrupt)
    hits = 0
    for number in range(count):
        call, value = calls[number % len(calls)]
        try:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-5, 3e-3))
                assert call() == value
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except Interrupted:
            hits += 1
            signal.setitimer(signal.ITIMER_REAL, 0)
        if number % 50 == 0:
            assert call() == value
            faulthandler.dump_traceback_later(30, exit=True)
    return hits


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
        for number in itertools.count(1, step):
            tracer = Tracer(event, number)
            try:
                sys.settrace(tracer)
                call()
            except Interrupted:
                hits += 1
            finally:
                sys.settrace(None)
            assert call() == value
            faulthandler.dump_traceback_later(30, exit=True)
            if tracer.number > 0:
                break
    return hits


def main(kind, how, count):
    faulthandler.dump_traceback_later(60, exit=True)
    calls = CALLS[kind]
    for call, value in calls:  # imports what is needed
        assert call() == value
    hits = by_timer(calls, int(count)) if how == "timer" else by_trace(calls, how, int(count))
    # What was cancelled while it ran may still have an outcome, which the next look removes.
    while any(files for _, _, files in os.walk(tasks.app.store.layout.running_folder)):
        time.sleep(0.01)
    for call, value in calls:
        assert call() == value
    print(hits)


if __name__ == "__main__":
    main(*sys.argv[1:])
