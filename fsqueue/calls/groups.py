"""Publishes the calls of a group: in batches, or one by one when calls can be reused."""

from __future__ import annotations

from collections import Counter
from itertools import repeat
from typing import TYPE_CHECKING, Any

from fsqueue.invocation import Invocation, naming_item

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.calls.arguments import Arguments
    from fsqueue.calls.packing import Packed
    from fsqueue.calls.publishing import Publisher
    from fsqueue.results.pending_result import PendingResult

# Workers are woken after this many calls of a group, so that the first calls run while the rest
# is being written.
_RING_EVERY = 16


class GroupPublisher:
    """Publishes several calls of one task, all or none of them.

    Args:
        task: the task's name.
        publisher: publishes one file.
        made: gets each call before it is published, so that the caller can abandon it.
    """

    def __init__(self, task: str, publisher: Publisher, made: list[PendingResult]) -> None:
        self._task, self._publisher, self._made = task, publisher, made

    def publish(
        self,
        calls: Sequence[Arguments],
        packed: Sequence[Packed],
        common: Mapping[str, Any],
        *,
        keep: bool,
    ) -> list[Invocation[Any]]:
        """Publish the calls. If one fails, the caller must abandon those before it.

        Args:
            calls: the arguments of each call, without the common ones.
            packed: the same, serialized.
            common: arguments by name that all calls share.
            keep: the outcomes stay readable for every process until they expire.
        """
        if self._publisher.settings.reuses_calls:
            return self._publish_reusable(calls, packed, common, keep=keep)
        return self._publish_batches(calls, packed, common, keep=keep)

    def _publish_reusable(
        self,
        calls: Sequence[Arguments],
        packed: Sequence[Packed],
        common: Mapping[str, Any],
        *,
        keep: bool,
    ) -> list[Invocation[Any]]:
        """Publish each call in a file of its own; calls with the same keys share an invocation."""
        from fsqueue.calls.deduplication import check_group

        publisher = self._publisher
        keys = []
        for index, call in enumerate(calls):
            with naming_item(index, len(calls)):
                keys.append(publisher.reuse_keys(call.sharing(common)))
        lanes = self._lanes(calls, common)
        check_group(self._task, publisher.settings, keys)
        shared = publisher.share(common)
        times = Counter(key.name for key in keys)
        found: dict[str, Invocation[Any]] = {}
        for own_lanes, key, each in zip(lanes, keys, packed, strict=True):
            if key.name in found:
                continue
            invocation = publisher.cached(key)
            if invocation is None:
                kept = keep or times[key.name] > 1  # it is read more than once
                invocation = Invocation(
                    publisher.publish(
                        [each],
                        shared,
                        keep=kept,
                        reuse=key,
                        lanes=(*own_lanes, *key.lanes),
                        made=self._made,
                    )
                )
            found[key.name] = invocation
        return [found[key.name] for key in keys]

    def _publish_batches(
        self,
        calls: Sequence[Arguments],
        packed: Sequence[Packed],
        common: Mapping[str, Any],
        *,
        keep: bool,
    ) -> list[Invocation[Any]]:
        publisher = self._publisher
        lanes = self._lanes(calls, common)
        shared = publisher.share(common)
        size = publisher.batch_size(len(calls))
        invocations: list[Invocation[Any]] = []
        for number, batch in enumerate(_batches(packed, size)):
            pending_result = publisher.publish(
                batch,
                shared,
                keep=keep,
                ring=number % _RING_EVERY == 0,
                lanes=lanes[len(invocations)],
                made=self._made,
            )
            members = range(len(batch)) if len(batch) > 1 else (None,)
            invocations += map(Invocation, repeat(pending_result), members)
        if calls:
            publisher.ring()
        return invocations

    def _lanes(
        self, calls: Sequence[Arguments], common: Mapping[str, Any]
    ) -> list[tuple[str, ...]]:
        found: list[tuple[str, ...]] = []
        if self._publisher.settings.running_concurrency == "disabled":
            return [()] * len(calls)
        for index, call in enumerate(calls):
            with naming_item(index, len(calls)):
                found.append(self._publisher.lanes(call, common))
        return found


def _batches(calls: Sequence[Packed], size: int) -> Iterator[Sequence[Packed]]:
    """The calls of each file: `size` calls, or one call that waits for invocations."""
    start = 0
    for index, call in enumerate(calls):
        if call.parents or index - start == size:
            if index > start:
                yield calls[start:index]
            start = index
        if call.parents:
            yield calls[start : index + 1]
            start = index + 1
    if start < len(calls):
        yield calls[start:]
