"""The parts of the screen: queues, workers and tasks, as tables that fit into any width."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.cli.columns import (
    NEVER,
    QUEUES,
    Column,
    calls_in,
    progress,
    state_of_queue,
    task_columns,
    worker_columns,
)
from fsqueue.cli.screen.cells import Span, fitted, width_of
from fsqueue.common.commands import command
from fsqueue.common.printable import counted, duration, printable
from fsqueue.spool.format.names import split_profile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsqueue.cli.screen.cells import Line
    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.admin.snapshot import QueueInfo, WorkerInfo
    from fsqueue.spool.history.statistics import Stats, TaskStats

_GAP = 2
# Names and last columns that do not fit are cut, but keep at least this many cells.
_LEAST = 14
_URGENT = {"dead": 0, "silent": 1}


class Section(NamedTuple):
    """A table of things of one kind."""

    title: str
    summary: str
    columns: tuple[Column, ...]
    rows: Sequence[Any]
    order: Callable[[Any], Any]
    """The sort key of rows at first."""
    pairs: Callable[[Any], list[tuple[str, object]]]
    """Everything about a row, as names and values."""

    def name(self, row: object) -> str:
        """The text of a row's first cell, which no other row has."""
        return str(self.columns[0].cell(row))

    def matches(self, row: object, text: str) -> bool:
        """Whether any cell of a row contains a text."""
        return any(text in str(column.cell(row)).casefold() for column in self.columns)


def sections_of(glance: Glance, age: float) -> tuple[Section, ...]:
    """The sections of a glance that was taken `age` seconds ago."""
    snapshot, recent = glance.snapshot, glance.recent
    seen = [each for each in snapshot.workers if each.state != "unseen"]
    columns = worker_columns(seen, recent, snapshot.time + age)
    return (
        Section(
            title="Queues",
            summary=_queues_in_words(snapshot.queues),
            columns=QUEUES,
            rows=snapshot.queues,
            order=lambda queue: (not queue.paused, queue.name),
            pairs=lambda queue: _about_queue(queue, recent),
        ),
        Section(
            title="Workers",
            summary=_workers_in_words(snapshot.workers),
            columns=columns,
            rows=seen,
            order=lambda each: (_URGENT.get(each.state, 2), not each.draining, each.name),
            pairs=lambda worker: _about_worker(worker, columns),
        ),
        Section(
            title="Tasks",
            summary=f"of the last {recent.seconds // 60:.0f} min" if recent.tasks else "none ended",
            columns=task_columns(recent.tasks),
            rows=recent.tasks,
            order=lambda task: (-task.calls, task.task),
            pairs=lambda task: _about_task(task, recent),
        ),
    )


def _queues_in_words(queues: Sequence[QueueInfo]) -> str:
    if not queues:
        return "none"
    about = "" if all(each.exact for each in queues) else "~"
    states = Counter(map(state_of_queue, queues))
    numbers = [f"{about}{sum(each.due for each in queues):,} due"]
    numbers += [f"{states[state]} {state}" for state in ("paused", "not served") if states[state]]
    return ", ".join(numbers)


def _workers_in_words(workers: Sequence[WorkerInfo]) -> str:
    if not workers:
        return "none"
    states = Counter(each.state for each in workers)
    slots, held = (sum(getattr(each, name) for each in workers) for name in ("slots", "held"))
    numbers = [f"{held}/{slots} slots busy"]
    numbers += [f"{states[state]} {state}" for state in ("alive", "silent", "dead")]
    text = ", ".join(each for each in numbers if not each.startswith("0 "))
    unseen = states["unseen"]
    return f"{text}; {unseen} more not looked at yet" if unseen else text


# -- one row in full --------------------------------------------------------------------------


def _all_cells(columns: Sequence[Column], row: object) -> list[tuple[str, object]]:
    return [(column.head.lower(), column.cell(row)) for column in columns]


def _about_queue(queue: QueueInfo, recent: Stats) -> list[tuple[str, object]]:
    ended = recent.queues.get(queue.name, 0)
    name = split_profile(queue.name)[0].partition(".")[2]
    return [
        *_all_cells(QUEUES, queue),
        ("calls in it", calls_in(queue)),
        (f"ended in the last {recent.seconds // 60:.0f} min", ended),
        ("its calls", command("list", queue=name)),
    ]


