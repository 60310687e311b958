"""What notebooks and prompts show: short texts, and small tables that fit light and dark pages."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from fsqueue.common.printable import duration, printable
from fsqueue.errors import FSQueueError
from fsqueue.spool.format.resources import queue_in_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from fsqueue.spool.admin.snapshot import Snapshot
    from fsqueue.spool.format.states import State
    from fsqueue.spool.store.store import Store

# A group with more calls is not asked for the state of each.
_MOST_ASKED = 100
_MOST_ROWS = 10
# Readable on white and on black.
_COLOURS: Final = {
    "succeeded": "#2b9348",
    "failed": "#d6455d",
    "cancelled": "#8a8a8a",
    "running": "#3a86d8",
    "pending": "#b8860b",
}
_CELL = 'style="text-align:left;padding:1px 1.2em 1px 0;border:0;background:none"'


def state_in_words(state: Callable[[], State]) -> str:
    """The state of a call, or "unknown" if it cannot be read now."""
    try:
        return state().value
    except (FSQueueError, OSError, RuntimeError, ValueError):
        return "unknown"


def states_in_words(states: Sequence[Callable[[], State]]) -> Mapping[str, int]:
    """How many of some calls are in each state; empty if they are too many to ask."""
    return Counter(map(state_in_words, states)) if len(states) <= _MOST_ASKED else {}


def escape(text: str) -> str:
    """`html.escape`; that module has large tables, which workers and scripts should not load."""
    import html

    return html.escape(text)


def call_html(name: str, what: str, states: Mapping[str, int]) -> str:
    """One line for a call or a group."""
    several = sum(states.values()) > 1
    marks = " ".join(
        f'<span style="color:{_COLOURS.get(state, "inherit")}">&#9679;</span>&nbsp;'
        + (f"{count}&nbsp;{escape(state)}" if several else escape(state))
        for state, count in states.items()
    )
    return f"<span><b>{escape(name)}</b> <code>{escape(what)}</code> {marks}</span>"


def table_html(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A small table."""
    head = "".join(f"<th {_CELL}><small>{escape(each)}</small></th>" for each in heads)
    lines = "".join(
        "<tr>"
        + "".join(f"<td {_CELL}>{escape(printable(str(cell)))}</td>" for cell in row)
        + "</tr>"
        for row in rows
    )
    style = "border:0;margin:.3em 0;color:inherit;font:inherit"
    return f'<table style="{style}"><tr>{head}</tr>{lines}</table>'


class AppStatus:
    """The status of a spool: its queues and workers. Prints as text, and as tables in Jupyter.

    Attributes:
        snapshot: the queues, workers and counts of files.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    @classmethod
    def of(cls, store: Store, heartbeat: float) -> AppStatus:
        """The status of a spool now."""
        from fsqueue.spool.admin.census import take_snapshot

        return cls(take_snapshot(store, heartbeat=heartbeat))

    @property
    def _queues(self) -> list[tuple[Any, ...]]:
        return [
            (queue_in_words(each.name), each.due, each.delayed, duration(each.oldest), each.workers)
            for each in self.snapshot.queues
        ]

    @property
    def _workers(self) -> list[tuple[Any, ...]]:
        return [
            (each.name, each.state, each.runner, f"{len(each.running)} of {each.slots}")
            for each in self.snapshot.workers
        ]

    @property
    def _summary(self) -> str:
        counts = self.snapshot.counts
        texts = [f"{counts.kept} results"]
        texts += [f"{counts.waiting} not collected"] if counts.waiting else []
        texts += [f"{counts.failed} failed"] if counts.failed else []
        return ", ".join(texts)

    def __repr__(self) -> str:
        lines = [f"{printable(self.snapshot.root)}: {self._summary}"]
        for name, due, delayed, oldest, workers in self._queues:
            serve = f"{workers} worker{'' if workers == 1 else 's'}"
            lines.append(f"queue {name}: {due} due, {delayed} delayed, oldest {oldest}, {serve}")
        for name, state, runner, running in self._workers:
            lines.append(f"worker {name}: {state}, {running} {runner} slots busy")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        parts = [f"<code>{escape(printable(self.snapshot.root))}</code> {self._summary}"]
        parts.append(_part(("queue", "due", "delayed", "oldest", "workers"), self._queues))
        parts.append(_part(("worker", "state", "slots", "busy"), self._workers))
        return f'<div style="font-size:.92em">{"".join(parts)}</div>'


def _part(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    if not rows:
        return f"<div><small>no {heads[0]}s</small></div>"
    left = len(rows) - _MOST_ROWS
    more = f"<div><small>and {left} more</small></div>" if left > 0 else ""
    return table_html(heads, rows[:_MOST_ROWS]) + more
