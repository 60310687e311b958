"""OpenTelemetry spans from the caller to the worker, in processes that use OpenTelemetry.

A process uses OpenTelemetry if it has imported ``opentelemetry.trace``. fsqueue does not import it
by itself. Without an SDK in the process, the spans are dropped. The names of spans and attributes
follow https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span

_TRACEPARENT: Final = "traceparent"
_SCOPE: Final = "fsqueue"
# Every call comes here, so without tracing this must cost almost nothing.
_UNTRACED: Final = contextlib.nullcontext("")


def in_use() -> bool:
    """Whether this process has loaded OpenTelemetry."""
    return "opentelemetry.trace" in sys.modules


def _attributes(task: str, queue: str, invocation_id: str) -> dict[str, str | int]:
    return {
        "messaging.system": "fsqueue",
        "messaging.destination.name": queue,
        "messaging.message.id": invocation_id,
        "fsqueue.task": task,
    }


def publishing(
    task: str, queue: str, invocation_id: str, members: int
) -> contextlib.AbstractContextManager[str]:
    """A span around the publication of a call.

    Args:
        task: the task's name.
        queue: the queue's folder name.
        invocation_id: the call.
        members: number of calls in a batch; 0 for a single call.

    Returns:
        A context manager with the text of a W3C ``traceparent`` header, which the worker's span
        follows. The text is empty without OpenTelemetry.
    """
    return _publishing(task, queue, invocation_id, members) if in_use() else _UNTRACED


@contextlib.contextmanager
def _publishing(task: str, queue: str, invocation_id: str, members: int) -> Iterator[str]:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    attributes = _attributes(task, queue, invocation_id)
    if members:
        attributes["messaging.batch.message_count"] = members
    tracer = trace.get_tracer(_SCOPE)
    with tracer.start_as_current_span(
        f"publish {task}", kind=trace.SpanKind.PRODUCER, attributes=attributes
    ):
        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
        yield carrier.get(_TRACEPARENT, "")


class Running:
    """The span of an attempt. Without OpenTelemetry it does nothing."""

    def __init__(self, span: Span | None = None) -> None:
        self._span = span

    def failed(self, kind: str, message: str) -> None:
        """Record that the attempt failed, with an exception of this type and message."""
        if self._span is not None:
            from opentelemetry.trace import Status, StatusCode

            self._span.set_attribute("error.type", kind)
            self._span.set_status(Status(StatusCode.ERROR, message))


_UNSPANNED: Final = contextlib.nullcontext(Running())


def running(
    task: str, queue: str, invocation_id: str, trace_parent: str, attempt: int
) -> contextlib.AbstractContextManager[Running]:
    """A span around an attempt. The spans of calls that its body publishes follow it.

    Args:
        task: the task's name.
        queue: the queue's folder name.
        invocation_id: the call.
        trace_parent: the text that `publishing` gave the caller.
        attempt: the attempt's number.
    """
    return _running(task, queue, invocation_id, trace_parent, attempt) if in_use() else _UNSPANNED


@contextlib.contextmanager
def _running(
    task: str, queue: str, invocation_id: str, trace_parent: str, attempt: int
) -> Iterator[Running]:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {_TRACEPARENT: trace_parent} if trace_parent else {}
    # Only the caller's context: the current context of the slot's thread is unrelated.
    parent = TraceContextTextMapPropagator().extract(carrier, context=Context())
    with trace.get_tracer(_SCOPE).start_as_current_span(
        f"process {task}",
        context=parent,
        kind=trace.SpanKind.CONSUMER,
        attributes={**_attributes(task, queue, invocation_id), "fsqueue.attempt": attempt},
    ) as span:
        yield Running(span)
