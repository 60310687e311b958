"""The kinds of triggers, how they are combined, and the occurrences that fire them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec
from msgspec.structs import replace

from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator

Given: TypeAlias = "tuple[Any, ...] | dict[str, Any]"
Provider: TypeAlias = "Given | Callable[[Occurrence], Given] | None"
Missed = Literal["last", "skip", "all"]

LATE: Final = 60.0
"""Seconds after which a tick that was not fired counts as missed."""
_MOST_MISSED = 1000


class Occurrence(msgspec.Struct, frozen=True):
    """What fired a trigger. A function that is given as ``arguments`` gets one.

    Attributes:
        id: identifies the occurrence among all that can fire the trigger.
        when: for a cron trigger, the tick in its time zone; otherwise the time of detection in UTC.
        event: the event's name.
        payload: the event's payload.
        task: the task of the call that ended.
        invocation: the id of the call that ended.
        state: how the call ended.
        result: the value that the call returned.
        exception: the exception of the call, or an `InvocationError` of the queue. If the call
            succeeded, the reason why its value cannot be read here.
        parts: for `all_of`, the occurrence of each part, in their order.
    """

    id: str
    when: datetime
    event: str = ""
    payload: Any = None
    task: str = ""
    invocation: str = ""
    state: State | None = None
    result: Any = None
    exception: BaseException | None = None
    parts: tuple[Occurrence, ...] = ()


class Trigger(msgspec.Struct, frozen=True, kw_only=True):
    """A condition that runs a task. ``a & b``: see `all_of`; ``a | b``: see `any_of`.

    Attributes:
        arguments: the arguments of the call, or a function that makes them from an `Occurrence`.
    """

    arguments: Provider = None

    def __and__(self, other: Trigger) -> Trigger:
        return all_of(self, other)

    def __or__(self, other: Trigger) -> Trigger:
        return any_of(self, other)

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether the occurrence fires this trigger."""
        del occurrence
        return False


class Cron(Trigger, frozen=True):
    """Fires at the times of a cron expression."""

    expression: str
    timezone: str = "UTC"
    missed: Missed = "last"

    def __str__(self) -> str:
        return f"cron({self.expression!r}, timezone={self.timezone!r})"

    def due(self, after: float, now: float) -> list[float]:
        """The ticks to fire, earliest first.

        Args:
            after: the last tick that was handled, in seconds since the epoch.
            now: the time, in seconds since the epoch.
        """
        from cronsim import CronSim

        found: list[float] = []
        upper = datetime.fromtimestamp(int(now) + 1, zone(self.timezone))
        for tick in CronSim(self.expression, upper, reverse=True):
            when = tick.timestamp()
            if when <= after or len(found) == _MOST_MISSED:
                break
            if now - when > LATE and not self._catches_up(found):
                break
            found.append(when)
        return found[::-1]

    def _catches_up(self, found: list[float]) -> bool:
        return self.missed == "all" or (self.missed == "last" and not found)

    def next(self, after: float) -> float | None:
        """The first tick after a time; None if there is none within 50 years."""
        from cronsim import CronSim

        start = datetime.fromtimestamp(int(after), zone(self.timezone))
        # In an hour that occurs twice, CronSim gives ticks of the first one, which has passed.
        ticks = (tick.timestamp() for tick in CronSim(self.expression, start))
        return next((tick for tick in ticks if tick > after), None)

    def at(self, tick: float) -> Occurrence:
        """The occurrence of a tick."""
        return Occurrence(str(int(tick)), datetime.fromtimestamp(tick, zone(self.timezone)))


class OnEvent(Trigger, frozen=True):
    """Fires when an event is emitted."""

    name: str
    fits: Callable[[Any], bool] | None = None

    def __str__(self) -> str:
        fits = f", {name_of(self.fits)}" if self.fits is not None else ""
        return f"on_event({self.name!r}{fits})"

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether the occurrence fires this trigger."""
        if occurrence.event != self.name:
            return False
        return self.fits is None or bool(self.fits(occurrence.payload))


class OnEnd(Trigger, frozen=True):
    """Fires when a call of another task ends: the base class of three kinds."""

    task: str


class OnStatus(OnEnd, frozen=True):
    """Fires when a call ends in one of the given states."""

    states: tuple[State, ...]

    def __str__(self) -> str:
        return f"on_status({self.task!r}, {', '.join(repr(str(each)) for each in self.states)})"

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether the occurrence fires this trigger."""
        return occurrence.state in self.states


