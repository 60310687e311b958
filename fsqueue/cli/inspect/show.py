"""``fsqueue show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsqueue.cli.command import flag, subcommand
from fsqueue.cli.finding.target import Target, check_id
from fsqueue.cli.options import id_argument, json_option, on_target
from fsqueue.cli.output import (
    print_json,
    print_pairs,
    printable_output,
)
from fsqueue.cli.overview import looks
from fsqueue.common.printable import counted, duration, indented, moment
from fsqueue.errors import FSQueueError

if TYPE_CHECKING:
    from fsqueue.spool.admin.family import Family
    from fsqueue.spool.admin.listing import CallDetails
    from fsqueue.spool.admin.reasons import Reason
    from fsqueue.spool.features.cuts import Cut
    from fsqueue.spool.store.store import Store

_LONGEST_REPR = 10_000


@subcommand("show", "show jq3v8k2m5c-7", "show jq3v8k2m5c-7 --arguments")
@id_argument
@on_target
@flag(
    "--arguments",
    help="Also show the arguments. This unpickles them, which can run code that they name, unless "
    "the task's serializer is json.",
)
@json_option
def command(target: Target, invocation_id: str, arguments: bool, as_json: bool) -> None:
    """Show everything that is known about a call.

    If the call is not running, this says why, and what would end that. It lists the calls that wait
    for its result. For a failed call, it includes the worker's traceback. If the task captures its
    output, the end of it is shown; `fsqueue logs` prints all of it.

    Nothing is unpickled without --arguments.
    """
    from fsqueue.codec import traceback_text
    from fsqueue.spool.admin.facts import facts_of, failure_of
    from fsqueue.spool.admin.family import family_of
    from fsqueue.spool.admin.listing import call_details

    carrier, member = check_id(invocation_id)
    looking = looks(target)
    store, glance = looking.store, looking.look()
    found = call_details(store, carrier, member, glance)
    facts = facts_of(store, carrier, found, glance)
    failure, trace = failure_of(found, member, traceback_text)
    if failure is not None:
        facts["failure"] = failure
    facts["traceback"] = trace
    family = family_of(store, carrier, found.call, glance)
    facts["family"] = family if family.relatives else None
    if arguments:
        facts["arguments"] = _arguments(
            store, found, member, unpickles=target.app.conf.serializer != "json"
        )
    facts = {"id": invocation_id, **{key: each for key, each in facts.items() if each}}
    if as_json:
        print_json(facts)
    else:
        _print_facts(facts)


def _arguments(
    store: Store, found: CallDetails, member: int | None, *, unpickles: bool
) -> list[str]:
    """The calls of a file as Python would write them, such as ``task(1, b=2)``."""
    from fsqueue.runner.attempt.bodies import arguments_of

    if found.call is None:
        return []
    try:
        calls = arguments_of(store, found.call, found.arguments, unpickles=unpickles)
    except FSQueueError as error:
        return [str(error)]
    chosen = calls if member is None else calls[member : member + 1]
    return [
        f"{found.call.task}({', '.join([*map(_repr, args), *_keywords(kwargs)])})"
        for args, kwargs in chosen
    ]


def _keywords(kwargs: dict[str, Any]) -> list[str]:
    return [f"{name}={_repr(value)}" for name, value in kwargs.items()]


def _repr(value: object) -> str:
    from fsqueue.codec.texts import capped

    try:
        return capped(repr(value), _LONGEST_REPR)
    except Exception as error:  # noqa: BLE001 - the user's __repr__ may raise anything
        return f"<repr() raised {type(error).__name__}>"


_MOMENTS = frozenset({"created", "due", "expires", "claimed", "started", "ended"})
_LONG = frozenset(
    {"failure", "traceback", "arguments", "output", "cuts", "why", "attempts", "family"}
)
_MOST_WAITING = 10


def _print_facts(facts: dict[str, Any]) -> None:
    pairs = [
        (name.replace("_", " "), moment(value) if name in _MOMENTS else value)
        for name, value in facts.items()
        if name not in _LONG
    ]
    if facts.get("started"):
        pairs.append(("took", duration(facts["ended"] - facts["started"])))
    pairs += [("cut off", _cut_in_words(each)) for each in facts.get("cuts", [])]
    if "failure" in facts:
        failure = facts["failure"]
        pairs.append(("failure", f"{failure.type}: {failure.message}"))
        pairs += [("raised at", failure.at), ("group", failure.fp)]
    pairs += [("why", _reason_in_words(each)) for each in facts.get("why", ())]
    pairs += [("attempt", _attempt_in_words(each)) for each in facts.get("attempts", [])]
    pairs += [("waited for by", each) for each in _waiting(facts.get("family"))]
    print_pairs(pairs)
    for text in [*facts.get("arguments", []), facts.get("traceback", "")]:
        if text:
            print(f"\n{indented(text.rstrip())}")
    if facts.get("output"):
        print(f"\noutput\n{printable_output(facts['output'].rstrip())}")


def _reason_in_words(reason: Reason) -> str:
    since = "" if reason.since is None else f", since {moment(reason.since)}"
    until = "" if reason.until is None else f", until {moment(reason.until)}"
    ends = f"; ends with {reason.ends}" if reason.ends else ""
    return f"{reason.text}{since}{until}{ends}"


def _waiting(family: Family | None) -> list[str]:
    """The calls that wait for the result of this one."""
    found = [each for each in family.relatives if each.level == 1] if family else []
    more = len(found) - _MOST_WAITING
    shown = [f"{each.id}  {each.task}".rstrip() for each in found[:_MOST_WAITING]]
    return [*shown, f"and {counted(more, 'call')} more"] if more > 0 else shown


def _attempt_in_words(attempt: dict[str, Any]) -> str:
    failure, evidence = attempt["failure"], attempt["evidence"]
    end = f": {evidence}" if evidence else f": {failure.type}: {failure.message}" if failure else ""
    ran = f" after {duration(attempt['ran'])}" if attempt["ran"] else ""
    where = f" on {attempt['worker']}" if attempt["worker"] else ""
    when = moment(attempt["ended"])
    return f"{attempt['attempt']} {attempt['state']}{ran}{where} at {when}{end}"


def _cut_in_words(cut: Cut) -> str:
    where = f"worker {cut.worker}" + (f" in job {cut.job}" if cut.job else "")
    of = f" of {duration(cut.limit)}" if cut.limit else ""
    return f"{moment(cut.at)} by the end of {where}, after {duration(cut.ran)}{of}"
