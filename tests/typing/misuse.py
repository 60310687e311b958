"""Uses that type checkers must flag: an ignore that is not needed is itself an error."""

from __future__ import annotations

from fsqueue import FSQueue, triggers

app = FSQueue("typing")
FSQueue("typing", runner="thred")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FSQueue("typing", poll_interval="1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
FSQueue("typing", concurency=1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


@app.task
def scale(value: int) -> float:
    return value * 2.0


@app.direct_task
def add(a: int, b: int = 2) -> int:
    return a + b


scale.options(serializer="yaml")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
scale.options(running_concurrency="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
scale("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
scale()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
scale.args("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
text: str = scale(3).result  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
scale(3).then(scale)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
scale(3).then(add)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
add("1")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
add(1, c=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
answer: str = add(1)  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
app.conf.lease = 3.0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]
app.conf.lese = 5.0  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue]
app.task(max_atempts=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
app.task(triggers="0 3 * * *")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
triggers.cron("0 3 * * *", missed="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
_ = triggers.on_event("paid") & "night"  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue, reportUnknownVariableType]
