"""A process that makes calls: ``python -m chaos.caller NAME SEED``.

On SIGTERM it waits for the results of its open calls, and ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaos import tasks
from chaos.ledger import append, open_log
from fsqueue import SpoolError

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue import Invocation, InvocationGroup

_RETRY_PAUSE = 0.05
# Longest pauses between two actions of a thread, so that the attackers get some processor time too.
_REST_OF_SINGLES = 0.03
_REST_OF_GROUPS = 0.2


def answer_of(call: Callable[[], Any]) -> list[Any]:
    """Run a call; returns its answer as the ledger has it.

    Raises:
        OSError, SpoolError: the shared directory could not be used, so there is no answer.
    """
    try:
        value, token = call()
    except tasks.Refusal as error:
        return ["error", "Refusal", *error.args]
    except (OSError, SpoolError):
        raise
    except Exception as error:  # noqa: BLE001 - any error goes into the ledger
        return ["error", type(error).__name__, str(error), ""]
    return ["value", value, token]


def reason(error: Exception) -> str:
    """Text of an error of the shared directory, with its error number if it has one."""
    cause = error if isinstance(error, OSError) else error.__cause__
    code = getattr(cause, "errno", None)
    return f"{errno.errorcode.get(code or 0, '?')}: {error}"


class Signals:
    """Signals that this process has received.

    Attributes:
        stop: make no more calls.
        calm: make no more calls that crash their process.
    """

    def __init__(self) -> None:
        self.stop, self.calm = threading.Event(), threading.Event()


class Caller:
    """One thread that makes calls of all kinds."""

    def __init__(self, name: str, ledger: int, rng: random.Random, signals: Signals) -> None:
        self._ledger, self._rng, self._signals = ledger, rng, signals
        self._keys = (f"{name}-{number}" for number in itertools.count(1))
        self._open: list[tuple[str, Invocation[Any]]] = []

    def run(self, actions: dict[Callable[[], None], int], rest: float) -> None:
        """Make calls until the stop signal, at random with the given weights."""
        while not self._signals.stop.wait(self._rng.random() * rest):
            (action,) = self._rng.choices(list(actions), list(actions.values()))
            action()
        self.collect()

    def _numbers(self) -> tuple[int, int]:
        return self._rng.randrange(1000), self._rng.randrange(1000)

    # -- blocking calls ------------------------------------------------------------------

    def add(self) -> None:
        """Call and wait."""
        key, (a, b) = next(self._keys), self._numbers()
        self._blocking(key, "direct", ["value", a + b], lambda: tasks.add(key, a, b))

    def refuse(self) -> None:
        """Call a body that fails."""
        key = next(self._keys)
        self._blocking(key, "direct failing", ["error", "Refusal", key], lambda: tasks.refuse(key))

    def squares(self) -> None:
        """Call a fan-out and wait for all of it."""
        key = next(self._keys)
        numbers = self._rng.sample(range(1000), self._rng.randrange(2, 24))
        expected = ["value", [number * number for number in numbers]]
        self._blocking(key, "direct fan-out", expected, lambda: tasks.squares(key, numbers))

    def add_async(self) -> None:
        """Await several calls at once."""

        async def one() -> None:
            key, (a, b) = next(self._keys), self._numbers()
            append(self._ledger, ["intent", key, "direct async", ["value", a + b]])
            try:
                value, token = await tasks.add_async(key, a, b)
            except (OSError, SpoolError) as error:
                append(self._ledger, ["refused", key, reason(error)])
            else:
                append(self._ledger, ["seen", key, ["value", value, token]])

        async def several() -> None:
            await asyncio.gather(*(one() for _ in range(8)))

        asyncio.run(several())

    def _blocking(self, key: str, kind: str, expected: list[Any], call: Callable[[], Any]) -> None:
        append(self._ledger, ["intent", key, kind, expected])
        try:
            answer = answer_of(call)
        except (OSError, SpoolError) as error:
            append(self._ledger, ["refused", key, reason(error)])
        else:
            append(self._ledger, ["seen", key, answer])

    # -- calls with an id ----------------------------------------------------------------

    def multiply(self) -> None:
        """Make a call now, and collect its result later."""
        key, (a, b) = next(self._keys), self._numbers()
        self._later(key, "task", ["value", a * b], lambda: tasks.multiply(key, a, b))

    def nap(self) -> None:
        """Call a body that takes tens of milliseconds."""
        key, seconds = next(self._keys), self._rng.choice([0.01, 0.03, 0.08])
        self._later(key, "slow task", ["value", seconds], lambda: tasks.nap(key, seconds))

    def refuse_later(self) -> None:
        """Call a body that fails."""
        key = next(self._keys)
        expected = ["error", "Refusal", key]
        self._later(key, "failing task", expected, lambda: tasks.refuse_later(key))

    def count_down(self) -> None:
        """Call a body that makes calls."""
        key, depth = next(self._keys), self._rng.randrange(1, 5)
        self._later(key, "nested task", ["value", depth], lambda: tasks.count_down(key, depth))

    def climb(self) -> None:
        """Call a body that waits for calls under the same concurrency limit."""
        key, number = next(self._keys), self._rng.randrange(1, 3)
        self._later(key, "climb", ["value", number], lambda: tasks.climb(key, number))

    def crash(self) -> None:
        """Call a body that crashes its process once."""
        if self._signals.calm.is_set():
            return
        key, how = next(self._keys), self._rng.choice(tasks.CRASHES)
        self._later(key, "crashing task", ["value", how], lambda: tasks.crash(key, how))

    def _later(
        self, key: str, kind: str, expected: list[Any], call: Callable[[], Invocation[Any]]
    ) -> None:
        append(self._ledger, ["intent", key, kind, expected])
        try:
            invocation = call()
        except (OSError, SpoolError) as error:
            append(self._ledger, ["refused", key, reason(error)])
            return
        append(self._ledger, ["accepted", key, invocation.id])
        self._open.append((key, invocation))
        if len(self._open) >= self._rng.randrange(1, 12):
            self.collect()

    def fan_out(self) -> None:
        """Make a group of calls."""
        calls = [(next(self._keys), *self._numbers()) for _ in range(self._rng.randrange(8, 64))]
        expected = {key: ["value", a * b] for key, a, b in calls}
        self._group("fan-out", expected, lambda: tasks.multiply.parallelize(calls))

    def slow_fan_out(self) -> None:
        """Make a group of calls that keep all slots busy, so that deaths hit running bodies."""
        calls = [(next(self._keys), self._rng.uniform(0.0, 0.04)) for _ in range(24)]
        expected = {key: ["value", seconds] for key, seconds in calls}
        self._group("slow fan-out", expected, lambda: tasks.nap.parallelize(calls))

    def limited(self) -> None:
        """Make a group of calls with a concurrency limit of two."""
        calls = [(next(self._keys), self._rng.uniform(0.0, 0.01)) for _ in range(8)]
        expected = {key: ["value", seconds] for key, seconds in calls}
        self._group("limited", expected, lambda: tasks.limited.parallelize(calls))

    def _group(
        self,
        kind: str,
        expected: dict[str, list[Any]],
        call: Callable[[], InvocationGroup[Any]],
    ) -> None:
        append(self._ledger, *(["intent", key, kind, value] for key, value in expected.items()))
        try:
            group = call()
        except (OSError, SpoolError) as error:
            append(self._ledger, *(["refused", key, reason(error)] for key in expected))
            return
        members = list(zip(expected, group, strict=True))
        append(self._ledger, *(["accepted", key, member.id] for key, member in members))
        self._open += members
        self.collect()

    def collect(self) -> None:
        """Collect the results of all open calls."""
        members, self._open = self._open, []
        for key, member in members:
            append(self._ledger, ["seen", key, _wait_for_answer(member)])


def _wait_for_answer(invocation: Invocation[Any]) -> list[Any]:
    """Wait for the answer of an accepted call; an error of the shared directory is not one."""
    while True:
        with contextlib.suppress(OSError, SpoolError):
            return answer_of(lambda: invocation.result)
        threading.Event().wait(_RETRY_PAUSE)


def main(name: str, seed: str) -> None:
    """Make calls in two threads. SIGUSR1: no more crashing bodies. SIGTERM: end."""
    signals = Signals()
    signal.signal(signal.SIGTERM, lambda *_: signals.stop.set())
    signal.signal(signal.SIGUSR1, lambda *_: signals.calm.set())
    # Last, because the file shows that signals are handled from now on.
    ledger = open_log(Path(os.environ["CHAOS_BASE"], "ledgers", f"{name}.jsonl"))
    one, two = (
        Caller(f"{name}.{part}", ledger, random.Random(f"{seed} {name} {part}"), signals)
        for part in "ab"
    )
    singles = {
        one.add: 40,
        one.refuse: 6,
        one.multiply: 20,
        one.nap: 8,
        one.refuse_later: 6,
        one.count_down: 6,
        one.climb: 3,
        one.crash: 1,
        one.add_async: 6,
    }
    groups = {two.fan_out: 10, two.slow_fan_out: 4, two.squares: 6, two.multiply: 2}
    groups[two.limited] = 3
    threads = [
        threading.Thread(target=one.run, args=(singles, _REST_OF_SINGLES), daemon=True),
        threading.Thread(target=two.run, args=(groups, _REST_OF_GROUPS), daemon=True),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        while thread.is_alive():  # a join without a timeout would delay the signal handlers
            thread.join(0.1)
    append(ledger, ["end"])
    tasks.app.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