class OnResult(OnEnd, frozen=True):
    """Fires when a call returns a matching value."""

    wanted: Any

    def __str__(self) -> str:
        wanted = name_of(self.wanted) if callable(self.wanted) else repr(self.wanted)
        return f"on_result({self.task!r}, {wanted})"

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether the occurrence fires this trigger."""
        if occurrence.state is not State.SUCCEEDED or occurrence.exception is not None:
            return False  # an exception means that its value cannot be read here
        if callable(self.wanted):
            return bool(self.wanted(occurrence.result))
        return type(occurrence.result) is type(self.wanted) and occurrence.result == self.wanted


class OnException(OnEnd, frozen=True):
    """Fires when a call fails with an exception of the given classes."""

    classes: tuple[type[BaseException], ...]

    def __str__(self) -> str:
        return f"on_exception({self.task!r}, {', '.join(map(name_of, self.classes))})"

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether the occurrence fires this trigger."""
        failed = occurrence.state is not State.SUCCEEDED
        return failed and isinstance(occurrence.exception, self.classes)


class AnyOf(Trigger, frozen=True):
    """Fires each time one of its parts fires."""

    parts: tuple[Trigger, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.parts))


class AllOf(Trigger, frozen=True):
    """Fires once all of its parts have fired."""

    parts: tuple[Trigger, ...]

    def __str__(self) -> str:
        return " & ".join(
            f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts
        )


def any_of(*triggers: Trigger, arguments: Provider = None) -> Trigger:
    """Run the task each time one of several triggers fires. ``a | b`` is the same.

    Args:
        triggers: the parts.
        arguments: the arguments for parts without arguments.

    Raises:
        TypeError: a part is not a trigger.
    """
    parts: list[Trigger] = []
    for each in check_triggers("any_of", triggers):
        parts += each.parts if isinstance(each, AnyOf) else [each]
    if arguments is not None:
        parts = [
            part if part.arguments is not None else replace(part, arguments=arguments)
            for part in parts
        ]
    return AnyOf(tuple(parts))


def all_of(*triggers: Trigger, arguments: Provider = None) -> Trigger:
    """Run the task once all triggers have fired since its last run. ``a & b`` is the same.

    Args:
        triggers: the parts. They must not have arguments, nor be an `any_of` with an `all_of`.
        arguments: as for `cron`; `Occurrence.parts` has the parts' occurrences. By default none.

    Raises:
        TypeError: a part is not a trigger, or cannot be a part.
    """
    parts: list[Trigger] = []
    for each in check_triggers("all_of", triggers):
        parts += each.parts if isinstance(each, AllOf) and each.arguments is None else [each]
    for part in parts:
        leaves = part.parts if isinstance(part, AnyOf) else (part,)
        if any(isinstance(leaf, AllOf) for leaf in leaves):
            raise TypeError(
                f"all_of: {part} cannot be one of its parts. Write a & b | a & c for a & (b | c)"
            )
        if any(leaf.arguments is not None for leaf in leaves):
            raise TypeError(
                f"all_of: its part {part} has arguments of its own. Give them to all_of: "
                "all_of(..., arguments=...)"
            )
    return AllOf(tuple(parts), arguments=arguments)


def check_triggers(option: str, triggers: tuple[Trigger, ...]) -> tuple[Trigger, ...]:
    """Check that the arguments of an option or function are triggers.

    Raises:
        TypeError: one is not, or a function got none.
    """
    for each in triggers:
        if not isinstance(each, Trigger):
            raise TypeError(f"{option}: {each!r}, expected triggers such as cron(...)")
    if option != "triggers" and not triggers:
        raise TypeError(f"{option} needs triggers")
    return triggers


def leaves(trigger: Trigger) -> Iterator[tuple[int | None, Trigger]]:
    """The conditions of a trigger, each with the number of the part that it belongs to."""
    if not isinstance(trigger, AllOf):
        yield None, trigger
        return
    for number, part in enumerate(trigger.parts):
        for leaf in part.parts if isinstance(part, AnyOf) else (part,):
            yield number, leaf


def given_by(trigger: Trigger, occurrence: Occurrence) -> tuple[Any, ...] | dict[str, Any]:
    """The arguments of the call to publish."""
    provider = trigger.arguments
    if callable(provider):
        return provider(occurrence)
    if provider is not None:
        return provider
    if not isinstance(trigger, OnEvent) or occurrence.payload is None:
        return ()
    return occurrence.payload if isinstance(occurrence.payload, dict) else (occurrence.payload,)


def utc(seconds: float) -> datetime:
    """Seconds since the epoch as a time in UTC."""
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)


def zone(name: str) -> tzinfo:
    """A time zone.

    Raises:
        ValueError: there is no time zone with this name.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ValueError(
            f"timezone = {name!r}, expected a name of the IANA database, like 'Europe/Berlin'. If "
            "the name is right, this machine lacks the database: pip install tzdata"
        ) from error


def name_of(thing: Any) -> str:
    """``module.name`` of a function or class, or of a value's class."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
