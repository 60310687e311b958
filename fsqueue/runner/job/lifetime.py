"""Decides when a worker leaves by itself: before its job ends, when it is idle, or has done enough.

Nothing here does any I/O. All times are on this process's monotonic clock.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from fsqueue.common.values import duration, format_duration, plain
from fsqueue.errors import ConfigError
from fsqueue.runner.shared.time_left import TimeLeft

if TYPE_CHECKING:
    from fsqueue.spool.fleets.records import EndReason

AUTO: Final = "auto"
NO_END: Final = "none"

# Seconds before the end of its job at which a worker gives running calls back.
_LAST_CALL: Final = 15.0
# The shortest automatic margin.
_LEAST_MARGIN: Final = 30.0
# The last call and the margin take at most these shares of the time limit of a short job.
_SHARE_OF_LAST_CALL: Final = 1 / 8
_SHARE_OF_MARGIN: Final = 1 / 4
_MOST: Final = 0.8
# The margin is long enough for this share of the latest run times.
_COVERED: Final = 0.9
_REMEMBERED: Final = 200
_MOST_TASKS: Final = 1_000_000_000


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The conditions under which a worker leaves by itself.

    Args:
        time_limit: seconds until its end; "auto": the end of its batch job; None: no end.
        stop_margin: seconds before the end at which it stops claiming; "auto": chosen from the run
            times of its calls.
        idle_timeout: seconds without a call after which it leaves; None: never.
        max_tasks: the number of calls after which it leaves; None: never.
        until_empty: leave when nothing in its queues is due.
    """

    time_limit: float | Literal["auto"] | None = None
    stop_margin: float | Literal["auto"] = AUTO
    idle_timeout: float | None = None
    max_tasks: int | None = None
    until_empty: bool = False

    @classmethod
    def checked(
        cls,
        *,
        time_limit: float | str | None = None,
        stop_margin: float | str = AUTO,
        idle_timeout: float | str | None = None,
        max_tasks: int | None = None,
        until_empty: bool = False,
    ) -> Terms:
        """Make terms from a user's values. Durations may be texts like "40m".

        Raises:
            ConfigError: a value is bad; the message names it.
        """
        return cls(
            time_limit=_parse("time_limit", time_limit, {AUTO: AUTO, NO_END: None}),
            stop_margin=_parse("stop_margin", stop_margin, {AUTO: AUTO}, least=0.0),
            idle_timeout=_parse("idle_timeout", idle_timeout, {NO_END: None}),
            max_tasks=_checked_count(max_tasks),
            until_empty=bool(until_empty),
        )


def _parse(name: str, value: Any, words: dict[str, Any], *, least: float | None = None) -> Any:
    """A duration above 0, or at least `least`; or the value of one of `words`."""
    if value is None and NO_END in words:
        return None
    if isinstance(value, str) and value.strip().lower() in words:
        return words[value.strip().lower()]
    try:
        found = duration(name, value)
    except ValueError as error:
        also = " or ".join(f'"{word}"' for word in words)
        raise ConfigError(f"{error}, or {also}") from error
    if found < least if least is not None else found <= 0:
        raise ConfigError(f"{name} = {value!r}, expected a duration above 0")
    return found


def _checked_count(value: Any) -> int | None:
    if value is None:
        return None
    found = plain(value)
    if isinstance(found, bool) or not isinstance(found, int) or not 0 < found <= _MOST_TASKS:
        raise ConfigError(f"max_tasks = {value!r}, expected a whole number above 0")
    return found


class Departure(NamedTuple):
    """Why a worker leaves by itself."""

    reason: EndReason
    text: str
    """For the log."""


