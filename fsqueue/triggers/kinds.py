"""The kinds of triggers, and what happens that they wait for."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import msgspec

from fsqueue.spool.format.states import State

if TYPE_CHECKING:
    from collections.abc import Iterator

Given: TypeAlias = "tuple[Any, ...] | dict[str, Any]"
Provider: TypeAlias = "Given | Callable[[Occurrence], Given] | None"
Missed = Literal["last", "skip", "all"]

LATE: Final = 60.0
"""Seconds that a tick may be late; after that it counts as missed."""
_MOST_MISSED = 1000


class Occurrence(msgspec.Struct, frozen=True):
    """What has happened, for a function that is given as ``arguments``.

    Attributes:
        id: tells it apart from all others that a trigger can have.
        when: of a cron trigger, the tick, in its time zone; else when it was seen, in UTC.
        event: the event's name.
        payload: what came with the event.
        task: the task that has ended.
        invocation: its invocation's id.
        state: how it has ended.
        result: the value that it returned.
        exception: what it raised, or an `InvocationError` of the queue; of one that has succeeded,
            why its value cannot be read here.
        parts: of `all_of`, what has happened for each of its parts, in their order.
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
    """Says when a task is to run. ``a & b``: see `all_of`; ``a | b``: see `any_of`.

    Attributes:
        arguments: those of the call, or a function that makes them of an `Occurrence`.
    """

    arguments: Provider = None

    def __and__(self, other: Trigger) -> Trigger:
        from fsqueue.triggers.making import all_of

        return all_of(self, other)

    def __or__(self, other: Trigger) -> Trigger:
        from fsqueue.triggers.making import any_of

        return any_of(self, other)

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether it is meant by something that has happened."""
        del occurrence
        return False


class Cron(Trigger, frozen=True):
    """At the times of a cron expression."""

    expression: str
    timezone: str = "UTC"
    missed: Missed = "last"

    def __str__(self) -> str:
        return f"cron({self.expression!r}, timezone={self.timezone!r})"

    def due(self, after: float, now: float) -> list[float]:
        """The ticks that are to be fired, the earliest first.

        Args:
            after: the last tick that was handled, in seconds since the epoch.
            now: the time.
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
        # In an hour that comes twice it takes the second one for the first, which is over.
        ticks = (tick.timestamp() for tick in CronSim(self.expression, start))
        return next((tick for tick in ticks if tick > after), None)

    def at(self, tick: float) -> Occurrence:
        """What happens at a tick."""
        return Occurrence(str(int(tick)), datetime.fromtimestamp(tick, zone(self.timezone)))


class OnEvent(Trigger, frozen=True):
    """When an event is emitted."""

    name: str
    fits: Callable[[Any], bool] | None = None

    def __str__(self) -> str:
        fits = f", {name_of(self.fits)}" if self.fits is not None else ""
        return f"on_event({self.name!r}{fits})"

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether it is meant by something that has happened."""
        if occurrence.event != self.name:
            return False
        return self.fits is None or bool(self.fits(occurrence.payload))


class OnEnd(Trigger, frozen=True):
    """When a call of another task ends; the base of three."""

    task: str


class OnStatus(OnEnd, frozen=True):
    """When it ends in one of some states."""

    states: tuple[State, ...]

    def __str__(self) -> str:
        return f"on_status({self.task!r}, {', '.join(repr(str(each)) for each in self.states)})"

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether it is meant by something that has happened."""
        return occurrence.state in self.states


class OnResult(OnEnd, frozen=True):
    """When it returns a value that fits."""

    wanted: Any

    def __str__(self) -> str:
        wanted = name_of(self.wanted) if callable(self.wanted) else repr(self.wanted)
        return f"on_result({self.task!r}, {wanted})"

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether it is meant by something that has happened."""
        if occurrence.state is not State.SUCCEEDED or occurrence.exception is not None:
            return False  # or its value cannot be read here
        if callable(self.wanted):
            return bool(self.wanted(occurrence.result))
        return type(occurrence.result) is type(self.wanted) and occurrence.result == self.wanted


class OnException(OnEnd, frozen=True):
    """When it fails with an exception of a class."""

    classes: tuple[type[BaseException], ...]

    def __str__(self) -> str:
        return f"on_exception({self.task!r}, {', '.join(map(name_of, self.classes))})"

    def matches(self, occurrence: Occurrence) -> bool:
        """Whether it is meant by something that has happened."""
        failed = occurrence.state is not State.SUCCEEDED
        return failed and isinstance(occurrence.exception, self.classes)


class AnyOf(Trigger, frozen=True):
    """Each time that one of its parts happens."""

    parts: tuple[Trigger, ...]

    def __str__(self) -> str:
        return " | ".join(map(str, self.parts))


class AllOf(Trigger, frozen=True):
    """Once all parts have happened."""

    parts: tuple[Trigger, ...]

    def __str__(self) -> str:
        return " & ".join(
            f"({part})" if isinstance(part, AnyOf) else str(part) for part in self.parts
        )


def leaves(trigger: Trigger) -> Iterator[tuple[int | None, Trigger]]:
    """What must happen for a trigger, each with the number of the part that it stands for."""
    if not isinstance(trigger, AllOf):
        yield None, trigger
        return
    for number, part in enumerate(trigger.parts):
        for leaf in part.parts if isinstance(part, AnyOf) else (part,):
            yield number, leaf


def given_by(trigger: Trigger, occurrence: Occurrence) -> tuple[Any, ...] | dict[str, Any]:
    """The arguments of the call that follows."""
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
        ValueError: there is none of this name.
    """
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, TypeError, OSError) as error:
        raise ValueError(
            f"timezone = {name!r}, expected a name of the IANA database, like 'Europe/Berlin'. If "
            "it is one, this machine has no database: pip install tzdata"
        ) from error


def name_of(thing: Any) -> str:
    """``module.name`` of a function or class, or of what a value is."""
    named = thing if hasattr(thing, "__qualname__") else type(thing)
    return f"{named.__module__}.{named.__qualname__}"
