"""Calls that are published once for a key, whoever tries, and however often.

The call is written to ``tmp/``, the key is taken by a link to ``fired/<key>``, and then the file in
``tmp/`` becomes the pending call by a rename. The link succeeds once for a key; the rename, once
for a file. Whoever finds a key taken does the rename too, in case its owner has died.
"""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING

from fsqueue.errors import EnvelopeError
from fsqueue.spool.disk.filesystem import links_unsupported
from fsqueue.spool.format import envelope
from fsqueue.spool.format.names import AttemptName, client_of, is_queue_name, is_slot_name
from fsqueue.spool.format.records import Call

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fsqueue.spool.disk.content import Buffer
    from fsqueue.spool.store.files import Files

log = logging.getLogger(__name__)


def fire(
    store: Files,
    key: str,
    call: Call,
    payload: Sequence[bytes | memoryview],
    buffers: Sequence[Buffer] = (),
    *,
    wanted: Callable[[], bool] = lambda: True,
) -> bool:
    """Make a call pending, unless that was done for this key before; True if it was done now.

    Dies before the link: nothing has happened, a file in ``tmp/`` expires. Dies after it: the key
    is taken, and whoever tries it next makes the call pending. Dies after the rename, or its reply
    is lost: it is pending, and nobody finds the file in ``tmp/`` again. Lost reply of the link: the
    key's file is this call.

    Without hard links a look stands in for the link, and the key is taken last: two at once, or
    one after a death, can publish twice.

    Args:
        store: the spool.
        key: safe as a file's name.
        call: its header.
        payload: segments; see `Call`.
        buffers: large parts of the values in the payload.
        wanted: asked once the key is taken: False takes that back, and publishes nothing.
    """
    staged, entry = store.layout.staged(call.id), store.layout.fired(key)
    store.create(staged, envelope.encode(call, payload, store.key, buffers))
    try:
        owner = call if _take(store, staged, entry) else _owner(store, entry)
    except OSError as error:
        if links_unsupported(error):
            return _fire_without_links(store, call, entry, wanted)
        raise  # the key may be taken: so the file must stay
    if owner is None or owner.id != call.id:
        store.fs.discard(staged)
    if owner is None:
        return False
    staged = store.layout.staged(owner.id)
    if wanted():
        return store.move(staged, _pending(store, owner))
    if owner.id == call.id:
        store.fs.discard(staged)  # first: without it nobody can publish for the key any more
        store.fs.discard(entry)
    return False


def forget(store: Files, key: str) -> None:
    """Let a key be taken again: what it stands for is known to be over in some other way."""
    store.fs.discard(store.layout.fired(key))


def _take(store: Files, staged: str, entry: str) -> bool:
    try:
        store.fs.link(staged, entry)
    except FileExistsError:
        return False  # by somebody else; or by this very link, and its reply was lost
    except FileNotFoundError:
        store.make_folders(store.layout.fired_folder)
        return _take(store, staged, entry)
    return True


def _owner(store: Files, entry: str) -> Call | None:
    """The call that a key was taken for; None if that is over, or no call of ours.

    It also tells whether it is one's own: the count of a file's names may come from a cache.
    """
    try:
        content = store.read_file(entry, fresh=True)
        if not any(content):
            return None  # made without links
        call, _ = store.decode(content, Call, entry)
        client_of(call.id)
    except FileNotFoundError:
        return None
    except (EnvelopeError, ValueError) as error:
        log.error("what %s stands for is lost: %s", entry, error)  # noqa: TRY400
        return None
    return call if is_queue_name(call.queue) and is_slot_name(call.slot) else None


def _fire_without_links(store: Files, call: Call, entry: str, wanted: Callable[[], bool]) -> bool:
    staged = store.layout.staged(call.id)
    if store.fs.exists(entry, fresh=True) or not wanted():
        store.fs.discard(staged)
        return False
    published = store.move(staged, _pending(store, call))
    with contextlib.suppress(FileNotFoundError):
        store.fs.touch(entry)
    return published


def _pending(store: Files, call: Call) -> str:
    return f"{store.layout.slot(call.queue, call.slot)}/{AttemptName(call.id, 1)}"
