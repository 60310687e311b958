"""Collects everything known about one call, for `fsqueue show` and the web page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsqueue.spool.admin.attempts import attempts_of
from fsqueue.spool.admin.reasons import why
from fsqueue.spool.admin.snapshot import claimed_for
from fsqueue.spool.features.body_reports import latest_output, progress_of, read_output
from fsqueue.spool.features.cuts import cuts_of
from fsqueue.spool.files.headers import outcome_of
from fsqueue.spool.format.names import Slot, retried_id
from fsqueue.spool.format.records import shown
from fsqueue.spool.format.resources import queue_in_words
from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.admin.glance import Glance
    from fsqueue.spool.admin.listing import CallDetails
    from fsqueue.spool.format.records import Call, Failure
    from fsqueue.spool.store.store import Store

_LONGEST_OUTPUT = 4_000


def facts_of(store: Store, carrier: str, found: CallDetails, glance: Glance) -> dict[str, Any]:
    """Everything known about a call except its arguments, failure and traceback.

    Args:
        carrier: the invocation whose file holds the call.
        found: what the spool holds for it.
        glance: the latest glance at the spool.
    """
    facts = _facts(store, found)
    facts["why"] = why(store, carrier, glance, found)
    facts["attempts"] = _attempts(store, found)
    if outcome_of(store.files, retried_id(carrier)) is not None:
        facts["retried_as"] = retried_id(carrier)
    facts |= _progress_and_output(store, carrier, found)
    facts["cuts"] = cuts_of(store.files, carrier)
    return facts


def _facts(store: Store, found: CallDetails) -> dict[str, Any]:
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
            "due": _due(found, call) if found.state == "pending" and not waits_for else 0.0,
            "claimed": _claimed(store, found) if found.state == "running" else 0.0,
            "waits_for": waits_for,
            "calls_in_batch": call.members,
            "timeout": call.timeout,
            "expires": call.expires,
            "retry_of": call.retry_of,
            "python": call.python,
            "serializer": call.codec,
        }
    if outcome is not None:
        ran = outcome.worker or outcome.started < outcome.ended
        facts |= {"started": outcome.started if ran else 0.0, "ended": outcome.ended}
        facts["stale"] = outcome.stale
        facts["calls_in_batch"] = len(outcome.members)
    return facts


def _due(found: CallDetails, call: Call) -> float:
    """When it may start, according to its slot (a retry is due later); 0 if it was due at once."""
    folder = found.path.rpartition("/")[0].rpartition("/")[2]
    slot = Slot.parse(folder.partition("~")[0]) or Slot.parse(call.slot)
    return slot.due if slot and slot.due > call.created else 0.0


def _claimed(store: Store, found: CallDetails) -> float:
    """When the worker claimed it; 0 if it is gone."""
    seconds = claimed_for(store, found.path)
    return 0.0 if seconds is None else store.clock.now() - seconds


def _waits_for(store: Store, found: CallDetails) -> str:
    folder, _, parent = found.path.rpartition("/")[0].rpartition("/")
    return parent if folder == store.layout.after_folder else ""


def _worker_of(store: Store, found: CallDetails) -> str:
    if found.outcome is not None:
        return found.outcome.worker
    folder, _, worker = found.path.rpartition("/")[0].rpartition("/")
    return worker if folder == store.layout.running_folder else ""


def failure_of(
    found: CallDetails, member: int | None, traceback_text: Callable[[bytes | memoryview, str], str]
) -> tuple[Failure | None, str]:
    """A call's failure and the worker's traceback."""
    if found.outcome is None or found.outcome.failure is None:
        return None, ""
    _, failure, (segment, _) = found.outcome.part(found.result, member)
    whole_batch = member is None and found.outcome.members
    if whole_batch or not segment:
        return failure, ""
    return failure, traceback_text(segment, found.outcome.codec)


def _progress_and_output(store: Store, carrier: str, found: CallDetails) -> dict[str, Any]:
    """The progress of a running call, and the end of its output."""
    running = found.state is State.RUNNING
    output = read_output(store.files, latest_output(store.files, carrier)).decode(
        "utf-8", "replace"
    )
    cut = len(output) - _LONGEST_OUTPUT
    if cut > 0:
        output = f"[{cut} characters more: fsqueue logs {carrier}]\n{output[cut:]}"
    return {"progress": progress_of(store.files, carrier) if running else None, "output": output}


# With a single attempt, the outcome says it all.
_JOURNALS = 24


def _attempts(store: Store, found: CallDetails) -> list[dict[str, Any]]:
    """Finished attempts from the journals; only some workers' journals if there are many."""
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
