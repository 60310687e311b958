"""Serializes task calls and publishes them to the spool."""

from __future__ import annotations

import sys
from functools import partial
from itertools import repeat
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from fsqueue.calls.arguments import argument_at
from fsqueue.calls.batching import BatchSizer
from fsqueue.calls.labels import label_of, label_of_batch
from fsqueue.calls.packing import NOT_SHARED, Packed, Shared, encode_arguments, segments_of
from fsqueue.invocation import Invocation
from fsqueue.results.pending_result import Hint, PendingResult
from fsqueue.runner.attempt.context import current
from fsqueue.runner.attempt.permits import holders_for_new_calls
from fsqueue.spool.caller.client import Draft
from fsqueue.spool.format.names import queue_folder
from fsqueue.spool.format.records import Call, Payload

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Mapping, Sequence

    from fsqueue.calls.arguments import Arguments
    from fsqueue.calls.deduplication import ReuseKeys
    from fsqueue.calls.options import CallSettings
    from fsqueue.environment.module_code import ModuleCode
    from fsqueue.spool.caller.client import Client, IdempotencyKey
    from fsqueue.spool.caller.session import Session
    from fsqueue.spool.features.deduplication import Key

_PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"
# Common arguments of at least this many bytes are stored once, in a blob beside the calls.
_LARGE = 1 << 15


NOTHING: Mapping[str, Any] = MappingProxyType({})

Bound: TypeAlias = "Callable[[tuple[Any, ...], Mapping[str, Any]], inspect.BoundArguments]"


