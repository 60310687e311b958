"""``fsqueue show``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsqueue.cli.command import flag, subcommand
from fsqueue.cli.finding.target import check_id, open_target
from fsqueue.cli.options import app_option, id_argument, json_option, root_option
from fsqueue.cli.output import (
    moment,
    print_json,
    print_pairs,
    printable_output,
)
from fsqueue.cli.overview import looks
from fsqueue.common.printable import duration, indented
from fsqueue.errors import FSQueueError
from fsqueue.spool.format.resources import queue_in_words
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from pathlib import Path

    from fsqueue.spool.admin.listing import CallDetails
    from fsqueue.spool.admin.reasons import Reason
    from fsqueue.spool.features.cuts import Cut
    from fsqueue.spool.format.records import Failure
    from fsqueue.spool.store.store import Store

_LONGEST_REPR = 10_000
_LONGEST_OUTPUT = 4_000


@subcommand("show", "show jq3v8k2m5c-7", "show jq3v8k2m5c-7 --arguments")
@id_argument
@app_option
@root_option
@flag(
    "--arguments",
    help="Also show the arguments. This unpickles them, which can run code that they name, unless "
    "the task's serializer is json.",
)
@json_option
def command(
    invocation_id: str, app: str | None, root: Path | None, arguments: bool, as_json: bool
) -> None:
    """Show everything that is known about a call.

    If the call is not running, this says why, and what would end that. For a failed call, it
    includes the worker's traceback. If the task captures its output, the end of it is shown;
    `fsqueue logs` prints all of it.

    Nothing is unpickled without --arguments.
    """
    from fsqueue.spool.admin.controls import retried_id
    from fsqueue.spool.admin.listing import call_details
    from fsqueue.spool.admin.reasons import why
    from fsqueue.spool.features.cuts import cuts_of
    from fsqueue.spool.files.headers import outcome_of

    with open_target(app, root) as target:
        carrier, member = check_id(invocation_id)
        looking = looks(target)
        store, glance = looking.store, looking.look()
        found = call_details(store, carrier, member, glance)
        facts = _facts(store, found)
        facts["why"] = why(store, carrier, glance, found)
        facts["attempts"] = _attempts(store, found)
        if outcome_of(store.files, retried_id(carrier)) is not None:
            facts["retried_as"] = retried_id(carrier)
        failure, trace = _failure(found, member)
        if failure is not None:
            facts["failure"] = failure
        facts["traceback"] = trace
        if arguments:
            facts["arguments"] = _arguments(
                store, found, member, unpickles=target.app.conf.serializer != "json"
            )
        facts |= _progress_and_output(store, carrier, found)
        facts["cuts"] = cuts_of(store.files, carrier)
        facts = {"id": invocation_id, **{key: each for key, each in facts.items() if each}}
        if as_json:
            print_json(facts)
        else:
            _print_facts(facts)


def _facts(store: Store, found: CallDetails) -> dict[str, Any]:
    from fsqueue.spool.format.records import shown

    call, outcome = found.call, found.outcome
    facts: dict[str, Any] = {
        "state": str(found.state),
        **shown(call or outcome),
        "created": call.created if call else outcome.created if outcome else 0.0,
        "attempt": found.name.attempt if found.name else outcome.attempt if outcome else 0,
        "retries": found.name.retries if found.name else outcome.retries if outcome else 0,
        "file": found.path,
        "worker": _worker_of(store, found),
    }
    facts["queue"] = queue_in_words(facts.get("queue", ""))
    if call is not None:
        waits_for = _waits_for(store, found)
        facts |= {
            "max_attempts": call.max_attempts,
            "due": _due(call.slot) if found.state == "pending" and not waits_for else 0.0,
            "waits_for": waits_for,
            "calls_in_batch": call.members,
            "timeout": call.timeout,
            "expires": call.expires,
            "retry_of": call.retry_of,
            "python": call.python,
            "serializer": call.codec,
        }
    if outcome is not None:
        facts |= {"started": outcome.started, "ended": outcome.ended}
        facts["calls_in_batch"] = len(outcome.members)
    return facts


def _due(text: str) -> float:
    from fsqueue.spool.format.names import Slot

    slot = Slot.parse(text)
    return slot.due if slot else 0.0


def _waits_for(store: Store, found: CallDetails) -> str:
    folder, _, parent = found.path.rpartition("/")[0].rpartition("/")
    return parent if folder == store.layout.after_folder else ""


def _worker_of(store: Store, found: CallDetails) -> str:
    if found.outcome is not None:
        return found.outcome.worker
    folder, _, worker = found.path.rpartition("/")[0].rpartition("/")
    return worker if folder == store.layout.running_folder else ""


def _failure(found: CallDetails, member: int | None) -> tuple[Failure | None, str]:
    """The failure of a call, and the worker's traceback."""
    from fsqueue.codec import traceback_text

    if found.outcome is None or found.outcome.failure is None:
        return None, ""
    _, failure, (segment, _) = found.outcome.part(found.result, member)
    whole_batch = member is None and found.outcome.members
    if whole_batch or not segment:
        return failure, ""
    return failure, traceback_text(segment, found.outcome.codec)


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


def _progress_and_output(store: Store, carrier: str, found: CallDetails) -> dict[str, Any]:
    """The progress of a running call, and the end of its output."""
    from fsqueue.spool.features.body_reports import latest_output, progress_of, read_output

    running = found.state is State.RUNNING
    output = read_output(store.files, latest_output(store.files, carrier)).decode(
        "utf-8", "replace"
    )
    cut = len(output) - _LONGEST_OUTPUT
    if cut > 0:
        output = f"[{cut} characters more: fsqueue logs {carrier}]\n{output[cut:]}"
    return {"progress": progress_of(store.files, carrier) if running else None, "output": output}


# A call with one attempt needs no history, and its outcome says how it ended.
_JOURNALS = 24


def _attempts(store: Store, found: CallDetails) -> list[dict[str, Any]]:
    """The attempts that have ended, by the journals: of some workers only, if there are many."""
    from fsqueue.spool.admin.attempts import attempts_of

    header = found.call or found.outcome
    number = found.name.attempt if found.name else found.outcome.attempt if found.outcome else 1
    if header is None or number == 1:
        return []
    worker = found.outcome.worker if found.outcome else ""
    since = header.created
    attempts = attempts_of(store, header.id, since, files=_JOURNALS, first=worker)
    return [
        {
            "attempt": each.entry.attempt,
            "state": each.entry.state,
            "worker": each.worker,
            "ended": each.ended,
            "ran": each.entry.run,
            "failure": each.failure,
            "evidence": each.entry.evidence,
        }
        for each in attempts
    ]


_MOMENTS = frozenset({"created", "due", "expires", "started", "ended"})
_LONG = frozenset({"failure", "traceback", "arguments", "output", "cuts", "why", "attempts"})


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
    print_pairs(pairs)
    for text in [*facts.get("arguments", []), facts.get("traceback", "")]:
        if text:
            print(f"\n{indented(text.rstrip())}")
    if facts.get("output"):
        print(f"\noutput\n{printable_output(facts['output'].rstrip())}")


def _reason_in_words(reason: Reason) -> str:
    since = "" if reason.since is None else f", since {moment(reason.since)}"
    until = "" if reason.until is None else f", until {moment(reason.until)}"
    return f"{reason.text}{since}{until}; ends with {reason.ends}"


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
