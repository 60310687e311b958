"""Uses that type checkers must accept, with the types that they must see."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, assert_type

from fsqueue import (
    FSQueue,
    Invocation,
    InvocationGroup,
    Progress,
    State,
    Task,
    args,
    current_invocation,
    triggers,
)

app = FSQueue("typing", root="/tmp/queue", serializer="json", concurrency=8)


@app.task
def scale(value: int, *, factor: float = 2.0) -> float:
    return value * factor


@app.task(
    max_attempts=5,
    serializer="pickle",
    running_concurrency="task",
    running_limit=2,
    resources={"gpu": 1, "mem": "64G"},
    walltime="40m",
    max_cuts=2,
)
async def fetch(key: str) -> bytes:
    return key.encode()


def is_large(value: float) -> bool:
    return value > 2


@app.task(
    queue="mail",
    label="to {name}",
    triggers=[
        triggers.cron("0 3 * * *", missed="skip", arguments=("nightly",)),
        triggers.on_result(scale, is_large, arguments=lambda o: args(o.invocation)),
        triggers.on_event("a") & (triggers.on_event("b") | triggers.on_status(scale, "failed")),
    ],
)
def report(reason: str = "") -> str:
    return reason


@app.task
def describe(value: float, name: str) -> str:
    return f"{name}: {value}"


@app.task
def mean(values: list[float]) -> float:
    return sum(values) / len(values)


@app.direct_task
def add(a: int, b: int = 2) -> int:
    return a + b


@app.direct_task(
    call_result_cache=True,
    call_result_cache_ttl=60,
    registration_concurrency="keys",
    key_arguments=["seconds"],
)
async def wait_for(seconds: float) -> str:
    return str(seconds)


@app.direct_task(
    parallel_func=lambda call: [args(path) for path in call["path"]], aggregate_func=sum
)
def count(path: str) -> int:
    return len(path)


@app.direct_task(
    parallel_func=lambda call: ({"b": 1}, [{"a": n} for n in range(3)]), aggregate_func=max
)
def largest(a: int, b: int) -> int:
    return a + b


def tasks() -> None:
    assert_type(scale(3, factor=1.5), Invocation[float])
    assert_type(scale(3).result, float)
    assert_type(scale(3).get(timeout=1.0), float)
    assert_type(scale(3).status, State)
    assert_type(fetch("a"), Invocation[bytes])
    assert_type(fetch("a").result, bytes)
    group = scale.parallelize([(1,), {"value": 2}, scale.args(3)], common_args={"factor": 1.0})
    assert_type(group, InvocationGroup[float])
    assert_type(group.results, list[float])
    assert_type(group[0], Invocation[float])
    assert_type(group.progress("scaling").results, list[float])
    assert_type(list(app.track(group)), list[float])
    assert_type(scale(3).output, str)
    assert_type(scale(3).reported, Progress | None)
    assert_type(scale.options(capture_output=True)(1), Invocation[float])
    here = current_invocation()
    if here is not None:
        here.progress(1, 2, "half")
    assert_type(report("by hand"), Invocation[str])
    assert_type(app.emit("paid", {"order": 7}), str)
    assert_type(scale(3).then(describe, "it"), Invocation[str])
    assert_type(scale(3).then(describe.options(countdown=1.0), name="it").result, str)
    assert_type(group.then(mean).then(describe, "mean"), Invocation[str])
    task: Task[[str], bytes] = fetch
    assert_type(task("a").done(), bool)


async def awaited() -> None:
    assert_type(await scale(3).async_result(), float)
    assert_type(await fetch("a").async_result(), bytes)
    assert_type(await wait_for(1.0), str)
    values: AsyncIterator[float] = scale.parallelize([(1,)]).async_results()
    assert_type([value async for value in values], list[float])


def direct() -> None:
    assert_type(add(1), int)
    assert_type(count("a"), int)
    assert_type(largest(1, b=2), int)
    plain: Callable[[float], Coroutine[Any, Any, str]] = wait_for
    assert callable(plain)
    app.conf.dev_mode_force_sync_tasks = True
    assert_type(app.invocation("kq3x7abcde-1"), Invocation[Any])
