"""Detects occurrences and fires the triggers that wait for them."""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any

from fsqueue.errors import (
    DeserializationError,
    EnvelopeError,
    SerializationError,
    SpoolVersionError,
    StorageError,
)
from fsqueue.firing import travel
from fsqueue.firing.bound import (
    FAILED,
    Bound,
    Overview,
    Watched,
    arguments_of,
    matches,
)
from fsqueue.firing.ends import cancelled, ends_by_queue, ends_of
from fsqueue.firing.inline import Inline
from fsqueue.firing.watched import WatchedTriggers
from fsqueue.spool.caller.client import IdempotencyKey
from fsqueue.spool.features import idempotency
from fsqueue.spool.features.trigger_state import (
    AllOfState,
    add_event,
    decode_end,
    event_names,
    expect_ends,
    handled_until,
    is_unhandled,
    keep,
    read_event,
    remove_event,
    set_handled,
)
from fsqueue.spool.format.states import State
from fsqueue.spool.format.trigger_names import ENDED, EventName
from fsqueue.triggers.kinds import (
    AllOf,
    Cron,
    Occurrence,
    utc,
)
from fsqueue.triggers.making import check_event_name

if TYPE_CHECKING:
    from datetime import datetime

    from fsqueue.runner.attempt.answers import Answer
    from fsqueue.runner.attempt.context import Execution
    from fsqueue.spool.caller.session import Session
    from fsqueue.spool.features.trigger_state import Round
    from fsqueue.spool.store.store import Store
    from fsqueue.task import Task

log: logging.Logger = logging.getLogger(__name__)

_IDLE = 60.0
# Events may delay a tick by at most this time, in seconds.
_LONGEST_ROUND = 0.5
_DAY = 86_400.0
# Workers are spread over this time, so that usually one fires a tick and the others find it done.
_SPREAD_LOCAL, _SPREAD_REMOTE = 0.01, 0.3


