"""The functions with which users create triggers. They check all arguments."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, get_args

from fsqueue.spool.format.states import State
from fsqueue.spool.format.trigger_names import is_event_name
from fsqueue.triggers.kinds import (  # noqa: F401  older pickles name all_of and any_of here
    AnyOf,
    Cron,
    Missed,
    OnEvent,
    OnException,
    OnResult,
    OnStatus,
    Trigger,
    all_of,
    any_of,
    check_triggers,
    name_of,
    zone,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fsqueue.triggers.kinds import Provider

_PLAIN = (type(None), bool, int, float, str, bytes)
_ENDS = (State.SUCCEEDED, State.FAILED, State.CANCELLED)


def cron(
    expression: str,
    *,
    timezone: str = "UTC",
    missed: Missed = "last",
    arguments: Provider = None,
) -> Trigger:
    """Run the task at the times of a cron expression, by the file server's clock.

    Args:
        expression: five fields as in Debian's cron, ``minute hour day month weekday``; or six,
            with the second in front.
        timezone: an IANA name, like ``Europe/Berlin``. When clocks change, five-field
            expressions behave as in Debian's cron.
        missed: which ticks to fire that are more than a minute late because no worker was
            running: "last" fires the last of them, unless a later tick is due by then; "skip"
            fires none; "all" fires each of the last 1000.
        arguments: the arguments of the call: a tuple, a dict by name, ``args(...)``, or a
            function that makes one of these from an `Occurrence`. By default none.

    Raises:
        ValueError: the expression, the time zone or the policy is bad.
    """
    from cronsim import CronSim, CronSimError

    if missed not in get_args(Missed):
        raise ValueError(f"missed = {missed!r}, expected one of {', '.join(get_args(Missed))}")
    now = datetime.now(zone(timezone))
    text = " ".join(str(expression).split())
    try:
        never = next(CronSim(text, now), None) is None
    except CronSimError as error:
        raise ValueError(
            f"cron = {expression!r}, expected five fields (minute hour day month weekday) or six "
            f"with the second in front: {error}"
        ) from error
    if never:
        raise ValueError(f"cron = {expression!r} has no tick in the next 50 years")
    return Cron(text, timezone, missed, arguments=arguments)


def on_event(
    name: str, fits: Callable[[Any], bool] | None = None, *, arguments: Provider = None
) -> Trigger:
    """Run the task each time ``app.emit(name, payload)`` is called.

    Args:
        name: up to 64 letters, digits, ``-``, ``_`` and ``.``.
        fits: returns whether a payload fires the trigger; by default every payload does.
        arguments: as for `cron`. By default the payload: a dict as arguments by name, None as no
            argument, anything else as the first argument.

    Raises:
        TypeError: `fits` is not a function.
        ValueError: the name is bad.
    """
    check_event_name(name)
    if fits is not None and not callable(fits):
        raise TypeError(f"on_event: fits = {fits!r}, expected a function of the payload")
    return OnEvent(name, fits, arguments=arguments)


def on_status(
    task: Callable[..., Any] | str, *states: State | str, arguments: Provider = None
) -> Trigger:
    """Run the task each time a call of another task ends in one of the given states.

    Args:
        task: the task, or its name ``module.function``.
        states: "succeeded", "failed", "cancelled"; by default all of them.
        arguments: as for `cron`.

    Raises:
        TypeError: `task` is not a task.
        ValueError: a state does not exist.
    """
    wanted = []
    for each in states or _ENDS:
        if each not in _ENDS:
            raise ValueError(f"on_status: {each!r}, expected one of {', '.join(map(str, _ENDS))}")
        wanted.append(State(each))
    return OnStatus(_task_name("on_status", task), tuple(wanted), arguments=arguments)


def on_result(
    task: Callable[..., Any] | str, wanted: Any, *, arguments: Provider = None
) -> Trigger:
    """Run the task each time a call of another task returns a matching value.

    Args:
        task: the task, or its name ``module.function``.
        wanted: the value, if it is a string, bytes, number, bool or None; or a function that
            returns whether a value matches.
        arguments: as for `cron`; ``lambda occurrence: (occurrence.result,)`` passes the value on.

    Raises:
        TypeError: `task` is not a task, or `wanted` has another type.
    """
    if not callable(wanted) and not isinstance(wanted, _PLAIN):
        raise TypeError(
            f"on_result: {wanted!r}, expected a text, bytes, number, bool, None or a function of "
            "the value"
        )
    return OnResult(_task_name("on_result", task), wanted, arguments=arguments)


def on_exception(
    task: Callable[..., Any] | str,
    *classes: type[BaseException],
    arguments: Provider = None,
) -> Trigger:
    """Run the task each time a call of another task fails with one of the given exceptions.

    The trigger fires after the last retry. Errors of the queue itself, like `WorkerLostError`,
    count too.

    Args:
        task: the task, or its name ``module.function``.
        classes: classes of exceptions; by default any exception.
        arguments: as for `cron`.

    Raises:
        TypeError: `task` is not a task, or a class is not a class of exceptions.
    """
    for each in classes:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"on_exception: {each!r}, expected classes of exceptions")
    name = _task_name("on_exception", task)
    return OnException(name, classes or (BaseException,), arguments=arguments)


def checked(triggers: Trigger | Iterable[Trigger]) -> tuple[Trigger, ...]:
    """The triggers of the option ``triggers``. Each `AnyOf` is split into its parts.

    Raises:
        TypeError: the option contains something else.
    """
    given = [triggers] if isinstance(triggers, Trigger) else triggers
    if not hasattr(given, "__iter__"):
        raise TypeError(f"triggers = {given!r}, expected triggers such as cron(...)")
    return tuple(_flat(check_triggers("triggers", tuple(given))))


def check_event_name(name: str) -> None:
    """Check the name of an event.

    Raises:
        ValueError: the name is bad.
    """
    if not isinstance(name, str) or not is_event_name(name):
        raise ValueError(
            f"event name = {name!r}, expected up to 64 letters, digits, '-', '_' and '.'"
        )


def _flat(triggers: Iterable[Trigger]) -> Iterator[Trigger]:
    for each in triggers:
        yield from each.parts if isinstance(each, AnyOf) else (each,)


def _task_name(option: str, task: Callable[..., Any] | str) -> str:
    if isinstance(task, str):
        if "." not in task:
            raise TypeError(f"{option}: task = {task!r}, expected a task or 'module.function'")
        return task
    if not callable(task):
        raise TypeError(f"{option}: task = {task!r}, expected a task or 'module.function'")
    return name_of(task)
