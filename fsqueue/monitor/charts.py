"""Draws charts as SVG text, for the web page and for the report.

Each function takes numbers and returns one ``<svg>`` element. The elements have classes and
attributes and no inline style, so that a strict Content-Security-Policy allows them; their colours
are in ``static/monitor.css``. All text is escaped here.

A large chart is as wide as its container, at the same height and with the same size of text: the
parts that stretch are in an inner ``<svg>``, and positions along the time axis are percentages. Its
value axis is in the margin to the left. `bars`, `lines`, `histogram`, `heat`, `ranges` and
`timeline` are large charts. Small ones, for lines of text and cells, are in
`fsqueue.monitor.small_charts`.

Colours are named by what they mean: ``ok``, ``bad``, ``lost``, ``run``, ``wait``, ``warn``, and
``h0`` to ``h4`` from pale to strong.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.monitor.svg import (
    WIDTH,
    chart_element,
    extent_of,
    number,
    path,
    place,
    safe,
    shaded,
    title,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

MOST_BARS: Final = 4_000
"""A timeline has at most this many bars; beyond that, it shows shares of busy time."""
_TOP, _BOTTOM = 8, 19
_HEIGHT = 150
_LANE, _GAP = 9, 2
_ROW = 21
_THOUSAND = 1000


class Tick(NamedTuple):
    """A label on an axis."""

    at: float
    """Its place, from 0 to 1."""
    text: str


class Series(NamedTuple):
    """The values of one kind, one for each step of time."""

    kind: str
    """The name of its colour."""
    values: Sequence[float]


class Bar(NamedTuple):
    """One attempt in a timeline, with its times as shares of the whole, from 0 to 1."""

    start: float
    end: float
    kind: str
    title: str


class Lane(NamedTuple):
    """One row of a timeline, such as a slot of a worker."""

    name: str
    """Shown before the first of the lanes with the same name."""
    bars: Sequence[Bar]


class Range(NamedTuple):
    """A row of `ranges`: a low, a middle and a high value."""

    name: str
    low: float
    middle: float
    high: float
    kind: str = "h3"


# -- large charts ---------------------------------------------------------------------------


def bars(
    series: Sequence[Series], titles: Sequence[str], ticks: Iterable[Tick], *, label: str
) -> str:
    """Stacked bars, one for each step of time; the first series is at the bottom.

    Args:
        series: values of the kinds.
        titles: what each bar says when it is pointed at.
        ticks: labels of the time axis.
        label: the chart in words, with its numbers.
    """
    count = len(titles)
    most = nice(max((sum(column) for column in _columns(series)), default=0.0))
    inner = _inner(_HEIGHT)
    parts = []
    for index, column in enumerate(_columns(series)):
        x, width, top = index * WIDTH / count, WIDTH / count, float(inner)
        rects = [f'<rect class="f-none" {place(x, 0, width, inner)}/>']
        for kind, value in zip((each.kind for each in series), column, strict=True):
            height = extent_of(value, most, inner)
            top -= height
            if height:
                box = place(x + width * 0.05, max(0.0, top), width * 0.9, height)
                rects.append(f'<rect class="f-{kind}" {box}/>')
        parts.append(f"<g>{title(titles[index])}{''.join(rects)}</g>")
    return _chart(_HEIGHT, "".join(parts), most, ticks, label)


def lines(
    values: Sequence[float],
    ticks: Iterable[Tick],
    *,
    label: str,
    limits: Sequence[float] = (),
    span: float = 1.0,
    projection: Sequence[tuple[float, float]] = (),
    band: Sequence[tuple[float, float]] = (),
) -> str:
    """A line over time with the area below it.

    Args:
        values: one for each step of time.
        ticks: labels of the time axis.
        label: the chart in words, with its numbers.
        limits: a second line, with steps, such as the number of all slots.
        span: the share of the width that the values take; the rest is for the projection.
        projection: points of a dashed line, as shares of the width and values.
        band: the corners of an area that shows how uncertain it is.
    """
    inner = _inner(_HEIGHT)
    known = [*values, *limits, *(value for _, value in (*projection, *band))]
    most = nice(max(known, default=0.0))

    def points(found: Iterable[tuple[float, float]]) -> str:
        return "L".join(f"{number(x * WIDTH)},{number(inner * (1 - y / most))}" for x, y in found)

    steps = max(1, len(values) - 1)
    line = points((index / steps * span, value) for index, value in enumerate(values))
    parts = []
    if values:
        end = number((len(values) - 1) / steps * span * WIDTH)
        parts += [
            f'<path class="a-run" d="M0,{number(inner)}L{line}L{end},{number(inner)}Z"/>',
            path("s-run", line),
        ]
    if limits:
        edges = [(index / max(1, len(limits) - 1) * span, v) for index, v in enumerate(limits)]
        parts.append(path("s-ink", points(_steps(edges))))
    if band:
        parts.append(f'<path class="a-run" d="M{points(band)}Z"/>')
    if projection:
        parts.append(path("s-run dash", points(projection)))
    if span < 1:
        parts.append(path("s-ink dots", points([(span, 0.0), (span, most)])))
    return _chart(_HEIGHT, "".join(parts), most, ticks, label)


def histogram(
    counts: Sequence[float],
    titles: Sequence[str],
    ticks: Iterable[Tick],
    marks: Iterable[Tick] = (),
    *,
    label: str,
) -> str:
    """Bars for neighbouring ranges of values, and lines at some values.

    Args:
        counts: how many are in each range.
        titles: what each bar says when it is pointed at.
        ticks: labels of the value axis.
        marks: values with a line and a text, such as percentiles.
        label: the chart in words, with its numbers.
    """
    height, top = 190, 26
    inner = height - top - _BOTTOM
    most = nice(max(counts, default=0.0))
    width = WIDTH / max(1, len(counts))
    parts = []
    for index, count in enumerate(counts):
        extent = extent_of(count, most, inner)
        box = place(index * width + width * 0.05, inner - extent, width * 0.9, extent)
        parts.append(f'<rect class="f-h3" {box}>{title(titles[index])}</rect>')
    over = []
    for row, mark in enumerate(sorted(marks)):
        x = f"{number(100 * mark.at)}%"
        # Neighbours are often close together, so each text has its own line.
        y = 7 + 9 * row
        left = mark.at > 0.8  # noqa: PLR2004 - else it would leave the chart
        anchor = "end" if left else "start"
        over.append(
            f'<line class="s-ink dash" x1="{x}" x2="{x}" y1="{y - 6}" y2="{height - _BOTTOM}"/>'
            f'<text x="{x}" dx="{-4 if left else 4}" y="{y}" text-anchor="{anchor}">'
            f"{safe(mark.text)}</text>"
        )
    return _chart(height, "".join(parts), most, ticks, label, top=top, over="".join(over))


def ranges(rows: Sequence[Range], ticks: Iterable[Tick], *, label: str) -> str:
    """A row for each name: a bar from its low to its high value, and a dot at the middle one.

    Args:
        rows: the values, as shares of the width from 0 to 1.
        ticks: labels of the value axis.
        label: the chart in words, with its numbers.
    """
    height = 14 + _ROW * len(rows) + _BOTTOM
    parts = []
    for index, row in enumerate(rows):
        y = 14 + _ROW * index
        low, middle, high = (f"{number(100 * each)}%" for each in (row.low, row.middle, row.high))
        parts.append(
            f'<line class="ax" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
            f'<text class="name" x="-8" y="{y + 4}" text-anchor="end">{safe(row.name)}</text>'
            f'<line class="s-{row.kind} thick" x1="{low}" x2="{high}" y1="{y}" y2="{y}"/>'
            f'<circle class="f-{row.kind}" cx="{middle}" cy="{y}" r="3.6"/>'
        )
    return chart_element("chart wide", height, "".join(parts) + _time_axis(ticks, height), label)


def heat(
    columns: Sequence[Sequence[float]],
    titles: Sequence[str],
    ticks: Iterable[Tick],
    names: Sequence[Tick],
    *,
    label: str,
) -> str:
    """Cells shaded by their counts, with time to the right and values upwards.

    Args:
        columns: for each step of time the numbers by value, the smallest value first.
        titles: what each column says when it is pointed at.
        ticks: labels of the time axis.
        names: labels of the value axis, from 0 at the bottom to 1.
        label: the chart in words.
    """
    rows = max((len(each) for each in columns), default=0)
    most = max((count for each in columns for count in each), default=0.0) or 1.0
    height = _TOP + _BOTTOM + max(60, 9 * rows)
    inner = height - _TOP - _BOTTOM
    width, tall = WIDTH / max(1, len(columns)), inner / max(1, rows)
    parts = []
    for x, (column, text) in enumerate(zip(columns, titles, strict=True)):
        cells = "".join(
            f'<rect class="f-h{_shade(count, most)}" '
            f"{place(x * width, inner - (y + 1) * tall, width * 0.96, tall * 0.92)}/>"
            for y, count in enumerate(column)
            if count
        )
        if cells:
            parts.append(f"<g>{title(text)}{cells}</g>")
    texts = "".join(
        f'<text x="-6" y="{number(_TOP + inner * (1 - each.at))}" dy="3.5" text-anchor="end">'
        f"{safe(each.text)}</text>"
        for each in names
    )
    plot = (
        f'<svg y="{_TOP}" width="100%" height="{number(inner)}" '
        f'viewBox="0 0 1000 {number(inner)}" preserveAspectRatio="none">{"".join(parts)}</svg>'
    )
    return chart_element("chart", height, texts + plot + _time_axis(ticks, height), label)


def _shade(found: float, most: float) -> int:
    """The shade of a number from 1 to `most`, from 1 to 4, by its logarithm."""
    return max(1, min(4, 1 + round(3 * math.log1p(found) / math.log1p(most))))


def timeline(lanes: Sequence[Lane], ticks: Iterable[Tick], *, label: str) -> str:
    """Attempts over time, one row for each lane.

    With more than `MOST_BARS`, it shows for each interval which share of it was busy, and whether
    any attempt in it failed.
    """
    y, former, parts = 6.0, None, []
    room = MOST_BARS // max(1, len(lanes))
    for lane in lanes:
        if lane.name != former:
            y += 7 * (former is not None)
            name = safe(lane.name)
            parts.append(f'<text class="name" x="-8" y="{number(y + 8)}" text-anchor="end">')
            parts.append(f"{name}</text>")
        former = lane.name
        inside = "".join(_lane(lane.bars, room))
        parts.append(
            f'<svg y="{number(y)}" width="100%" height="{_LANE}" viewBox="0 0 1000 {_LANE}" '
            f'preserveAspectRatio="none"><rect class="f-h0" {place(0, 0, WIDTH, _LANE)}/>'
            f"{inside}</svg>"
        )
        y += _LANE + _GAP
    height = round(y + _BOTTOM)
    return chart_element("chart wide", height, "".join(parts) + _time_axis(ticks, height), label)


def _lane(found: Sequence[Bar], room: int) -> Iterator[str]:
    if len(found) <= room:
        for bar in found:
            width = max(1.0, (bar.end - bar.start) * WIDTH)
            box = place(bar.start * WIDTH, 0, width, _LANE)
            yield f'<rect class="f-{bar.kind}" {box}>{title(bar.title)}</rect>'
        return
    pieces = max(1, min(room, 400) // 2)
    busy, failed = [0.0] * pieces, [False] * pieces
    for bar in found:
        for piece in range(int(bar.start * pieces), min(pieces, int(bar.end * pieces) + 1)):
            inside = min(bar.end, (piece + 1) / pieces) - max(bar.start, piece / pieces)
            busy[piece] += max(0.0, inside * pieces)
            failed[piece] = failed[piece] or bar.kind == "bad"
    yield from shaded([min(1.0, each) for each in busy], failed, _LANE)


# -- axes and numbers -----------------------------------------------------------------------


def nice(most: float) -> float:
    """The smallest round number (1, 2 or 5 with zeros) that is at least `most`, and at least 1."""
    if not math.isfinite(most) or most <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= most * (1 - 1e-9))


def short(number: float) -> str:
    """A number for an axis: 950, 1.5k, 200k, 3M."""
    for size, unit in ((_THOUSAND**3, "G"), (_THOUSAND**2, "M"), (_THOUSAND, "k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def even_ticks(texts: Sequence[str]) -> list[Tick]:
    """Labels at equal distances, the first at the start and the last at the end."""
    return [Tick(index / max(1, len(texts) - 1), text) for index, text in enumerate(texts)]


def _chart(
    height: int,
    inside: str,
    most: float,
    ticks: Iterable[Tick],
    label: str,
    *,
    top: int = _TOP,
    over: str = "",
) -> str:
    inner = height - top - _BOTTOM
    axes = []
    for share in (0.0, 0.5, 1.0):
        y = number(top + inner * (1 - share))
        axes.append(
            f'<line class="ax" x1="0" x2="100%" y1="{y}" y2="{y}"/>'
            f'<text x="-6" y="{y}" dy="3.5" text-anchor="end">{short(most * share)}</text>'
        )
    plot = (
        f'<svg y="{top}" width="100%" height="{number(inner)}" '
        f'viewBox="0 0 1000 {number(inner)}" preserveAspectRatio="none">{inside}</svg>'
    )
    return chart_element(
        "chart", height, "".join(axes) + plot + over + _time_axis(ticks, height), label
    )


def _time_axis(ticks: Iterable[Tick], height: int) -> str:
    parts = []
    for tick in ticks:
        near = 0.02
        anchor = "start" if tick.at < near else "end" if tick.at > 1 - near else "middle"
        x = f"{number(100 * tick.at)}%"
        parts.append(f'<text x="{x}" y="{height - 4}" text-anchor="{anchor}">')
        parts.append(f"{safe(tick.text)}</text>")
    return "".join(parts)


def _steps(points: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The corners of a line that goes sideways first, and then up or down."""
    for index, (x, y) in enumerate(points):
        if index:
            yield x, points[index - 1][1]
        yield x, y


def _columns(series: Sequence[Series]) -> Iterator[tuple[float, ...]]:
    return zip(*(each.values for each in series), strict=True)


def _inner(height: int) -> int:
    return height - _TOP - _BOTTOM
