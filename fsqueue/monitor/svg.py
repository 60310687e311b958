"""Elements of SVG, with positions and text that are safe to put into a page."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from fsqueue.common.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WIDTH: Final = 1000.0
"""The width of an inner ``<svg>``, which stretches with its container."""
# A value above zero is at least this high or wide, in pixels.
_LEAST = 2.0
_SHADES = (0.12, 0.4, 0.7, 0.93)


def chart_element(kind: str, height: int, inside: str, label: str) -> str:
    """A chart that is as wide as its container."""
    return (
        f'<svg class="{kind}" width="100%" height="{height}" overflow="visible" role="img" '
        f'aria-label="{safe(label)}">{inside}</svg>'
    )


def small_element(width: int, height: int, inside: str, label: str) -> str:
    """A chart of a fixed size; screen readers skip it without a label."""
    hidden = f'role="img" aria-label="{safe(label)}"' if label else 'aria-hidden="true"'
    return (
        f'<svg class="small" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f"{hidden}>{inside}</svg>"
    )


def path(kind: str, points: str) -> str:
    """A line whose thickness does not stretch with the chart."""
    return f'<path class="{kind}" vector-effect="non-scaling-stroke" d="M{points}"/>'


def shaded(busy: Sequence[float | None], failed: Sequence[bool], height: float) -> Iterator[str]:
    """Shades for shares of busy time, and marks for failures."""
    width = WIDTH / max(1, len(busy))
    for index, (share, bad) in enumerate(zip(busy, failed, strict=True)):
        if share is not None:
            shade = sum(share >= limit for limit in _SHADES)
            box = place(index * width, 0, width * 0.92, height)
            yield f'<rect class="f-h{shade}" {box}>{title(f"{share:.0%} busy")}</rect>'
        if bad:
            box = place(index * width, height * 0.7, width * 0.92, height * 0.3)
            yield f'<rect class="f-bad" {box}/>'


def extent_of(value: float, most: float, room: float) -> float:
    """The length of a bar: a value above zero never vanishes."""
    return max(_LEAST, value / most * room) if value > 0 else 0.0


def place(x: float, y: float, width: float, height: float) -> str:
    """The attributes of a rectangle's position and size."""
    pairs = (("x", x), ("y", y), ("width", width), ("height", height))
    return " ".join(f'{name}="{number(value)}"' for name, value in pairs)


def number(value: float) -> str:
    """A coordinate, to a tenth of a pixel."""
    return f"{value:.1f}".removesuffix(".0")


def title(text: str) -> str:
    """The tooltip of an element."""
    return f"<title>{safe(text, keep=chr(10))}</title>"


def safe(text: str, keep: str = "") -> str:
    """A text as XML, with control characters as Python escapes."""
    return escape(printable(text, keep=keep))