class Firing:
    """The triggers of an application's tasks, in one process.

    Args:
        app_id: the application.
    """

    def __init__(self, app_id: str, session: Session) -> None:
        self._app_id, self._session = app_id, session
        self._watched = WatchedTriggers(app_id)
        self._due: dict[str, float] = {}
        self._renew_at = float("-inf")
        self._expects_ends = False
        self._inline = Inline()

    def add(self, task: Task[..., Any]) -> None:
        """Watch a task's triggers, in place of those of an earlier task of the same name.

        Raises:
            TypeError: the arguments of a trigger do not fit the task.
        """
        self._watched.add(task)

    @property
    def needs_attention(self) -> bool:
        """Whether a worker must call `attend` regularly."""
        return self._watched.need_attention

    def overview(self, now: float, store: Store | None) -> list[Overview]:
        """All triggers, for the command line.

        Args:
            now: seconds since the epoch.
            store: the spool; None if there is none yet.
        """
        return self._watched.overview(now, store)

    @property
    def _codec(self) -> str:
        return self._session.conf.serializer

    @property
    def _unpickles(self) -> bool:
        return self._codec != "json"

    # -- ticks and events -----------------------------------------------------------------

    def attend(self) -> float:
        """Fire what is due. Returns the seconds after which to check again at the latest."""
        self._session.client.now()  # refreshes the file server's clock
        store = self._session.store
        self._renew_state(store)
        crons = self._watched.crons
        for each in crons:
            if store.clock.now() >= self._due.get(each.key, 0.0):
                self._fire_due_ticks(store, each)
        pauses = [self._due[each.key] - store.clock.now() for each in crons]
        if self._watched.need_events:
            pauses.append(self._session.conf.heartbeat if self._take_events(store) else 0.0)
        return max(0.0, min(pauses, default=_IDLE))

    def _renew_state(self, store: Store) -> None:
        """Renew the state of triggers, so that it does not expire while there are workers."""
        if store.fs.monotonic() < self._renew_at:
            return
        self._renew_at = store.fs.monotonic() + _DAY
        for key in self._watched.keys_with_state():
            keep(store.files, key)

    def _fire_due_ticks(self, store: Store, each: Watched) -> None:
        cron, now = each.leaf, store.clock.now()
        assert isinstance(cron, Cron)  # noqa: S101
        handled = handled_until(store.files, each.key)
        if handled is None:
            set_handled(store.files, each.key, now)  # from now on
        for tick in cron.due(handled, now) if handled is not None else ():
            self._fire_tick(store, each, tick)
        following = cron.next(now)
        spread = _SPREAD_REMOTE if store.fs.remote else _SPREAD_LOCAL
        pause = spread * random.random()  # noqa: S311
        self._due[each.key] = now + _DAY if following is None else following + pause

    def _fire_tick(self, store: Store, each: Watched, tick: float) -> None:
        """Fire a tick.

        The idempotency key is deleted at once, because the trigger's state records the last tick
        handled. A late worker can therefore take the key again, and must check the state after
        that.
        """
        cron = each.leaf
        assert isinstance(cron, Cron)  # noqa: S101
        key = IdempotencyKey(
            f"{each.key}.{int(tick)}",
            lambda: (handled_until(store.files, each.key) or 0) < int(tick),
        )
        self._fire(each, cron.at(tick), key)
        set_handled(store.files, each.key, tick)
        idempotency.forget(store.files, key.key)

    def _take_events(self, store: Store) -> bool:
        """Fire the triggers that wait for events. False if some are left and ticks may be due."""
        known = {*self._watched.events, ENDED}
        if not self._expects_ends:
            expect_ends(store.files, self._app_id)
            self._expects_ends = True
        names = [name for name in event_names(store.files, self._app_id) if name.event in known]
        random.shuffle(names)  # so that workers begin with different events
        until = store.fs.monotonic() + _LONGEST_ROUND
        for name in names:
            self._take_event(store, name)
            if store.fs.monotonic() > until:
                return False
        return True

    def _take_event(self, store: Store, name: EventName) -> None:
        try:
            data = read_event(store.files, self._app_id, name)
            if data is None:
                return
            found = self._read_occurrences(store, name, data)
        except SpoolVersionError as error:
            store.files.leave_alone(error)
            return
        except (DeserializationError, EnvelopeError):
            log.exception("event %s cannot be read and is dropped", name)
            found = []
        if name.event == ENDED:
            for occurrence in found:
                self._fire_ends(occurrence)
            remove_event(store.files, self._app_id, name)
            return
        # As with ticks, the keys are deleted at once. A late worker finds no event.
        keys = []
        for each in self._watched.events.get(name.event, ()) if found else ():
            keys.append(
                IdempotencyKey(
                    f"{each.key}.{name.id}", lambda: is_unhandled(store.files, self._app_id, name)
                )
            )
            self._fire(each, found[0], keys[-1])
        remove_event(store.files, self._app_id, name)
        for key in keys:
            idempotency.forget(store.files, key.key)

    def _read_occurrences(self, store: Store, name: EventName, data: bytes) -> list[Occurrence]:
        when = utc(store.clock.now())
        if name.event == ENDED:
            return list(ends_by_queue(decode_end(data), when))
        payload = travel.read(data, f"the payload of the event {name}", unpickles=self._unpickles)
        return [Occurrence(name.id, when, event=name.event, payload=payload)]

    def _fire_ends(self, end: Occurrence) -> None:
        """Fire the triggers that wait for the end of a call."""
        for each in self._watched.ends.get(end.task, ()):
            self._fire(each, end, IdempotencyKey(f"{each.key}.{end.id}"))

    def emit(self, name: str, payload: Any) -> str:
        """Emit an event and return its id.

        Raises:
            ValueError: the name is bad.
            SerializationError: the payload cannot be serialized.
            OSError: the event could not be written to the shared directory.
        """
        check_event_name(name)
        if self._session.conf.dev_mode_force_sync_tasks:
            return self._emit_inline(name, payload)
        client = self._session.client
        client.now()  # registers in the spool, so that the id is unique
        event = EventName(name, client.new_id())
        data = travel.write(payload, f"the payload of the event {name}", self._codec)
        add_event(self._session.store.files, self._app_id, event, data)
        return event.id

    # -- ends of calls ----------------------------------------------------------------------

    def ended(self, execution: Execution, answer: Answer | None) -> None:
        """Fire the triggers that wait for the end of a call, before its outcome is published.

        Args:
            answer: how it ends; None: another process has ended it.

        Raises:
            OSError: the shared directory failed. Call it again to complete the rest.
        """
        call, store = execution.call, execution.context.store
        if call.task not in self._watched.ends:
            return
        if answer is not None and not store.outcomes.exists(call.id):
            found = ends_of(execution, answer)
        elif store.fs.exists(store.layout.cancelled(call.id), fresh=True):
            found = ends_by_queue(cancelled(call), utc(store.clock.now()))
        else:
            return  # another worker has ended it and fired its triggers
        for occurrence in found:
            self._fire_ends(occurrence)

    # -- calls ------------------------------------------------------------------------------

    def _fire(self, each: Watched, occurrence: Occurrence, key: IdempotencyKey) -> None:
        bound = each.bound
        if not matches(each, occurrence):
            return
        if each.part is None:
            self._call(bound, occurrence, key)
            return
        store = self._session.store
        trigger = bound.trigger
        assert isinstance(trigger, AllOf)  # noqa: S101
        state = AllOfState(store.files, bound.key, len(trigger.parts))
        what = f"an occurrence for {trigger}"
        try:
            data = travel.write_occurrence(occurrence, what, self._codec)
        except SerializationError:
            log.exception(
                "occurrence %s cannot be stored and is left out of trigger %s",
                occurrence.id,
                trigger,
            )
            return
        try:
            state.add(each.part, occurrence.id, data, key.wanted)
            state.fire(lambda found: self._call_for_round(bound, found))
        except SpoolVersionError as error:
            store.files.leave_alone(error)  # the end of the call must not fail
        except StorageError as error:
            if not error.never:
                raise
            log.exception(
                "occurrence %s cannot be stored and is left out of trigger %s",
                occurrence.id,
                trigger,
            )

    def _call_for_round(self, bound: Bound, found: Round) -> None:
        number, data = found
        what = f"an occurrence for {bound.trigger}"
        try:
            parts = [travel.read_occurrence(each, what, unpickles=self._unpickles) for each in data]
        except DeserializationError:
            log.exception("trigger %s does not fire", bound.trigger)
            return
        whole = travel.together(f"{bound.key}.{number}", parts)
        self._call(bound, whole, IdempotencyKey(whole.id))

    def _call(self, bound: Bound, occurrence: Occurrence, key: IdempotencyKey) -> None:
        arguments = arguments_of(bound, occurrence)
        try:
            made = arguments is not None and bound.task.fire(key, *arguments)
        except (SerializationError, StorageError) as error:
            if isinstance(error, StorageError) and not error.never:
                raise
            log.exception(FAILED, bound.trigger, bound.task.name, occurrence.id)
            return
        if made:
            log.info(
                "trigger %s: task %s is called for %s",
                bound.trigger,
                bound.task.name,
                occurrence.id,
            )

    # -- inline mode ------------------------------------------------------------------------

    def _emit_inline(self, name: str, payload: Any) -> str:
        occurrence = Occurrence("inline", _now(), event=name, payload=payload)
        for each in self._watched.events.get(name, ()):
            self._inline.fire(each, occurrence)
        return occurrence.id

    def ended_inline(
        self, task: str, invocation_id: str, value: Any, error: BaseException | None
    ) -> None:
        """Fire the triggers that wait for the end of an inline call."""
        occurrence = Occurrence(
            invocation_id,
            _now(),
            task=task,
            invocation=invocation_id,
            state=State.SUCCEEDED if error is None else State.FAILED,
            result=value,
            exception=error,
        )
        for each in self._watched.ends.get(task, ()):
            self._inline.fire(each, occurrence)


def _now() -> datetime:
    return utc(time.time())