class JobEnd:
    """The end of a worker's job, and the points in time before it.

    The worker stops claiming at the end less the margin. At the *last call*, 15 s before the end,
    it ends the running bodies and gives their calls back. With a time limit below two minutes, the
    last call is an eighth of the limit before the end.

    The automatic margin is the 90th percentile of the latest run times, plus the 15 s of the last
    call. It is at least 30 s and at most a quarter of the limit. A margin that is shorter than the
    last call's has no effect.

    Args:
        margin: seconds; "auto" as above.

    Attributes:
        at: when the job ends; infinity if that is unknown, or never.
        given: seconds that bodies have in total; 0 if that is unknown.
    """

    def __init__(self, margin: float | Literal["auto"] = AUTO) -> None:
        self.at: float = math.inf
        self.given: float = 0.0
        self._margin = margin
        self._lead = self._longest = 0.0
        self._run_times: deque[float] = deque(maxlen=_REMEMBERED)
        self._covering: float | None = None

    def learn(self, at: float, now: float) -> None:
        """Learn when the job ends. The limit is the time from now until then."""
        limit = max(0.0, at - now)
        self.at = at
        self._lead = min(_LAST_CALL, limit * _SHARE_OF_LAST_CALL)
        self.given = limit - self._lead
        longest = limit * _SHARE_OF_MARGIN if self._margin == AUTO else float(self._margin)
        self._longest = max(longest, self._lead)

    @property
    def known(self) -> bool:
        """Whether there is an end."""
        return self.at < math.inf

    @property
    def last_call(self) -> float:
        """When running bodies are ended."""
        return self.at - self._lead if self.known else math.inf

    def ran(self, seconds: float) -> None:
        """Learn how long a body has run."""
        self._run_times.append(seconds)
        self._covering = None

    @property
    def margin(self) -> float:
        """Seconds before the end at which claiming stops."""
        if self._margin != AUTO:
            return self._longest
        if self._covering is None:
            self._covering = _quantile(list(self._run_times))
        return min(self._longest, max(_LEAST_MARGIN, self._covering + self._lead))

    @property
    def closes(self) -> float:
        """When claiming stops."""
        return self.at - self.margin if self.known else math.inf

    def room(self, now: float) -> float:
        """The longest known run time, in seconds, of a call that may be claimed now.

        The automatic margin is only for calls whose run time is not known. It is often so long that
        a call that fits into a fleet's jobs would never fit into one of their workers.
        """
        if not self.known:
            return math.inf
        return self.at - (self._lead if self._margin == AUTO else self._longest) - now

    @property
    def time_left(self) -> TimeLeft:
        """The time that calls with a timeout have.

        A call that may need nearly all the time of such a worker is tried at any time, because
        there may never be a worker with that much time left.
        """
        return TimeLeft(self.room(0.0), self.given * _MOST)

    def closing(self, now: float) -> Departure | None:
        """Why the worker must stop claiming; None if it may go on."""
        if now < self.at - self._longest or now < self.closes:
            return None
        left = format_duration(max(0.0, round(self.at - now, 1)))
        text = f"the job ends in {left}, and the margin is {format_duration(round(self.margin, 1))}"
        return Departure("walltime", text)


def _quantile(run_times: list[float]) -> float:
    if not run_times:
        return 0.0
    return sorted(run_times)[min(len(run_times) - 1, math.floor(len(run_times) * _COVERED))]


class Allowance:
    """The number of calls that a worker may still claim: `most`, less those that run or have run.

    Callers hold a lock.

    Args:
        most: None: any number.

    Attributes:
        done: how many calls have run.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._reserved = 0
        self.done: int = 0

    def reserve(self) -> bool:
        """Reserve one call; False if none is left."""
        if self._most is not None and self._reserved + self.done >= self._most:
            return False
        self._reserved += 1
        return True

    def settle(self, *, ran: bool) -> None:
        """End a reservation, whether the call ran, or nothing was claimed or begun."""
        self._reserved -= 1
        self.done += ran

    def spent(self) -> Departure | None:
        """Why the worker leaves, once all of its calls have ended; None before that."""
        if self._most is None or self.done < self._most:
            return None
        return Departure("max-tasks", f"it has run {self.done} calls")


class Idleness:
    """Whether a worker without calls should leave.

    Args:
        terms: its idle timeout, and whether it runs until its queues are empty.
        now: the present time.

    Attributes:
        since: when the worker last had a call, or no slot to take one.
    """

    def __init__(self, terms: Terms, now: float) -> None:
        self._terms = terms
        self.since = now

    @property
    def next_check(self) -> float:
        """When the idle timeout is over, if nothing happens."""
        timeout = self._terms.idle_timeout
        return math.inf if timeout is None else self.since + timeout

    def leaving(self, now: float, searched: float) -> Departure | None:
        """Why the worker leaves now, if it does.

        Args:
            now: the present time.
            searched: when the last search of all queues that found nothing due began.
        """
        timeout = self._terms.idle_timeout
        if timeout is not None and now >= self.since + timeout:
            return Departure("idle", f"it has had no call for {format_duration(timeout)}")
        if self._terms.until_empty and searched > self.since:
            return Departure("until-empty", "nothing in its queues is due")
        return None


class Lifetime:
    """The conditions under which one worker leaves by itself, and how far they are met.

    Args:
        terms: its conditions.
        now: the present time.
    """

    def __init__(self, terms: Terms, end: JobEnd, now: float) -> None:
        self.end = end
        self.allowance: Allowance = Allowance(terms.max_tasks)
        self.idleness: Idleness = Idleness(terms, now)
