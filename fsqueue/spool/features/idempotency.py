"""Idempotency keys: at most one call is ever published for a key.

Several workers may publish for the same trigger, and each of them may retry. The worker writes the
call to ``tmp/``, takes the key with a link to ``fired/<key>``, and then renames the file in
``tmp/``, which makes the call pending. The link succeeds once per key, and the rename once per
file. A process that finds the key taken also does the rename, in case the key's owner has died.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.syscalls import links_unsupported
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import AttemptName, client_of, is_queue_name, is_slot_name
from fsqueue.spool.format.records import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.files.files import Files

log: logging.Logger = logging.getLogger(__name__)


def fire(
    files: Files,
    key: str,
    call: Call,
    payload: Sequence[bytes | memoryview],
    buffers: Sequence[Buffer] = (),
    *,
    wanted: Callable[[], bool] = lambda: True,
) -> bool:
    """Make a call pending unless one was already published for this key; True if it was done now.

    Dies before the link: nothing has happened, and a file in ``tmp/`` expires. Dies after it: the
    key is taken, and the next process that tries it makes the call pending. Dies after the rename,
    or loses its reply: the call is pending, and no process finds the file in ``tmp/`` again. Lost
    reply of the link: the key's file is this call.

    Without hard links, a check replaces the link, and the key is taken last. Then two concurrent
    processes, or a retry after a death, can publish twice.

    Args:
        key: safe as a file's name.
        call: its header.
        payload: segments; see `Call`.
        buffers: large parts of the values in the payload.
        wanted: called once the key is taken; if it returns False, nothing is published.
    """
    staged, entry = files.layout.staged(call.id), files.layout.fired(key)
    files.temporary.create(staged, envelope.encode(call, payload, files.key, buffers))
    try:
        owner = call if _take(files, staged, entry) else _owner(files, entry)
    except OSError as error:
        if links_unsupported(error):
            return _fire_without_links(files, call, entry, wanted)
        raise  # the key may be taken, so the file must stay
    if owner is None or owner.id != call.id:
        files.fs.discard(staged)
    if owner is None:
        return False
    staged = files.layout.staged(owner.id)
    if wanted():
        return files.move(staged, _pending(files, owner))
    if owner.id == call.id:
        files.fs.discard(staged)  # first: without it, no process can publish under this key
        files.fs.discard(entry)
    return False


def forget(files: Files, key: str) -> None:
    """Free a key, because other records now show that its call is done."""
    files.fs.discard(files.layout.fired(key))


def _take(files: Files, staged: str, entry: str) -> bool:
    try:
        files.fs.link(staged, entry)
    except FileExistsError:
        return False  # another process took it, or this one did and the reply was lost
    except FileNotFoundError:
        files.make_folders(files.layout.fired_folder)
        return _take(files, staged, entry)
    return True


def _owner(files: Files, entry: str) -> Call | None:
    """The call that a key was taken for; None if it has ended or cannot be read.

    The caller compares its id, since the link count may come from a cache.
    """
    try:
        content = files.read_file(entry, fresh=True)
        if not any(content):
            return None  # made without links
        call, _ = files.decode(content, Call, entry)
        client_of(call.id)
    except FileNotFoundError:
        return None
    except (EnvelopeError, ValueError) as error:
        log.error("the call of the idempotency key %s is lost: %s", entry, error)  # noqa: TRY400
        return None
    return call if is_queue_name(call.queue) and is_slot_name(call.slot) else None


def _fire_without_links(files: Files, call: Call, entry: str, wanted: Callable[[], bool]) -> bool:
    staged = files.layout.staged(call.id)
    if files.fs.exists(entry, fresh=True) or not wanted():
        files.fs.discard(staged)
        return False
    published = files.move(staged, _pending(files, call))
    files.touch(entry)
    return published


def _pending(files: Files, call: Call) -> str:
    return f"{files.layout.slot(call.queue, call.slot)}/{AttemptName(call.id, 1)}"
