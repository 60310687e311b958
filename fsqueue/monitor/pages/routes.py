"""Maps addresses to the functions that make the pages, and adds the frame of all pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from fsqueue.common.printable import duration
from fsqueue.monitor.looks import WINDOWS
from fsqueue.monitor.pages.calls import call, calls
from fsqueue.monitor.pages.confirm import confirm
from fsqueue.monitor.pages.failures import failure, failures
from fsqueue.monitor.pages.jobs import jobs
from fsqueue.monitor.pages.overview import overview
from fsqueue.monitor.pages.page import MissingError
from fsqueue.monitor.pages.runs import run, runs
from fsqueue.monitor.pages.search import search
from fsqueue.monitor.pages.tasks import task, tasks
from fsqueue.monitor.pages.triggers import triggers
from fsqueue.monitor.pages.workers import worker, workers

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.monitor.access import Tokens
    from fsqueue.monitor.pages.page import Ask, Page

_PAGES: Final[dict[tuple[str, bool], Callable[[Ask], Page]]] = {
    ("", False): overview,
    ("calls", False): calls,
    ("calls", True): call,
    ("failures", False): failures,
    ("failures", True): failure,
    ("workers", False): workers,
    ("workers", True): worker,
    ("runs", False): runs,
    ("runs", True): run,
    ("tasks", False): tasks,
    ("tasks", True): task,
    ("jobs", False): jobs,
    ("triggers", False): triggers,
    ("search", False): search,
    ("confirm", True): confirm,
}
PATHS: Final = tuple(f"/{name}/{{name:path}}" if one else f"/{name}" for name, one in _PAGES)
NAVIGATION: Final[tuple[tuple[str, str, str], ...]] = (
    ("", "Overview", "o"),
    ("runs", "Runs", "r"),
    ("calls", "Calls", "c"),
    ("failures", "Failures", "f"),
    ("tasks", "Tasks", "t"),
    ("workers", "Workers", "w"),
    ("jobs", "Batch jobs", "j"),
    ("triggers", "Triggers", "i"),
)
# These pages read files of calls, so they are made at most every few seconds.
_READING = frozenset(
    {
        ("calls", False),
        ("calls", True),
        ("runs", False),
        ("runs", True),
        ("failures", True),
        ("confirm", True),
        ("workers", True),
        ("jobs", False),
        ("triggers", False),
    }
)


def _key(ask: Ask) -> tuple[str, bool]:
    parts = ask.parts
    return parts[0] if parts else "", len(parts) > 1


def page_of(ask: Ask) -> Page:
    """The facts of a page.

    Raises:
        MissingError: there is no such page, or its subject does not exist.
    """
    function = _PAGES.get(_key(ask))
    if function is None:
        raise MissingError(f"there is no page {ask.path}")
    return function(ask)


def reads_more(ask: Ask) -> bool:
    """Whether a page reads more than the look that all pages share."""
    return _key(ask) in _READING


def _stream_of(ask: Ask) -> str:
    """The address of the page's stream; none for confirmations, whose number must not change."""
    if _key(ask)[0] == "confirm":
        return ""
    return f"/{quote(ask.path.lstrip('/'))}" + (f"?{ask.query}" if ask.query else "")


def bare_layout(ask: Ask) -> dict[str, Any]:
    """The frame of a page that needs no spool."""
    return {
        "ask": ask,
        "up": ask.up,
        "here": ask.here,
        "windows": tuple(WINDOWS),
        "window": ask.window,
        "navigation": NAVIGATION,
        "section": None,
        "root": ask.watch.store.layout.root,
        "may_act": ask.may_act,
        "live": False,
        "stream": "",
        "badges": {},
    }


def layout(ask: Ask, page: Page, tokens: Tokens) -> dict[str, Any]:
    """The frame of every page."""
    look = ask.look()
    snapshot = look.glance.snapshot
    bad = sum(each.state in {"silent", "dead"} for each in snapshot.workers)
    clock = ask.clock()
    shown = look.batch or page.section == "jobs"
    return bare_layout(ask) | {
        "navigation": [each for each in NAVIGATION if shown or each[0] != "jobs"],
        "title": page.title,
        "section": page.section if page.template not in {"search", "confirm"} else None,
        "live": True,
        "look": look,
        "clock": clock,
        "age": duration(look.age),
        "form": tokens.form if ask.may_act else "",
        "badges": {"failures": look.stats.failed, "workers": bad},
        "stream": _stream_of(ask),
        "document": f"api/v1/{quote(ask.path.strip('/')) or 'overview'}"
        + (f"?{ask.query}" if ask.query else ""),
    }