class Publisher:
    """Publishes the calls of one task with its options.

    Args:
        task: the task's name.
        bound: gives a call's arguments by the names of the function's parameters.
        sizer: chooses batch sizes, and learns from the durations of calls.
        code: the task's module, as this process has loaded it.

    Attributes:
        settings: as given.
        codec: the serializer of arguments and results.
    """

    def __init__(
        self,
        task: str,
        session: Session,
        settings: CallSettings,
        bound: Bound,
        sizer: BatchSizer | None = None,
        *,
        code: ModuleCode,
    ) -> None:
        conf = session.conf
        self._task, self._session = task, session
        self.settings: CallSettings = settings
        self._bound, self._sizer = bound, sizer or BatchSizer()
        self.codec = settings.serializer or conf.serializer
        self._max_attempts = settings.max_attempts or conf.max_attempts
        self._queue = self._folder() if settings.walltime != "auto" else ""
        self._retry = settings.retry_policy
        self._code = code
        self.reuses_calls: bool = settings.reuses_calls
        self._eta = 0.0 if settings.eta is None else settings.eta.timestamp()

    def with_settings(self, settings: CallSettings) -> Publisher:
        """A publisher of the same task's calls with other options."""
        bound, sizer, code = self._bound, self._sizer, self._code
        return Publisher(self._task, self._session, settings, bound, sizer, code=code)

    # -- arguments ------------------------------------------------------------------------

    def encode(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        *,
        common: Mapping[str, Any] = NOTHING,
        apart: bool = True,
        item: str = "",
    ) -> Packed:
        """Serialize the arguments of a call, and make its label.

        Args:
            args: the positional arguments.
            kwargs: the arguments by name.
            common: those by name that it shares with other calls, for the label.
            apart: do not copy large parts, because the call does not share its file.
            item: names the call of a fan-out in the error.

        Raises:
            SerializationError: an argument cannot be serialized. The message names it.
        """
        from fsqueue.codec.values import encode_if_simple, uncopied

        codec, label = self.codec, ""
        if self.settings.label:
            label = label_of(self.settings.label, partial(self._bound, args, {**common, **kwargs}))
        if (simple := encode_if_simple((args, kwargs), codec)) is not None:
            return Packed(Payload(simple), (), label)
        what = f"{item}the arguments of {self._task}"
        buffers: list[memoryview] | None = None
        if apart:
            args = tuple(map(uncopied, args, repeat(codec)))
            if kwargs:
                kwargs = {name: uncopied(value, codec) for name, value in kwargs.items()}
            buffers = []
        data, parents = encode_arguments((args, kwargs), what, buffers, codec, argument_at)
        return Packed(Payload(data, buffers or ()), parents, label)

    def as_sent(self, value: Any, what: str = "arguments") -> Any:
        """What the other side receives: a JSON copy if the serializer is "json", else the value."""
        if self.codec != "json":
            return value
        from fsqueue.codec import decode, encode

        name = f"the {what} of {self._task}"
        place = argument_at if what == "arguments" else None
        return decode(encode(value, name, codec="json", place=place), name, codec="json")

    def share(self, common: Mapping[str, Any]) -> Shared:
        """Serialize the common arguments of a group, and store them in a blob if they are large."""
        if not common:
            return NOT_SHARED
        from fsqueue.codec import uncopied

        codec = self.codec
        values = {name: uncopied(value, codec) for name, value in common.items()}
        buffers: list[memoryview] = []
        what = f"the common arguments of {self._task}"
        data, parents = encode_arguments(values, what, buffers, codec)
        if len(data) < _LARGE and not buffers:
            return Shared(data, parents=parents)
        blobs, client = self._session.store.blobs, self._session.client
        digest = blobs.put(data, buffers)
        now = client.now()
        if (delay := max(self.settings.countdown, self._eta - now)) > 0:
            blobs.touch(digest, now + delay)
        return Shared(blob=digest, parents=parents)

    # -- keys -----------------------------------------------------------------------------

    def lanes(self, call: Arguments, common: Mapping[str, Any] = NOTHING) -> tuple[str, ...]:
        """The concurrency limits of a call, as names in the spool.

        Args:
            call: its own arguments.
            common: those that it shares with other calls.

        Raises:
            SerializationError: an argument can neither be taken apart nor pickled.
        """
        settings, kind = self.settings, self.settings.running_concurrency
        if kind == "disabled":
            return ()
        from fsqueue.calls.keys import arguments_of, digest_of

        arguments = None
        if settings.by_arguments:
            bound = self._bound(*call.sharing(common))
            arguments = arguments_of(bound, settings.key_arguments if kind == "keys" else ())
        digest = digest_of([self._session.app_id, self._task, kind, arguments])
        return (f"{digest}-{settings.running_limit}",)

    def reuse_keys(self, call: Arguments) -> ReuseKeys:
        """The keys by which a call can reuse another one, for settings that reuse calls.

        Raises:
            SerializationError: an argument can neither be taken apart nor pickled.
        """
        from fsqueue.calls.deduplication import reuse_keys

        scope = self._session.app_id, self._task, self.codec
        return reuse_keys(scope, self.settings, self._bound(*call), self._session.conf.result_ttl)

    def cached(self, reuse: ReuseKeys) -> Invocation[Any] | None:
        """A finished call whose result can be reused; None if there is none."""
        if not reuse.cache:
            return None
        session = self._session
        session.client.now()  # reads the clock that gives the result's age
        found = session.store.cache.get(reuse.cache, reuse.cache_ttl)
        if found is None:
            return None
        unpickles = self.codec != "json"
        return Invocation(
            PendingResult.of_cached(session, found.outcome.id, found.content, unpickles=unpickles)
        )

    def batch_size(self, count: int) -> int:
        """How many calls of a group share a file."""
        if self.settings.by_arguments:
            return 1
        size = self.settings.parallel_batch_size
        if isinstance(size, int):
            return size
        return self._sizer.batch_size(count, self._session.slots(self._queue or self._folder()))

    # -- publication ----------------------------------------------------------------------

    def publish(
        self,
        calls: Sequence[Packed],
        shared: Shared = NOT_SHARED,
        *,
        keep: bool,
        ring: bool = True,
        reuse: ReuseKeys | None = None,
        lanes: tuple[str, ...] = (),
        made: list[PendingResult],
    ) -> PendingResult:
        """Publish one file with a call, or with a batch of several calls.

        Args:
            calls: the calls of the file.
            shared: their common arguments.
            keep: the outcome stays readable for every process until it expires.
            ring: wake the workers of the queue.
            reuse: the keys by which the call can reuse a pending one.
            lanes: its concurrency limits.
            made: gets the pending result before the file is published, so that the caller can
                abandon it. Not if the call can reuse a pending one: others may wait for it.

        Raises:
            DifferentArgumentsError: a call with the same key is pending, with other arguments.
            UnknownInvocationError: an invocation among the arguments is not in the spool.
            ValueError: an invocation among the arguments belongs to another spool.
            RuntimeError: this process is ending, and only it could receive the result.
        """
        client = self._session.client
        if not keep:
            client.waiter.check_open()
        draft = self._draft(client, calls, shared, lanes, reuse, keep=keep)
        if draft.once is not None:
            return self._publish_once(client, draft, draft.once, lanes, ring=ring)
        layout, call = client.store.layout, draft.call
        path = f"{layout.slot(call.queue, call.slot)}/{call.id}.1"
        pending_result = self._pending_result(draft, call.id, path, lanes)
        made.append(pending_result)
        client.publish(draft, ring=ring)
        return pending_result

    def _publish_once(
        self, client: Client, draft: Draft, once: Key, lanes: tuple[str, ...], *, ring: bool
    ) -> PendingResult:
        """Publish a call, or find the pending one with the same key."""
        from fsqueue.calls.deduplication import check_content

        receipt = client.publish(draft, ring=ring)
        check_content(self._task, self.settings, once, receipt.content, receipt.invocation_id)
        return self._pending_result(draft, receipt.invocation_id, receipt.path, lanes)

    def _pending_result(
        self, draft: Draft, invocation_id: str, path: str, lanes: tuple[str, ...]
    ) -> PendingResult:
        return PendingResult(
            self._session,
            invocation_id,
            hint=Hint(path, lanes, bool(draft.parent)),
            keep=draft.call.keep,
            members=draft.call.members,
            shared=draft.once is not None,
            unpickles=self.codec != "json",
            learn=self._sizer.learn,
        )

    def fire(self, key: IdempotencyKey, call: Packed, lanes: tuple[str, ...] = ()) -> bool:
        """Publish one call, unless its key was used before. True if it is new."""
        client = self._session.client
        return client.fire(key, self._draft(client, [call], NOT_SHARED, lanes, keep=True, now=True))

    def ring(self) -> None:
        """Wake the workers of the calls' queue."""
        self._session.client.ring(self._queue or self._folder())

    def _folder(self, members: int = 0) -> str:
        """Folder name of the queue of a call, or of a batch."""
        learned = partial(self._session.learned_walltime, self._task)
        profile = self.settings.profile(learned, members)
        return queue_folder(self._session.app_id, self.settings.queue, profile)

    def _destination(self, members: int) -> str:
        """Folder name of the queue that a call, or a batch, is published to."""
        per_size = members and self.settings.walltime is not None
        queue = self._folder(members) if per_size or not self._queue else self._queue
        self._session.publishes_to.add(queue)
        return queue

    def _draft(
        self,
        client: Client,
        calls: Sequence[Packed],
        shared: Shared,
        lanes: tuple[str, ...],
        reuse: ReuseKeys | None = None,
        *,
        keep: bool,
        now: bool = False,
    ) -> Draft:
        """The file of a call or batch. All fields of its header are listed here.

        Args:
            client: publishes it.
            shared: their common arguments.
            lanes: its concurrency limits.
            reuse: the keys by which it can reuse another call.
            keep: the outcome stays readable for every process until it expires.
            now: publish it without a check of its parents: the worker that claims it makes it wait.
        """
        settings, execution = self.settings, current.get()
        once = None if reuse is None else reuse.once
        segments, parents = segments_of(calls, shared)
        parent = self._last_unfinished(parents) if parents and not now else ""
        members = len(calls) if len(calls) > 1 else 0
        queue = self._destination(members)
        countdown = settings.countdown
        ticket = client.ticket(settings.priority, 0.0 if parent else countdown, self._eta)
        keep = keep or once is not None
        call = Call(
            id=ticket.id,
            spool=ticket.spool,
            task=self._task,
            queue=queue,
            slot=ticket.slot,
            created=round(ticket.now, 3),
            python=_PYTHON,
            codec=self.codec,
            max_attempts=self._max_attempts,
            keep=keep,
            segments=tuple(map(len, segments)),
            members=members,
            blob=shared.blob,
            timeout=(settings.timeout or 0.0) * (members or 1),
            max_cuts=settings.max_cuts,
            expires=0.0 if settings.expires is None else ticket.now + settings.expires,
            retry=self._retry,
            capture=settings.capture_output,
            after=tuple(dict.fromkeys([each.id for each in parents])) if parents else (),
            countdown=countdown if parent else 0.0,
            lanes=lanes,
            within={} if execution is None else holders_for_new_calls(execution),
            cache="" if reuse is None else reuse.cache,
            cache_ttl=reuse.cache_ttl if reuse is not None and reuse.cache else 0.0,
            code="" if self._session.conf.stale_code == "ignore" else self._code.for_calls,
            caller=None if keep else ticket.caller,
            label=label_of_batch([each.label for each in calls]) if members else calls[0].label,
        )
        return Draft(call, segments, calls[0].payload.buffers, once, parent)

    def _last_unfinished(self, parents: Sequence[PendingResult]) -> str:
        """The last parent that may not have ended. Renews the kept outcomes of the others."""
        store, found = self._session.store, ""
        for parent in parents:
            if not parent.is_over(store, self._session.conf.result_ttl):
                found = parent.id
        return found
