"""Serializes task calls and publishes them to the spool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from fsqueue.calls.arguments import argument_at
from fsqueue.calls.batching import BatchSizer
from fsqueue.calls.results_as_arguments import marked_if_invocation
from fsqueue.invocation import Invocation
from fsqueue.references import collecting, replaced
from fsqueue.results.pending_result import Hint, PendingResult
from fsqueue.runner.attempt.context import current
from fsqueue.runner.attempt.limits import holders_for_new_calls
from fsqueue.spool.format.records import Payload

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping, Sequence

    from fsqueue.calls.deduplication import ReuseKeys
    from fsqueue.calls.options import CallSettings, HeaderFields
    from fsqueue.config import Serializer
    from fsqueue.spool.caller.client import IdempotencyKey, Receipt
    from fsqueue.spool.caller.session import Session

# Common arguments of at least this many bytes are stored once, in a blob beside the calls.
_LARGE = 1 << 15


class Packed(NamedTuple):
    """The serialized arguments of one call."""

    payload: Payload
    parents: tuple[PendingResult, ...] = ()
    """The invocations among the arguments."""


class Shared(NamedTuple):
    """The common arguments of a group, in the form that each of its files contains."""

    data: bytes = b""
    blob: str = ""
    parents: tuple[PendingResult, ...] = ()


NOT_SHARED = Shared()
"""No common arguments."""


class Publisher:
    """Publishes the calls of one task, with any options.

    Args:
        task: the task's name.
        session: the connection to the spool.
    """

    def __init__(self, task: str, session: Session) -> None:
        self._task, self._session = task, session
        self._sizer = BatchSizer()

    def codec(self, settings: CallSettings) -> Serializer:
        """The serializer of the calls."""
        return settings.serializer or self._session.conf.serializer

    def encode(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        settings: CallSettings,
        *,
        apart: bool = True,
        item: str = "",
    ) -> Packed:
        """Serialize the arguments of a call.

        Args:
            args: the positional arguments.
            kwargs: the arguments by name.
            settings: the call's options.
            apart: do not copy large parts, because the call does not share its file.
            item: names the call of a fan-out in the error.

        Raises:
            SerializationError: an argument cannot be serialized. The message names it.
        """
        from fsqueue.codec import uncopied

        what, codec = f"{item}the arguments of {self._task}", self.codec(settings)
        buffers: list[memoryview] | None = None
        if apart:
            args = tuple(uncopied(value, codec) for value in args)
            kwargs = {name: uncopied(value, codec) for name, value in kwargs.items()}
            buffers = []
        data, parents = _encode((args, kwargs), what, buffers, codec, argument_at)
        return Packed(Payload(data, buffers or ()), parents)

    def as_sent(self, value: Any, settings: CallSettings, what: str = "arguments") -> Any:
        """What the other side gets with the serializer "json"; with others, the value itself."""
        if self.codec(settings) != "json":
            return value
        from fsqueue.codec import decode, encode

        name = f"the {what} of {self._task}"
        place = argument_at if what == "arguments" else None
        return decode(encode(value, name, codec="json", place=place), name, codec="json")

    def share(self, common: Mapping[str, Any], settings: CallSettings) -> Shared:
        """Serialize the common arguments of a group, and store them in a blob if they are large."""
        if not common:
            return NOT_SHARED
        from fsqueue.codec import uncopied

        codec = self.codec(settings)
        values = {name: uncopied(value, codec) for name, value in common.items()}
        buffers: list[memoryview] = []
        what = f"the common arguments of {self._task}"
        data, parents = _encode(values, what, buffers, codec)
        if len(data) < _LARGE and not buffers:
            return Shared(data, parents=parents)
        blobs = self._session.store.blobs
        digest = blobs.put(data, buffers)
        client = self._session.client
        if (delay := settings.delay(client.now)) > 0:
            blobs.touch(digest, client.now() + delay)
        return Shared(blob=digest, parents=parents)

    def lanes(
        self, settings: CallSettings, bound: Callable[[], inspect.BoundArguments]
    ) -> tuple[str, ...]:
        """The concurrency limits of a call, as names in the spool.

        Args:
            settings: the call's options.
            bound: gives its arguments; called only if they matter.

        Raises:
            SerializationError: an argument can neither be taken apart nor pickled.
        """
        kind = settings.running_concurrency
        if kind == "disabled":
            return ()
        from fsqueue.calls.keys import arguments_of, digest_of

        arguments = None
        if settings.by_arguments:
            arguments = arguments_of(bound(), settings.key_arguments if kind == "keys" else ())
        digest = digest_of([self._session.app_id, self._task, kind, arguments])
        return (f"{digest}-{settings.running_limit}",)

    def reuse_keys(self, settings: CallSettings, bound: inspect.BoundArguments) -> ReuseKeys:
        """The keys by which a call can reuse another one, for settings that reuse calls.

        Raises:
            SerializationError: an argument can neither be taken apart nor pickled.
        """
        from fsqueue.calls.deduplication import reuse_keys

        session = self._session
        scope = session.app_id, self._task, self.codec(settings)
        return reuse_keys(scope, settings, bound, session.conf.result_ttl)

    def cached(self, reuse: ReuseKeys, settings: CallSettings) -> Invocation[Any] | None:
        """A finished call whose result can be reused; None if there is none."""
        if not reuse.cache:
            return None
        session = self._session
        session.client.now()  # reads the clock that gives the result's age
        found = session.store.cache.get(reuse.cache, reuse.cache_ttl)
        if found is None:
            return None
        unpickles = self.codec(settings) != "json"
        return Invocation(
            PendingResult.of_cached(session, found.outcome.id, found.content, unpickles=unpickles)
        )

    def batch_size(self, count: int, settings: CallSettings) -> int:
        """How many calls of a group share a file."""
        if settings.by_arguments:
            return 1
        size = settings.parallel_batch_size
        if isinstance(size, int):
            return size
        return self._sizer.batch_size(count, self._session.slots(self._queue(settings)))

    def _queue(self, settings: CallSettings) -> str:
        return self._session.queue(settings.queue, settings.resources)

    def publish(
        self,
        calls: Sequence[Packed],
        settings: CallSettings,
        shared: Shared = NOT_SHARED,
        *,
        keep: bool,
        ring: bool = True,
        reuse: ReuseKeys | None = None,
        lanes: tuple[str, ...] = (),
    ) -> list[Invocation[Any]]:
        """Publish one file with a call, or with a batch of several calls.

        Args:
            calls: the calls of the file.
            settings: their options.
            shared: their common arguments.
            keep: the outcome stays readable for every process until it expires.
            ring: wake the workers of the queue.
            reuse: the keys by which the call can reuse a pending one.
            lanes: its concurrency limits.

        Raises:
            DifferentArgumentsError: a call with the same key is pending, with other arguments.
            UnknownInvocationError: an invocation among the arguments is not in the spool.
            ValueError: an invocation among the arguments belongs to another spool.
            RuntimeError: this process is ending, and only it could receive the result.
        """
        session = self._session
        client = session.client
        if not keep:
            client.waiter.check_open()
        members = len(calls) if len(calls) > 1 else 0
        once = None if reuse is None else reuse.once
        parents = _parents_of(calls, shared)
        parent = self._last_unfinished(parents)
        fields = self._header(settings, shared, members, lanes, parents)
        if reuse is not None and reuse.cache:
            fields["cache"], fields["cache_ttl"] = reuse.cache, reuse.cache_ttl
        if parent and settings.countdown:
            fields["countdown"] = settings.countdown
            settings = msgspec.structs.replace(settings, countdown=0.0)
        receipt = client.publish(
            client.new_id(),
            self._task,
            self._queue(settings),
            [*([shared.data] if shared.data else []), *(each.payload.data for each in calls)],
            calls[0].payload.buffers,
            priority=settings.priority,
            delay=settings.delay(client.now),
            ring=ring,
            once=once,
            keep=keep or once is not None,
            max_attempts=settings.max_attempts or session.conf.max_attempts,
            parent=parent,
            **fields,
        )
        if once is not None:
            from fsqueue.calls.deduplication import check_content

            check_content(self._task, settings, once, receipt.content, receipt.invocation_id)
        pending_result = self._pending_result(
            receipt, settings, lanes, keep=keep, shared=once is not None, members=members
        )
        pending_result.deferred = bool(parent)
        return [
            Invocation(pending_result, index if members else None) for index in range(len(calls))
        ]

    def _pending_result(
        self,
        receipt: Receipt,
        settings: CallSettings,
        lanes: tuple[str, ...],
        *,
        keep: bool,
        shared: bool,
        members: int,
    ) -> PendingResult:
        return PendingResult(
            self._session,
            receipt.invocation_id,
            hint=Hint(receipt.path, lanes),
            keep=keep or shared,
            members=members,
            shared=shared,
            unpickles=self.codec(settings) != "json",
            learn=self._sizer.learn,
        )

    def _last_unfinished(self, parents: Sequence[PendingResult]) -> str:
        """The last parent that may not have ended. Renews the kept outcomes of the others."""
        store, found = self._session.store, ""
        for parent in parents:
            if not parent.is_over(store, self._session.conf.result_ttl):
                found = parent.id
        return found

    def fire(
        self,
        key: IdempotencyKey,
        call: Packed,
        settings: CallSettings,
        lanes: tuple[str, ...] = (),
    ) -> bool:
        """Publish one call, unless its key was used before. True if it is new."""
        session = self._session
        client = session.client
        # The worker that claims it makes it wait for parents that have not ended.
        fields = self._header(settings, NOT_SHARED, 0, lanes, call.parents)
        return client.fire(
            key,
            self._task,
            self._queue(settings),
            call.payload,
            priority=settings.priority,
            delay=settings.delay(client.now),
            keep=True,
            max_attempts=settings.max_attempts or session.conf.max_attempts,
            **fields,
        )

    def ring(self, settings: CallSettings) -> None:
        """Wake the workers of the calls' queue."""
        self._session.client.ring(self._queue(settings))

    def _header(
        self,
        settings: CallSettings,
        shared: Shared,
        members: int,
        lanes: tuple[str, ...],
        parents: Sequence[PendingResult],
    ) -> HeaderFields:
        fields: HeaderFields = {**settings.header(), "codec": self.codec(settings)}
        if lanes:
            fields["lanes"] = lanes
        if parents:
            fields["after"] = tuple(dict.fromkeys(each.id for each in parents))
        if within := holders_for_new_calls(current.get()):
            fields["within"] = within
        if shared.blob:
            fields["blob"] = shared.blob
        if members:
            fields["members"] = members
            if "timeout" in fields:
                fields["timeout"] *= members
        if settings.expires is not None:
            fields["expires"] = self._session.client.now() + settings.expires
        return fields


def _parents_of(calls: Sequence[Packed], shared: Shared) -> list[PendingResult]:
    """The invocations among the arguments of a file's calls, without duplicates."""
    found = shared.parents
    for call in calls:
        found += call.parents
    return list(dict.fromkeys(found))


def _encode(
    value: Any,
    what: str,
    buffers: list[memoryview] | None,
    codec: Serializer,
    place: Callable[[str], str] | None = None,
) -> tuple[bytes, tuple[PendingResult, ...]]:
    """Serialized arguments, and the invocations among them."""
    from fsqueue.codec import encode

    with collecting() as met:
        if codec == "json":
            value = replaced(value, marked_if_invocation)
        data = encode(value, what, buffers, codec=codec, place=place)
    return data, tuple(dict.fromkeys(each.pending_result for each in met)) if met else ()
