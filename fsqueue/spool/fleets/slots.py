"""Slots of a fleet: each holds at most one batch job.

A slot is taken like a permit of a concurrency limit: a folder that holds the job's name is renamed
to the slot's number, which the file server refuses while another job is in there. A slot is freed
by removing the job's name, so a process cannot free the slot of a later job by mistake. No step
here takes a lock.
"""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING

from fsqueue.spool.fleets.records import Member
from fsqueue.spool.format.names import new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from fsqueue.spool.disk.filesystem import Filesystem

_OCCUPIED = frozenset({errno.ENOTEMPTY, errno.EEXIST, errno.EBUSY})
_SLOT = re.compile(r"[1-9]\d{0,5}", re.ASCII)


class Slots:
    """The slots of one fleet. Every method can be repeated safely.

    Args:
        folder: path of the folder with the slots.
        make_folders: makes a folder of the spool, and missing ones above it.
    """

    def __init__(
        self, filesystem: Filesystem, folder: str, make_folders: Callable[[str], None]
    ) -> None:
        self._fs, self._make_folders = filesystem, make_folders
        self.folder: str = folder

    def taken(self) -> dict[int, Member]:
        """Jobs that exist or are being submitted, by slot."""
        return {slot: member for slot, member in self._list().items() if member is not None}

    def _list(self) -> dict[int, Member | None]:
        """All slots that have ever been used, with their jobs; None marks a free slot."""
        found: dict[int, Member | None] = {}
        for number in self._fs.names(self.folder, fresh=True):
            if _SLOT.fullmatch(number):
                inside = map(Member.parse, self._fs.names(f"{self.folder}/{number}", fresh=True))
                found[int(number)] = next(filter(None, inside), None)
        return found

    def take(self, token: str, count: int, most: int) -> list[Member]:
        """Take up to `count` of the slots 1 to `most` for a submission that has begun.

        Jobs are numbered from 1. If the process dies in the middle, the slots are taken by a
        submission without jobs whose process is gone.
        """
        members: list[Member] = []
        seen = self._list()
        for slot in (slot for slot in range(1, most + 1) if seen.get(slot) is None):
            if len(members) == count:
                break
            member = Member(token, len(members) + 1)
            if self._take(slot, member):
                members.append(member)
        return members

    def adopt(self, member: Member, most: int) -> bool:
        """Take a slot for a job that exists and has none; False if all are taken."""
        seen = self._list()
        if member in seen.values():
            return True
        free = (slot for slot in range(1, most + 1) if seen.get(slot) is None)
        return any(self._take(slot, member) for slot in free)

    def _take(self, slot: int, member: Member) -> bool:
        """Take one slot. If the process dies before the rename, a folder remains and expires."""
        # The name is unique: two processes that adopt a job must not move each other's folder.
        own, target = f"{self.folder}/.{member}.{new_token()}", f"{self.folder}/{slot}"
        self._make_folders(f"{own}/{member}")
        try:
            self._fs.rename(own, target)
        except NotADirectoryError:  # something else is there, so the slot is unusable
            self._remove(own)
            return False
        except OSError as error:
            if self._fs.exists(f"{target}/{member}", fresh=True):
                return True  # only the reply was lost
            self._remove(own)
            if error.errno not in _OCCUPIED:
                raise
            return False
        return True

    def free(self, member: Member) -> None:
        """Free the slots of a job; it has one, or two if two processes have adopted it."""
        for slot, other in self.taken().items():
            if other == member:
                self._fs.rmdir(f"{self.folder}/{slot}/{member}")

    def expire(self, oldest: float) -> int:
        """Remove the folders of processes that died before renaming them to slots."""
        removed = 0
        for name in self._fs.names(self.folder):
            own = f"{self.folder}/{name}"
            if name.startswith(".") and self._fs.status(own, follow=False).st_mtime < oldest:
                removed += self._remove(own)
        return removed

    def remove(self) -> None:
        """Remove all slots, which must be free."""
        for name in self._fs.names(self.folder, fresh=True):
            self._remove(f"{self.folder}/{name}")
        self._fs.rmdir(self.folder)

    def _remove(self, folder: str) -> bool:
        for name in self._fs.names(folder, fresh=True):
            self._fs.rmdir(f"{folder}/{name}")
        return self._fs.rmdir(folder)
