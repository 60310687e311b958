"""The pages of failures: all groups by reason, and one group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.common.printable import counted
from fsqueue.errors import EnvelopeError, UnknownInvocationError
from fsqueue.monitor.pages.overview import failure_trend
from fsqueue.monitor.pages.page import MissingError, Page
from fsqueue.monitor.words import period
from fsqueue.spool.admin.facts import failure_of
from fsqueue.spool.admin.failures import grouped
from fsqueue.spool.admin.listing import call_details

if TYPE_CHECKING:
    from fsqueue.monitor.looks import Look
    from fsqueue.monitor.pages.page import Ask
    from fsqueue.spool.admin.failures import FailureGroup

# A worker stands out if it has this share of the failures, of at least this many.
_MOST_OF_THEM, _SEVERAL = 0.6, 5


def failures(ask: Ask) -> Page:
    """All groups."""
    look = ask.look()
    task = ask.fields.get("task", "")
    groups = grouped(look.failed, task=task)
    facts = {
        "heading": _heading(groups, period(look.window)),
        "groups": groups,
        "task": task,
        "where": {each.fp: where(look, each) for each in groups},
        "trends": {each.fp: failure_trend(look, each.fp) for each in groups},
        "clock": ask.clock(),
        "unread": look.unread,
        "kept": len(look.failed) if look.cut else 0,
    }
    document = {"groups": groups, "since": look.now - look.window}
    return Page("failures", "Failures", facts, document, section="failures")


def _heading(groups: list[FailureGroup], during: str) -> str:
    """How many calls failed, for how many reasons; calls that were only retried do not count."""
    calls = sum(each.calls for each in groups)
    number = sum(each.calls > 0 for each in groups)
    if not groups:
        return f"Nothing has failed in the last {during}"
    if not calls:
        retried = counted(sum(each.retried for each in groups), "attempt")
        return f"No call failed in the last {during}; {retried} failed and will be retried"
    reasons = "one reason" if number == 1 else f"{number} reasons"
    return f"{counted(calls, 'call')} failed in the last {during}, for {reasons}"


def failure(ask: Ask) -> Page:
    """One group: where it comes from, a traceback and the latest calls."""
    wanted = ask.parts[1]
    look = ask.look()
    found = [each for each in grouped(look.failed) if wanted in {each.fp, each.type}]
    if not found:
        raise MissingError(
            f"there is no group {wanted} among the failures of the last {period(look.window)}"
        )
    group = found[0]
    trace, of = _traceback(ask, group)
    facts = {
        "group": group,
        "where": where(look, group),
        "hint": hint(look, group),
        "trend": failure_trend(look, group.fp),
        "traceback": [(line, _is_library(line)) for line in _joined(trace)],
        "traceback_of": of,
        "clock": ask.clock(),
    }
    return Page("failure", group.type, facts, {"groups": found}, section="failures")


def where(look: Look, group: FailureGroup) -> str:
    """On which workers it happened; empty if that tells nothing."""
    total = sum(group.workers.values())
    if not group.workers:
        return ""
    worst = max(group.workers, key=lambda name: group.workers[name])
    alive = len(look.stats.workers)
    if group.workers[worst] >= _MOST_OF_THEM * total and total >= _SEVERAL and alive > 1:
        return f"{group.workers[worst]:,} of {total:,} on {worst}"
    return worst if len(group.workers) == 1 else counted(len(group.workers), "worker")


def hint(look: Look, group: FailureGroup) -> str:
    """A hint from the distribution over the workers; empty if there is none."""
    total = sum(group.workers.values())
    if total < _SEVERAL or not group.workers:
        return ""
    worst = max(group.workers, key=lambda name: group.workers[name])
    share = group.workers[worst] / total
    calls = {each.worker: each.calls for each in look.stats.workers}
    every = sum(calls.values())
    if share < _MOST_OF_THEM or not every or calls.get(worst, 0) > 0.5 * share * every:
        return ""
    return (
        f"{group.workers[worst]:,} of {total:,} ran on {worst}, which ran only "
        f"{calls.get(worst, 0):,} of {every:,} calls. Suspect the node, not the code."
    )


def _traceback(ask: Ask, group: FailureGroup) -> tuple[str, str]:
    """The traceback of the latest call that still has one, and its id."""
    for sample in group.samples:
        try:
            details = call_details(ask.watch.store, sample.id, glance=ask.look().glance)
        except (UnknownInvocationError, EnvelopeError, OSError):
            continue
        _, trace = failure_of(details, None, ask.traceback_text)
        if trace:
            return trace, sample.id
    return "", ""


def _joined(trace: str) -> list[str]:
    """The frames of a traceback: a line that names a file, together with its code."""
    found: list[str] = []
    for line in trace.rstrip().splitlines():
        if found and line.startswith("    ") and found[-1].startswith("  File "):
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return found


def _is_library(frame: str) -> bool:
    return frame.startswith("  File ") and any(
        part in frame for part in ("site-packages", "/fsqueue/", "/lib/python", "<frozen ")
    )
