"""``fsqueue list`` and ``show``."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fsqueue.cli.output import (
    counted,
    duration,
    moment,
    print_json,
    print_pairs,
    print_table,
    printable,
    printable_output,
    queue_in_words,
)
from fsqueue.cli.target import (
    AppOption,
    JsonOption,
    RootOption,
    check_id,
    env,
    opened,
    seconds_of,
)
from fsqueue.errors import FSQueueError
from fsqueue.spool.states import State

if TYPE_CHECKING:
    from fsqueue.spool.records import Failure
    from fsqueue.spool.sightings import Sighting, View
    from fsqueue.spool.store import Store

_LONGEST_REPR = 10_000
_LONGEST_OUTPUT = 4_000


_State = Annotated[
    State | None,
    typer.Option(
        metavar="|".join(State), envvar=env("list-state"), help="Only calls in this state."
    ),
]
_Task = Annotated[
    str | None,
    typer.Option(metavar="MODULE.FUNC", envvar=env("list-task"), help="Only calls of this task."),
]
_Worker = Annotated[
    str | None,
    typer.Option(metavar="NAME", envvar=env("list-worker"), help="Only those that it has run."),
]
_OlderThan = Annotated[
    str,
    typer.Option(
        metavar="AGE",
        envvar=env("list-older-than"),
        help="Only calls that were made, claimed or ended so long ago: 90, 15m, 2h, 7d.",
    ),
]
_Limit = Annotated[
    int,
    typer.Option(metavar="NUMBER", min=1, envvar=env("list-limit"), help="Stop after so many."),
]


def list_calls(
    app: AppOption = None,
    root: RootOption = None,
    state: _State = None,
    task: _Task = None,
    worker: _Worker = None,
    older_than: _OlderThan = "0",
    limit: _Limit = 50,
    as_json: JsonOption = False,
) -> None:
    """List calls, of one state or of all.

    First those that run, then the pending in order of service, the failed, and those that have
    ended, roughly the latest first.

    The age is counted from when a call was made, if it is pending; claimed, if it runs; and else
    ended. Reads the beginning of each file until the limit is reached.
    """
    from fsqueue.spool.sightings import sight

    with opened(app, root) as target:
        store, least = target.store, seconds_of(older_than)
        matching = (
            each
            for each in sight(store, state)
            if (each.age or 0.0) >= least
            and task in {None, each.task}
            and worker in {None, each.worker}
        )
        found = list(itertools.islice(matching, limit + 1))
        shown, more = found[:limit], len(found) > limit
        if as_json:
            print_json({"calls": shown, "more": more})
            return
        if shown:
            heads = ("ID", "STATE", "AGE", "TASK", "QUEUE", "ATTEMPT", "WORKER", "FAILURE")
            print_table(heads, map(_row, shown))
        print(
            f"the first {limit}; there are more (--limit)" if more else counted(len(shown), "call")
        )


def _row(each: Sighting) -> tuple[object, ...]:
    batch = f" (batch of {each.members})" if each.members else ""
    return (
        each.id,
        f"{each.state} (after {each.waits_for})" if each.waits_for else each.state,
        duration(each.age),
        f"{each.task or '?'}{batch}",
        queue_in_words(each.queue) or "?",
        each.attempt,
        each.worker,
        _failure_line(each.failure),
    )


def _failure_line(failure: Failure | None) -> str:
    if failure is None:
        return ""
    return f"{failure.type}: {failure.message.partition(chr(10))[0]}"[:120]


# -- show -----------------------------------------------------------------------------------


def show(
    invocation_id: Annotated[str, typer.Argument(metavar="ID", help="The call's id.")],
    app: AppOption = None,
    root: RootOption = None,
    arguments: Annotated[
        bool,
        typer.Option(
            "--arguments",
            envvar=env("show-arguments"),
            help="Show them too. This unpickles them, which runs code that they name, unless the "
            "task's serializer is json.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show all that is known of a call.

    Of a failed one also the traceback of its worker; of one whose task captures its output, the
    end of that. `fsqueue logs` has it all.

    Nothing is unpickled unless --arguments is given.
    """
    from fsqueue.spool.controls import retried_id
    from fsqueue.spool.headers import outcome_of
    from fsqueue.spool.sightings import view

    with opened(app, root) as target:
        carrier, member = check_id(invocation_id)
        store = target.store
        found = view(store, carrier, member)
        facts = _facts(store, found)
        if outcome_of(store, retried_id(carrier)) is not None:
            facts["retried_as"] = retried_id(carrier)
        failure, trace = _failure(found, member)
        if failure is not None:
            facts["failure"] = {"type": failure.type, "message": failure.message}
        facts["traceback"] = trace
        if arguments:
            facts["arguments"] = _arguments(
                store, found, member, unpickles=target.app.conf.serializer != "json"
            )
        facts |= _said(store, carrier, found)
        facts = {"id": invocation_id, **{key: each for key, each in facts.items() if each}}
        if as_json:
            print_json(facts)
        else:
            _print_facts(facts)


