"""The lists of a report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.common.printable import duration
from fsqueue.monitor import charts, small_charts
from fsqueue.monitor.words import percent, precise
from fsqueue.report.elements import Content, Html, block, joined, none, panel, table, tag, text
from fsqueue.report.rows import busy_share, histogram_of, percentiles, when

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.report.facts import FailureRow, Limits, Report, TaskRow, WorkerRow


def icon(name: str, kind: str) -> Html:
    """The symbol of a state, in a colour."""
    return tag("span", Html(small_charts.icon(name)), class_=f"g {kind}")


def runs_table(report: Report, limits: Limits) -> Html:
    """The runs of the report."""
    if not report.runs:
        return none("No process made calls, as far as is known.")
    rows: list[list[Content]] = []
    for run in report.runs[: limits.runs]:
        record = run.record
        failed, ok = run.failed, run.ended - run.failed
        shares = [("ok", ok / run.ended), ("bad", failed / run.ended)] if run.ended else []
        rows.append(
            [
                tag("span", run.client, class_="mono"),
                tag("span", record.command if record else "", class_="mono brk"),
                ", ".join(filter(None, (record.host, record.user))) if record else "",
                when(record.started) if record else "",
                f"{run.ended:,}",
                _number(failed),
                Html(small_charts.share_bar(shares, width=90)),
                "" if report.journal_alone else "still there" if run.here else "ended",
            ]
        )
    heads = ("Run", "*Command", "Made on", "Began", "#Ended", "#Failed", "", "Process")
    return table(heads, rows)


def _number(failed: int) -> Html:
    return tag("span", f"{failed:,}", class_="bad" if failed else "dim")


def workers_table(report: Report, limits: Limits) -> Html:
    """The workers, and how busy each was over time."""
    if not report.workers:
        return none("No worker ran anything in this time.")
    rows = [_worker(each) for each in report.workers[: limits.workers]]
    span = f"{when(report.window.begin)} to {when(report.window.end)}"
    heads = ("Worker", "State", "#Slots", f"*{span}", "#Busy", "#Ended", "#Failed")
    return table(heads, rows)


def _worker(row: WorkerRow) -> list[Content]:
    died = row.state == "died"
    state = joined((icon("lost", "lost"), " died")) if died else row.state
    name = f"{row.worker} was busy for {duration(row.seconds)}"
    strip = small_charts.strip(row.shares, [each > 0 for each in row.failures], label=name)
    return [
        tag("span", row.worker, class_="mono"),
        tag("span", state, class_="lost" if died else None),
        str(row.slots or ""),
        Html(strip),
        busy_share(row),
        f"{row.calls:,}",
        _number(row.failed),
    ]


def tasks_table(rows: list[TaskRow]) -> Html:
    """The tasks, with their run times."""
    if not rows:
        return none("No call ended in this time.")
    total = sum(each.seconds for each in rows)
    found: list[list[Content]] = []
    for row in rows:
        stats, histogram = row.stats, histogram_of(row.run, 22)
        found.append(
            [
                tag("span", stats.task or "?", class_="mono"),
                f"{stats.calls:,}",
                joined(
                    (
                        _number(stats.failed),
                        f" · {percent(stats.failed, stats.calls)}" if stats.failed else "",
                    )
                ),
                f"{stats.retried:,}",
                f"{stats.lost:,}",
                percentiles(stats.wait),
                percentiles(stats.run),
                Html(small_charts.columns([count for count, _, _ in histogram])),
                percent(row.seconds, total),
            ]
        )
    heads = (
        *("Task", "#Ended", "#Failed", "#Retried", "#Lost", "#Waited, 50/95/99 %"),
        *("#Ran, 50/95/99 %", "Run time, log scale", "#Share of time"),
    )
    return table(heads, found)


def histogram_panel(row: TaskRow) -> Html:
    """The run times of one task, in full."""
    found = histogram_of(row.run, 60)
    stats = row.stats
    if not found:
        return panel(stats.task, none("None of its calls ran."), kind="p")
    edges = [found[0][1], *(high for _, _, high in found)]
    shown = edges[:: max(1, len(edges) // 5)]
    marks = []
    for value, name in ((stats.run.p50, "50 %"), (stats.run.p95, "95 %"), (stats.run.p99, "99 %")):
        if value is not None:
            at = sum(edge < value for edge in edges[1:]) + 0.5
            marks.append(charts.Tick(min(1.0, at / len(found)), f"{name} {precise(value)}"))
    chart = charts.histogram(
        [count for count, _, _ in found],
        [f"{precise(low)} to {precise(high)}\n{count:,} runs" for count, low, high in found],
        charts.even_ticks([precise(edge) for edge in shown]),
        marks,
        label=f"Run times of {stats.task}",
    )
    title = tag("span", stats.task, class_="mono")
    head = tag("div", tag("h2", title), tag("span", "log scale", class_="r"), class_="ph")
    return tag("section", head, Html(chart), class_="p")


def failure_panels(report: Report, limits: Limits) -> Iterator[Html]:
    """The groups of failures, then a call of each in full."""
    if not report.failures:
        yield panel("Failures", none("Nothing failed in this time."))
        return
    rows: list[list[Content]] = [
        [
            f"{each.group.calls:,}",
            f"{each.group.retried:,}",
            joined(
                (
                    tag("b", each.group.type, class_="bad"),
                    " ",
                    tag("span", each.group.message, class_="brk"),
                    tag("div", each.group.at, class_="mono dim brk") if each.group.at else None,
                )
            ),
            _most(each.group.tasks),
            _most(each.group.workers),
            when(each.group.first),
            when(each.group.last),
        ]
        for each in report.failures[: limits.failures]
    ]
    heads = ("#Calls", "#Retried", "*What, and where", "Task", "Workers", "First", "Last")
    note = "by type, message without numbers and names, and place"
    yield panel("Failures", table(heads, rows), note)
    for each in report.failures[: limits.failures]:
        if each.traceback or each.output:
            yield _failure(each, limits)


def _failure(row: FailureRow, limits: Limits) -> Html:
    """A traceback, and the end of an output."""
    group = row.group
    title = joined((tag("span", group.type, class_="bad"), " ", text(group.message)))
    note = tag("span", f"{row.sample}, the latest of {group.calls:,}", class_="r mono")
    parts = [tag("div", tag("h2", title), note, class_="ph")]
    if row.traceback:
        parts.append(block(row.traceback, most=limits.text, aria_label="Traceback"))
    if row.output:
        parts.append(tag("p", "The end of its output:", class_="none"))
        parts.append(block(row.output, most=limits.text, aria_label="Output"))
    return tag("section", *parts, class_="p long")


def _most(counts: dict[str, int]) -> Html:
    """The first of these names, and how many more there are."""
    names = sorted(counts, key=lambda name: (-counts[name], name))
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return joined((tag("span", names[0] or "?", class_="mono") if names else "", more))


def slowest_table(report: Report, limits: Limits) -> Html:
    """The attempts that took the longest."""
    if not report.slowest:
        return none("The journal has no lines of this time.")
    rows: list[list[Content]] = [
        [
            tag("span", each.id, class_="mono"),
            tag("span", each.task, class_="mono"),
            tag("span", each.label, class_="mono ink2"),
            tag("span", each.state, class_="bad" if each.state == "failed" else None),
            tag("span", each.worker, class_="mono"),
            each.attempt,
            duration(each.wait),
            duration(each.run),
            when(each.ended),
        ]
        for each in report.slowest[: limits.slowest]
    ]
    heads = ("Call", "Task", "Label", "State", "Worker", "#Attempt", "#Waited", "#Ran", "Ended")
    return table(heads, rows)


def jobs_table(report: Report, limits: Limits) -> Html:
    """The batch jobs."""
    rows: list[list[Content]] = [
        [
            tag("span", each.job, class_="mono"),
            each.fleet,
            each.state,
            "" if each.calls is None else f"{each.calls:,}",
            "" if each.ended is None else when(each.ended),
            tag("span", each.detail, class_="brk"),
        ]
        for each in report.jobs[: limits.jobs]
    ]
    return table(("Job", "Fleet", "End", "#Calls", "Ended", "*Detail"), rows)


def settings_table(report: Report) -> Html:
    """Versions and settings."""
    pairs = [(name, version) for name, version in report.versions.items()]
    pairs += [(name, str(value)) for name, value in report.settings.items()]
    return tag(
        "dl", *(part for name, value in pairs for part in (tag("dt", name), tag("dd", value)))
    )
