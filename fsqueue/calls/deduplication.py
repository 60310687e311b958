"""Deduplication: decides when a call can reuse a pending call or a cached result."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from fsqueue.calls.keys import arguments_of, digest_of
from fsqueue.errors import DifferentArgumentsError
from fsqueue.spool.features.deduplication import Key

if TYPE_CHECKING:
    import inspect
    from collections.abc import Iterable, Sequence

    from fsqueue.calls.options import CallSettings


class ReuseKeys(NamedTuple):
    """The keys by which a call can reuse another call.

    Attributes:
        once: key of the pending call to reuse; None: do not reuse a pending call.
        cache: key of the cached result to reuse; empty: do not reuse a result.
        cache_ttl: maximum age of the result, in seconds.
    """

    once: Key | None = None
    cache: str = ""
    cache_ttl: float = 0.0

    @property
    def name(self) -> str:
        """Equal for calls of a group that share one invocation."""
        return self.cache or (self.once.name if self.once is not None else "")

    @property
    def lanes(self) -> tuple[str, ...]:
        """A limit of one at a time, so that the second call finds the first one's cached result."""
        return (f"{self.cache}-1",) if self.cache else ()


def reuse_keys(
    scope: Sequence[str], settings: CallSettings, bound: inspect.BoundArguments, ttl: float
) -> ReuseKeys:
    """The keys by which a call can reuse another call.

    Args:
        scope: names of application, task and serializer.
        ttl: default for the maximum age of a result, in seconds.

    Raises:
        SerializationError: an argument can neither be taken apart nor pickled.
    """
    once, cache = None, ""
    if settings.registration_concurrency != "disabled":
        once = _key(scope[:2], settings, bound)
    if settings.call_result_cache:
        version = settings.call_result_cache_version
        cache = digest_of(("result", *scope, version, arguments_of(bound)))
    return ReuseKeys(once, cache, settings.call_result_cache_ttl or ttl)


def _key(scope: Sequence[str], settings: CallSettings, bound: inspect.BoundArguments) -> Key:
    kind = settings.registration_concurrency
    names = settings.key_arguments if kind == "keys" else ()
    picked = None if kind == "task" else arguments_of(bound, names)
    name = digest_of(("registration", *scope, kind, picked))
    return Key(name, "" if kind == "arguments" else digest_of(arguments_of(bound)))


def check_content(task: str, settings: CallSettings, wanted: Key, found: str, holder: str) -> None:
    """Check that a call may reuse the pending call with its key.

    Args:
        task: the task's name.
        wanted: the call's key.
        found: the arguments digest of the pending call.
        holder: the id of the pending call.

    Raises:
        DifferentArgumentsError: the other arguments differ, and the options forbid that.
    """
    if settings.on_diff_non_key_args_raise and found != wanted.content:
        same = (
            f" with the same {', '.join(settings.key_arguments)}" if settings.key_arguments else ""
        )
        raise DifferentArgumentsError(
            f"a call of {task}{same} is pending as {holder}, and its other arguments differ. Wait "
            "until it has started, cancel it, or leave on_diff_non_key_args_raise out to get it."
        )


def check_group(task: str, settings: CallSettings, keys: Iterable[ReuseKeys]) -> None:
    """Check that calls of a group with the same key may share one invocation.

    Raises:
        DifferentArgumentsError: their other arguments differ, and the options forbid that.
    """
    firsts: dict[str, Key] = {}
    for key in filter(None, (each.once for each in keys)):
        first = firsts.setdefault(key.name, key)
        check_content(task, settings, key, first.content, "another one of this group")
