"""The user's view of one table of the screen: its order, its selected row, how far it scrolled."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.cli.screen.sections import Section


@dataclasses.dataclass
class Table:
    """The user's view of one section."""

    folded: bool = False
    column: str = ""
    """The head of the column to sort by; empty for the initial order."""
    reverse: bool = False
    falls: bool = False
    """Whether the values of that column fall from one row to the next."""
    selected: str = ""
    """The name of the selected row."""
    first: int = 0
    """The first row on the screen."""
    page: int = 1
    """How many rows the screen shows."""
    names: list[str] = dataclasses.field(default_factory=list)
    """Names of the rows that could be selected, in order."""
    heads: tuple[str, ...] = ()
    """Heads of the columns on the screen."""
    widest: dict[str, int] = dataclasses.field(default_factory=dict)

    def arranged(self, section: Section, text: str) -> Section:
        """The section with only the rows that contain a text, sorted."""
        rows = [each for each in section.rows if not text or section.matches(each, text)]
        column = next((each for each in section.columns if each.head == self.column), None)
        rows.sort(key=section.order)
        self.falls = self.reverse
        if column is not None:
            key: Callable[[Any], Any] = column.key or column.cell
            # A user who sorts by a number looks for the largest ones.
            self.falls = self.reverse != all(isinstance(key(each), int | float) for each in rows)
            rows.sort(key=key, reverse=self.falls)
        elif self.reverse:
            rows.reverse()
        self.names = [section.name(each) for each in rows]
        return section._replace(rows=rows)

    def move(self, step: int) -> None:
        """Select another row."""
        if self.names:
            place = self.names.index(self.selected) if self.selected in self.names else 0
            self.selected = self.names[min(max(0, place + step), len(self.names) - 1)]

    def scroll(self, room: int) -> None:
        """Choose the rows on the screen, so that the selected one is among them."""
        self.page = max(1, room)
        if self.selected not in self.names:
            self.selected = self.names[min(self.first, len(self.names) - 1)] if self.names else ""
        place = self.names.index(self.selected) if self.names else 0
        lowest = max(0, len(self.names) - room)
        self.first = min(max(self.first, place - room + 1), place, lowest)

    def press(self, key: str) -> None:
        """Handle a key that changes the table."""
        far = len(self.names)
        steps = {
            "up": -1,
            "k": -1,
            "down": 1,
            "j": 1,
            "page-up": -self.page,
            "page-down": self.page,
        }
        steps |= {"home": -far, "g": -far, "end": far, "G": far}
        if key in steps:
            self.move(steps[key])
        elif key == " ":
            self.folded = not self.folded
        elif key == "S":
            self.reverse = not self.reverse
        elif key == "s":
            heads = ("", *self.heads)
            at = heads.index(self.column) if self.column in heads else 0
            self.column, self.reverse = heads[(at + 1) % len(heads)], False
