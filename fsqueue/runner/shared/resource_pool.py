"""The resources of a worker (GPUs, memory, ...), and the calls that hold them."""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from fsqueue.spool.format.names import folder_of, split_profile
from fsqueue.spool.format.resources import NONE, covers, needs_of, walltime_of, without_walltime

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection

    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.resources import Amounts
    from fsqueue.spool.worker.registration import Worker


class ResourceBudget(Protocol):
    """Gives resources to calls before a worker runs them."""

    def take(self, name: str, needed: Amounts, within: str = "") -> bool:
        """Take the resources that a call needs; False if they are not free.

        Args:
            name: name of the attempt.
            within: name of the attempt whose body waits for this one, and lends its resources
                meanwhile.
        """

    def give(self, name: str) -> None:
        """Free the resources of a call that has ended, and of calls that its body waited for."""

    def devices(self, name: str) -> tuple[str, ...]:
        """The GPUs that a call holds, by name; none if the worker's GPUs have no names."""


GPU: Final = "gpu"
WHOLE_GPU: Final = 1000
"""The amount of one GPU."""


def _key(device: str) -> str:
    """A GPU as a resource of its own. Users cannot give a resource this name."""
    return f"{GPU}@{device}"


class _Holder:
    """A running call, and the calls that its body runs while it waits for them."""

    def __init__(self, needed: Amounts, siblings: dict[str, _Holder]) -> None:
        self.needed, self.siblings = needed, siblings
        self.within: dict[str, _Holder] = {}

    def held(self) -> Amounts:
        """The resources of the call and the calls within it: while one runs, the other waits."""
        inner = _sum(self.within)
        return {
            name: max(self.needed.get(name, 0), inner.get(name, 0))
            for name in {*self.needed, *inner}
        }


def _sum(holders: dict[str, _Holder]) -> Amounts:
    total: Counter[str] = Counter()
    for each in holders.values():
        total.update(each.held())
    return total


class ResourcePool:
    """The resources of one worker. All methods may be called from any thread.

    Args:
        total: the amounts that the worker has.
        on_give: called when resources are free again.
        time_left: returns the seconds for which bodies may run.
        devices: the names of its GPUs, as many as it has; none if they have no names.

    Attributes:
        total: as given.
    """

    def __init__(
        self,
        total: Amounts,
        on_give: Callable[[], object] = lambda: None,
        time_left: Callable[[], float] = lambda: math.inf,
        devices: Sequence[str] = (),
    ) -> None:
        self.total = total
        self._devices = tuple(devices)
        self._capacity = total
        if devices:
            self._capacity = {**total, **{_key(device): WHOLE_GPU for device in devices}}
        self._on_give, self._time_left = on_give, time_left
        self._mutex = threading.Lock()
        self._holders: dict[str, _Holder] = {}
        self._known: dict[str, _Holder] = {}

    def fits(self, needed: Amounts) -> bool:
        """Whether the worker has enough resources, free or in use, and enough time."""
        in_time = walltime_of(needed) <= max(0.0, self._time_left())
        return in_time and covers(self.total, without_walltime(needed))

    def has(self, needed: Amounts) -> bool:
        """Whether these amounts are free now. Running calls do not use up time."""
        needed = without_walltime(needed)
        if not needed:
            return True
        with self._mutex:
            return self._placed(needed, self._holders, NONE) is not None

    def take(self, name: str, needed: Amounts, within: str = "") -> bool:
        """See `ResourceBudget`. Time is not taken: a nested call may need more than is left."""
        needed = without_walltime(needed)
        if not self.total:
            return not needed
        with self._mutex:
            if name in self._known:
                return False  # another thread of this worker is trying it
            outer = self._known.get(within)
            siblings = self._holders if outer is None else outer.within
            placed = self._placed(needed, siblings, NONE if outer is None else outer.needed)
            if placed is None:
                return False
            siblings[name] = self._known[name] = _Holder(placed, siblings)
        return True

    def _placed(
        self, needed: Amounts, siblings: dict[str, _Holder], lent: Amounts
    ) -> Amounts | None:
        """The needed amounts, with GPUs by name; None if they are not free for these siblings.

        A part of a GPU comes from one that is shared already, if possible, so that whole ones stay
        free. A nested call gets those of the body that waits for it first.
        """
        whole, part = divmod(needed.get(GPU, 0), WHOLE_GPU) if self._devices else (0, 0)
        found = dict(needed)
        if whole or part:
            held = _sum(self._holders)
            keys = sorted(
                map(_key, self._devices), key=lambda key: (key not in lent, -held.get(key, 0))
            )
            for amount in [*[WHOLE_GPU] * whole, *[part] * bool(part)]:
                free = (key for key in keys if self._are_free({key: amount}, siblings))
                key = next((key for key in free if key not in found), None)
                if key is None:
                    return None
                found[key] = amount
        return found if not needed or self._are_free(found, siblings) else None

    def _are_free(self, amounts: Amounts, siblings: dict[str, _Holder]) -> bool:
        siblings[""] = _Holder(amounts, siblings)  # no attempt has this name
        try:
            return covers(self._capacity, _sum(self._holders))
        finally:
            del siblings[""]

    def devices(self, name: str) -> tuple[str, ...]:
        """See `ResourceBudget`."""
        with self._mutex:
            holder = self._known.get(name)
            needed = NONE if holder is None else holder.needed
            return tuple(device for device in self._devices if _key(device) in needed)

    def give(self, name: str) -> None:
        """See `ResourceBudget`."""
        if not self.total:
            return
        with self._mutex:
            holder = self._known.get(name)
            if holder is None:
                return
            self._drop(name, holder)
        if holder.held():
            self._on_give()

    def _drop(self, name: str, holder: _Holder) -> None:
        for inner, each in list(holder.within.items()):
            self._drop(inner, each)
        holder.siblings.pop(name, None)
        self._known.pop(name, None)


