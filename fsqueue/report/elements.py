"""HTML in which no text of the spool is markup.

An `Html` is markup that this package wrote. Any other text is escaped where it is put into an
element, with control and bidirectional characters as Python escapes. So no text can stay unescaped
by mistake. A template engine would do no more for this one page, and the command line does not
depend on one.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, Final

from fsqueue.common.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

LONGEST: Final = 200
"""The most characters of a name; longer ones are cut."""
_MORE = "…"


class Html(str):
    """Markup."""

    __slots__ = ()


Content = str | int | None
"""The content of an element: markup, text, or nothing."""


def text(content: Content, *, most: int = LONGEST, keep: str = "") -> Html:
    """A content as markup.

    Args:
        content: markup, which stays as it is; or a text, which is escaped.
        most: characters of a text.
        keep: control characters of a text to leave as they are.
    """
    if content is None:
        return Html()
    if isinstance(content, Html):
        return content
    shown = str(content)
    if len(shown) > most:
        shown = shown[: most - 1] + _MORE
    return Html(escape(printable(shown, keep=keep)))


def tag(name: str, *contents: Content, **attributes: str | None) -> Html:
    """An element. An attribute that is None is left out; ``class_`` stands for ``class``."""
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{text(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{pairs}>{joined(contents)}</{name}>")


def joined(contents: Iterable[Content]) -> Html:
    """Contents in a row."""
    return Html("".join(map(text, contents)))


def block(content: str, *, most: int, **attributes: str | None) -> Html:
    """A text with line ends, such as a traceback; only the end of a text that is too long."""
    shown = content.replace("\r\n", "\n").replace("\r", "\n")
    if len(shown) > most:
        shown = _MORE + shown[-most:].partition("\n")[2]
    return tag("pre", text(shown, most=len(shown) + 1, keep="\n\t"), **attributes)


def table(heads: Iterable[str], rows: Iterable[Iterable[Content]]) -> Html:
    """A table. ``#`` at the start of a head marks a column of numbers, ``*`` the widest column."""
    columns = list(heads)
    styles = [{"#": "n", "*": "wide-cell w"}.get(head[:1]) for head in columns]
    head = joined(
        tag("th", each.lstrip("#*"), class_=style, scope="col")
        for each, style in zip(columns, styles, strict=True)
    )
    body = joined(
        tag(
            "tr",
            *(tag("td", cell, class_=style) for cell, style in zip(row, styles, strict=True)),
        )
        for row in rows
    )
    return tag(
        "div", tag("table", tag("thead", tag("tr", head)), tag("tbody", body)), class_="scroll"
    )


def panel(title: str, content: Html, note: str = "", kind: str = "p long") -> Html:
    """A part of a page, with a title."""
    right = tag("span", note, class_="r") if note else None
    return tag("section", tag("div", tag("h2", title), right, class_="ph"), content, class_=kind)


def none(words: str) -> Html:
    """The text of a part that has nothing to show."""
    return tag("p", words, class_="none")
