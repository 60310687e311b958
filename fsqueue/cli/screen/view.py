"""The screen of `top`, and the changes that a key makes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.cli.columns import OLD
from fsqueue.cli.overview import results, uncovered
from fsqueue.cli.screen.cells import Line, Span, clipped, fitted, width_of
from fsqueue.cli.screen.sections import Section, head_of, layout_of, line_of, sections_of
from fsqueue.cli.screen.table import Table
from fsqueue.cli.statistics import summary
from fsqueue.common.printable import duration, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.admin.glance import Glance

HELP: Final = (
    ("q, Ctrl-C", "quit"),
    ("Tab, Shift-Tab", "next, previous table"),
    ("Up, Down, j, k", "select a row; also PgUp, PgDn, g and G (first, last)"),
    ("Enter", "show everything about the row; Esc goes back"),
    ("s, S", "sort by the next column; reverse the order"),
    ("Space", "fold the table, or open it again"),
    ("/", "show only rows with a text: type it, then Enter; Esc shows all again"),
    ("p", "pause: the figures stay, and their age is shown"),
    ("r", "look now"),
    ("Ctrl-L", "draw the screen again"),
    ("h, ?", "this help"),
)
_HINTS: Final = (
    ("q", "quit"),
    ("h", "help"),
    ("Tab", "table"),
    ("Up/Down", "select"),
    ("Enter", "details"),
    ("s", "sort"),
    ("Space", "fold"),
    ("/", "filter"),
    ("p", "pause"),
)
_PAGES: Final = {"h": "help", "?": "help", "enter": "details"}
# A window this high has blank lines between its parts.
_ROOMY = 34
_MOST_WARNINGS = 3
# A table with fewer lines says in its title how many rows are hidden.
_LEAST = 2


class Marks(NamedTuple):
    """Characters that not every terminal has."""

    more: str = "…"
    open: str = "▾"
    folded: str = "▸"
    up: str = "▴"
    down: str = "▾"

    @classmethod
    def of(cls, encoding: str) -> Marks:
        """The characters that an encoding has."""
        try:
            "".join(cls()).encode(encoding)
        except (UnicodeEncodeError, LookupError):
            return cls("~", "-", "+", "^", "v")
        return cls()


class Look(NamedTuple):
    """The latest look at the spool, in the form that the screen needs."""

    glance: Glance
    age: float
    """Seconds since it was taken."""
    problem: str = ""
    """Why a later look failed; empty if none did."""


class View:
    """The view that the user has chosen.

    Args:
        interval: seconds between two looks, for the first line.
        marks: characters.
    """

    def __init__(self, interval: float, marks: Marks | None = None) -> None:
        self._interval, self._marks = interval, marks or Marks()
        self._tables: dict[str, Table] = {}
        self._titles: list[str] = []
        self._focus = 0
        self._text, self._typing = "", False
        self._page: str = ""
        self._offset = 0
        self._width = 0
        self.paused: bool = False

    # -- keys -----------------------------------------------------------------------------

    def press(self, key: str) -> None:
        """Handle a key that changes the view. The caller handles `q` and `r`."""
        if self._typing:
            self._type(key)
        elif self._page:
            self._turn(key)
        elif key in _PAGES:
            self._page, self._offset = _PAGES[key], 0
        elif key == "p":
            self.paused = not self.paused
        elif key == "/":
            self._typing = True
        elif key == "escape":
            self._text = ""
        elif key in {"tab", "right", "back-tab", "left"}:
            step = 1 if key in {"tab", "right"} else -1
            self._focus = (self._focus + step) % max(1, len(self._titles))
        elif (table := self._table) is not None:
            table.press(key)

    @property
    def wants_keys(self) -> bool:
        """Whether letters are text for the filter."""
        return self._typing

    @property
    def _table(self) -> Table | None:
        return self._tables.get(self._titles[self._focus]) if self._titles else None

    def _type(self, key: str) -> None:
        if key in {"enter", "escape"}:
            self._typing = False
            self._text = self._text if key == "enter" else ""
        elif key == "backspace":
            self._text = self._text[:-1]
        elif key == "erase":
            self._text = ""
        elif len(key) == 1:
            self._text += key

    def _turn(self, key: str) -> None:
        """Handle a key on a page that is shown instead of the tables."""
        steps = {"up": -1, "k": -1, "down": 1, "j": 1, "page-up": -10, "page-down": 10}
        if key in steps:
            self._offset = max(0, self._offset + steps[key])
        elif key in {"enter", "escape", "h", "?", "left"}:
            self._page = ""

    # -- the screen -----------------------------------------------------------------------

    def lines(self, look: Look, width: int, height: int) -> list[Line]:
        """The lines of a screen of this size."""
        if width != self._width:
            self._width = width
            for table in self._tables.values():
                table.widest.clear()
        glance = look.glance
        above: list[Line] = [self._title(look, width)]
        above += [_cut(text, "", width) for text in (summary(glance.recent), _files(glance))]
        above += self._warnings(look, width)
        gap: list[Line] = [[]] * (height >= _ROOMY)
        room = height - len(above) - 1 - len(gap)
        sections = sections_of(glance, look.age)
        self._titles = [each.title for each in sections]
        sections = tuple(
            self._tables.setdefault(each.title, Table()).arranged(each, self._text.casefold())
            for each in sections
        )
        below = self._help() if self._page == "help" else self._details(sections)
        if self._page:
            body = self._part(below, room, width)
        else:
            body = self._body(sections, room, width, gap)
        blank: list[Line] = [[]] * max(0, room - len(body))
        rows = [*above, *gap, *body, *blank]
        cut = len(rows) - (height - 1)
        rows = [clipped(each, width, self._marks.more) for each in rows[: height - 1]]
        too_small = _cut(f"! the window is too small: {cut} lines are hidden", "warn", width)
        return [*rows, too_small if cut > 0 else self._hints(width)]

    def _title(self, look: Look, width: int) -> Line:
        notes = [f"counted {duration(look.age)} ago"] * (look.age > OLD)
        notes += ["paused: p goes on"] if self.paused else [f"every {self._interval:g}s"]
        note = ", ".join(notes)
        room = width - len("fsqueue top  ") - len(note) - 2
        root = printable(look.glance.snapshot.root)
        if width_of(root) > room:  # the end of a path tells more than its beginning
            root = self._marks.more + root[len(root) - max(0, room - 1) :]
        left = [Span("fsqueue top", "bold"), Span("  "), Span(fitted(root, max(0, room)), "accent")]
        return [*left, Span("  "), Span(note, "warn" * (self.paused or look.age > OLD))]

    def _warnings(self, look: Look, width: int) -> list[Line]:
        snapshot = look.glance.snapshot
        problems = [look.problem] if look.problem else []
        texts = [*problems, *uncovered(snapshot.queues), *map(str, snapshot.closed_fleets)]
        texts += [look.glance.space] if look.glance.space else []
        lines = [
            _cut(f"! {text}", "bad bold" if number < len(problems) else "warn", width)
            for number, text in enumerate(texts)
        ]
        more = len(lines) - _MOST_WARNINGS
        if more > 0:
            last = _cut(f"! and {more + 1} more: see fsqueue status", "warn", width)
            lines = [*lines[: _MOST_WARNINGS - 1], last]
        return lines

    def _hints(self, width: int) -> Line:
        if self._typing:
            text = f"/{self._text}"
            return [Span(text, "bold"), Span(" ", "reverse"), Span("  Enter keeps it, Esc clears")]
        line: Line = []
        if self._text:
            line = [Span(f"only rows with {printable(self._text)!r}, Esc shows all", "warn")]
        for key, what in _HINTS:
            if sum(width_of(each.text) for each in line) + len(key) + len(what) + 3 < width:
                line += [Span("  " if line else ""), Span(key, "bold"), Span(f" {what}", "dim")]
        return line

    def _help(self) -> list[Line]:
        wide = max(len(keys) for keys, _ in HELP)
        return [[Span(f"  {keys:<{wide}}  ", "bold"), Span(what)] for keys, what in HELP]

    def _details(self, sections: Sequence[Section]) -> list[Line]:
        section = sections[self._focus]
        selected = self._tables[section.title].selected
        row = next((each for each in section.rows if section.name(each) == selected), None)
        if row is None:
            return [
                [Span(f"  {section.title.lower()[:-1]} {printable(selected)}: no longer there")]
            ]
        pairs = [(name, printable(str(value))) for name, value in section.pairs(row)]
        wide = max(len(name) for name, _ in pairs)
        return [[Span(f"  {name:<{wide}}  ", "dim"), Span(value)] for name, value in pairs]

    def _part(self, lines: list[Line], room: int, width: int) -> list[Line]:
        """As many lines of a page as fit, from where the user has scrolled to."""
        lines = [part for line in lines for part in _folded(line, width)]
        if len(lines) <= room:
            self._offset = 0
            return lines
        room = max(1, room - 1)
        self._offset = min(self._offset, len(lines) - room)
        hidden = len(lines) - room
        more = f"  {self._offset} lines above, {hidden - self._offset} below: Up, Down"
        return [*lines[self._offset : self._offset + room], _cut(more, "dim", width)]

    # -- tables ---------------------------------------------------------------------------

    def _body(
        self, sections: Sequence[Section], room: int, width: int, gap: list[Line]
    ) -> list[Line]:
        """The tables, each in its share of the room."""
        open_ones = [each for each in sections if each.rows and not self._tables[each.title].folded]
        fixed = len(sections) + len(open_ones) + len(gap) * (len(sections) - 1)
        shares = _shares([len(each.rows) for each in open_ones], room - fixed)
        given = {each.title: share for each, share in zip(open_ones, shares, strict=True)}
        lines: list[Line] = []
        for number, section in enumerate(sections):
            lines += gap * bool(number)
            lines += self._section(section, number, given.get(section.title), width)
        return lines

    def _section(self, section: Section, number: int, room: int | None, width: int) -> list[Line]:
        """A title, and below it the table if there is room for one."""
        table, marks = self._tables[section.title], self._marks
        focused = number == self._focus
        mark = marks.folded if table.folded else marks.open
        title = [Span(f"{mark} {section.title} ", "bold reverse" if focused else "bold")]
        title.append(Span(f" {section.summary}"))
        if self._text:
            title.append(Span(f"; {len(section.rows)} with the text"))
        hidden = 0 if table.folded else len(section.rows) - (room or 0)
        if hidden > 0 and (room or 0) < _LEAST:
            title.append(Span(f"; {hidden} rows hidden", "warn"))
        if not room:
            table.scroll(1)
            return [title]
        layout = layout_of(section, width - 2, table.widest)
        table.heads = tuple(each.head for each in layout.columns)
        if layout.hidden:
            heads = " ".join(layout.hidden)
            title.append(Span(f"; no room for {heads}", "dim"))
        counts = hidden > 0 and room >= _LEAST
        table.scroll(room - counts)
        shown = section.rows[table.first : table.first + table.page]
        lines: list[Line] = [
            line_of(
                layout,
                row,
                selected=focused and section.name(row) == table.selected,
                more=marks.more,
            )
            for row in shown
        ]
        if counts:
            lines.append(self._more(table, len(section.rows), len(shown)))
        mark = marks.down if table.falls else marks.up
        return [title, head_of(layout, table.column, mark), *lines]

    def _more(self, table: Table, rows: int, shown: int) -> Line:
        below = rows - table.first - shown
        parts = [f"{table.first} above"] * (table.first > 0) + [f"{below} below"] * (below > 0)
        return [Span(f"  and {rows - shown} more: {', '.join(parts)}", "dim")]


def _shares(wanted: Sequence[int], room: int) -> list[int]:
    """Divide lines among parts: none gets more than it wants, and the rest goes to the others."""
    shares = [0] * len(wanted)
    while room > 0 and any(share < want for share, want in zip(shares, wanted, strict=True)):
        for number, want in enumerate(wanted):
            if shares[number] < want and room > 0:
                shares[number] += 1
                room -= 1
    return shares


def _files(glance: Glance) -> str:
    return results(glance.snapshot.counts)


def _cut(text: str, style: str, width: int) -> Line:
    return [Span(fitted(text, max(1, width)).rstrip(), style)]


def _folded(line: Line, width: int) -> list[Line]:
    """A line of a page in as many lines as it takes."""
    head, *rest = line
    wide = width_of(head.text)
    room = max(8, width - wide)
    text, style = rest[0] if rest else Span("")
    parts = [text[start : start + room] for start in range(0, max(1, len(text)), room)]
    return [
        [head if not number else Span(" " * wide), Span(part, style)]
        for number, part in enumerate(parts)
    ]
