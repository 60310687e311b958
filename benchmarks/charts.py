"""Bar charts as SVG text, without a plotting library."""

import math
from html import escape

WIDTH = 760
LABELS = 190
BAR, GAP, HEAD = 22, 8, 46
BLUE = "#2563a6"
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
            colour = BLUE if label.startswith("fsqueue") else GREY
            parts.append(text(LABELS - 8, top + 15, label, "end"))
            parts.append(
                f'<rect x="{LABELS}" y="{top}" width="{length:.1f}" height="{BAR}" '
                f'fill="{colour}"/>'
            )
            parts.append(text(LABELS + length + 6, top + 15, shown))
            top += BAR + GAP
    return document(top + 12, parts)
