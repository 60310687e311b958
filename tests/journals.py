"""Journals as workers would have written them, for tests and without workers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec

from fsqueue.spool.format.layout import Layout
from fsqueue.spool.history.entries import Entry, Groups, Sums, TaskSums
from fsqueue.spool.history.journal import hour_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'",
    "</title></style><svg onload=alert(1)>",
    "</pre><iframe src=//evil.example>",
    "&lt;b&gt; &amp; {{7*7}} ${7*7} {% raw %}",
    "javascript:alert(1)",
    "\x1b[31mred\x1b[0m \x00 \u202egnp.exe \u2028",
    "]]><!-- -->",
)


def write_journal(
    root: Path,
    *,
    attempts: int,
    texts: Sequence[str] = ("plain",),
    workers: int = 2,
    kinds: int = 3,
    age: float = 600.0,
) -> None:
    """Attempts one second apart, from `age` seconds ago on; every second one has failed.

    Args:
        root: the folder that gets ``journal/``.
        attempts: how many.
        texts: parts of names, labels and messages, in turn.
        workers: how many workers, in turn.
        kinds: how many kinds of failures.
        age: seconds.
    """
    layout, began = Layout(str(root)), time.time() - age
    for worker in range(workers):
        lines, tasks, groups = [], {}, Groups()
        for number in range(worker, attempts, workers):
            made = _entry(number, began + number * 0.1, texts[number % len(texts)], kinds)
            groups.count(made, tasks.setdefault(made.task, TaskSums()).count(made))
            lines.append(msgspec.json.encode(made))
        hour, name = hour_of(began), f"w{worker}-7-abcdef"
        os.makedirs(layout.journal_hour(hour), exist_ok=True)
        sums = Sums(
            serial=1,
            began=began,
            since=began,
            until=began + attempts * 0.1 + 0.01,
            slots=2,
            busy=0.05 * len(lines),
            tasks=tasks,
            queues=groups.queues,
            failures=groups.failures,
            runs=groups.runs,
        )
        _write(layout.journal_sums(hour, name), [msgspec.json.encode(sums)])
        _write(layout.journal_lines(hour, name), lines)


def _write(path: str, lines: list[bytes]) -> None:
    with open(path, "wb") as file:
        file.write(b"".join(line + b"\n" for line in lines))


def _entry(number: int, started: float, text: str, kinds: int) -> Entry:
    failed = number % 2 == 0
    failure = {
        "failure": f"Error{text}"[:100],
        "fp": f"{number % kinds:08x}",
        "at": f"{text}:3 in f",
        "message": text,
        "failed": 1,
        "label": text,
    }
    return Entry(
        id=f"abcdefgh-{number}",
        task=f"task{text}"[:200],
        queue="t.default",
        attempt=1,
        state="failed" if failed else "succeeded",
        started=started,
        wait=0.1,
        run=0.05,
        **(failure if failed else {}),
    )
