"""The worker's handle of one slot process."""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from fsqueue.environment.workdir import in_existing_workdir
from fsqueue.errors import FSQueueError
from fsqueue.runner.attempt.answers import Ending
from fsqueue.runner.event_loop.cleanup import CLEANUP
from fsqueue.runner.processes import descendants
from fsqueue.runner.processes.signals import held_back
from fsqueue.runner.slots import messages, slot_main
from fsqueue.runner.slots.self_claiming import QUICK
from fsqueue.spool.disk.identity import start_of

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from fsqueue.runner.processes.descendants import Relative
    from fsqueue.runner.shared.resource_pool import ResourceBudget, ResourceRequest
    from fsqueue.runner.slots.slot_server import Server
    from fsqueue.spool.format.claim import Claim

log: logging.Logger = logging.getLogger(__name__)

# Seconds in which the process may end itself, which a body in a long call into C can prevent.
_HARD_LIMIT_AFTER = 1.0


_READ_SIZE = 1 << 16
# Seconds between attempts: a killed fork server may refuse connections before it counts as dead.
_PAUSES = (0.0, 0.005, 0.02, 0.08, 0.3, 1.0)


class SlotProcess:
    """A process that executes one claim after another.

    Attributes:
        pid: its process id.
        ready: whether it has opened the spool and imported the application.
        claim: the claim that it executes.
        killed: whether it died of SIGKILL, and so not by itself.
        cancelled: whether it is being ended because its call was cancelled.
        devices: the GPUs that its calls could use so far; empty before the first such call.
            Libraries read the variable once, so a process never gets other GPUs.
        coroutine: the attempt whose body is a coroutine, which can be interrupted.
        grant: the permission to go on with calls that it claims itself; `claim` is then the last
            one that is known here.
        has_lingered: whether it has a descriptor for file events. As few as possible should.
        has_waited: whether it has waited for its next call, according to its records.
        deadline: when it is killed because its body takes too long; None without a time limit.
        sources: descriptors that become readable when it sends a message, or dies.
        resource_pipe: the pipe on which it asks for resources; None if the worker has none. It is
            separate from the other pipe because threads of a body may ask at any time.
        record_pipe: its records of calls that it claims itself; None if it never does.

    Raises:
        OSError, EOFError: it cannot be started.
    """

    def __init__(
        self, server: Server, setup: slot_main.Setup, budget: ResourceBudget | None
    ) -> None:
        self.ready = False
        self.claim: Claim | None = None
        self.killed: bool = False
        self.cancelled: bool = False
        self.grant: messages.Grant | None = None
        self._sent = -math.inf
        self.has_lingered: bool = False
        self.has_waited: bool = False
        self.coroutine = ""
        self.devices: tuple[str, ...] = ()
        self._cleanup_ends = float("inf")
        self.deadline: float | None = None
        self._timed_out = False
        self._unread = bytearray()
        self._budget = budget
        self.pipe: Connection[Any, Any]
        self.pipe, theirs = multiprocessing.Pipe()
        self.resource_pipe: Connection | None = None
        their_resource_pipe: Connection | None = None
        self.record_pipe: Connection | None = None
        their_record_pipe: Connection | None = None
        try:
            if setup.service is not None:
                self.record_pipe, their_record_pipe = multiprocessing.Pipe(duplex=False)
                os.set_blocking(self.record_pipe.fileno(), False)
            if budget is not None:
                self.resource_pipe, their_resource_pipe = multiprocessing.Pipe()
            arguments = (setup, theirs, their_resource_pipe, their_record_pipe)
            self._process = server.process(slot_main.serve, arguments)
            with in_existing_workdir(), held_back():
                self._process.start()
        except BaseException:
            self.close()
            self.forget_records()
            raise
        finally:
            # Closed here, so that the pipes report end-of-file when the process ends.
            for end in (theirs, their_resource_pipe, their_record_pipe):
                if end is not None:
                    end.close()
        self.pid: int = self._process.pid or 0
        self._start = start_of(self.pid)
        # The pipe alone is not enough: a process that a body forked may keep it open.
        self.sources: tuple[int, int] = (self.pipe.fileno(), self._process.sentinel)

    @property
    def is_busy(self) -> bool:
        """Whether it has a call, or may take one itself."""
        return self.claim is not None or self.grant is not None

    @property
    def lingers(self) -> bool:
        """Whether it hears of new calls itself between two calls."""
        return self.grant is not None and self.grant.patience > 0

    @property
    def has_just_begun(self) -> bool:
        """Whether its grant began a moment ago."""
        return time.monotonic() - self._sent < QUICK

    def send(self, work: messages.Work) -> bool:
        """Send it a claim with the GPUs that the call may use; False if it has died."""
        try:
            self.pipe.send(work)
        except OSError:
            return False
        self.claim, devices = work.claim, work.devices
        self.grant, self._sent = work.grant, time.monotonic()
        self.has_lingered = self.has_lingered or self.lingers
        self.devices = devices or self.devices
        return True

    def interrupt(self, ending: Ending) -> bool:
        """Cancel its coroutine; False if the process must be killed now."""
        if self.claim is None or self.coroutine != self.claim.text:
            return False
        if time.monotonic() > self._cleanup_ends:
            return False
        if self._cleanup_ends == float("inf"):
            self._cleanup_ends = time.monotonic() + CLEANUP
            self.cancelled = ending is Ending.CANCELLED
            with contextlib.suppress(OSError):  # it has died
                self.pipe.send(messages.Interrupt(self.claim.name, ending))
        return True

    def free(self) -> Claim | None:
        """Forget its claim, which has ended."""
        claim, self.claim = self.claim, None
        self._cleanup_ends = float("inf")
        return claim

    def recall(self) -> None:
        """Make it stop claiming calls itself."""
        if self.grant is not None:
            with contextlib.suppress(OSError):  # it has died
                self.pipe.send(messages.Return())

    def records(self) -> list[messages.Step]:
        """Its records that were not read yet."""
        if self.record_pipe is None:
            return []
        with contextlib.suppress(BlockingIOError):  # there is nothing more
            while data := os.read(self.record_pipe.fileno(), _READ_SIZE):
                self._unread += data
        return messages.take_steps(self._unread)

    def forget_records(self) -> None:
        """Close the pipe of its records, when all were read."""
        if self.record_pipe is not None:
            self.record_pipe.close()
            self.record_pipe = None

    def receive(self) -> messages.Message | None:
        """Its next message; None if the process has ended."""
        try:
            if self.pipe.poll():
                message: messages.Message = self.pipe.recv()
                return message
        except (EOFError, OSError):
            pass
        return None

    def limit(self, seconds: float | None) -> None:
        """Set the time limit of its body, plus a moment for reporting the timeout."""
        self.deadline = None if seconds is None else time.monotonic() + seconds + _HARD_LIMIT_AFTER

    def kill_if_late(self) -> None:
        """Kill it if its body has taken too long and the process has not ended itself."""
        if self.deadline is None or time.monotonic() < self.deadline or self.pipe.poll():
            return
        self.deadline = None
        self._timed_out = True
        self.kill()

    def lend(self) -> bool:
        """Answer a request for resources; False if no more requests will come."""
        claim, budget, resource_pipe = self.claim, self._budget, self.resource_pipe
        if budget is None or resource_pipe is None:
            return False
        try:
            question: ResourceRequest = resource_pipe.recv()
            if question.needed is None:
                budget.give(question.name)
            else:
                # A thread that a body started does not know its call.
                within = question.within or (claim.text if claim else "")
                taken = claim is not None and budget.take(question.name, question.needed, within)
                resource_pipe.send(budget.devices(question.name) if taken else None)
        except (EOFError, OSError):
            return False
        return True

    def kill(self) -> None:
        """Kill it with everything that its body has started."""
        try:
            descendants.end(self.find)
        except OSError as error:
            log.warning(
                "only process %d of a slot is killed, not those below it: %s", self.pid, error
            )
            self._process.kill()

    def find(self, known: list[Relative]) -> list[int]:
        """Its pid, if it is alive: when the fork server dies, all its processes look dead."""
        return [each.pid for each in known if (each.pid, each.start) == (self.pid, self._start)]

    def find_session(self, known: list[Relative]) -> list[int]:
        """The processes of its session, even if it and its fork server are dead."""
        members = [each for each in known if each.session == self.pid]
        if any(each.pid == self.pid and each.start != self._start for each in members):
            return []  # another process has this pid now
        return [each.pid for each in members]

    def end(self, deadline: float) -> Ending | BaseException:
        """Wait for its end and kill it at the deadline; returns how its claim has ended."""
        self._process.join(max(0.0, deadline - time.monotonic()))
        code = self._process.exitcode
        self.killed = code == -signal.SIGKILL
        if code is None:
            self.kill()
        else:
            self._process.close()
        return self._ending_of(code)

    def _ending_of(self, code: int | None) -> Ending | BaseException:
        """How a claim ended, by the exit code of its process.

        The exit code `TIMED_OUT` proves nothing, since a body may exit with it by itself: the
        recovery of the attempt checks whether it was settled before.
        """
        if self.cancelled:
            return Ending.CANCELLED
        if self._timed_out:
            return Ending.TIMED_OUT
        how = "a kill" if code is None else f"signal {-code}" if code < 0 else f"exit code {code}"
        return FSQueueError(f"its process ended with {how}")

    def close(self) -> None:
        """Close the pipes, so that a process that waits for a claim ends."""
        self.pipe.close()
        if self.resource_pipe is not None:
            self.resource_pipe.close()


def started(server: Server, setup: slot_main.Setup, budget: ResourceBudget | None) -> SlotProcess:
    """Start a process. If the fork server dies meanwhile, multiprocessing restarts it."""
    failure: Exception
    for pause in _PAUSES:
        time.sleep(pause)
        try:
            return SlotProcess(server, setup, budget)
        except (OSError, EOFError) as error:
            failure = error
    raise failure
