"""Task options, by precedence: call, decorator, environment, file, default.

Each is checked at its source. `CallSettings` is the only list of options. `TaskOptions` repeats
their names for type checkers.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import msgspec
from msgspec import Meta

from fsqueue.calls.labels import check_label
from fsqueue.common.fields import describe
from fsqueue.common.values import LONGEST
from fsqueue.config import Count, Serializer, duration
from fsqueue.errors import ConfigError
from fsqueue.spool.format.names import DEFAULT_PRIORITY, DEFAULT_QUEUE, MAX_PRIORITY, is_safe_name
from fsqueue.spool.format.records import DEFAULT_RETRY as _RETRY
from fsqueue.spool.format.records import RetryPolicy
from fsqueue.spool.format.resources import given_amounts, profile_of, profile_with_walltime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fsqueue.common.fields import Field
    from fsqueue.config import TaskOffer
    from fsqueue.spool.format.resources import Resources

Duration = Annotated[float, Meta(gt=0, le=LONGEST, extra={"unit": "seconds"})]

# The names of pending files cannot express later times: see `fsqueue.spool.format.names.Slot`.
_LATEST = datetime(2200, 1, 1, tzinfo=UTC).timestamp()

Concurrency = Literal["disabled", "task", "arguments", "keys"]
"""Which calls count as equal."""


def _doc(description: str, **bounds: Any) -> Meta:
    return Meta(description=description, **bounds)


class CallSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a call."""

    max_attempts: Annotated[
        Count | None,
        _doc("attempts of a call whose workers die, before WorkerLostError; unset: the setting"),
    ] = None
    retry_for: Annotated[
        tuple[str, ...], _doc("exceptions after which the body is retried, as classes or names")
    ] = ()
    max_retries: Annotated[
        int, _doc("how many times a failed body is retried", ge=0, le=99_999)
    ] = _RETRY.times
    retry_delay: Annotated[float, duration("delay before the first retry", ge=0)] = _RETRY.delay
    retry_backoff: Annotated[
        float, _doc("factor by which the delay grows with each retry", ge=1, le=1000)
    ] = _RETRY.factor
    retry_max_delay: Annotated[
        float, duration("longest delay before a retry, without the random addition", ge=0)
    ] = _RETRY.longest
    retry_jitter: Annotated[
        float, _doc("largest random addition to a delay, as a fraction of it", ge=0, le=10)
    ] = _RETRY.jitter
    timeout: Annotated[Duration | None, _doc("time limit of an attempt; unset: no limit")] = None
    walltime: Annotated[
        Duration | Literal["auto"] | None,
        _doc(
            "how long a call may run: workers whose time limit comes earlier leave it to others; "
            "auto: learned from the journal; unset: not known"
        ),
    ] = None
    max_cuts: Annotated[
        Count,
        _doc("how many ends of jobs may cut a call off, each after nearly all the job's time"),
    ] = 3
    expires: Annotated[
        Duration | None,
        _doc("time after publication within which a call must start; unset: no limit"),
    ] = None
    result_timeout: Annotated[
        Duration | None, _doc("how long a direct call waits for its result; unset: no limit")
    ] = None
    priority: Annotated[
        int, _doc("calls with a higher priority start first", ge=0, le=MAX_PRIORITY)
    ] = DEFAULT_PRIORITY
    queue: Annotated[
        str, _doc("queue that calls are published to; workers serve queues", min_length=1)
    ] = DEFAULT_QUEUE
    countdown: Annotated[float, duration("delay before a call may start", ge=0)] = 0.0
    eta: Annotated[
        Annotated[datetime, Meta(tz=True)] | None,
        _doc("earliest start of a call, by the file server's clock; unset: at once"),
    ] = None
    parallel_batch_size: Annotated[
        Count | Literal["auto"], _doc("number of calls of a fan-out that share a file and a slot")
    ] = 1
    capture_output: Annotated[bool, _doc("keep what the body prints and logs")] = False
    label: Annotated[
        str, _doc('text that names a call, made from its arguments, such as "seed={seed}"')
    ] = ""
    resources: Annotated[
        str | None, _doc("what a worker must have free to run a call, such as gpu=1 mem=64G")
    ] = None
    serializer: Annotated[
        Serializer | None, _doc("how arguments and results are serialized; unset: the setting")
    ] = None
    running_concurrency: Annotated[
        Concurrency,
        _doc("which calls share a limit: none, or those with the same task, arguments or keys"),
    ] = "disabled"
    running_limit: Annotated[
        int, _doc("how many of the calls that share a limit run at once", ge=1, le=99_999)
    ] = 1
    key_arguments: Annotated[tuple[str, ...], _doc('parameters that "keys" compares')] = ()
    registration_concurrency: Annotated[
        Concurrency,
        _doc(
            "reuse a pending call instead of publishing a new one: never, or if it has the same "
            "task, arguments or keys"
        ),
    ] = "disabled"
    on_diff_non_key_args_raise: Annotated[
        bool,
        _doc("raise an error if the pending call has other arguments; if false, reuse it anyway"),
    ] = False

    call_result_cache: Annotated[
        bool, _doc("reuse the result of an earlier call with equal arguments")
    ] = False
    call_result_cache_ttl: Annotated[
        Duration | None, _doc("how old a reused result may be; unset: result_ttl")
    ] = None
    call_result_cache_version: Annotated[
        str, _doc("only results with the same version are reused; change it when the code changes")
    ] = ""

    @property
    def reuses_calls(self) -> bool:
        """Whether a call can reuse another one. Such calls never share a file."""
        return self.registration_concurrency != "disabled" or self.call_result_cache

    @property
    def by_arguments(self) -> bool:
        """Whether a concurrency limit depends on arguments. Such calls never share a file."""
        return self.running_concurrency in {"arguments", "keys"}

    def profile(self, learned: Callable[[], float | None], members: int = 0) -> str:
        """The resources that a file's calls need, as the profile of their queue's folder.

        Args:
            learned: returns the walltime of a call according to the journal; None if it is unknown.
            members: how many calls of a batch share the file, and run one after another.
        """
        seconds = learned() if self.walltime == "auto" else self.walltime
        profile = self.resources or ""
        if seconds is None:
            return profile
        return profile_with_walltime(profile, float(seconds) * max(1, members))

    @property
    def retry_policy(self) -> RetryPolicy:
        """The options of retries."""
        return RetryPolicy(
            classes=self.retry_for,
            times=self.max_retries,
            delay=self.retry_delay,
            factor=self.retry_backoff,
            longest=self.retry_max_delay,
            jitter=self.retry_jitter,
        )


