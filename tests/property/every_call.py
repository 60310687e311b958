"""Runs an operation once for each filesystem call that it makes, with a fault at that call.

To sweep something new, register it: write a `Swept`, and add it to the list of a module that
`test_every_call.py` names. It then meets every fault of this module.
"""

from __future__ import annotations

import errno
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from sweep import LOCAL, deaths, in_child

from fsqueue.testing import CRASH_STATUS, Fault

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sweep import Mount

    from fsqueue.testing import Operation as Step

FAULTS: dict[str, Callable[[int], Fault]] = {
    **{
        errno.errorcode[code]: lambda number, code=code: Fault.fail(code, at=number)
        for code in (errno.ENOSPC, errno.EIO, errno.ESTALE, errno.EACCES)
    },
    "lost": lambda number: Fault.lost_reply(at=number),
    "done-and-EIO": lambda number: Fault.lost_reply(at=number, code=errno.EIO),
}
"""What a filesystem call can do, besides what it should: by number of the call, from 1."""


class Swept(ABC):
    """An operation, and what must hold after it whatever has happened to it."""

    name: str
    mounts: tuple[Mount, ...] = (LOCAL,)
    """Where it dies at every call; faults are tried on a local disk."""
    ignores_death: ClassVar[bool] = False
    """Its process may come to its end though it was to die: it makes fewer calls at times."""
    without: ClassVar[frozenset[str]] = frozenset()
    """Faults that mean something else to it than a fault."""

    def __str__(self) -> str:
        return self.name

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


def calls_of(folder: str, swept: Swept, mount: Mount = LOCAL) -> Sequence[Step]:
    """The filesystem calls that it makes when it meets no fault."""
    return swept.run(swept.begin(f"{folder}/dry", mount))


def die_at_every_call(folder: str, swept: Swept, mount: Mount) -> None:
    """Its process dies before each of its calls, and after the last one."""
    every = deaths(len(calls_of(folder, swept, mount)))
    assert len(every) > 1
    for number, death in enumerate(every):
        state = swept.begin(f"{folder}/{number}", mount)
        status = in_child(lambda: swept.run(state, death))  # noqa: B023
        assert status == CRASH_STATUS or (swept.ignores_death and status == 0), death
        swept.finish(state, dead=True)


def fail_at_every_call(folder: str, swept: Swept, fault: Callable[[int], Fault]) -> None:
    """The fault strikes each of its calls."""
    for number, step in enumerate(calls_of(folder, swept), start=1):
        state = swept.begin(f"{folder}/{number}", LOCAL)
        swept.survive(state, fault(number), step)
        swept.finish(state, dead=False)
