"""Lists the folders that contain the files of unfinished calls.

This is the only module that knows all of them. A call may move between these folders during a walk,
so a single walk can miss it; `unfinished` walks twice.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.spool.format.names import AttemptName, Slot, WaitingFolder, is_slot_name, lane_limit

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fsqueue.spool.files.files import Files


class PendingFolder(NamedTuple):
    """A folder of pending calls: a slot of a queue, or a waiting folder of a limit."""

    queue: str
    """Folder name of the queue in which the calls are pending, or to which they will return."""
    slot: Slot
    path: str


def _names(files: Files, folder: str, *, strict: bool) -> list[str]:
    """Names in a folder. If it cannot be listed, raises an error if `strict`; otherwise empty."""
    names = files.fs.names if strict else files.listed
    return names(folder, fresh=True)


def slots(
    files: Files, queues: Iterable[str] | None = None, *, strict: bool = False
) -> Iterator[PendingFolder]:
    """The slots of queues, for each queue in the order of service.

    Args:
        queues: folder names; None is all.
        strict: raise an error if a folder cannot be listed, instead of skipping it.
    """
    layout = files.layout
    if queues is None:
        queues = files.fs.names(layout.pending_folder, fresh=True)
    for queue in queues:
        for text in sorted(filter(is_slot_name, _names(files, layout.queue(queue), strict=strict))):
            slot = Slot.parse(text)
            if slot is not None:
                yield PendingFolder(queue, slot, layout.slot(queue, text))


def waiting_for_limits(files: Files, *, strict: bool = False) -> Iterator[PendingFolder]:
    """The folders in which calls wait for a concurrency limit, in each limit's order of service.

    Args:
        strict: as for `slots`.
    """
    fs, layout = files.fs, files.layout
    for lane in sorted(filter(lane_limit, fs.names(layout.lanes_folder, fresh=True))):
        for text in sorted(_names(files, layout.lane(lane), strict=strict)):
            waiting = WaitingFolder.parse(text)
            slot = None if waiting is None else Slot.parse(waiting.slot)
            if waiting is not None and slot is not None:
                yield PendingFolder(waiting.queue, slot, layout.in_lane(lane, text))


def waiting_for_calls(files: Files) -> Iterator[tuple[str, str]]:
    """The folders of calls that wait for a parent, each with the parent's id."""
    for parent in sorted(files.fs.names(files.layout.after_folder, fresh=True)):
        yield parent, files.layout.after(parent)


def running(files: Files) -> Iterator[tuple[str, str]]:
    """Each worker's name and folder of claims, in no order."""
    for worker in files.fs.names(files.layout.running_folder, fresh=True):
        yield worker, files.layout.running(worker)


def unclaimed(files: Files, *, strict: bool = False) -> Iterator[str]:
    """The folders of unclaimed calls, in the order in which a call moves.

    A call that waits for other calls or for a limit moves to a slot.
    """
    return itertools.chain(
        (folder for _, folder in waiting_for_calls(files)),
        (each.path for each in waiting_for_limits(files, strict=strict)),
        (each.path for each in slots(files, strict=strict)),
    )


def all_folders(files: Files, *, strict: bool = False) -> Iterator[str]:
    """All folders of unfinished calls, in the order in which a call moves."""
    return itertools.chain(
        unclaimed(files, strict=strict), (folder for _, folder in running(files))
    )


def attempts_in(files: Files, folder: str, *, strict: bool = False) -> Iterator[AttemptName]:
    """The attempts in one of these folders, in no order.

    Args:
        strict: as for `slots`.
    """
    return filter(None, map(AttemptName.parse, _names(files, folder, strict=strict)))


class HeldAttempt(NamedTuple):
    """An attempt in a worker's folder."""

    worker: str
    name: AttemptName
    path: str


def held(files: Files) -> Iterator[HeldAttempt]:
    """The attempts that workers have claimed, in no order."""
    for worker, folder in running(files):
        for name in attempts_in(files, folder):
            yield HeldAttempt(worker, name, f"{folder}/{name}")


def unfinished(files: Files) -> set[str]:
    """The unfinished invocations, including those that move during the walk.

    Raises:
        OSError: a folder cannot be listed, so invocations might be missing.
    """
    return {
        name.invocation_id
        for folder in itertools.chain(
            all_folders(files, strict=True), all_folders(files, strict=True)
        )
        for name in attempts_in(files, folder, strict=True)
    }
