"""The triggers that a process watches, sorted by what fires them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from fsqueue.firing.bound import Bound, Overview, Watched, check_arguments, digest
from fsqueue.spool.features.trigger_state import handled_until
from fsqueue.triggers.kinds import AllOf, Cron, OnEnd, OnEvent, OnResult, leaves

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.spool.store.store import Store
    from fsqueue.task import Task


class WatchedTriggers:
    """The triggers of an application's tasks.

    Args:
        app_id: the application.

    Attributes:
        crons: the cron triggers.
        events: the triggers that wait for an event, by its name.
        ends: the triggers that wait for the end of a call, by the name of its task.
    """

    def __init__(self, app_id: str) -> None:
        self._app_id = app_id
        self._by_task: dict[str, list[Watched]] = {}
        self.crons: list[Watched] = []
        self.events: dict[str, list[Watched]] = {}
        self.ends: dict[str, list[Watched]] = {}

    def __iter__(self) -> Iterator[Watched]:
        return (each for some in self._by_task.values() for each in some)

    def add(self, task: Task[..., Any]) -> None:
        """Watch a task's triggers, in place of those of an earlier task of the same name.

        Raises:
            TypeError: the arguments of a trigger do not fit the task.
        """
        found: list[Watched] = []
        texts: Counter[str] = Counter()
        for trigger in task.triggers:
            check_arguments(task, trigger)
            text = str(trigger)
            texts[text] += 1
            key = digest(self._app_id, task.name, text, str(texts[text]))
            bound = Bound(task, trigger, key)
            found += [
                Watched(bound, leaf, part, digest(key, str(number)))
                for number, (part, leaf) in enumerate(leaves(trigger))
            ]
        # Other threads read these at the same time, so each is replaced as a whole.
        self._by_task = {**self._by_task, task.name: found}
        events: dict[str, list[Watched]] = {}
        ends: dict[str, list[Watched]] = {}
        for each in self:
            if isinstance(each.leaf, OnEvent):
                events.setdefault(each.leaf.name, []).append(each)
            elif isinstance(each.leaf, OnEnd):
                ends.setdefault(each.leaf.task, []).append(each)
        self.crons = [each for each in self if isinstance(each.leaf, Cron)]
        self.events, self.ends = events, ends

    @property
    def need_attention(self) -> bool:
        """Whether a worker must check them regularly: for ticks, for events, or to keep state."""
        has_state = any(each.part is not None for each in self)  # it must not expire
        return bool(self.crons or self.need_events or has_state)

    @property
    def need_events(self) -> bool:
        """Whether any of them waits for an event in the spool.

        Ends of calls by the queue itself are such events. They are never results.
        """
        ends = (each.leaf for some in self.ends.values() for each in some)
        return bool(self.events) or not all(isinstance(leaf, OnResult) for leaf in ends)

    def keys_with_state(self) -> set[str]:
        """The keys of the triggers that keep state in the spool."""
        found = [each for each in self if each.part is not None or isinstance(each.leaf, Cron)]
        return {each.key for each in found} | {each.bound.key for each in found}

    def overview(self, now: float, store: Store | None) -> list[Overview]:
        """All triggers, for the command line.

        Args:
            now: seconds since the epoch.
            store: the spool; None if there is none yet.
        """
        found = []
        for each in self:
            trigger = str(each.bound.trigger)
            if isinstance(each.bound.trigger, AllOf):
                trigger = f"{each.leaf}, part of {trigger}"
            upcoming = handled = None
            if isinstance(each.leaf, Cron):
                upcoming = each.leaf.next(now)
                handled = handled_until(store.files, each.key) if store is not None else None
            found.append(Overview(each.bound.task.name, trigger, upcoming, handled))
        return found
