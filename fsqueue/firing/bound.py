"""A trigger that belongs to a task, and the calls of the user's functions in it."""

from __future__ import annotations

import hashlib
import logging
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fsqueue.calls.arguments import as_arguments
from fsqueue.triggers.kinds import Cron, OnEvent, given_by

if TYPE_CHECKING:
    from fsqueue.calls.arguments import Arguments
    from fsqueue.task import Task
    from fsqueue.triggers.kinds import Occurrence, Trigger

log: logging.Logger = logging.getLogger(__name__)

FAILED: Final = (
    "trigger %s: the arguments for task %s could not be made or stored; it was not called for %s"
)


class Bound(NamedTuple):
    """A trigger of a task."""

    task: Task[..., Any]
    trigger: Trigger
    key: str
    """Identifies the trigger in every process that has the same code."""


class Watched(NamedTuple):
    """A condition for which a trigger, or a part of it, waits."""

    bound: Bound
    leaf: Trigger
    part: int | None = None
    """The part's number, if the trigger waits for all of its parts."""
    key: str = ""


class Overview(NamedTuple):
    """One line of the list of triggers."""

    task: str
    trigger: str
    upcoming: float | None
    """The next tick of a cron trigger, in seconds since the epoch."""
    handled: float | None
    """The last tick that was handled."""


def check_arguments(task: Task[..., Any], trigger: Trigger) -> None:
    """Check that the arguments of a trigger fit its task, if they are known before it fires.

    Raises:
        TypeError: they do not fit.
    """
    given = trigger.arguments
    if callable(given) or (given is None and isinstance(trigger, OnEvent)):
        return  # they are known when it fires
    try:
        task.bind(*as_arguments(() if given is None else given))
    except TypeError as error:
        raise TypeError(
            f"triggers: the arguments of {trigger} do not fit {task.name}: {error}. Set "
            "them with arguments=..."
        ) from None


def matches(each: Watched, occurrence: Occurrence) -> bool:
    """Whether the occurrence matches the condition."""
    if isinstance(each.leaf, Cron):
        return True
    try:
        return each.leaf.matches(occurrence)
    except (Exception, SystemExit):
        # The user's function failed. The ended call and this thread must not fail too.
        log.exception(
            "the function of %s of %s failed; it does not fire", each.leaf, each.bound.task.name
        )
        return False


def arguments_of(bound: Bound, occurrence: Occurrence) -> Arguments | None:
    """The arguments of the call to publish; None if the user's function fails."""
    try:
        return bound.task.bind(*as_arguments(given_by(bound.trigger, occurrence)))
    except (Exception, SystemExit):
        log.exception(FAILED, bound.trigger, bound.task.name, occurrence.id)
        return None


def digest(*parts: str) -> str:
    """A short digest of several strings."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=12, person=b"fsqueue trigger").hexdigest()
