"""A trigger of a task, and what the user has put into it."""

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

log = logging.getLogger(__name__)

FAILED: Final = "%s: the arguments for %s fail, so it is not called for %s"


class Bound(NamedTuple):
    """A trigger of a task."""

    task: Task[..., Any]
    trigger: Trigger
    key: str
    """The same for every process that has the same code, and for nothing else."""


class Watched(NamedTuple):
    """What a trigger waits for, or one of its parts."""

    bound: Bound
    leaf: Trigger
    part: int | None = None
    """Which part of a trigger that waits for all of them."""
    key: str = ""


class Overview(NamedTuple):
    """What a trigger waits for, or one of its parts."""

    task: str
    trigger: str
    upcoming: float | None
    """The next tick of a cron trigger, in seconds since the epoch."""
    handled: float | None
    """Up to when its ticks were handled."""


def check_arguments(task: Task[..., Any], trigger: Trigger) -> None:
    """See that the arguments of a trigger fit its task, as far as they are known before it fires.

    Raises:
        TypeError: they do not.
    """
    given = trigger.arguments
    if callable(given) or (given is None and isinstance(trigger, OnEvent)):
        return  # they are known when it fires
    try:
        task.bind(*as_arguments(() if given is None else given))
    except TypeError as error:
        raise TypeError(
            f"triggers: the arguments of {trigger} do not fit {task.name}: {error}. Say which "
            "with arguments=..."
        ) from None


def matches(each: Watched, occurrence: Occurrence) -> bool:
    """Whether something that has happened is what is waited for."""
    if isinstance(each.leaf, Cron):
        return True
    try:
        return each.leaf.matches(occurrence)
    except (Exception, SystemExit):
        # It is the user's; the call that has ended, and this thread, must not suffer.
        log.exception("%s of %s fails; it does not fire", each.leaf, each.bound.task.name)
        return False


def arguments_of(bound: Bound, occurrence: Occurrence) -> Arguments | None:
    """The arguments of the call that follows; None if the user's function fails."""
    try:
        return bound.task.bind(*as_arguments(given_by(bound.trigger, occurrence)))
    except (Exception, SystemExit):
        log.exception(FAILED, bound.trigger, bound.task.name, occurrence.id)
        return None


def digest(*parts: str) -> str:
    """A name for what these texts tell apart."""
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=12, person=b"fsqueue trigger").hexdigest()
