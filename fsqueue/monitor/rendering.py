"""Renders pages so that later changes can be streamed to browsers.

A template marks each live text with ``k(key, text)``. A rendered page consists of these texts and a
skeleton with marks in their place. While the skeleton stays the same, a browser only needs the
texts that have changed. When rows come or go, the skeleton changes, and the browser fetches the
page again. Charts are marked too (``chart``), because they change with each look: if nothing else
has changed, the page is fetched less often.

All text from the spool is untrusted. It is cut to length, its control characters become Python
escapes, and Jinja escapes it for HTML.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from fsqueue.common.commands import command
from fsqueue.common.printable import counted, duration, printable
from fsqueue.monitor import charts, small_charts, words

if TYPE_CHECKING:
    from collections.abc import Mapping

FOLDER: Final = os.path.dirname(os.path.abspath(__file__))
_LONGEST = 2_000
_MARK = re.compile("\x02(\\d+)\x03")
# Colours and other terminal commands in the output of bodies.
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")


class Lines(str):
    """A text of several lines that was made printable."""

    __slots__ = ()


def lines(text: str) -> Lines:
    """A long text for a ``<pre>``: without colours, and control characters as escapes."""
    plain = _ANSI.sub("", text).replace("\r\n", "\n").replace("\r", "\n")
    return Lines(printable(plain, keep="\n\t"))


def one_line(text: str) -> Lines:
    """A command to copy, without line ends, at which a shell would run it immediately."""
    return Lines(printable(text))


def _finalized(value: object) -> object:
    """The text that Jinja outputs for a value, before it escapes it."""
    if isinstance(value, Markup | Lines):
        return value
    text = str(value)
    if len(text) > _LONGEST:
        text = f"{text[:_LONGEST]}…"
    return printable(text, keep="\n")


class Rendered(NamedTuple):
    """A page, with its live texts kept separately."""

    skeleton: str
    pieces: tuple[str, ...]
    """The HTML in place of each mark."""
    values: dict[str, str]
    """The live texts by key."""
    digest: str
    """Identifies the skeleton."""
    drawn: str
    """Identifies the charts."""

    @property
    def html(self) -> str:
        """The whole page."""
        text = _MARK.sub(lambda found: self.pieces[int(found[1])], self.skeleton)
        return text.replace("@digest@", f"{self.digest}-{self.drawn}", 1)


class _Marks:
    """Collects the live texts and the charts of one rendering."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.values: dict[str, str] = {}
        self.charts: list[str] = []

    def _mark(self, html: str) -> Markup:
        self.pieces.append(html)
        return Markup(f"\x02{len(self.pieces) - 1}\x03")  # noqa: S704 - a number

    def value(self, key: str, value: object, kind: str = "") -> Markup:
        """A live text; its key must not occur twice on a page."""
        text = str(_finalized(value))
        self.values[key] = text
        name, mark = printable(key), self._mark(str(escape(text)))
        if not kind:
            return Markup('<span data-k="{}">{}</span>').format(name, mark)
        return Markup('<span data-k="{}" class="{}">{}</span>').format(name, kind, mark)

    def chart(self, svg: str) -> Markup:
        """A chart; what it draws changes with each look."""
        self.charts.append(svg)
        return self._mark(svg)


def _svg(function: Any) -> Any:
    """A function of `fsqueue.monitor.small_charts` for templates; it escapes its texts."""

    def drawn(*args: Any, **kwargs: Any) -> Markup:
        return Markup(function(*args, **kwargs))  # noqa: S704 - escaped where it is drawn

    return drawn


def environment() -> Environment:
    """Jinja with the helpers of the templates."""
    found = Environment(
        loader=FileSystemLoader(os.path.join(FOLDER, "templates")),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {
        "duration": duration,
        "precise": words.precise,
        "lines": lines,
        "one_line": one_line,
        "count": lambda number: f"{number:,}",
        "counted": counted,
        "segment": lambda text: quote(text, safe=""),
        "query": urlencode,
    }
    found.globals |= {
        "icon": _svg(small_charts.icon),
        "command_of": command,
        "percent": words.percent,
        "share_bar": _svg(small_charts.share_bar),
        "strip": _svg(small_charts.strip),
        "short": charts.short,
    }
    return found


def render(env: Environment, template: str, facts: Mapping[str, Any]) -> Rendered:
    """Render one page.

    Args:
        env: what `environment` returned.
        template: name of the template, without its ending.
        facts: what the template shows.
    """
    marks = _Marks()
    helpers = {
        "k": marks.value,
        "chart": marks.chart,
        "spark": lambda *args, **kwargs: marks.chart(small_charts.spark(*args, **kwargs)),
        "columns": lambda *args, **kwargs: marks.chart(small_charts.columns(*args, **kwargs)),
    }
    skeleton = env.get_template(f"{template}.html").render(**facts, **helpers)
    drawn = _digest("".join(marks.charts))
    return Rendered(skeleton, tuple(marks.pieces), marks.values, _digest(skeleton), drawn)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=8).hexdigest()
