"""Each step of firing a trigger, ended or failed at every one of its filesystem calls.

Whatever happens there, the calls that follow are made once for each thing that has happened.
"""

from __future__ import annotations

import errno
import itertools
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import pytest
from slim import in_slim_process
from sweep import NO_LINKS, InterruptibleFilesystem, deaths, in_child, walk

from fsqueue import FSQueue, triggers
from fsqueue.runner.bodies import arguments_of
from fsqueue.runner.context import Workplace
from fsqueue.runner.execute import execute
from fsqueue.spool.expiry import expire
from fsqueue.spool.occurrences import event_names
from fsqueue.spool.opening import open_store
from fsqueue.spool.reaper import reap
from fsqueue.spool.sightings import pending_calls
from fsqueue.spool.worker import Worker
from fsqueue.testing import CRASH_STATUS, Fault

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.sightings import Pending

_MONTHS = 90 * 86_400.0


def ticked(tick): ...


def told(word): ...


def told_too(word): ...


def both(words): ...


def work():
    return 42


def after(invocation, result): ...


def words_of(occurrence):
    return ([part.payload for part in occurrence.parts],)


class Side:
    """An application in one process, over a filesystem that may fail."""

    def __init__(
        self, root: str, *, remote: bool = False, ahead: float = 0.0, habits: tuple[Fault, ...] = ()
    ) -> None:
        self.fs = InterruptibleFilesystem(habits, remote=remote)
        self.app = FSQueue("t", root=root)
        self.store = self.app._session._store = open_store(root, self.fs)
        self.store.sync_clock()
        self.fs.clock_offset += ahead
        task = self.app.task
        task(triggers=triggers.cron("* * * * * *", arguments=lambda o: (int(o.id),)))(ticked)
        task(triggers=triggers.on_event("told"))(told)
        task(triggers=triggers.on_event("told"))(told_too)
        task(
            triggers=triggers.all_of(
                triggers.on_event("one"), triggers.on_event("two"), arguments=words_of
            )
        )(both)
        self.work = task(work)
        task(
            triggers=triggers.on_result(work, 42, arguments=lambda o: (o.invocation, o.result)),
        )(after)

    def attend(self, *, ticks: bool = False) -> None:
        firing = self.app.triggers
        if not ticks:
            firing._crons.clear()
        firing.attend()

    def attend_ticks(self) -> None:
        self.attend(ticks=True)

    def emit(self, *names: str) -> None:
        for name in names:
            self.app.emit(name, f"{name} word")

    def run_work(self) -> str | None:
        """Run what is pending of `work`, as a worker; returns the worker's name."""
        worker = Worker(self.store, queues=("t.default",), runner="thread", concurrency=1)
        worker.register()
        workplace = Workplace(
            store=self.store,
            worker=lambda: worker,
            resolve=self.app.resolve,
            app_id="t",
            exclusive=False,
            ended=self.app.triggers.ended,
        )
        for pending in list(pending_calls(self.store)):
            claim = worker.claim(pending.path) if self._is_work(pending) else None
            if claim is not None:
                execute(workplace, claim, worker.release)
                worker.forget(claim.name)
        worker.deregister()
        return worker.name

    def _is_work(self, pending: Pending) -> bool:
        try:
            call, _ = self.store._read_call(pending.path, pending.name)
        except FileNotFoundError:
            return False
        return call.task.endswith(".work")

    def take_over(self) -> None:
        """As if all workers were dead; one may be silent only."""
        for worker in self.fs.names(self.store.layout.running_folder):
            reap(self.store, worker, "silent")
        self.run_work()

    def made(self) -> dict[str, list[tuple]]:
        """The arguments of the calls that are pending, by task."""
        found: dict[str, list[tuple]] = {}
        for pending in pending_calls(self.store):
            call, payload = self.store._read_call(pending.path, pending.name)
            ((args, kwargs),) = arguments_of(self.store, call, payload, unpickles=True)
            assert kwargs == {}
            found.setdefault(call.task.rpartition(".")[2], []).append(args)
        return found

    def handled(self) -> int:
        (ticks,) = [each for each in self.app.triggers.overview(0.0, self.store) if each.handled]
        return int(ticks.handled)

    def close(self) -> None:
        self.app.close()


@dataclass(frozen=True)
class Step:
    name: str
    prepare: Callable[[Side], object]
    run: Callable[[Side], object]
    check: Callable[[Side], object]
    ahead: float = 0.0

    def __str__(self) -> str:
        return self.name


def begin_ticks(side: Side) -> None:
    side.attend_ticks()
    side.began = side.handled()


def check_ticks(side: Side) -> None:
    side.attend_ticks()
    ticks = sorted(tick for (tick,) in side.made()["ticked"])
    assert ticks == list(range(ticks[0], side.handled() + 1))
    assert len(ticks) >= 2


def check_told(side: Side) -> None:
    side.attend()
    assert side.made() == {"told": [("told word",)], "told_too": [("told word",)]}
    assert event_names(side.store, "t") == []


def check_emitted(side: Side) -> None:
    side.attend()
    assert len(side.made().get("told", ())) <= 1
    side.emit("told")
    side.attend()
    assert len(side.made()["told"]) in {1, 2}
    assert event_names(side.store, "t") == []


