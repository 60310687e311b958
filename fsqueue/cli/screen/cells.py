"""Styled text in the cells of a screen, and the least output that changes one screen into another.

A slow line shows a whole screen in seconds, but most of a screen stays the same between two looks.
So the output is the difference: for each line, the cells that have changed.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.common.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Codes of "select graphic rendition". Colours are left out if the user wants none.
_ATTRIBUTES: Final = {"bold": "1", "dim": "2", "reverse": "7"}
_COLOURS: Final = {"bad": "31", "ok": "32", "warn": "33", "accent": "36"}
# Moving the cursor takes about this many characters, so a shorter gap is rewritten instead.
_MOVE = 7
_BLANK = (" ", "")


class Span(NamedTuple):
    """A part of a line in one style: names of attributes and colours, separated by spaces."""

    text: str
    style: str = ""


Line = list[Span]
Cell = tuple[str, str]
"""A character and its style. The second cell of a wide character has no text."""


def width_of(text: str) -> int:
    """The number of cells that a text takes."""
    return len(text) if text.isascii() else sum(map(_width, text))


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def fitted(text: object, width: int, *, right: bool = False, more: str = "…") -> str:
    """A text with exactly this many cells; the end of a longer one is replaced by `more`."""
    shown = printable(str(text))
    if (length := width_of(shown)) <= width:
        blank = " " * (width - length)
        return blank + shown if right else shown + blank
    kept, room = [], width - width_of(more)
    for character in shown:
        room -= _width(character)
        if room < 0:
            break
        kept.append(character)
    cut = "".join(kept) + more
    return fitted(cut, width) if width_of(cut) < width else cut if width >= width_of(more) else ""


def clipped(line: Line, width: int, more: str) -> Line:
    """A line that is at most this wide; the end of a longer one is replaced by `more`."""
    room = width
    if sum(width_of(text) for text, _ in line) <= room:
        return line
    kept: Line = []
    for text, style in line:
        if width_of(text) >= room:
            return [*kept, Span(fitted(text + more, room, more=more), style)]
        kept.append(Span(text, style))
        room -= width_of(text)
    return kept


def cells_of(line: Iterable[Span], width: int) -> list[Cell]:
    """The cells of a line of the screen. What does not fit is left out."""
    cells: list[Cell] = []
    for text, style in line:
        if text.isascii():
            cells += [(character, style) for character in text[: width - len(cells)]]
            continue
        for character in text:
            wide = _width(character)
            if wide == 0 and cells:
                cells[-1] = (cells[-1][0] + character, cells[-1][1])
            elif len(cells) + wide <= width:
                cells += [(character, style), *([("", style)] if wide > 1 else [])]
    return cells + [_BLANK] * (width - len(cells))


def sequence(style: str, *, colour: bool) -> str:
    """The control sequence that starts a style."""
    codes = [
        _ATTRIBUTES.get(name) or (_COLOURS.get(name) if colour else None) for name in style.split()
    ]
    return f"\x1b[{';'.join(['0', *filter(None, codes)])}m"


class Painter:
    """Makes the output that changes what is on a screen.

    Args:
        colour: whether to use colours.
    """

    def __init__(self, *, colour: bool) -> None:
        self._colour = colour
        self._shown: list[list[Cell]] = []

    def forget(self) -> None:
        """Assume nothing about what is on the screen: the next output clears it."""
        self._shown = []

    def paint(self, lines: Sequence[Iterable[Span]], width: int, height: int) -> str:
        """The output for a screen of this size.

        The last cell is never written, because some terminals would scroll.
        """
        new = [cells_of(line, width) for line in lines[:height]]
        new += [[_BLANK] * width for _ in range(height - len(new))]
        if not new[-1][-1][0]:  # half of a wide character
            new[-1][-2] = _BLANK
        new[-1][-1] = _BLANK
        parts = []
        if len(self._shown) != height or len(self._shown[0]) != width:
            parts.append("\x1b[0m\x1b[2J")
            self._shown = [[_BLANK] * width for _ in range(height)]
        for row, (old, cells) in enumerate(zip(self._shown, new, strict=True)):
            parts += self._changes(row, old, cells)
        self._shown = new
        return "".join(parts)

    def _changes(self, row: int, old: list[Cell], new: list[Cell]) -> list[str]:
        """The output for one line."""
        if old == new:
            return []
        end = len(new)
        while end and new[end - 1] == _BLANK:
            end -= 1
        parts = []
        for start, stop in _runs(old, new, end):
            parts += [f"\x1b[{row + 1};{start + 1}H", *self._written(new[start:stop])]
        if any(cell != _BLANK for cell in old[end:]):
            parts.append(f"\x1b[{row + 1};{end + 1}H\x1b[K")
        return parts

    def _written(self, cells: list[Cell]) -> list[str]:
        parts, style = [], ""
        for text, its in cells:
            if its != style:
                parts.append(sequence(its, colour=self._colour))
                style = its
            parts.append(text)
        return [*parts, "\x1b[0m"] if style else parts


def _runs(old: list[Cell], new: list[Cell], end: int) -> list[tuple[int, int]]:
    """The ranges of cells before `end` that have changed; short gaps are included."""
    runs: list[tuple[int, int]] = []
    for place in range(end):
        if old[place] != new[place]:
            if runs and place - runs[-1][1] <= _MOVE:
                runs[-1] = (runs[-1][0], place + 1)
            else:
                runs.append((place, place + 1))
    return [(_whole(new, start), stop) for start, stop in runs]


def _whole(cells: list[Cell], start: int) -> int:
    """The beginning of the character that a cell is part of."""
    return start - 1 if start and not cells[start][0] else start
