"""Charts as SVG text, without a plotting library: bars, and curves over logarithmic axes."""

import math
from html import escape

WIDTH = 760
LABELS = 190
BAR, GAP, HEAD = 22, 8, 46
COLOURS = ("#2563a6", "#c2571a", "#3b8545", "#8a4fa3", "#8a6d1b", "#b0304f")
GREY = "#9aa3ad"
STYLE = "font-family:system-ui,sans-serif;font-size:12px;fill:#1f2933"


def document(height, parts):
    """The pieces of a chart as one SVG document."""
    size = f'width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="{STYLE}">'
    return "\n".join(
        [
            opening,
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *parts,
            "</svg>",
            "",
        ]
    )


def text(x, y, content, anchor="start", weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">'
        f"{escape(content)}</text>"
    )


def bars(panels):
    """A bar chart. Each panel is a title and rows of (label, value, shown value).

    Bar lengths are logarithmic, and start at a tenth of the smallest value. If a value is None,
    only its text is shown.
    """
    parts, top = [], 0
    for title, rows in panels:
        parts.append(text(12, top + 26, title, weight="bold"))
        values = [value for _, value, _ in rows if value]
        low = math.log10(min(values, default=1)) - 1
        span = math.log10(max(values, default=10)) - low
        top += HEAD
        for label, value, shown in rows:
            length = (WIDTH - LABELS - 150) * (math.log10(value) - low) / span if value else 0
            colour = COLOURS[0] if label.startswith("fsqueue") else GREY
            parts.append(text(LABELS - 8, top + 15, label, "end"))
            parts.append(
                f'<rect x="{LABELS}" y="{top}" width="{length:.1f}" height="{BAR}" '
                f'fill="{colour}"/>'
            )
            parts.append(text(LABELS + length + 6, top + 15, shown))
            top += BAR + GAP
    return document(top + 12, parts)


def curves(title, panels):
    """A chart of curves. Each panel is (title, {name: [(x, y), ...]}); logarithmic axes."""
    height, left, right, parts = 230, 76, WIDTH - 190, [text(12, 24, title, weight="bold")]
    top = 36
    for heading, series in panels:
        points = [point for line in series.values() for point in line]
        x_axis = _decades([x for x, _ in points])
        y_axis = _decades([y for _, y in points])
        bottom = top + height - 46

        def place(x, y, *, x_axis=x_axis, y_axis=y_axis, bottom=bottom, above=top + 22):
            return (
                left + (right - left) * _share(x, x_axis),
                bottom - (bottom - above) * _share(y, y_axis),
            )

        parts.append(text(12, top + 10, heading))
        parts += _grid(x_axis, y_axis, place)
        for index, (name, line) in enumerate(series.items()):
            colour = COLOURS[index % len(COLOURS)]
            placed = [place(x, y) for x, y in line]
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
            parts.append(
                f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            )
            parts += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed
            ]
            parts.append(
                f'<rect x="{right + 14}" y="{top + 22 + 18 * index}" width="10" height="10" '
                f'fill="{colour}"/>'
            )
            parts.append(text(right + 30, top + 31 + 18 * index, name))
        top += height
    return document(top + 8, parts)


def _decades(values):
    """The exponents of the powers of ten that enclose the values."""
    positive = [value for value in values if value > 0] or [1]
    low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)))
    return low, max(high, low + 1)


def _share(value, axis):
    low, high = axis
    return (math.log10(max(value, 10.0**low)) - low) / (high - low)


def _grid(x_axis, y_axis, place):
    parts = []
    for exponent in range(y_axis[0], y_axis[1] + 1):
        (x1, y1), (x2, _) = (place(10.0**x, 10.0**exponent) for x in x_axis)
        parts.append(f'<line x1="{x1}" y1="{y1:.1f}" x2="{x2}" y2="{y1:.1f}" stroke="#e3e7eb"/>')
        parts.append(text(x1 - 6, y1 + 4, f"{10.0**exponent:g}", "end"))
    for exponent in range(x_axis[0], x_axis[1] + 1):
        x, y = place(10.0**exponent, 10.0 ** y_axis[0])
        parts.append(text(x, y + 16, f"{10**exponent:,}", "middle"))
    return parts
