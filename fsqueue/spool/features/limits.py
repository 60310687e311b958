"""Concurrency limits: at most N of the calls that share a limit run at a time, on all workers.

A limit's folder, ``lanes/<digest>-<N>/`` (a lane), exists while calls use it. It holds:

- the permits in use: ``<number>/<holder>/``, with numbers from 1 to N. A worker makes a folder
  under the holder's own name and renames it to a number. The file server refuses that while another
  holder has the number, so there are never more holders than numbers. To release a permit, a worker
  removes the holder's folder, whose name is unique, and then the number's folder, which the file
  server refuses if another holder has it by then.
- the calls that wait for a permit: ``<waiting folder>/<id>.<attempt>``. The worker that releases a
  permit makes the first of them pending again. The worker that claims it then acquires a permit as
  usual.

A holder's name contains its worker's name, and the call's file stays in that worker's folder for as
long as the call has the permit. So a process that reads the name first, and then that folder, knows
for certain whether the holder is gone. Permits are never handed over.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import SpoolError
from fsqueue.spool.disk.identity import has_live_process, host_name, is_marked_gone, mark_of
from fsqueue.spool.format.names import (
    AttemptName,
    Holder,
    WaitingFolder,
    in_order,
    lane_limit,
    new_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.claim import Claim

log: logging.Logger = logging.getLogger(__name__)

_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_NUMBER = re.compile(r"[1-9]\d{0,4}", re.ASCII)
_GONE = "gone"
_TOKEN = 6


class Permit(NamedTuple):
    """A permit of a limit, held by an attempt."""

    lane: str
    number: int
    holder: Holder


def waiting_name(origin: str, lender: str) -> WaitingFolder:
    """The folder of a limit in which a call from `origin` waits."""
    queue, slot = origin.split("/")[-3:-1]
    return WaitingFolder(slot, queue, lender)


class _Listing(NamedTuple):
    """The content of a limit's folder."""

    limit: int
    numbers: frozenset[int]
    folders: tuple[WaitingFolder, ...]
    others: tuple[str, ...]
    """Folders of holders that are being created or removed."""

    @property
    def free(self) -> list[int]:
        """The numbers of free permits."""
        return [number for number in range(1, self.limit + 1) if number not in self.numbers]