def _facts(store: Store, found: View) -> dict[str, Any]:
    call, outcome = found.call, found.outcome
    facts: dict[str, Any] = {
        "state": str(found.state),
        "task": call.task if call else outcome.task if outcome else "",
        "queue": queue_in_words(call.queue if call else outcome.queue if outcome else ""),
        "created": call.created if call else outcome.created if outcome else 0.0,
        "attempt": found.name.attempt if found.name else outcome.attempt if outcome else 0,
        "retries": found.name.retries if found.name else outcome.retries if outcome else 0,
        "file": found.path,
        "worker": _worker_of(store, found),
        "waits": _turn_of(store, found),
    }
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
    from fsqueue.spool.names import Slot

    slot = Slot.parse(text)
    return slot.due if slot else 0.0


def _waits_for(store: Store, found: View) -> str:
    folder, _, parent = found.path.rpartition("/")[0].rpartition("/")
    return parent if folder == store.layout.after_folder else ""


def _worker_of(store: Store, found: View) -> str:
    if found.outcome is not None:
        return found.outcome.worker
    folder, _, worker = found.path.rpartition("/")[0].rpartition("/")
    return worker if folder == store.layout.running_folder else ""


def _turn_of(store: Store, found: View) -> str:
    """For what a pending call waits that others keep from running."""
    from fsqueue.spool.names import lane_limit

    lane = found.path.rpartition("/")[0].rpartition("/")[0].rpartition("/")[2]
    if found.state is not State.PENDING or not found.path.startswith(store.layout.lane(lane)):
        return ""
    return f"for its turn in lane {lane}, in which {lane_limit(lane)} may run at a time"


def _failure(found: View, member: int | None) -> tuple[Failure | None, str]:
    """What went wrong, and the worker's traceback."""
    from fsqueue.codec import traceback_text

    if found.outcome is None or found.outcome.failure is None:
        return None, ""
    _, failure, (segment, _) = found.outcome.part(found.result, member)
    whole_batch = member is None and found.outcome.members
    if whole_batch or not segment:
        return failure, ""
    return failure, traceback_text(segment, found.outcome.codec)


def _arguments(store: Store, found: View, member: int | None, *, unpickles: bool) -> list[str]:
    """Each call's arguments, as in the call itself."""
    from fsqueue.runner.bodies import arguments_of

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
    except Exception as error:  # noqa: BLE001 - __repr__ is the user's: it may raise anything
        return f"<repr() raised {type(error).__name__}>"


def _said(store: Store, carrier: str, found: View) -> dict[str, Any]:
    """How far its body is, and the end of what it has printed."""
    from fsqueue.spool.reports import latest_output, progress_of, read_output

    running = found.state is State.RUNNING
    output = read_output(store, latest_output(store, carrier)).decode("utf-8", "replace")
    cut = len(output) - _LONGEST_OUTPUT
    if cut > 0:
        output = f"[{cut} characters more: fsqueue logs {carrier}]\n{output[cut:]}"
    return {"progress": progress_of(store, carrier) if running else None, "output": output}


_MOMENTS = frozenset({"created", "due", "expires", "started", "ended"})
_LONG = frozenset({"failure", "traceback", "arguments", "output"})


def _print_facts(facts: dict[str, Any]) -> None:
    pairs = [
        (name.replace("_", " "), moment(value) if name in _MOMENTS else value)
        for name, value in facts.items()
        if name not in _LONG
    ]
    if facts.get("started"):
        pairs.append(("took", duration(facts["ended"] - facts["started"])))
    if "failure" in facts:
        pairs.append(("failure", "{type}: {message}".format(**facts["failure"])))
    print_pairs(pairs)
    for text in [*facts.get("arguments", []), facts.get("traceback", "")]:
        if text:
            print(f"\n{printable(text.rstrip(), keep=chr(10))}")
    if facts.get("output"):
        print(f"\noutput\n{printable_output(facts['output'].rstrip())}")
