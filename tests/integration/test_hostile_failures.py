"""Failures that somebody wrote into the spool by hand, with the name of no error of the queue (P8).

Each place that turns such a name into an exception must end the call, not the worker or caller.
"""

from __future__ import annotations

import msgspec
import pytest

from fsqueue import DependencyError
from fsqueue.errors import InvocationError
from fsqueue.firing.ends import ends_by_queue
from fsqueue.spool.features.trigger_state import decode_end
from fsqueue.spool.format.names import AttemptName
from fsqueue.triggers.kinds import utc
from integration import sample_tasks as sample
from integration.conftest import working

NAMES = ["annotations", "__doc__", "FSQueueError", "RemoteError", "SystemExit", "a.b"]


def fail_as(app, invocation, kind):
    """End a pending call with a failure of that name."""
    store = app.store
    failure = store.outcomes.queue_failure(AttemptName(invocation.id, 1), kind, "what happened")
    assert store.outcomes.publish(failure, ())


@pytest.mark.parametrize("kind", NAMES)
def test_the_caller_gets_an_invocation_error(app, kind):
    invocation = app.task(sample.echo)("value")
    fail_as(app, invocation, kind)
    with pytest.raises(InvocationError, match=f"{kind}: what happened") as caught:
        invocation.get(60)
    assert type(caught.value) is InvocationError


@pytest.mark.parametrize("kind", NAMES)
def test_a_call_that_needs_the_result_fails_with_it_as_the_cause(app, kind):
    parent = app.task(sample.echo)("value")
    child = app.task(sample.echo)(parent)
    fail_as(app, parent, kind)
    with working(app):
        with pytest.raises(DependencyError, match="what happened") as caught:
            child.get(60)
        assert type(caught.value.__cause__) is InvocationError
        assert app.task(sample.echo)("after").get(60) == "after"


@pytest.mark.parametrize("kind", NAMES)
def test_a_trigger_on_the_end_of_a_call_gets_an_invocation_error(kind):
    ended = msgspec.json.encode(
        {
            "id": "abcdefgh-1",
            "task": "tasks.f",
            "members": 0,
            "state": "failed",
            "failure": {"type": kind, "message": "what happened"},
        }
    )
    (occurrence,) = ends_by_queue(decode_end(ended), utc(0.0))
    assert type(occurrence.exception) is InvocationError
