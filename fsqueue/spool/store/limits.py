"""Lanes: of the calls that meet in one, only so many run at a time, whoever runs them.

``lanes/<digest>-<limit>/`` is there while somebody uses it. In it are

- its places that are taken: ``<number>/<holder>/``, with numbers from 1 to the limit. A holder is a
  folder that was made under its own name and then renamed to the number, which the file
  server refuses while somebody else's is there: so there can never be more holders than numbers.
  Whoever leaves removes its own holder, whose name nobody else ever has, and then the number, which
  the file server refuses if that is somebody else's by now.
- calls that wait: ``<siding>/<id>.<attempt>``. Whoever leaves a place makes the first of them
  pending again, whose worker then takes a place like any other.

A holder names the worker that has the call's file in its folder for as long as the call has
the place. So whoever reads the name first and the folder then knows for certain whether the holder
is gone, and no place has to be handed over.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.errors import EnvelopeError, SpoolError
from fsqueue.spool.disk.identity import has_live_process, host_name, is_marked_gone, mark_of
from fsqueue.spool.format.names import (
    AttemptName,
    Holder,
    WaitingFolder,
    in_order,
    is_invocation_id,
    lane_limit,
    new_token,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from fsqueue.spool.format.claim import Claim
    from fsqueue.spool.format.records import Call
    from fsqueue.spool.store.files import Files

log = logging.getLogger(__name__)

_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST})
_NUMBER = re.compile(r"[1-9]\d{0,4}", re.ASCII)
_GONE = "gone"
_TOKEN = 6


class Permit(NamedTuple):
    """A place in a lane that an attempt has taken."""

    lane: str
    number: int
    holder: Holder


def check_lanes(call: Call, path: str) -> None:
    """See that the lanes of a call are names that may become part of a path.

    Raises:
        EnvelopeError: they are not.
    """
    if not call.lanes and not call.within:
        return
    lenders_fit = all(map(is_invocation_id, call.within.values()))
    if not all(map(lane_limit, call.lanes)) or not lenders_fit:
        raise EnvelopeError(f"{path} names no lanes ({', '.join(call.lanes)})")


def waiting_name(origin: str, lender: str) -> WaitingFolder:
    """Where in a lane a call waits that was pending at `origin`."""
    queue, slot = origin.split("/")[-3:-1]
    return WaitingFolder(slot, queue, lender)


class _Sight(NamedTuple):
    """What was in a lane."""

    limit: int
    numbers: frozenset[int]
    sidings: tuple[WaitingFolder, ...]
    others: tuple[str, ...]
    """Holders that are being made, or removed."""

    @property
    def free(self) -> list[int]:
        """Places that nobody has."""
        return [number for number in range(1, self.limit + 1) if number not in self.numbers]


class Limits:
    """One process's access to ``lanes/``.

    Args:
        files: the files of the spool.
        admit: makes a waiting call pending again; gets its path and returns whether it was there.
    """

    def __init__(self, files: Files, admit: Callable[[str], bool]) -> None:
        self._files, self._fs, self._layout = files, files.fs, files.layout
        self._admit = admit

    def _look(self, lane: str) -> _Sight:
        names = self._fs.names(self._layout.lane(lane), fresh=True)
        numbers = {name for name in names if _NUMBER.fullmatch(name)}
        sidings = {name: WaitingFolder.parse(name) for name in sorted(names)}
        return _Sight(
            lane_limit(lane),
            frozenset(map(int, numbers)),
            tuple(filter(None, sidings.values())),
            tuple(name for name in names if name not in numbers and not sidings[name]),
        )

    # -- places -------------------------------------------------------------------------

    def enter(self, lane: str, claim: Claim) -> Permit | None:
        """Take a place for a claimed call; None if all are taken.

        Dies before the rename to a number, or after it: upkeep sees that the worker has not got
        the call any more. Lost reply: the holder is there. Fails otherwise, and has happened: the
        same as a death, and the call waits for another place.
        """
        free = self._look(lane).free
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
            return False  # it was taken for abandoned, and removed
        return True

    def leave(self, place: Permit) -> None:
        """Free a place, and admit who waits first.

        Dies before, or in the middle: upkeep does the rest.
        """
        self._remove(self._layout.in_lane(place.lane, place.number), str(place.holder))
        self.admit(place.lane)

    def _remove(self, folder: str, holder: str) -> None:
        self._fs.rmdir(f"{folder}/{holder}")
        self._fs.rmdir(folder)

    def vacate(self, lanes: Iterable[str], invocation_id: str, worker: str) -> None:
        """Free the places of a call whose worker has died, or its body's process.

        Errors do not matter: upkeep does it again.
        """
        for lane in lanes:
            try:
                for number, holder in list(self._holders(lane)):
                    is_its = (holder.invocation_id, holder.worker) == (invocation_id, worker)
                    if is_its and not _may_run(holder):
                        self._remove(self._layout.in_lane(lane, number), str(holder))
                self.admit(lane)
            except (OSError, SpoolError) as error:
                log.info("a place in lane %s is freed later: %s", lane, error)

    def still_held(self, places: Mapping[str, str]) -> dict[str, str]:
        """Of the invocations that had a place, by lane, those which have it still."""
        return {
            lane: owner
            for lane, owner in places.items()
            if any(holder.invocation_id == owner for _, holder in self._holders(lane))
        }

    def _holders(self, lane: str) -> Iterator[tuple[int, Holder]]:
        for number in sorted(self._look(lane).numbers):
            for name in self._fs.names(self._layout.in_lane(lane, number), fresh=True):
                holder = Holder.parse(name)
                if holder is not None:
                    yield number, holder

    # -- those who wait -----------------------------------------------------------------

    def admit(self, lane: str, most: int = 1) -> int:
        """Make as many waiting calls pending as there are free places, `most` of them at most.

        To be called after a place was freed, and after a call was parked: a place may have been
        freed between the look for one and the parking, by somebody who saw nobody wait. Each
        of the two acts and then looks, so one of them sees the other.
        """
        sight = self._look(lane)
        left = min(most, len(sight.free))
        admitted = 0
        for path in self._waiting(lane, sight) if left else ():
            with self._passing_over(path):
                admitted += self._admit(path)
            if admitted >= left:
                return admitted
        if not sight.numbers and not sight.others:
            self._fs.rmdir(self._layout.lane(lane))  # refused unless it is empty
        return admitted

    def _waiting(self, lane: str, sight: _Sight) -> Iterator[str]:
        """Paths of the calls that wait, in the order of service."""
        for siding in sight.sidings:
            folder = self._layout.in_lane(lane, siding)
            names = self._files.listed(folder, fresh=True)
            yield from (f"{folder}/{name}" for name in sorted(names, key=_order))
            if not names:
                self._fs.rmdir(folder)  # whoever parks there meanwhile makes it anew

    def sidings(self, lane: str) -> list[tuple[WaitingFolder, str]]:
        """Where calls wait in a lane, in the order of service, each with its path."""
        found = self._look(lane).sidings
        return [(siding, self._layout.in_lane(lane, siding)) for siding in found]

    def find(
        self, lane: str, invocation_id: str | None, lender: str, hint: str | None = None
    ) -> str | None:
        """Path of a waiting call: of this invocation, or else the first that `lender` has caused.

        Args:
            lane: the lane.
            invocation_id: the invocation; None: it cannot be in this lane.
            lender: an invocation that has a place in the lane.
            hint: where the invocation was published, if that is known.
        """
        caused = None
        for siding, folder in self.sidings(lane):
            if siding.lender != lender and not (invocation_id and siding.may_hold(hint)):
                continue
            for name in sorted(self._files.listed(folder, fresh=True), key=_order):
                if name.startswith(f"{invocation_id}."):
                    return f"{folder}/{name}"
                if siding.lender == lender:
                    caused = caused or f"{folder}/{name}"
        return caused

    def hand_to(self, lane: str, invocation_id: str, lender: str, hint: str | None) -> None:
        """Let a waiting call wait where `lender` finds it, unless it does where another one does.

        Dies before or after: it waits in the one place or in the other.

        Args:
            lane: the lane.
            invocation_id: the invocation.
            lender: an invocation that has a place in the lane.
            hint: where the invocation was published, if that is known.
        """
        for siding, folder in self.sidings(lane):
            if not siding.may_hold(hint):
                continue
            for name in self._files.listed(folder, fresh=True):
                its = name.startswith(f"{invocation_id}.") and siding.lender != lender
                if its and not self.still_held({lane: siding.lender}):
                    target = f"{siding._replace(lender=lender)}/{name}"
                    self._files.move(f"{folder}/{name}", self._layout.in_lane(lane, target))

    # -- upkeep -------------------------------------------------------------------------

    def mend(self, lane: str, *, admit: bool = True) -> bool:
        """Free the places whose holders are gone; returns whether places are free that calls want.

        Any number may do it at once, and each may die at any point.

        Args:
            lane: the lane.
            admit: let those calls go.
        """
        for number in self._look(lane).numbers:
            with self._passing_over(self._layout.in_lane(lane, number)):
                self._free_if_gone(lane, number)
        sight = self._look(lane)
        for name in sight.others:
            with self._passing_over(self._layout.in_lane(lane, name)):
                self._remove_if_gone(lane, name)
        if admit or not sight.sidings:
            self.admit(lane, most=len(sight.free))
        return bool(sight.sidings and sight.free)

    @contextlib.contextmanager
    def _passing_over(self, path: str) -> Iterator[None]:
        """An entry of a lane that is closed to this user keeps nobody from the others."""
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
                self._files.set_aside(f"{folder}/{name}", "its name is not one of a lane")
            elif self._is_gone(holder):
                self._fs.rmdir(f"{folder}/{name}")
        self._fs.rmdir(folder)

    def _remove_if_gone(self, lane: str, name: str) -> None:
        """Remove a holder that was never renamed to a number.

        Under another name, for which its owner does not look: it could take a place with a folder
        that is empty by then.
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
        """Whether the body has ended for which a place was taken, or never begun.

        As long as the worker is there its folder tells. A process of its slots can outlive one that
        was killed; on another host that is over long before the worker counts as dead. A worker
        without a folder whose process is there was taken for dead because it was silent. Nobody
        knows how long it is suspended, so its place goes to another call.
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
    """Whether the process that has taken a place may be running, as far as this host knows."""
    here = holder.worker.startswith(f"{host_name()}-")
    return here and not is_marked_gone(holder.process)


def _order(name: str) -> tuple[str, int, int]:
    attempt = AttemptName.parse(name)
    return ("", 0, 0) if attempt is None else in_order(attempt)