def check_both(side: Side) -> None:
    side.attend()
    side.attend()
    assert side.made() == {"both": [(["one word", "two word"],)]}
    side.emit("two", "two")
    side.attend()
    assert len(side.made()["both"]) == 1, "a part that has been used was used again"
    side.emit("one")
    side.attend()
    assert len(side.made()["both"]) == 2
    assert event_names(side.store, "t") == []


def check_after(side: Side) -> None:
    side.take_over()
    ((_, result),) = side.made()["after"]
    assert result == 42
    assert set(side.made()) == {"after"}


STEPS = (
    Step("tick", begin_ticks, Side.attend_ticks, check_ticks, ahead=2.0),
    Step("event", lambda side: side.emit("told"), Side.attend, check_told),
    Step("emit", lambda _: None, lambda side: side.emit("told"), check_emitted),
    Step("all-of", lambda side: side.emit("one", "two"), Side.attend, check_both),
    Step("end-of-call", lambda side: side.work(), Side.run_work, check_after),
)


def prepared(root: str, step: Step) -> None:
    side = Side(root)
    step.prepare(side)
    side.close()


def calls_of(root: str, step: Step, *, remote: bool) -> int:
    """How many filesystem calls it makes that meets no fault."""
    prepared(root, step)
    side = Side(root, remote=remote, ahead=step.ahead)
    side.fs.inject()
    step.run(side)
    count = side.fs.count()
    side.close()
    return count


def check(root: str, step: Step) -> None:
    """Others do the rest; and in the end, when all has expired, nothing is left."""
    side = Side(root, ahead=step.ahead)
    step.check(side)
    for pending in list(pending_calls(side.store)):
        side.store.withdraw(pending.path)
    side.close()
    side = Side(root)
    side.fs.clock_offset += _MONTHS
    expire(side.store, result_ttl=1.0)
    folders = ("events", "fired", "triggers", "tmp", "done", "kept")
    left = [name for name in walk(root)[0] if name.startswith(folders)]
    side.close()
    assert left == []


@pytest.mark.parametrize(
    ("step", "remote"),
    [*((step, False) for step in STEPS), (STEPS[0], True), (STEPS[1], True)],
    ids=str,
)
@in_slim_process
def test_the_process_dies_at_every_call(folder, step, remote):
    count = calls_of(f"{folder}/dry", step, remote=remote)
    for number, death in enumerate(deaths(count)):
        root = f"{folder}/{number}"
        prepared(root, step)

        def die(root=root, death=death) -> None:
            side = Side(root, remote=remote, ahead=step.ahead)
            side.fs.inject(death)
            step.run(side)

        assert in_child(die) in {CRASH_STATUS, 0}
        check(root, step)


@pytest.mark.parametrize(
    "fault",
    [
        Fault.lost_reply,
        lambda at: Fault.fail(errno.EIO, at=at),
        lambda at: Fault.lost_reply(at=at, code=errno.EIO),
    ],
    ids=["lost-reply", "error", "done-and-error"],
)
@pytest.mark.parametrize("step", STEPS, ids=str)
def test_a_fault_at_every_call(folder, step, fault):
    for number in range(1, calls_of(f"{folder}/dry", step, remote=False) + 1):
        root = f"{folder}/{number}"
        prepared(root, step)
        side = Side(root, ahead=step.ahead)
        side.fs.inject(fault(at=number))
        for _ in range(2):
            try:
                step.run(side)
            except OSError:
                continue  # as a worker does: it tries again
            break
        side.fs.heal()
        side.close()
        check(root, step)


@pytest.mark.parametrize("step", [step for step in STEPS if step.name != "emit"], ids=str)
def test_another_worker_does_the_same_in_the_middle(folder, step):
    """It does all of it before some filesystem call of the first one; and more ticks."""
    for number in itertools.count(1):
        root = f"{folder}/{number}"
        prepared(root, step)
        side, other = Side(root, ahead=step.ahead), Side(root, ahead=2 * step.ahead)
        overtake = other.take_over if step.name == "end-of-call" else partial(step.run, other)
        side.fs.inject()
        side.fs.interrupt(number, overtake)
        step.run(side)
        interrupted = side.fs._action is None
        side.close()
        other.close()
        check(root, step)
        if not interrupted:
            break


def test_what_a_round_left_out_does_not_count_for_the_next_one(folder):
    """Another worker leaves it out and begins the next round, while the first one looks at it."""
    for number in itertools.count(1):
        side, other = Side(f"{folder}/{number}"), Side(f"{folder}/{number}")
        side.emit("one")
        side.attend()
        side.emit("one")

        def overtake(other: Side = other) -> None:
            other.attend()
            other.emit("two")
            other.attend()

        side.fs.inject()
        side.fs.interrupt(number, overtake)
        side.attend()
        interrupted = side.fs._action is None
        side.fs.heal()
        side.emit("two")
        side.attend()
        assert len(side.made()["both"]) == 1
        side.close()
        other.close()
        if not interrupted:
            break


@pytest.mark.parametrize("step", STEPS, ids=str)
def test_without_hard_links_and_faults(folder, step):
    prepared(folder + "/spool", step)
    for run in (step.run, step.run, step.check):
        if run is step.run and step.name == "emit":
            continue
        side = Side(folder + "/spool", ahead=step.ahead, habits=NO_LINKS.habits)
        run(side)
        side.close()