class Limits:
    """Acquires and releases the permits of concurrency limits.

    Args:
        admit: makes the waiting call at a path pending; returns whether the call was there.
    """

    def __init__(self, files: Files, admit: Callable[[str], bool]) -> None:
        self._files, self._fs, self._layout = files, files.fs, files.layout
        self._admit = admit

    def _list(self, lane: str) -> _Listing:
        names = self._fs.names(self._layout.lane(lane), fresh=True)
        numbers = {name for name in names if _NUMBER.fullmatch(name)}
        folders = {name: WaitingFolder.parse(name) for name in sorted(names)}
        return _Listing(
            lane_limit(lane),
            frozenset(map(int, numbers)),
            tuple(filter(None, folders.values())),
            tuple(name for name in names if name not in numbers and not folders[name]),
        )

    # -- permits --------------------------------------------------------------------------

    def acquire(self, lane: str, claim: Claim) -> Permit | None:
        """Acquire a permit for a claimed call; None if none is free.

        Dies before or after the rename to a number: upkeep sees that the worker no longer has the
        call. Lost reply: the holder's folder is there. If the rename is carried out but reports any
        other error, the effect is that of a death, and the call waits for another permit.
        """
        free = self._list(lane).free
        if not free:
            return None
        process = mark_of(os.getpid())
        holder = Holder(claim.name.invocation_id, claim.worker, process, new_token(_TOKEN))
        made = self._layout.in_lane(lane, holder)
        try:
            self._make(made)
        except NotADirectoryError:
            if not self._files.clear(self._layout.lane(lane)):
                raise
            self._make(made)
        for number in free:
            if self._take(lane, number, holder):
                return Permit(lane, number, holder)
        self._remove(made, str(holder))
        return None

    def _make(self, folder: str) -> None:
        self._files.make_folders(folder)
        self._files.make_folders(f"{folder}/{os.path.basename(folder)}")

    def _take(self, lane: str, number: int, holder: Holder) -> bool:
        target = self._layout.in_lane(lane, number)
        try:
            self._fs.rename(self._layout.in_lane(lane, holder), target)
        except OSError as error:
            if error.errno in _OCCUPIED:
                return False
            if self._fs.exists(f"{target}/{holder}", fresh=True):
                return True
            if not isinstance(error, FileNotFoundError):
                raise
            return False  # upkeep considered it abandoned and removed it
        return True

    def release(self, permit: Permit) -> None:
        """Release a permit, and admit the first call that waits for it.

        Dies at any point: upkeep does the rest.
        """
        self._remove(self._layout.in_lane(permit.lane, permit.number), str(permit.holder))
        self.admit(permit.lane)

    def _remove(self, folder: str, holder: str) -> None:
        self._fs.rmdir(f"{folder}/{holder}")
        self._fs.rmdir(folder)

    def release_dead(self, lanes: Iterable[str], invocation_id: str, worker: str) -> None:
        """Release the permits of a call whose worker or slot process has died.

        Errors are only logged: upkeep tries again.
        """
        for lane in lanes:
            try:
                for number, holder in list(self._holders(lane)):
                    is_its = (holder.invocation_id, holder.worker) == (invocation_id, worker)
                    if is_its and not _may_run(holder):
                        self._remove(self._layout.in_lane(lane, number), str(holder))
                self.admit(lane)
            except (OSError, SpoolError) as error:
                log.info("a permit of limit %s is released later: %s", lane, error)

    def still_held(self, places: Mapping[str, str]) -> dict[str, str]:
        """The given invocations, by limit, that still hold a permit."""
        return {
            lane: owner
            for lane, owner in places.items()
            if any(holder.invocation_id == owner for _, holder in self._holders(lane))
        }

    def _holders(self, lane: str) -> Iterator[tuple[int, Holder]]:
        for number in sorted(self._list(lane).numbers):
            for name in self._fs.names(self._layout.in_lane(lane, number), fresh=True):
                holder = Holder.parse(name)
                if holder is not None:
                    yield number, holder

    # -- waiting calls --------------------------------------------------------------------

    def admit(self, lane: str, most: int = 1) -> int:
        """Make waiting calls pending: as many as there are free permits, and at most `most`.

        Must be called after a permit was released, and after a call started waiting. A worker may
        release a permit, and see no call waiting, just after another worker failed to acquire one
        and before that worker's call waits. Both act first and check afterwards, so at least one
        sees the other.
        """
        listing = self._list(lane)
        left = min(most, len(listing.free))
        admitted = 0
        for path in self._waiting(lane, listing) if left else ():
            with self._passing_over(path):
                admitted += self._admit(path)
            if admitted >= left:
                return admitted
        if not listing.numbers and not listing.others:
            self._fs.rmdir(self._layout.lane(lane))  # refused unless it is empty
        return admitted

    def _waiting(self, lane: str, listing: _Listing) -> Iterator[str]:
        """Paths of the waiting calls, in the order of service."""
        for waiting in listing.folders:
            folder = self._layout.in_lane(lane, waiting)
            names = self._files.listed(folder, fresh=True)
            yield from (f"{folder}/{name}" for name in sorted(names, key=_order))
            if not names:
                self._fs.rmdir(folder)  # a call that needs to wait there recreates it

    def waiting_folders(self, lane: str) -> list[tuple[WaitingFolder, str]]:
        """The waiting folders of a limit, in the order of service, each with its path."""
        found = self._list(lane).folders
        return [(waiting, self._layout.in_lane(lane, waiting)) for waiting in found]

    def find(
        self, lane: str, invocation_id: str | None, lender: str, hint: str | None = None
    ) -> str | None:
        """Path of a waiting call: the given invocation, or the first one on behalf of `lender`.

        Args:
            lane: the limit.
            invocation_id: the invocation; None if it cannot wait for this limit.
            lender: an invocation that holds a permit of the limit.
            hint: where the invocation was published, if known.
        """
        caused = None
        for waiting, folder in self.waiting_folders(lane):
            if waiting.lender != lender and not (invocation_id and waiting.may_hold(hint)):
                continue
            for name in sorted(self._files.listed(folder, fresh=True), key=_order):
                if name.startswith(f"{invocation_id}."):
                    return f"{folder}/{name}"
                if waiting.lender == lender:
                    caused = caused or f"{folder}/{name}"
        return caused

    def hand_to(self, lane: str, invocation_id: str, lender: str, hint: str | None) -> None:
        """Move a waiting call to where `lender` finds it, unless another holder is waiting for it.

        Dies before or after the rename: the call waits in one of the two folders.

        Args:
            lane: the limit.
            lender: an invocation that holds a permit of the limit.
            hint: where the invocation was published, if known.
        """
        for waiting, folder in self.waiting_folders(lane):
            if not waiting.may_hold(hint):
                continue
            for name in self._files.listed(folder, fresh=True):
                its = name.startswith(f"{invocation_id}.") and waiting.lender != lender
                if its and not self.still_held({lane: waiting.lender}):
                    target = f"{waiting._replace(lender=lender)}/{name}"
                    self._files.move(f"{folder}/{name}", self._layout.in_lane(lane, target))

    # -- upkeep -------------------------------------------------------------------------

    def recover(self, lane: str, *, admit: bool = True) -> bool:
        """Release the permits of holders that are gone; True if calls wait for free permits.

        Any number of processes may do this at once, and each may die at any point.

        Args:
            lane: the limit.
            admit: make the waiting calls pending.
        """
        for number in self._list(lane).numbers:
            with self._passing_over(self._layout.in_lane(lane, number)):
                self._free_if_gone(lane, number)
        listing = self._list(lane)
        for name in listing.others:
            with self._passing_over(self._layout.in_lane(lane, name)):
                self._remove_if_gone(lane, name)
        if admit or not listing.folders:
            self.admit(lane, most=len(listing.free))
        return bool(listing.folders and listing.free)

    @contextlib.contextmanager
    def _passing_over(self, path: str) -> Iterator[None]:
        """Skip an entry that this user may not access, so that the others are still handled."""
        try:
            yield
        except PermissionError as error:
            self._files.pass_over(path, error)

    def _free_if_gone(self, lane: str, number: int) -> None:
        folder = self._layout.in_lane(lane, number)
        if self._files.clear(folder):
            return
        for name in self._fs.names(folder, fresh=True):
            holder = Holder.parse(name)
            if holder is None:
                self._files.set_aside(f"{folder}/{name}", "its name is not that of a holder")
            elif self._is_gone(holder):
                self._fs.rmdir(f"{folder}/{name}")
        self._fs.rmdir(folder)

    def _remove_if_gone(self, lane: str, name: str) -> None:
        """Remove a holder's folder that was never renamed to a number, if the holder is gone.

        It is renamed first, so that an owner that is only slow does not find it. Otherwise the
        owner could acquire a permit with a folder that is being emptied.
        """
        folder = self._layout.in_lane(lane, name)
        if not name.startswith(_GONE):
            if not self._is_gone(Holder.parse(name)):
                return
            folder, former = self._layout.in_lane(lane, f"{_GONE}.{new_token()}"), folder
            with contextlib.suppress(FileNotFoundError):
                self._fs.rename(former, folder)
        for inner in self._fs.names(folder, fresh=True):
            self._fs.rmdir(f"{folder}/{inner}")
        self._fs.rmdir(folder)

    def _is_gone(self, holder: Holder | None) -> bool:
        """Whether the task that a permit was acquired for has ended, or never started.

        While the worker exists, its folder tells. If the worker was killed, its slot processes can
        outlive it; on another host, they end long before the worker counts as dead. A worker whose
        process exists but whose folder is gone was declared dead because it was silent. It may stay
        suspended for any time, so its permit goes to another call.
        """
        if holder is None:
            return False
        folder = self._layout.running(holder.worker)
        names = self._fs.names(folder, fresh=True)
        if any(name.startswith(f"{holder.invocation_id}.") for name in names):
            return False
        if not _may_run(holder) or self._fs.has_folder(folder):
            return True
        return has_live_process(holder.worker)


def _may_run(holder: Holder) -> bool:
    """Whether the process that acquired a permit may still run, as far as this host knows."""
    here = holder.worker.startswith(f"{host_name()}-")
    return here and not is_marked_gone(holder.process)


def _order(name: str) -> tuple[str, int, int]:
    attempt = AttemptName.parse(name)
    return ("", 0, 0) if attempt is None else in_order(attempt)
