"""Checks that the shared directory still holds the spool that this process has opened.

The directory can be gone for a while, because it was unmounted or renamed, and come back with
everything in it. Or somebody puts another spool in its place. In both cases nothing may be created
there, so each of these checks comes before something that is missing is made: a look at
``spool.json`` that costs nothing as long as nothing is missing.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import EnvelopeError, SpoolReplacedError
from fsqueue.spool.format.records import UNDECODABLE

if TYPE_CHECKING:
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.format.layout import Layout


class _Root(msgspec.Struct, frozen=True):
    """What every format of ``spool.json`` says."""

    format: int
    id: str


def _read(fs: Filesystem, layout: Layout) -> _Root | None:
    """What ``spool.json`` says; None if that is damaged, or no file.

    Raises:
        OSError: it is not there, or cannot be read.
    """
    try:
        return msgspec.json.decode(fs.read(layout.info), type=_Root)
    except (EnvelopeError, *UNDECODABLE):
        return None


def check_spool(fs: Filesystem, layout: Layout, spool_id: str) -> None:
    """Check that the root holds the spool that was opened. A damaged ``spool.json`` passes.

    Args:
        fs: verbs over system calls.
        layout: paths of the spool.
        spool_id: the id that ``spool.json`` had when the spool was opened.

    Raises:
        SpoolReplacedError: the root holds another spool.
        OSError: there is no spool at the moment (``ESTALE``), or the root cannot be read.
    """
    try:
        found = _read(fs, layout)
    except (FileNotFoundError, NotADirectoryError):
        text = "the shared directory holds no spool at the moment. Is it mounted?"
        raise OSError(errno.ESTALE, text, layout.info) from None
    if found is not None and found.id != spool_id:
        raise SpoolReplacedError(
            f"{layout.root} was replaced: it holds the spool {found.id}, and this process has "
            f"opened the spool {spool_id}. What was in the former one is gone from there. "
            "Restart this process, or call `app.close()`, to use the new spool."
        )


def format_of(fs: Filesystem, layout: Layout) -> int | None:
    """The format that ``spool.json`` names now; None if it cannot be read."""
    try:
        found = _read(fs, layout)
    except OSError:
        return None
    return None if found is None else found.format
