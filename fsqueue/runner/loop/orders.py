"""Decides whether a stop was meant for a run that begins later.

A thread may start late. After ``Thread(target=app.runner.run).start()``, a call of
``stop_runner_loop()`` may come before the run begins, and is meant for that run. But a stop that
found nothing to stop must not affect a later run. Clock times cannot tell these cases apart, but
the order of events can. A stop is meant for a run if the run's thread existed at the stop, and

- `Runner.run` had been looked up before the stop by another thread, as in the line above or in
  ``pool.submit(app.runner.run)``; or
- the thread looks it up itself and has never done so before: it was started for that.

A stop is never meant for a run in the main thread or in the thread that called the stop, because
their runs come after it. One case remains ambiguous: a thread that existed for another purpose
during a stop with nothing to stop, and later calls ``app.runner.run()`` for the first time. That
run returns at once. A thread that is started for its run, or is given `Runner.run`, is safe.
"""

from __future__ import annotations

import threading
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


def _this_thread() -> weakref.ref[threading.Thread]:
    return weakref.ref(threading.current_thread())


@dataclass(frozen=True)
class Order:
    """`Runner.run` as it was looked up. A call runs the runner in this thread.

    Attributes:
        begin: runs the runner; called with this order.
        stops: number of early stops before the lookup.
        by: the thread that looked it up.
    """

    begin: Callable[[Order], None]
    stops: int
    by: weakref.ref[threading.Thread] = field(default_factory=_this_thread)

    def __call__(self) -> None:
        """Claim and run calls in this thread; see `Runner.run`."""
        self.begin(self)


class _Presence(NamedTuple):
    """A thread that existed at an early stop."""

    stop: int
    new: bool
    """It had not run the runner before."""


class EarlyStops:
    """The stops of one runner that had nothing to stop. Callers hold the runner's lock.

    Attributes:
        count: number of these stops.
    """

    def __init__(self) -> None:
        self.count: int = 0
        self._there: weakref.WeakKeyDictionary[threading.Thread, _Presence]
        self._there = weakref.WeakKeyDictionary()
        self._have_run: weakref.WeakSet[threading.Thread] = weakref.WeakSet()

    def add(self) -> None:
        """Record a stop that had nothing to stop."""
        self.count += 1
        for thread in threading.enumerate():
            if thread not in {threading.main_thread(), threading.current_thread()}:
                self._there[thread] = _Presence(self.count, thread not in self._have_run)

    def take(self, order: Order) -> bool:
        """Whether a stop was meant for the run that begins in this thread; a stop counts once."""
        thread = threading.current_thread()
        presence = self._there.pop(thread, None)
        self._have_run.add(thread)
        if presence is None:
            return False
        return presence.new if order.by() is thread else presence.stop > order.stops
