"""The tasks that are called under attack.

Each body records its execution outside of the spool, and returns the token of that execution.
Two answers to one call thus differ if they come from different executions.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import secrets
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from chaos.ledger import append, open_log
from fsqueue import FSQueue, SpoolError, Task

if TYPE_CHECKING:
    from collections.abc import Callable

# So high that no call runs out of attempts: a loss could hide behind a WorkerLostError.
app = FSQueue("chaos", max_attempts=1000)

Answer = tuple[Any, str]

_RETRY_PAUSE = 0.05
_handles: dict[tuple[int, str], int] = {}


class Refusal(Exception):  # noqa: N818 - not an error of the program
    """Raised by a body on purpose, with the call's key and the execution's token."""


def _log(name: str) -> int:
    key = (os.getpid(), name)
    if key not in _handles:
        _handles[key] = open_log(Path(os.environ["CHAOS_BASE"], name))
    return _handles[key]


def _executed(key: str) -> str:
    token = secrets.token_hex(6)
    append(_log("executions"), [key, token])
    return token


@app.direct_task
def add(key: str, a: int, b: int) -> Answer:
    """A blocking call."""
    return a + b, _executed(key)


@app.direct_task
async def add_async(key: str, a: int, b: int) -> Answer:
    """An awaited call."""
    await asyncio.sleep(0)
    return a + b, _executed(key)


@app.task
def multiply(key: str, a: int, b: int) -> Answer:
    """A call whose result is kept."""
    return a * b, _executed(key)


@app.task
def nap(key: str, seconds: float) -> Answer:
    """A body that takes some time."""
    token = _executed(key)
    time.sleep(seconds)
    return seconds, token


@app.task(running_concurrency="task", running_limit=2)
def limited(key: str, seconds: float) -> Answer:
    """A body with a concurrency limit of two."""
    return nap.func(key, seconds)


@app.task(running_concurrency="task")
def climb(key: str, number: int) -> Answer:
    """Calls itself under a concurrency limit of one, which it occupies itself."""
    token = _executed(key)
    return (1 + _call_until_accepted(climb, key, number - 1) if number else 0), token


@app.direct_task
def refuse(key: str) -> NoReturn:
    """A blocking call that fails."""
    raise Refusal(key, _executed(key))


@app.task
def refuse_later(key: str) -> NoReturn:
    """A call that fails and whose failure is kept."""
    raise Refusal(key, _executed(key))


@app.task
def count_down(key: str, number: int) -> Answer:
    """Calls itself; returns the number of calls in the chain."""
    token = _executed(key)
    return (1 + _call_until_accepted(count_down, key, number - 1) if number else 0), token


def _call_until_accepted(task: Task[[str, int], Answer], key: str, number: int) -> int:
    """Make a nested call. It is made again if the full disk refused it."""
    while True:
        try:
            value: int = task(f"{key}/{number}", number).result[0]
        except (OSError, SpoolError):
            time.sleep(_RETRY_PAUSE)
        else:
            return value


def _one_each(call: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": f"{call['key']}/{number}", "numbers": [number]} for number in call["numbers"]]


def _joined(parts: list[Answer]) -> Answer:
    return [value for values, _ in parts for value in values], " ".join(run for _, run in parts)


@app.direct_task(parallel_func=_one_each, aggregate_func=_joined)
def squares(key: str, numbers: list[int]) -> Answer:
    """A blocking call that is split into one call for each number."""
    return [number * number for number in numbers], _executed(key)


@app.task
def crash(key: str, how: str) -> Answer:
    """Crashes its process when it runs for the first time."""
    token = _executed(key)
    mark = Path(os.environ["CHAOS_BASE"], "crashes", key)
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return how, token
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _CRASHES[how]()
    raise AssertionError(f"{how} did not end the process")


def _exit_in_c() -> None:
    """Exit without Python noticing, as if the process had been asked to end."""
    exit_now: Any = ctypes.CDLL(None)["_exit"]
    exit_now(0)


_CRASHES: dict[str, Callable[[], object]] = {
    "exit": lambda: os._exit(3),
    "exit 0": lambda: os._exit(0),
    "exit 0 in C": _exit_in_c,
    "abort": os.abort,
    # The first process of a namespace cannot kill itself.
    "kill": lambda: os._exit(9) if os.getpid() == 1 else os.kill(os.getpid(), signal.SIGKILL),
}
CRASHES = tuple(_CRASHES)