def _about_worker(worker: WorkerInfo, columns: Sequence[Column]) -> list[tuple[str, object]]:
    calls = [
        (
            "call" if number else "calls",
            f"{call.id}, attempt {call.attempt}, for {duration(call.seconds)}"
            + "".join(f", {each}" for each in progress(call)),
        )
        for number, call in enumerate(worker.running)
    ]
    more = worker.held - len(worker.running)
    return [
        *_all_cells(columns[:-1], worker),
        ("host", worker.host),
        ("process", worker.pid),
        ("let it leave", command("drain", worker.name)),
        *calls,
        *([("", f"and {counted(more, 'call')} more")] if more > 0 else []),
    ]


def _about_task(task: TaskStats, recent: Stats) -> list[tuple[str, object]]:
    return [
        *_all_cells(task_columns([task]), task),
        ("cancelled", task.cancelled),
        ("per second", f"{recent.per_second(task.calls):.3g}"),
        ("its failures", command("failures", task=task.task)),
    ]


# -- the table --------------------------------------------------------------------------------


class Layout(NamedTuple):
    """Which columns of a table are shown, and how wide they are."""

    columns: tuple[Column, ...]
    widths: tuple[int, ...]
    right: tuple[bool, ...]
    """Which of them are right-aligned, because they contain only numbers."""
    hidden: tuple[str, ...]
    """Heads of the columns that do not fit."""


def layout_of(section: Section, width: int, widest: dict[str, int]) -> Layout:
    """Choose columns and widths.

    Args:
        section: the table.
        width: cells in a line.
        widest: the widest cell of each column so far, by its head. It is updated, and only grows,
            since a column that changes its width moves the whole table.
    """
    columns = [column for column in section.columns if column.rank < NEVER]
    for column in columns:
        cells = (width_of(printable(str(column.cell(row)))) for row in section.rows)
        least = len(column.head) + 1  # for the mark of the order
        widest[column.head] = max(widest.get(column.head, least), least, *cells, 0)
    last = columns[-1] if len(columns) > 1 else None
    while True:
        flexible = [each for each in (columns[0], last) if each in columns and each is not None]
        fixed = sum(widest[each.head] for each in columns if each not in flexible)
        room = width - fixed - _GAP * (len(columns) - 1)
        needed = sum(min(_LEAST, widest[each.head]) for each in flexible)
        candidates = [each for each in columns if each.rank]
        if room >= needed or not candidates:
            break
        columns.remove(max(candidates, key=lambda each: each.rank))
    widths = _shared(flexible, room, widest)
    hidden = [each.head for each in section.columns if each.rank < NEVER and each not in columns]
    return Layout(
        tuple(columns),
        tuple(widths.get(each.head, widest[each.head]) for each in columns),
        tuple(all(isinstance(each.cell(row), int) for row in section.rows) for each in columns),
        tuple(hidden),
    )


def _shared(flexible: list[Column], room: int, widest: dict[str, int]) -> dict[str, int]:
    """Divide the room among the columns that may be cut. The first gets all it needs, if it can."""
    if len(flexible) == 1:
        return {flexible[0].head: max(1, min(room, widest[flexible[0].head]))}
    first, last = (each.head for each in flexible)
    of_first = max(1, min(widest[first], room - min(_LEAST, widest[last])))
    return {first: of_first, last: max(1, min(widest[last], room - of_first))}


def head_of(layout: Layout, order: str, mark: str) -> Line:
    """The line above a table.

    Args:
        layout: the layout of the table.
        order: the head of the column by which it is sorted.
        mark: the character that marks that column.
    """
    cells = [
        fitted(column.head + mark * (column.head == order), width, right=right)
        for column, width, right in zip(layout.columns, layout.widths, layout.right, strict=True)
    ]
    return [Span("  "), Span((" " * _GAP).join(cells).rstrip(), "dim bold")]


def line_of(layout: Layout, row: object, *, selected: bool, more: str) -> Line:
    """The line of a row.

    Args:
        layout: the layout of the table.
        selected: whether the row is the selected one.
        more: replaces the end of a text that does not fit.
    """
    line = [Span("> " if selected else "  ", "bold accent" * selected)]
    for column, width, right in zip(layout.columns, layout.widths, layout.right, strict=True):
        text = fitted(column.cell(row), width, right=right, more=more)
        style = " ".join(filter(None, (column.style(row), "bold" * selected)))
        line += [Span(text, style), Span(" " * _GAP)]
    return line[:-1]
