"""Prints the result of a call, for ``result`` and ``submit --wait``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsqueue.cli import exits
from fsqueue.cli.finding.target import NotFoundError, Target, check_id
from fsqueue.cli.output import as_json as as_plain_json
from fsqueue.cli.output import print_error, print_json
from fsqueue.cli.waiting import GONE, reasons_in_words, wait_for
from fsqueue.errors import ConfigError
from fsqueue.results.opened import stale_in_words
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from fsqueue.spool.store.store import Store


def print_result(
    target: Target, invocation_id: str, timeout: float | None, *, as_json: bool
) -> int:
    """Print the value of a call, or its failure, and return the exit code.

    Args:
        target: application and spool.
        timeout: longest time to wait for its end, in seconds; ``None``: no limit.
        as_json: print one JSON document.
    """
    state = wait_for(target, [invocation_id], timeout)[invocation_id]
    if state == GONE:
        raise NotFoundError(f"{invocation_id} has ended, and its caller has collected the result")
    if not State(state).finished:
        print_error(
            f"{invocation_id} is {state} and has no result yet. Wait longer with --timeout",
            reasons_in_words(target, invocation_id),
        )
        return exits.TIMEOUT
    answer = _answer(target.look(), invocation_id, unpickles=target.app.conf.serializer != "json")
    if as_json:
        shown = {"value": as_plain_json(answer["value"])} if "value" in answer else {}
        print_json({"id": invocation_id, **answer, **shown})
    elif "value" in answer:
        print(repr(answer["value"]))
    else:
        failure = answer["failure"] or {"type": "?", "message": ""}
        print_error(
            f"{invocation_id} {answer['state']}: {failure['type']}: {failure['message']}",
            answer["traceback"].rstrip(),
        )
    return exits.OK if answer["state"] == State.SUCCEEDED else exits.NEGATIVE


def _answer(store: Store, invocation_id: str, *, unpickles: bool) -> dict[str, Any]:
    """The state of a call that has ended, with its value or failure."""
    from fsqueue import codec

    carrier, member = check_id(invocation_id)
    data = store.outcomes.peek(carrier)
    if data is None:
        raise NotFoundError(f"the result of {invocation_id} was collected or has expired")
    outcome, payload = store.outcomes.read(carrier, data)
    if outcome.stale:
        print_error(stale_in_words(outcome))
    if member is None and outcome.members:
        raise ConfigError(
            f"{invocation_id} is a batch of {len(outcome.members)} calls: ask for one of them, "
            f"like {invocation_id}:0"
        )
    state, failure, (segment, buffers) = outcome.part(payload, member)
    if state is State.SUCCEEDED:
        what = f"the result of {invocation_id}"
        codec.check_codec(outcome.codec, what, unpickles=unpickles)
        value = codec.decode(segment, what, buffers, codec=outcome.codec, python=outcome.python)
        return {"state": state, "value": value}
    described = None if failure is None else {"type": failure.type, "message": failure.message}
    trace = codec.traceback_text(segment, outcome.codec) if segment else ""
    return {"state": state, "failure": described, "traceback": trace}
