"""The list of calls, and all that is known about one call."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Final

from fsqueue.common.commands import command
from fsqueue.common.printable import counted, duration
from fsqueue.common.values import parse_duration
from fsqueue.errors import FSQueueError, UnknownInvocationError
from fsqueue.monitor import charts
from fsqueue.monitor.actions import call_id
from fsqueue.monitor.charts import Bar, Lane
from fsqueue.monitor.pages.families import family_chart, rows_of
from fsqueue.monitor.pages.page import MissingError, Page
from fsqueue.monitor.words import number, precise
from fsqueue.spool.admin.facts import facts_of, failure_of
from fsqueue.spool.admin.family import family_of
from fsqueue.spool.admin.filters import Filters
from fsqueue.spool.admin.listing import call_details, list_calls
from fsqueue.spool.format.names import split_member
from fsqueue.spool.format.resources import queue_in_words
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.monitor.pages.page import Ask
    from fsqueue.monitor.words import Clock
    from fsqueue.spool.admin.listing import CallInfo

PER_PAGE: Final = 50
# The list reads the start of the files of at most this many calls.
_MOST_READ = 2_000
_FILTERS = ("task", "worker", "queue", "run", "label", "since", "failure")
# Facts that the template names, and that may be missing.
_KNOWN = ("task", "label", "queue", "worker", "created", "claimed", "started", "ended", "progress")
_LEVELS = {
    State.RUNNING: "run",
    State.PENDING: "warn",
    State.FAILED: "bad",
    State.SUCCEEDED: "ok",
    State.CANCELLED: "lost",
}


def level_of(state: str) -> str:
    """The colour of a state."""
    return _LEVELS.get(State(state), "") if state in set(State) else "lost"


def icon_of(state: str) -> str:
    """The symbol of a state."""
    return "none" if state == State.CANCELLED else state if state in set(State) else "lost"


def calls(ask: Ask) -> Page:
    """A page of the list, with the filters of `fsqueue list`."""
    fields = ask.fields
    state = fields.get("state", "")
    chosen = State(state) if state in set(State) else None
    start = _number(fields.get("start", ""))
    wanted = _filters(fields)
    read = itertools.islice(list_calls(ask.watch.store, chosen), _MOST_READ + 1)
    every = list(read)
    label = fields.get("label", "")
    matching = [each for each in every[:_MOST_READ] if wanted.takes(each) and label in each.label]
    shown = matching[start : start + PER_PAGE]
    more = len(matching) > start + PER_PAGE
    facts = {
        "calls": shown,
        "start": start,
        "more": more,
        "next": start + PER_PAGE,
        "before": max(0, start - PER_PAGE),
        "cut": len(every) > _MOST_READ,
        "most": _MOST_READ,
        "state": state,
        "states": [str(each) for each in State],
        "filters": {name: fields.get(name, "") for name in _FILTERS},
        "used": [name for name in _FILTERS if fields.get(name)],
        "command": _command(state, fields),
        "level_of": level_of,
        "icon_of": icon_of,
        "note": _note,
        "queue_in_words": queue_in_words,
    }
    return Page("calls", "Calls", facts, {"calls": shown, "more": more}, section="calls")


def _number(text: str) -> int:
    return min(number(text) or 0, _MOST_READ)


def _filters(fields: dict[str, str]) -> Filters:
    return Filters(
        since=parse_duration(fields["since"]) if "since" in fields else None,
        failed_with=fields.get("failure"),
        run=fields.get("run"),
        queue=fields.get("queue"),
        task=fields.get("task"),
        worker=fields.get("worker"),
    )


def _command(state: str, fields: dict[str, str]) -> str:
    same = {name: fields.get(name, "") for name in ("task", "worker", "queue", "run", "since")}
    return command("list", state=state, **same, failed_with=fields.get("failure", ""))


def _note(call: CallInfo) -> str:
    """A few words about a call in the list."""
    if call.failure is not None:
        return f"{call.failure.type}: {call.failure.message.partition(chr(10))[0]}"[:200]
    if call.waits_for:
        return f"waits for {call.waits_for}"
    if call.retries:
        return f"failed {counted(call.retries, 'time')} before"
    return f"a batch of {call.members:,}" if call.members else ""


# -- one call -------------------------------------------------------------------------------


def call(ask: Ask) -> Page:
    """All that is known about a call."""
    text = ask.parts[1]
    store = ask.watch.store
    try:
        carrier = call_id(text)
        _, member = split_member(text)
        glance = ask.look().glance
        found = call_details(store, carrier, member, glance)
    except UnknownInvocationError:
        raise MissingError(
            f"there is no call {text} in this spool: it was never made here, its result has "
            "expired (result_ttl), or its caller has collected it"
        ) from None
    except FSQueueError as error:
        raise MissingError(str(error)) from None
    known = dict.fromkeys(_KNOWN, "") | facts_of(store, carrier, found, glance)
    failure, trace = failure_of(found, member, ask.traceback_text)
    document = {"id": text, **known, "failure": failure, "traceback": trace}
    clock = ask.clock()
    family = family_of(store, carrier, found.call, glance)
    document["family"] = family if family.relatives else None
    facts = {
        "id": text,
        "carrier": carrier,
        "known": known,
        "failure": failure,
        "traceback": trace,
        "clock": clock,
        "level": level_of(str(found.state)),
        "icon_name": icon_of(str(found.state)),
        "header_unreadable": bool(found.path) and found.call is None,
        "attempts": known["attempts"],
        "chart_of_attempts": _attempts_chart(known, clock),
        "run": carrier.rpartition("-")[0],
        "family": rows_of(family),
        "family_more": family.more,
        "graph": family_chart(family, carrier, known["task"], str(found.state)),
        "rows": list(_rows(known, clock)),
        "level_of": level_of,
        "icon_of": icon_of,
    }
    document = {name: value for name, value in document.items() if value}
    return Page("call", carrier, facts, document, section="calls")


def _rows(known: dict[str, Any], clock: Clock) -> Iterator[tuple[str, str]]:
    """The rest of the facts, in the order in which `fsqueue show` prints them."""
    moments = {"created", "due", "expires", "claimed", "started", "ended"}
    names = (
        *("task", "label", "queue", "created", "due", "claimed", "started", "ended"),
        *("expires", "worker", "attempt", "max_attempts", "retries", "timeout", "calls_in_batch"),
        *("waits_for", "retry_of", "retried_as", "python", "serializer", "progress", "file"),
    )
    for name in names:
        value = known.get(name)
        if value:
            text = clock.exact(value) if name in moments else str(value)
            yield name.replace("_", " "), text
    if known.get("started") and known.get("ended"):
        yield "took", precise(known["ended"] - known["started"])


def _attempts_chart(known: dict[str, Any], clock: Clock) -> str:
    """The attempts as bars, from when the call was made until now or its end."""
    start = known.get("created") or 0.0
    end = known.get("ended") or clock.now
    if not start or end <= start:
        return ""

    def at(seconds: float) -> float:
        return min(1.0, max(0.0, (seconds - start) / (end - start)))

    bars = [
        Bar(at(each["ended"] - each["ran"]), at(each["ended"]), _kind(each["state"]), _words(each))
        for each in known["attempts"]
        if each["ran"] or each["ended"]
    ]
    if known.get("started"):
        state = str(known["state"])
        text = f"attempt {known['attempt']}: {state}"
        bars.append(Bar(at(known["started"]), at(end), _kind(state), text))
    label = f"{counted(max(len(bars), 0), 'attempt')}; the call was made at {clock.exact(start)}"
    return charts.timeline([Lane("", bars)], charts.even_ticks([clock.at(start), clock.at(end)]),
                           label=label)  # fmt: skip


def _kind(state: str) -> str:
    return {"succeeded": "ok", "lost": "lost", "cancelled": "lost", "running": "run"}.get(
        state, "bad"
    )


def _words(attempt: dict[str, Any]) -> str:
    ran = f", ran {duration(attempt['ran'])}" if attempt["ran"] else ""
    return f"attempt {attempt['attempt']} on {attempt['worker']}: {attempt['state']}{ran}"
