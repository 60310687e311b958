"""Draws calls that wait for each other, as SVG; see `fsqueue.monitor.charts`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsqueue.monitor.svg import number, safe, title

if TYPE_CHECKING:
    from collections.abc import Sequence

_WIDTH, _HEIGHT, _ACROSS, _DOWN = 190, 26, 70, 10
_LONGEST = 25


class Node(NamedTuple):
    """One call, or several calls of one task with the same neighbours."""

    key: str
    column: int
    text: str
    kind: str
    """The name of its colour."""
    to: Sequence[str] = ()
    """Keys of the nodes in later columns that wait for it."""
    title: str = ""


def graph(nodes: Sequence[Node], *, label: str) -> str:
    """Boxes in columns, from left to right, with lines between them."""
    columns = sorted({each.column for each in nodes})
    rows: dict[int, int] = {}
    places: dict[str, tuple[float, float]] = {}
    tallest = max((sum(each.column == column for each in nodes) for column in columns), default=0)
    for each in nodes:
        row = rows[each.column] = rows.get(each.column, -1) + 1
        mine = sum(other.column == each.column for other in nodes)
        x = columns.index(each.column) * (_WIDTH + _ACROSS)
        places[each.key] = x, (row + (tallest - mine) / 2) * (_HEIGHT + _DOWN)
    width = len(columns) * (_WIDTH + _ACROSS) - _ACROSS
    height = tallest * (_HEIGHT + _DOWN) - _DOWN
    lines = [
        _line(places[each.key], places[other]) for each in nodes for other in each.to
        if other in places
    ]  # fmt: skip
    boxes = [_box(each, *places[each.key]) for each in nodes]
    return (
        f'<svg class="graph" width="{width + 2}" height="{number(height + 2)}" '
        f'viewBox="-1 -1 {width + 2} {number(height + 2)}" role="img" '
        f'aria-label="{safe(label)}">{"".join(lines)}{"".join(boxes)}</svg>'
    )


def _line(start: tuple[float, float], end: tuple[float, float]) -> str:
    x, y = start[0] + _WIDTH, start[1] + _HEIGHT / 2
    to, down = end[0], end[1] + _HEIGHT / 2
    middle = (x + to) / 2
    path = (
        ",".join(map(number, (x, y)))
        + "C"
        + " ".join(f"{number(a)},{number(b)}" for a, b in ((middle, y), (middle, down), (to, down)))
    )
    return f'<path class="s-ink" d="M{path}"/>'


def _box(node: Node, x: float, y: float) -> str:
    text = node.text if len(node.text) <= _LONGEST else f"{node.text[: _LONGEST - 1]}…"
    return (
        f"<g>{title(node.title or node.text)}"
        f'<rect class="box" x="{number(x)}" y="{number(y)}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'rx="4"/><rect class="f-{node.kind}" x="{number(x)}" y="{number(y)}" width="4" '
        f'height="{_HEIGHT}"/>'
        f'<text class="name" x="{number(x + 11)}" y="{number(y + 17)}">{safe(text)}</text></g>'
    )