def claim_within(budget: ResourcePool, worker: Worker, origin: str) -> Claim | None:
    """Claim a pending attempt and take its resources; None if either is impossible.

    The resources are given back under the attempt's name when the call has ended.
    """
    name = os.path.basename(origin)
    if not budget.take(name, needed_by(origin) or NONE):
        return None
    claim = None
    try:
        claim = worker.claim(origin)
    finally:
        if claim is None:
            budget.give(name)
    return claim


def needed_by(path: str) -> Amounts | None:
    """The resources that a pending attempt needs, by its path; None if the profile is unknown."""
    return needs_of(split_profile(folder_of(path))[1])


class ResourceRequest(NamedTuple):
    """A slot process's request to its parent. The answer is the call's GPUs; None if not free."""

    name: str
    needed: Amounts | None
    """None when the call has ended."""
    within: str = ""


class RemoteBudget:
    """A slot process's access to the resources of its parent.

    Args:
        resource_pipe: the pipe on which the parent answers.
    """

    def __init__(self, resource_pipe: Connection) -> None:
        self._pipe = resource_pipe
        self._mutex = threading.Lock()
        self._devices: dict[str, tuple[str, ...]] = {}

    def take(self, name: str, needed: Amounts, within: str = "") -> bool:
        """See `ResourceBudget`."""
        try:
            with self._mutex:
                self._pipe.send(ResourceRequest(name, dict(needed), within))
                lent: tuple[str, ...] | None = self._pipe.recv()
        except (EOFError, OSError):
            return False  # the parent has ended or is leaving
        if lent:
            self._devices[name] = lent
        return lent is not None

    def give(self, name: str) -> None:
        """See `ResourceBudget`."""
        self._devices.pop(name, None)
        with self._mutex, contextlib.suppress(OSError):
            self._pipe.send(ResourceRequest(name, None))

    def was_given(self, name: str, devices: tuple[str, ...]) -> None:
        """Note the GPUs of the claim that this process executes; the parent has taken them."""
        self._devices = {name: devices} if devices else {}

    def devices(self, name: str) -> tuple[str, ...]:
        """See `ResourceBudget`."""
        return self._devices.get(name, ())


NO_RESOURCES = ResourcePool(NONE)
"""The pool of a worker without resources."""
