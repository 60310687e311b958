"""The conductor carries out the attacks, keeps the fleet complete, and ends the run."""

from __future__ import annotations

import heapq
import itertools
import os
import signal
import time
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from chaos.fleet import LEASE, Fleet, Member, send
from chaos.reconcile import Disturbances, Violation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import psutil

    from chaos.attacks import Attack
    from chaos.disk import Disk

T = TypeVar("T")

_TICK = 0.02
_CALM = 3.0
# In seconds; far more than any step takes, because the machine may be busy with other things.
_PATIENCE = 120.0
_WORKERS = ("thread", "process", "reaper")


class Conductor:
    """The conductor of one run.

    Args:
        base: the folder of the run.
        fleet: the processes of the run.
        disk: the filesystem of the spool, if it can be filled.
        report: called with a line of text for each attack.
    """

    def __init__(
        self, base: Path, fleet: Fleet, disk: Disk | None, report: Callable[[str], None] | None
    ) -> None:
        self._base, self._fleet, self._disk, self._report = base, fleet, disk, report
        self.disturbances = Disturbances()
        self.violations: list[Violation] = []
        self.done: Counter[str] = Counter()
        self._follow_ups: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()
        self._leaving: dict[Member, float] = {}
        self._actions: dict[str, Callable[[Attack], bool]] = {
            "kill a worker": self._kill("thread", "process"),
            "kill a node": self._kill_node,
            "kill a slot": self._kill_slot,
            "kill a fork server": self._kill_fork_server,
            "kill a reaper": self._kill("reaper"),
            "kill a caller": self._kill("caller"),
            "stop a worker": self._stop("thread", "process"),
            "stop a worker past its lease": self._stop("thread", "process", "reaper"),
            "stop a slot": self._stop_slot,
            "stop a slot past the lease": self._stop_slot,
            "stop a caller": self._stop("caller"),
            "orphan a stopped slot": self._orphan_slot,
            "drain a worker": self._drain,
            "abort a worker": self._abort,
            "fill the disk": partial(self._fill, inodes=False),
            "use up the inodes": partial(self._fill, inodes=True),
        }

    # -- the run ---------------------------------------------------------------------------

    def attack(self, attacks: list[Attack], seconds: float) -> None:
        """Carry out the schedule."""
        began = time.monotonic()
        waiting = list(attacks)
        while (now := time.monotonic() - began) < seconds:
            while waiting and waiting[0].at <= now:
                attack = waiting.pop(0)
                happened = self._actions[attack.kind](attack)
                self.done[attack.kind if happened else "no target for: " + attack.kind] += 1
                if self._report is not None:
                    self._report(f"{now:8.3f} {attack.kind}{'' if happened else ': no target'}")
            self._tick()
            time.sleep(_TICK)
        while self._follow_ups:
            self._tick()
            time.sleep(_TICK)

    def finish(self) -> None:
        """Stop the crashes, end the callers, wait until no calls are left, and end the workers."""
        self._until(
            "callers are not ready", lambda: self._fleet.are_ready("caller"), except_kind=""
        )
        for caller in self._fleet.of("caller"):
            caller.signal(signal.SIGUSR1)
        calm = time.monotonic() + _CALM
        self._until("the calm does not come", lambda: time.monotonic() > calm, except_kind="")
        for caller in self._fleet.of("caller"):
            caller.signal(signal.SIGTERM)
        self._until("callers still wait for answers", lambda: not self._fleet.of("caller"))
        self.disturbances.last = max(self.disturbances.last, self._last_crash())
        self._until("calls are left", self._is_drained)
        self._until("workers are not ready", lambda: self._fleet.are_ready(*_WORKERS))
        self._end_workers()

    def _until(
        self, what: str, condition: Callable[[], bool], *, except_kind: str = "caller"
    ) -> None:
        """Wait for a condition, and replace processes that end, except those of one kind."""
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            self._tick(except_kind=except_kind)
            time.sleep(_TICK)
            if time.monotonic() > deadline:
                self.violations.append(Violation(f"{what} after {_PATIENCE:.0f} s"))
                return

    def _tick(self, *, except_kind: str = "") -> None:
        now = time.monotonic()
        while self._follow_ups and self._follow_ups[0][0] <= now:
            heapq.heappop(self._follow_ups)[2]()
        if self._disk is not None:
            self._disk.keep_full()
        for member in self._fleet.replace_ended(except_kind=except_kind):
            self._leaving.pop(member, None)
            if member.popen.returncode != 0:
                self._died()
        for member, since in list(self._leaving.items()):
            if now - since > _PATIENCE:
                self.violations.append(Violation(f"{member.name} does not end on SIGTERM"))
                del self._leaving[member]

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        heapq.heappush(self._follow_ups, (time.monotonic() + seconds, next(self._order), action))

    def _died(self) -> None:
        self.disturbances.deaths += 1
        self.disturbances.last = time.time()

    def _last_crash(self) -> float:
        crashes = [entry.stat().st_mtime for entry in os.scandir(self._base / "crashes")]
        self.disturbances.deaths += len(crashes)
        return max(crashes, default=0.0)

    def _is_drained(self) -> bool:
        spool = self._base / "spool"
        return not any(
            names for folder in ("pending", "running") for *_, names in os.walk(spool / folder)
        )

    def _end_workers(self) -> None:
        """End the workers. One stays until the last lease has run out, and runs the calls left."""
        first = [*self._fleet.of("process", "reaper"), *self._fleet.of("thread")[1:]]
        self._end(first)
        # From here on, no process is replaced.
        running = self._base / "spool" / "running"
        self._wait(lambda: len(os.listdir(running)) == len(self._fleet.of("thread")))
        self._end(self._fleet.of("thread"))
        workers = self._base / "spool" / "workers"
        left = [*os.listdir(running), *os.listdir(workers)]
        if left:
            self.violations.append(Violation(f"workers have left something behind: {left}"))
        self._wait(lambda: not self._fleet.stragglers())
        if stragglers := self._fleet.stragglers():
            self.violations.append(Violation(f"processes outlive their worker: {stragglers}"))

    def _end(self, members: list[Member]) -> None:
        for member in members:
            member.signal(signal.SIGTERM)
        self._wait(lambda: all(member.popen.poll() is not None for member in members))
        for member in members:
            if member.popen.returncode != 0:
                how = member.popen.returncode
                self.violations.append(Violation(f"{member.name} ends with {how} on SIGTERM"))

    def _wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition() and time.monotonic() < deadline:
            time.sleep(_TICK)

    # -- the attacks -----------------------------------------------------------------------

    def _kill(self, *kinds: str) -> Callable[[Attack], bool]:
        def action(attack: Attack) -> bool:
            member = _pick(attack, self._fleet.of(*kinds))
            return member is not None and self._kill_member(member)

        return action

    def _kill_member(self, member: Member) -> bool:
        if member.post.kind == "caller":
            self.disturbances.killed.add(member.name)
        self._died()
        return member.signal(signal.SIGKILL)

    def _kill_node(self, attack: Attack) -> bool:
        member = _pick(attack, self._fleet.of("thread", "process"))
        return member is not None and self._kill_all(member.everything())

    def _kill_slot(self, attack: Attack) -> bool:
        slot = _pick(attack, self._slots())
        return slot is not None and self._kill_all([slot])

    def _kill_fork_server(self, attack: Attack) -> bool:
        servers = [each for member in self._fleet.of("process") for each in member.fork_servers()]
        server = _pick(attack, servers)
        return server is not None and self._kill_all([server])

    def _kill_all(self, processes: list[psutil.Process]) -> bool:
        for process in processes:
            self._died()
            send(process, signal.SIGKILL)
        return bool(processes)

    def _slots(self) -> list[psutil.Process]:
        return [slot for member in self._fleet.of("process") for slot in member.slots()]

    def _stop(self, *kinds: str) -> Callable[[Attack], bool]:
        def action(attack: Attack) -> bool:
            member = _pick(attack, self._fleet.of(*kinds))
            main = member.main() if member is not None else None
            return main is not None and self._hold(main, attack.hold)

        return action

    def _stop_slot(self, attack: Attack) -> bool:
        slot = _pick(attack, self._slots())
        return slot is not None and self._hold(slot, attack.hold)

    def _hold(self, process: psutil.Process, seconds: float) -> bool:
        self._later(seconds, partial(send, process, signal.SIGCONT))
        return send(process, signal.SIGSTOP)

    def _orphan_slot(self, attack: Attack) -> bool:
        """Kill the worker of a stopped slot; the slot continues when its call runs elsewhere."""
        member = _pick(attack, self._fleet.of("process"))
        slots = member.slots() if member is not None else []
        if member is None or not slots:
            return False
        self._hold(slots[0], LEASE + attack.hold)
        return self._kill_member(member)

    def _drain(self, attack: Attack) -> bool:
        member = _pick(attack, self._fleet.of("thread", "process", "reaper"))
        if member is None or not member.signal(signal.SIGTERM):
            return False
        self._leaving.setdefault(member, time.monotonic())
        return True

    def _abort(self, attack: Attack) -> bool:
        """Send two signals, so that the worker gives back its running calls at once."""
        member = _pick(attack, self._fleet.of("thread", "process"))
        if member is None or not member.signal(signal.SIGTERM):
            return False
        self._later(0.2, partial(member.signal, signal.SIGTERM))
        return True

    def _fill(self, attack: Attack, *, inodes: bool) -> bool:
        if self._disk is None:
            return False
        self.disturbances.disk_was_full = True
        self._disk.fill(inodes=inodes)
        self._later(attack.hold, self._disk.free)
        return True


def _pick(attack: Attack, targets: list[T]) -> T | None:
    return targets[int(attack.pick * len(targets))] if targets else None
