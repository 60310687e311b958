"""OpenTelemetry spans from the caller to the worker, in processes that use OpenTelemetry.

A process uses OpenTelemetry if it has imported ``opentelemetry.trace``. fsqueue itself never
imports it. Without an SDK in the process, the spans are dropped. The names of spans and attributes
follow https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from opentelemetry.trace import Span

# A process uses OpenTelemetry if it has loaded this.
_MODULE: Final = "opentelemetry.trace"
_TRACEPARENT: Final = "traceparent"
_SCOPE: Final = "fsqueue"
# Every call comes here, so without tracing this must cost almost nothing.
_UNTRACED: Final = contextlib.nullcontext("")


def _attributes(call: Call) -> dict[str, str | int]:
    return {
        "messaging.system": "fsqueue",
        "messaging.destination.name": call.queue,
        "messaging.message.id": call.id,
        "fsqueue.task": call.task,
    }


class Call(Protocol):
    """The fields of a call that spans show."""

    @property
    def id(self) -> str:
        """The invocation."""

    @property
    def task(self) -> str:
        """The task's name."""

    @property
    def queue(self) -> str:
        """The queue's folder name."""

    @property
    def members(self) -> int:
        """Number of calls in a batch; 0 for a single call."""

    @property
    def trace(self) -> str:
        """The text that `publishing` gave the caller."""


def in_use() -> bool:
    """Whether this process uses OpenTelemetry."""
    return _MODULE in sys.modules


def publishing(call: Call) -> contextlib.AbstractContextManager[str]:
    """A span around the publication of a call.

    Returns:
        A context manager with the text of a W3C ``traceparent`` header, which the worker's span
        follows. The text is empty without OpenTelemetry.
    """
    return _publishing(call) if _MODULE in sys.modules else _UNTRACED


@contextlib.contextmanager
def _publishing(call: Call) -> Iterator[str]:
    from opentelemetry import trace
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    attributes = _attributes(call)
    if call.members:
        attributes["messaging.batch.message_count"] = call.members
    tracer = trace.get_tracer(_SCOPE)
    with tracer.start_as_current_span(
        f"publish {call.task}", kind=trace.SpanKind.PRODUCER, attributes=attributes
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


def running(call: Call, attempt: int) -> contextlib.AbstractContextManager[Running]:
    """A span around an attempt. The spans of calls that its body publishes follow it."""
    return _running(call, attempt) if _MODULE in sys.modules else _UNSPANNED


@contextlib.contextmanager
def _running(call: Call, attempt: int) -> Iterator[Running]:
    from opentelemetry import trace
    from opentelemetry.context import Context
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier = {_TRACEPARENT: call.trace} if call.trace else {}
    # Only the caller's context: the current context of the slot's thread is unrelated.
    parent = TraceContextTextMapPropagator().extract(carrier, context=Context())
    with trace.get_tracer(_SCOPE).start_as_current_span(
        f"process {call.task}",
        context=parent,
        kind=trace.SpanKind.CONSUMER,
        attributes={**_attributes(call), "fsqueue.attempt": attempt},
    ) as span:
        yield Running(span)
