"""Opens a spool, or makes it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from fsqueue.errors import SpoolError, SpoolVersionError
from fsqueue.spool.filesystem import Filesystem, is_remote, links_unsupported
from fsqueue.spool.layout import Layout, new_token
from fsqueue.spool.records import FORMAT, SpoolInfo
from fsqueue.spool.store import Store

if TYPE_CHECKING:
    from pathlib import Path


def open_store(root: Path, filesystem: Filesystem | None = None) -> Store:
    """Open the spool at `root`, making it if it is not there yet.

    Several processes may do this at once: the one whose `link` succeeds creates it.

    Raises:
        SpoolError: the folder cannot be made or used.
        SpoolVersionError: a spool of another format version.
    """
    path = os.path.abspath(root)
    fs = filesystem or Filesystem(remote=is_remote(path))
    layout = Layout(path)
    try:
        for folder in layout.folders:
            fs.make_folders(folder)
        info = _read_info(fs, layout) or _create_info(fs, layout)
    except OSError as error:
        raise SpoolError(
            f"cannot use {path} as the shared directory: {error.strerror or error}. "
            "Set FSQUEUE__ROOT, or FSQueue(root=...), to a folder that you may write to."
        ) from error
    return Store(fs, layout, info)


def _read_info(fs: Filesystem, layout: Layout) -> SpoolInfo | None:
    try:
        data = fs.read(layout.info)
    except FileNotFoundError:
        return None
    try:
        info = msgspec.json.decode(data, type=SpoolInfo)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise SpoolError(
            f"{layout.info} is damaged ({error}). Restore it, or start a new spool elsewhere."
        ) from error
    if info.format != FORMAT:
        raise SpoolVersionError(
            f"{layout.root} is a spool of format {info.format}; this fsqueue uses {FORMAT}. "
            "Use one version of fsqueue on all hosts of a spool."
        )
    return info


def _create_info(fs: Filesystem, layout: Layout) -> SpoolInfo:
    info = SpoolInfo(FORMAT, new_token(16))
    temporary = layout.tmp(info.id, 0)
    fs.create(temporary, [msgspec.json.encode(info)])
    try:
        fs.link(temporary, layout.info)
    except FileExistsError:
        pass  # another creator, or this one's lost reply: what stands there counts
    except OSError as error:
        if not links_unsupported(error):
            raise
        fs.rename(temporary, layout.info)
    fs.discard(temporary)
    existing = _read_info(fs, layout)
    if existing is None:
        raise SpoolError(f"{layout.info} vanished while the spool was being created")
    return existing
