"""A report as one HTML file: no script, no network, both colour schemes, and a page to print."""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from typing import TYPE_CHECKING, Final

from fsqueue.common.printable import counted, duration
from fsqueue.monitor import charts
from fsqueue.monitor.words import percent
from fsqueue.report.elements import Html, joined, none, panel, tag, text
from fsqueue.report.facts import Limits
from fsqueue.report.rows import span_of_time, ticks_of, when, zone
from fsqueue.report.tables import (
    failure_panels,
    histogram_panel,
    icon,
    jobs_table,
    runs_table,
    settings_table,
    slowest_table,
    tasks_table,
    workers_table,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.report.facts import Report

MOST_BYTES: Final = 1_000_000
"""The largest size of a report."""
_OWN_CSS = """
main{padding-top:14px}
.path{margin-left:6px}
.big{padding-bottom:2px}
.brk{overflow-wrap:anywhere}
main>.p,main>.row{margin-top:14px}
.none{margin:0;padding:2px 14px 12px;color:var(--ink2)}
td{vertical-align:top}
pre{max-height:none;white-space:pre-wrap;overflow-wrap:anywhere}
@media print{
 @page{margin:12mm}
 :root{color-scheme:light}
 body{font-size:11px}
 .p{break-inside:avoid-page}
 .p.long{break-inside:auto}
 tr{break-inside:avoid}
 header{display:block!important;position:static}
 .scroll{overflow:visible}
 table{font-size:10.5px}
 .c3{grid-template-columns:repeat(3,minmax(0,1fr))}
 *{print-color-adjust:exact;-webkit-print-color-adjust:exact}
}
"""
# Number of tasks that get a full histogram.
_DRAWN = 4
_SHORTEST_TEXT = 300


def html_of(report: Report) -> str:
    """The file. If it would be larger than `MOST_BYTES`, its lists are shortened."""
    share = 1.0
    while True:
        scaled = Limits().scaled(share)
        found = _document(report, scaled, shortened=share < 1)
        if len(found.encode()) <= MOST_BYTES or scaled.text < _SHORTEST_TEXT:
            return found
        share /= 2


def _document(report: Report, limits: Limits, *, shortened: bool) -> str:
    css = (
        importlib.resources.files("fsqueue.monitor")
        .joinpath("static/monitor.css")
        .read_text("utf-8")
    )
    css = f"{css}{_OWN_CSS}"
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    name = report.window.run or ("spool" if report.redacted else report.root)
    head = joined(
        (
            Html('<meta charset="utf-8">'),
            Html(f'<meta http-equiv="Content-Security-Policy" content="{policy}">'),
            Html('<meta name="viewport" content="width=device-width,initial-scale=1">'),
            Html('<meta name="color-scheme" content="light dark">'),
            Html('<meta name="referrer" content="no-referrer">'),
            tag("title", f"fsqueue report: {name}"),
            Html(f"<style>{css}</style>"),
        )
    )
    logo = tag("span", "fs", tag("i", "queue"), " report", class_="logo")
    made = tag("span", f"made {when(report.made)}", class_="live")
    bar = tag("div", logo, tag("span", report.root, class_="path mono"), made, class_="bar")
    parts = joined(_parts(report, limits, shortened=shortened))
    body = tag("body", tag("header", bar), tag("main", parts), _footer(report))
    return f'<!doctype html>\n<html lang="en">{tag("head", head)}{body}</html>\n'


def _parts(report: Report, limits: Limits, *, shortened: bool) -> Iterator[Html]:
    yield from _summary(report)
    yield _charts(report)
    yield panel("Runs", runs_table(report, limits), "one process and the calls that it made")
    yield panel("Workers", workers_table(report, limits), "darker: more of its slots were busy")
    yield panel("Tasks", tasks_table(report.tasks[: limits.tasks]), "by total run time")
    if report.tasks:
        drawn = report.tasks[:_DRAWN]
        yield tag("div", *map(histogram_panel, drawn), class_="row c2")
    yield from failure_panels(report, limits)
    yield panel(
        "Slowest calls", slowest_table(report, limits), f"the {limits.slowest} longest attempts"
    )
    if report.jobs:
        yield panel("Batch jobs", jobs_table(report, limits), "that ended in this time")
    yield panel("Versions and settings", settings_table(report))
    left_out = list(report.left_out)
    if shortened:
        left_out.append("parts of the lists and texts above, to keep this file below 1 MB")
    if left_out:
        items = [tag("li", each) for each in left_out]
        yield panel("Left out", tag("ul", *items))


# -- the answer -------------------------------------------------------------------------------


def _summary(report: Report) -> Iterator[Html]:
    totals, window = report.totals, report.window
    at = span_of_time(window)
    failed = f"{totals.failed:,} failed ({percent(totals.failed, totals.calls)})"
    if not totals.calls:
        sentence = f"No call ended {at}."
    else:
        calls = f"{totals.calls:,} call{'s' * (totals.calls != 1)}"
        sentence = f"{calls} ended {at}; {failed if totals.failed else 'none failed'}."
    title = f"Run {window.run}: {sentence}" if window.run else sentence
    yield tag("h1", text(title, most=1000))
    yield tag("p", text(_about(report), most=1000), class_="sub")
    if not report.attention:
        yield tag(
            "ul", tag("li", icon("succeeded", "ok"), "Nothing needed attention."), class_="need"
        )
        return
    items = [
        tag("li", icon("attention", "warn"), tag("span", text(each, most=600), class_="brk"))
        for each in report.attention
    ]
    yield tag("ul", *items, class_="need", aria_label="What needed attention")


def _about(report: Report) -> str:
    totals = report.totals
    workers = counted(len(report.workers), "worker")
    parts = [
        f"{workers}, bodies ran for {duration(totals.seconds)} in all",
        *(
            f"{counted(number, noun)} {what}"
            for number, noun, what in (
                (totals.retried, "attempt", "retried"),
                (totals.lost, "attempt", "lost"),
                (totals.cancelled, "call", "cancelled"),
            )
            if number
        ),
    ]
    note = f" {report.window.note}." if report.window.note else ""
    alone = " From a copy of the journal alone." if report.journal_alone else ""
    return f"{'; '.join(parts)}.{note}{alone}"


# -- over time --------------------------------------------------------------------------------


def _charts(report: Report) -> Html:
    ticks = ticks_of(report)
    periods, each = report.periods, duration(report.period)
    ended = charts.bars(
        [
            charts.Series("ok", [period.succeeded for period in periods]),
            charts.Series("bad", [period.failed for period in periods]),
        ],
        [
            f"{when(period.at)}\n{period.succeeded:,} succeeded\n{period.failed:,} failed"
            for period in periods
        ],
        ticks,
        label=f"Calls that ended, for each {each}: {report.totals.calls:,} in all",
    )
    due = [period.due or 0 for period in periods]
    backlog = charts.lines(due, ticks, label=f"Calls due: at most {max(due, default=0):,}")
    busy = charts.lines(
        [period.busy for period in periods],
        ticks,
        limits=[period.slots or 0 for period in periods] if _counted(report) else [],
        label=f"Busy slots: {max((period.busy for period in periods), default=0):.1f} at most",
    )
    keys = tag(
        "span",
        tag("span", tag("i", class_="f-ok"), "succeeded"),
        tag("span", tag("i", class_="f-bad"), "failed"),
        class_="r key",
    )
    head = tag("div", tag("h2", f"Ended, for each {each}"), keys, class_="ph")
    first = tag("section", head, Html(ended), class_="p")
    second = panel(
        "Backlog",
        Html(backlog) if _counted(report) else none("The pending calls were not counted."),
        "calls due, at most",
        "p",
    )
    note = "line: all slots" if _counted(report) else ""
    third = panel("Busy slots", Html(busy), note, "p")
    return tag("div", first, second, third, class_="row c3")


def _counted(report: Report) -> bool:
    return any(period.due is not None for period in report.periods)


def _footer(report: Report) -> Html:
    words = f"Times are the file server's, in {zone(report.made)}. "
    words += "Nothing was unpickled to make this report."
    if report.redacted:
        words += " Labels, messages, output, hosts, folders and command lines are left out."
    return tag("footer", text(words, most=1000))
