"""Draws small charts and symbols as SVG text, for lines of text and cells of tables.

See `fsqueue.monitor.charts`. Screen readers skip charts without a label.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.monitor.svg import extent_of, number, place, safe, shaded, small_element

if TYPE_CHECKING:
    from collections.abc import Sequence

_ICONS = {
    "succeeded": "M2 6.5l2.8 2.8L10 3.4",
    "failed": "M2.5 2.5l7 7m0-7l-7 7",
    "lost": "M6 1.2L10.8 6 6 10.8 1.2 6z",
    "running": "M3.5 2l6 4-6 4z",
    "pending": "M6 1.8a4.2 4.2 0 1 1-.01 0z",
    "paused": "M4 2v8m4-8v8",
    "attention": "M6 1.5v5.6m0 2.2v1.2",
    "none": "M3 6h6",
}


def spark(
    values: Sequence[float],
    *,
    kind: str = "run",
    width: int = 84,
    height: int = 16,
    label: str = "",
) -> str:
    """A line without axes, for a cell of a table."""
    most = max(*values, 1.0) if values else 1.0
    steps = max(1, len(values) - 1)
    line = "L".join(
        f"{number(index * width / steps)},{number(height - 1 - value / most * (height - 2))}"
        for index, value in enumerate(values)
    )
    inside = f'<path class="s-{kind} thin" d="M{line}"/>' if len(values) > 1 else ""
    return small_element(width, height, inside, label)


def columns(
    values: Sequence[float], *, kind: str = "h3", width: int = 84, height: int = 16, label: str = ""
) -> str:
    """Bars without axes, for a cell of a table."""
    most = max(values, default=0.0) or 1.0
    each = width / max(1, len(values))
    inside = "".join(
        f'<rect class="f-{kind}" {place(index * each, height - extent, each * 0.85, extent)}/>'
        for index, value in enumerate(values)
        if (extent := extent_of(value, most, height))
    )
    return small_element(width, height, inside, label)


def share_bar(parts: Sequence[tuple[str, float]], *, width: int = 180, label: str = "") -> str:
    """A bar that is filled from the left by shares of the whole, from 0 to 1, in colours."""
    extents = [extent_of(share, 1.0, width) for _, share in parts]
    if sum(extents) > width:  # because small shares are drawn larger than they are
        largest = extents.index(max(extents))
        extents[largest] -= sum(extents) - width
    x = 0.0
    inside = f'<rect class="f-h0" width="{width}" height="8" rx="2"/>'
    for (kind, _), extent in zip(parts, extents, strict=True):
        if extent > 0:
            inside += f'<rect class="f-{kind}" {place(x, 0, extent, 8)}/>'
        x += extent
    return small_element(width, 8, inside, label)


def strip(busy: Sequence[float | None], failed: Sequence[bool], *, label: str = "") -> str:
    """How busy something was over time, by shade, with a mark where attempts failed.

    Args:
        busy: shares from 0 to 1; None where the worker was not there.
        failed: whether any attempt failed, for each of them.
        label: the chart in words.
    """
    inside = "".join(shaded(busy, failed, 14))
    hidden = f'role="img" aria-label="{safe(label)}"' if label else 'aria-hidden="true"'
    return (
        f'<svg class="strip" width="100%" height="14" viewBox="0 0 1000 14" '
        f'preserveAspectRatio="none" {hidden}>{inside}</svg>'
    )


def icon(name: str) -> str:
    """The symbol of a state, which stands before its word."""
    kind = "solid" if name == "running" else "dashed" if name == "pending" else "line"
    return (
        '<svg class="i" width="12" height="12" viewBox="0 0 12 12" aria-hidden="true">'
        f'<path class="g-{kind}" d="{_ICONS[name]}"/></svg>'
    )
