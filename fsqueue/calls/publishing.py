"""Makes the files of a task's calls."""

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

# Common arguments of so many bytes are stored once, beside the calls.
_LARGE = 1 << 15


class Packed(NamedTuple):
    """The arguments of one call, ready to be written."""

    payload: Payload
    parents: tuple[PendingResult, ...] = ()
    """The invocations among them, whose results take their places."""


class Shared(NamedTuple):
    """The common arguments of a group, as they go with each of its files."""

    data: bytes = b""
    blob: str = ""
    parents: tuple[PendingResult, ...] = ()


ALONE = Shared()
"""No common arguments."""


class Publisher:
    """Publishes the calls of one task, whatever options they are made with.

    Args:
        task: the task's name.
        session: the connection to the spool.
    """

    def __init__(self, task: str, session: Session) -> None:
        self._task, self._session = task, session
        self._pace = BatchSizer()

    def codec(self, settings: CallSettings) -> Serializer:
        """How the calls are written."""
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
            apart: large parts are not copied, as the call has its file for itself.
            item: which call of a fan-out it is, for the error.

        Raises:
            SerializationError: an argument cannot be serialized; the message names it.
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
        """What the other side would get, with the serializer "json"; or else the value itself."""
        if self.codec(settings) != "json":
            return value
        from fsqueue.codec import decode, encode

        name = f"the {what} of {self._task}"
        place = argument_at if what == "arguments" else None
        return decode(encode(value, name, codec="json", place=place), name, codec="json")

    def share(self, common: Mapping[str, Any], settings: CallSettings) -> Shared:
        """Store the common arguments of a group, if they are large."""
        if not common:
            return ALONE
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
        """The lanes in which a call takes turns with others.

        Args:
            settings: the call's.
            bound: gives its arguments, if they matter.

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
        """What a call has in common with others; `settings` have an option that asks for it.

        Raises:
            SerializationError: an argument can neither be taken apart nor pickled.
        """
        from fsqueue.calls.deduplication import reuse_keys

        session = self._session
        scope = session.app_id, self._task, self.codec(settings)
        return reuse_keys(scope, settings, bound, session.conf.result_ttl)

    def cached(self, reuse: ReuseKeys, settings: CallSettings) -> Invocation[Any] | None:
        """A call that has ended, whose result stands for that of another one."""
        if not reuse.cache:
            return None
        session = self._session
        session.client.now()  # so that it is known how old a result is
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
        return self._pace.batch_size(count, self._session.slots(self._queue(settings)))

    def _queue(self, settings: CallSettings) -> str:
        return self._session.queue(settings.queue, settings.resources)

    def publish(
        self,
        calls: Sequence[Packed],
        settings: CallSettings,
        shared: Shared = ALONE,
        *,
        keep: bool,
        ring: bool = True,
        reuse: ReuseKeys | None = None,
        lanes: tuple[str, ...] = (),
    ) -> list[Invocation[Any]]:
        """Publish one file: a call, or a batch if there are several; the file takes turns.

        Raises:
            DifferentArgumentsError: another call is pending under its key, and differs too much.
            UnknownInvocationError: the result of an invocation is to be an argument, and it is
                nowhere.
            ValueError: that invocation is one of another spool.
            RuntimeError: the process is ending, and nobody else can receive the result.
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
        delivery = self._delivery(
            receipt, settings, lanes, keep=keep, shared=once is not None, members=members
        )
        delivery.parked = bool(parent)
        return [Invocation(delivery, index if members else None) for index in range(len(calls))]

    def _delivery(
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
            learn=self._pace.learn,
        )

    def _last_unfinished(self, parents: Sequence[PendingResult]) -> str:
        """The last that may not be over; the outcomes of the others are kept from now on."""
        store, found = self._session.store, ""
        for parent in parents:
            if not parent.is_over(store, self._session.conf.result_ttl):
                found = parent.id
        return found

    def fire(
        self,
        occasion: IdempotencyKey,
        call: Packed,
        settings: CallSettings,
        lanes: tuple[str, ...] = (),
    ) -> bool:
        """Publish one call that is kept, unless its key was taken; True if it was done now."""
        session = self._session
        client = session.client
        # Who claims it lets it wait for the parents that are not over.
        fields = self._header(settings, ALONE, 0, lanes, call.parents)
        return client.fire(
            occasion,
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
    """The invocations among the arguments of a file's calls, each once."""
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
    """Arguments as bytes, and the files of the invocations among them."""
    from fsqueue.codec import encode

    with collecting() as met:
        if codec == "json":
            value = replaced(value, marked_if_invocation)
        data = encode(value, what, buffers, codec=codec, place=place)
    return data, tuple(dict.fromkeys(each.delivery for each in met)) if met else ()