class TaskOptions(TypedDict, total=False):
    """Options of `FSQueue.task`, `FSQueue.direct_task` and `Task.options`."""

    max_attempts: int
    retry_for: type[BaseException] | str | Iterable[type[BaseException] | str]
    max_retries: int
    retry_delay: float
    retry_backoff: float
    retry_max_delay: float
    retry_jitter: float
    timeout: float | None
    walltime: float | str | None
    max_cuts: int
    expires: float | None
    result_timeout: float | None
    priority: int
    queue: str
    countdown: float
    eta: datetime | str | None
    parallel_batch_size: int | Literal["auto"]
    capture_output: bool
    label: str
    resources: Resources | str | None
    serializer: Serializer | None
    key_arguments: str | Iterable[str]
    registration_concurrency: Concurrency
    on_diff_non_key_args_raise: bool
    running_concurrency: Concurrency
    running_limit: int
    call_result_cache: bool
    call_result_cache_ttl: float | None
    call_result_cache_version: str


def check_offers(offers: Iterable[TaskOffer]) -> None:
    """Check all task options of the configuration.

    Raises:
        ConfigError: an option is unknown or has a bad value. The message names the source.
    """
    for offer in offers:
        _accept(offer)


def _accept(offer: TaskOffer) -> Any:
    try:
        return _converted(offer.option, offer.value, strict=offer.strict)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{offer.source}: {error}") from error


def settings_of(task: str, options: Mapping[str, Any], offers: Iterable[TaskOffer]) -> CallSettings:
    """The settings of a task.

    Args:
        task: the task's name.
        options: the options of the decorator.
        offers: the options of the configuration, weakest first.

    Raises:
        TypeError: an option is unknown.
        ValueError: an option has a bad value.
    """
    values: dict[str, Any] = {}
    for offer in offers:
        if offer.is_for(task):
            values[offer.option] = _accept(offer)
    return changed(msgspec.convert(values, CallSettings), options)


def changed(settings: CallSettings, options: Mapping[str, Any]) -> CallSettings:
    """A copy of settings with some options replaced.

    Raises:
        TypeError: an option is unknown.
        ValueError: an option has a bad value.
    """
    values = {name: _converted(name, value) for name, value in options.items()}
    if not values:
        return settings
    found = msgspec.structs.replace(settings, **values)
    if found.walltime is not None:
        profile_with_walltime(found.resources or "", LONGEST)  # raises if the name is too long
    return found


def _converted(name: str, value: Any, *, strict: bool = True) -> Any:
    known = describe(CallSettings)
    if name not in known:
        raise TypeError(f"unknown task option {name}; there are: {', '.join(known)}")
    if name == "retry_for":
        value = _class_names(value)
    elif name == "key_arguments" and not isinstance(value, list):
        value = _names(value)
    elif name == "resources":
        value = _profile(value)
    result = known[name].convert(name, value, strict=strict, words=not strict)
    if isinstance(result, datetime):
        _check_moment(known[name], name, result)
    if name == "label":
        check_label(result)
    if name == "queue" and not is_safe_name(result):
        raise ValueError(f"queue = {value!r}, expected up to 64 letters, digits, '-' and '_'")
    return result


def _check_moment(field: Field, name: str, moment: datetime) -> None:
    try:
        if moment.timestamp() > _LATEST:
            raise ValueError(field.refuse(name, moment.isoformat()))
    except OverflowError as error:
        raise ValueError(field.refuse(name, moment.isoformat())) from error


def _names(value: Any) -> Any:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if hasattr(value, "__iter__") else value


def _profile(value: Any) -> str | None:
    """Amounts of resources in the form that a queue's folder name contains."""
    if value is None:
        return None
    if not isinstance(value, str | dict):
        raise TypeError(f"resources = {value!r}, expected a dict like {{'gpu': 1}}, or 'gpu=1'")
    try:
        return profile_of(given_amounts(value)) or None
    except ValueError as error:
        raise ValueError(f"resources = {value!r}: {error}") from error


def _class_names(value: Any) -> tuple[str, ...]:
    """Exceptions as ``module.Class``. A name without a dot is a built-in exception."""
    items = [value] if isinstance(value, str | type) else value
    names = []
    for item in [items] if not hasattr(items, "__iter__") else items:
        if isinstance(item, str):
            names.append(item if "." in item else f"builtins.{item}")
        elif isinstance(item, type) and issubclass(item, BaseException):
            names.append(f"{item.__module__}.{item.__qualname__}")
        else:
            raise TypeError(f"retry_for = {value!r}, expected exception classes or their names")
    return tuple(names)
