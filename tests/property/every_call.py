"""Runs an operation once for each filesystem call that it makes, with a fault at that call.

A quick run tries a third of the faults at each call, other ones at the next call; a whole run
(`support.WHOLE`), such as that of `.ci/run`, tries all of them. `points.py` lists them.

To sweep something new, register it: write a `Swept`, and add it to the list of a module that
`test_every_call.py` names. It then meets every fault of this module.
"""

from __future__ import annotations

import errno
import functools
import itertools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from dying import die, in_child
from support import WHOLE
from sweep import LOCAL, deaths

from fsqueue.testing import CRASH_STATUS, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sweep import Mount

    from fsqueue.testing import Operation as Step

FAULTS: dict[str, Callable[[int], Fault]] = {
    **{
        errno.errorcode[code]: lambda number, code=code: Fault.fail(code, at=number)
        for code in (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EACCES)
    },
    # This process has no descriptor left, as its program has opened too many files.
    "EMFILE": lambda number: Fault.fail(errno.EMFILE, at=number),
    "lost": lambda number: Fault.lost_reply(at=number),
    "done-and-EIO": lambda number: Fault.lost_reply(at=number, code=errno.EIO),
    "done-and-ESTALE": lambda number: Fault.lost_reply(at=number, code=errno.ESTALE),
}
"""What a filesystem call can do, besides what it should: by number of the call, from 1."""

SHARE = 1 if WHOLE else 3
"""One of so many faults is tried at each call."""

USUAL = frozenset(FAULTS) - {"EDQUOT", "done-and-ESTALE"}
DESCRIPTORS = frozenset({"create", "append", "open", "read", "listdir", "lock", "fstat", "fsync"})
"""Calls that need a new descriptor."""
CHANGES = frozenset({"create", "write", "close", "rename", "link", "unlink", "mkdir", "rmdir"})


class Swept(ABC):
    """An operation, and what must hold after it whatever has happened to it."""

    name: str
    mounts: tuple[Mount, ...] = (LOCAL,)
    """Where it dies at every call."""
    dies_here: bool = False
    """It runs over a `MortalFilesystem`, and all that is known of it afterwards is on disk."""
    without: ClassVar[frozenset[str]] = frozenset()
    """Faults that mean something else to it than a fault."""

    def __str__(self) -> str:
        return self.name

    def faults(self, mount: Mount) -> frozenset[str]:
        """What is tried at every call there, of `FAULTS`."""
        return USUAL - self.without if mount == LOCAL else frozenset()

    def strikes(self, fault: str, step: Step) -> bool:
        """Whether this fault is tried at this call."""
        del fault, step
        return True

    def differs(self, folder: str, mount: Mount) -> bool:
        """Whether it must die there too, or makes the same calls as on a local disk."""
        del folder, mount
        return True

    @abstractmethod
    def begin(self, root: str, mount: Mount) -> Any:
        """Make a spool with what is there before; what is returned, the others are given."""

    @abstractmethod
    def run(self, state: Any, *faults: Fault) -> Sequence[Step]:
        """Run it while these faults strike, and return the filesystem calls that it made.

        Raises:
            OSError: a fault that it hands on.
        """

    def survive(self, state: Any, fault: Fault, step: Step) -> None:
        """Run it, and do about an error what its process does.

        Args:
            state: what `begin` returned.
            fault: strikes once.
            step: the call that it strikes.
        """
        del step
        try:
            self.run(state, fault)
        except OSError:
            return

    @abstractmethod
    def finish(self, state: Any, *, dead: bool) -> None:
        """Let others do the rest, and check that all is as it should be.

        Args:
            state: what `begin` returned.
            dead: the process of the operation has died.
        """

    def leaves_as_new(self, state: Any) -> bool:
        """Whether nothing is left, so that the next one can begin there: that is quicker."""
        del state
        return False


def states(folder: str, swept: Swept, mount: Mount = LOCAL) -> Iterator[Any]:
    """What it can begin with, without end: each in a new spool, or in one that is as new."""
    root = ""
    for number in itertools.count():
        root = root or f"{folder}/{number}"
        state = swept.begin(root, mount)
        yield state
        if not swept.leaves_as_new(state):
            root = ""


def calls_of(folder: str, swept: Swept, mount: Mount = LOCAL) -> Sequence[Step]:
    """The filesystem calls that it makes when it meets no fault."""
    return swept.run(swept.begin(f"{folder}/dry", mount))


def die_at_every_call(folder: str, swept: Swept, mount: Mount) -> None:
    """Its process dies before each of its calls, and after the last one.

    How many calls it makes may depend on a clock: it may end well if it has made too few to die.
    """
    if mount != LOCAL and not swept.differs(folder, mount):
        return

    def run(state: object, death: Fault) -> None:
        made = len(swept.run(state, death))
        assert made < death.at, f"it made {made} calls and has outlived {death}"

    every = deaths(len(calls_of(folder, swept, mount)))
    assert len(every) > 1
    end = die if swept.dies_here else in_child
    died = 0
    for death, state in zip(every, states(folder, swept, mount), strict=False):
        status = end(functools.partial(run, state, death))
        assert status in {0, CRASH_STATUS}, death
        dead = status == CRASH_STATUS
        died += dead
        swept.finish(state, dead=dead)
    assert died > len(every) // 2


def faults_of(folder: str, swept: Swept, mount: Mount) -> list[tuple[int, Step, list[str]]]:
    """All that can strike it there: each of its calls, with its number and the names of faults."""
    there = swept.faults(mount)
    return [
        (
            number,
            step,
            [fault for fault in FAULTS if fault in there and _strikes(swept, fault, step)],
        )
        for number, step in enumerate(calls_of(folder, swept, mount), start=1)
    ]


def _strikes(swept: Swept, fault: str, step: Step) -> bool:
    return swept.strikes(fault, step) and (fault != "EMFILE" or step.verb in DESCRIPTORS)


def share_of(number: int, faults: Sequence[str]) -> list[str]:
    """The faults that this run tries at the call of this number: one at least."""
    if len(faults) < SHARE:
        return [faults[number % len(faults)]] if faults else []
    return [fault for kind, fault in enumerate(faults) if (number + kind) % SHARE == 0]


def fail_at_every_call(folder: str, swept: Swept, mount: Mount) -> None:
    """Faults strike each of its calls, one at a time."""
    wanted = [
        (number, step, fault)
        for number, step, faults in faults_of(folder, swept, mount)
        for fault in share_of(number, faults)
    ]
    assert wanted
    for (number, step, fault), state in zip(wanted, states(folder, swept, mount), strict=False):
        try:
            swept.survive(state, FAULTS[fault](number), step)
            swept.finish(state, dead=False)
        except BaseException as error:
            error.add_note(f"{fault} at call {number}: {step}")
            raise
