"""The serialized arguments of a call, and those that the calls of a group share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from fsqueue.calls.results_as_arguments import marked_if_invocation
from fsqueue.references import collecting, replaced

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsqueue.config import Serializer
    from fsqueue.results.pending_result import PendingResult
    from fsqueue.spool.format.records import Payload


class Packed(NamedTuple):
    """The serialized arguments of one call."""

    payload: Payload
    parents: tuple[PendingResult, ...] = ()
    """The invocations among the arguments."""
    label: str = ""


class Shared(NamedTuple):
    """The common arguments of a group, in the form that each of its files contains."""

    data: bytes = b""
    blob: str = ""
    parents: tuple[PendingResult, ...] = ()


NOT_SHARED = Shared()
"""No common arguments."""


def segments_of(
    calls: Sequence[Packed], shared: Shared
) -> tuple[list[bytes | memoryview], list[PendingResult]]:
    """The segments of a file, and the invocations among its arguments, without duplicates."""
    segments: list[bytes | memoryview] = [shared.data] if shared.data else []
    parents = list(shared.parents)
    for call in calls:
        segments.append(call.payload.data)
        parents += call.parents
    return segments, list(dict.fromkeys(parents))


def encode_arguments(
    value: Any,
    what: str,
    buffers: list[memoryview] | None,
    codec: Serializer,
    place: Callable[[str], str] | None = None,
) -> tuple[bytes, tuple[PendingResult, ...]]:
    """Serialized arguments, and the invocations among them."""
    from fsqueue.codec.values import encode

    with collecting() as met:
        if codec == "json":
            value = replaced(value, marked_if_invocation)
        data = encode(value, what, buffers, codec=codec, place=place)
    return data, tuple(dict.fromkeys(each.pending_result for each in met)) if met else ()
