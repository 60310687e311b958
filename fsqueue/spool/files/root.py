"""Checks that the shared directory still holds the spool that this process opened.

The directory can disappear for a while, because it was unmounted or renamed, and come back with
everything in it. Or another spool can take its place. Nothing may be created there in either case.
Therefore ``spool.json`` is checked before anything missing is created, and only then, so the check
usually costs nothing.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import EnvelopeError, SpoolReplacedError
from fsqueue.spool.format.records import UNDECODABLE

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.format.layout import Layout

log: logging.Logger = logging.getLogger(__name__)


class _Root(msgspec.Struct, frozen=True):
    """The fields of ``spool.json`` that all formats have."""

    format: int
    id: str


def _read(fs: Filesystem, layout: Layout) -> _Root | None:
    """The content of ``spool.json``; None if it is damaged or not a file.

    Raises:
        OSError: it is missing or cannot be read.
    """
    try:
        return msgspec.json.decode(fs.read(layout.info), type=_Root)
    except (EnvelopeError, *UNDECODABLE):
        return None


def check_spool(fs: Filesystem, layout: Layout, spool_id: str) -> None:
    """Check that the root still holds the spool that was opened. A damaged ``spool.json`` passes.

    Args:
        spool_id: the id that ``spool.json`` had when the spool was opened.

    Raises:
        SpoolReplacedError: the root holds another spool.
        OSError: there is currently no spool (``ESTALE``), or the root cannot be read.
    """
    try:
        found = _read(fs, layout)
    except (FileNotFoundError, NotADirectoryError):
        text = "the shared directory holds no spool at the moment. Is it mounted?"
        raise OSError(errno.ESTALE, text, layout.info) from None
    if found is not None and found.id != spool_id:
        raise SpoolReplacedError(
            f"{layout.root} was replaced: it holds the spool {found.id}, and this process has "
            f"opened the spool {spool_id}. The files of the former spool are gone from there. "
            "Restart this process, or call `app.close()`, to use the new spool."
        )


def may_make(fs: Filesystem, layout: Layout, spool_id: str, folder: str) -> bool:
    """Whether a missing folder may be created: never the root, and a top folder only in this spool.

    Every spool is created with its top folders. If one is missing, somebody removed it; recreating
    it lets workers and callers continue. Dies after that: the folder is there.

    Raises:
        SpoolReplacedError, OSError: see `check_spool`.
    """
    if os.path.dirname(folder) != layout.root:
        return folder != layout.root
    check_spool(fs, layout, spool_id)
    if folder not in layout.folders:
        return True
    with contextlib.suppress(FileExistsError):
        fs.mkdir(folder)
        log.warning("%s was removed, and is made again. Files that were in it are lost", folder)
    return False


def format_of(fs: Filesystem, layout: Layout) -> int | None:
    """The format in ``spool.json``; None if it cannot be read."""
    try:
        found = _read(fs, layout)
    except OSError:
        return None
    return None if found is None else found.format
