"""Each step of firing a trigger, for the sweep of every call.

Whatever happens there, the calls that follow are made once for each thing that has happened.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dying import InterruptibleFilesystem
from every_call import Swept
from support import execute_claim
from sweep import LOCAL, REMOTE, opened, walk

from fsqueue import FSQueue, triggers
from fsqueue.runner.attempt.bodies import arguments_of
from fsqueue.runner.attempt.context import WorkerContext
from fsqueue.spool.admin.listing import pending_calls
from fsqueue.spool.features.trigger_state import event_names
from fsqueue.spool.worker.expiry import expire
from fsqueue.spool.worker.reaper import reap
from fsqueue.spool.worker.registration import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sweep import Mount

    from fsqueue.spool.admin.listing import PendingCall
    from fsqueue.spool.format.claim import Claim
    from fsqueue.testing import Fault
    from fsqueue.testing import Operation as Call

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
        self.store = self.app._session._store = opened(root, self.fs)
        self.store.files.sync_clock()
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
            firing._watched.crons.clear()
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
        context = WorkerContext(
            store=self.store,
            worker=lambda: worker,
            resolve=self.app.resolve,
            app_id="t",
            exclusive=False,
            ended=self.app.triggers.ended,
        )
        for pending in list(pending_calls(self.store)):
            claim = self._claim(worker, pending)
            if claim is not None:
                execute_claim(context, claim, worker)
                worker.forget(claim)
        worker.deregister()
        return worker.name

    def _claim(self, worker: Worker, pending: PendingCall) -> Claim | None:
        try:
            return worker.claim(pending.path) if self._is_work(pending) else None
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise
            return None  # another worker has taken this one for dead meanwhile

    def _is_work(self, pending: PendingCall) -> bool:
        try:
            call, _ = self.store.calls.read(pending.path, pending.name)
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
            call, payload = self.store.calls.read(pending.path, pending.name)
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
class Step(Swept):
    name: str
    prepare: Callable[[Side], object]
    act: Callable[[Side], object]
    check: Callable[[Side], object]
    ahead: float = 0.0
    mounts: tuple[Mount, ...] = (LOCAL,)
    dies_here = True
    # An event that may not be read goes into quarantine, and then nothing happens because of it.
    without = frozenset({"EACCES"})

    def __str__(self) -> str:
        return self.name

    def begin(self, root: str, mount: Mount = LOCAL) -> tuple[str, Mount]:
        side = Side(root)
        self.prepare(side)
        side.close()
        return root, mount

    def run(self, state: tuple[str, Mount], *faults: Fault) -> Sequence[Call]:
        side = self._side(state)
        side.fs.inject(*faults)
        self.act(side)
        trace = list(side.fs.trace)
        side.close()
        return trace

    def survive(self, state: tuple[str, Mount], fault: Fault, step: Call) -> None:
        """As a worker does: it tries again."""
        del step
        side = self._side(state)
        side.fs.inject(fault)
        for _ in range(2):
            try:
                self.act(side)
            except OSError:
                continue
            break
        side.fs.heal()
        side.close()

    def finish(self, state: tuple[str, Mount], *, dead: bool = False) -> None:
        """Others do the rest; and in the end, when all has expired, nothing is left."""
        del dead
        root, _ = state
        side = Side(root, ahead=self.ahead)
        self.check(side)
        for pending in list(pending_calls(side.store)):
            side.store.withdraw(pending.path)
        side.close()
        side.fs.clock_offset += _MONTHS
        expire(side.store, result_ttl=1.0)
        folders = ("events", "fired", "triggers", "tmp", "done", "kept")
        assert [name for name in walk(root)[0] if name.startswith(folders)] == []

    def _side(self, state: tuple[str, Mount]) -> Side:
        root, mount = state
        return Side(root, remote=mount.remote, ahead=self.ahead)


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


EVERYWHERE = (LOCAL, REMOTE)
TRIGGERS = (
    Step("tick", begin_ticks, Side.attend_ticks, check_ticks, ahead=2.0, mounts=EVERYWHERE),
    Step("event", lambda side: side.emit("told"), Side.attend, check_told, mounts=EVERYWHERE),
    Step("emit", lambda _: None, lambda side: side.emit("told"), check_emitted),
    Step("all-of", lambda side: side.emit("one", "two"), Side.attend, check_both),
    Step("end-of-call", lambda side: side.work(), Side.run_work, check_after),
)
