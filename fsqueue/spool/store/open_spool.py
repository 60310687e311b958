"""Opens a spool, creating it if necessary."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import msgspec

from fsqueue.environment.workdir import absolute
from fsqueue.errors import SpoolError, SpoolVersionError
from fsqueue.spool.disk.access import check_root, key_name
from fsqueue.spool.disk.filesystem import Filesystem
from fsqueue.spool.disk.link_records import longest_link
from fsqueue.spool.disk.looking import LookingFilesystem
from fsqueue.spool.disk.mounts import asks_at_open, filesystem_type, is_remote
from fsqueue.spool.disk.syscalls import links_unsupported
from fsqueue.spool.files.files import Files
from fsqueue.spool.files.root import check_spool
from fsqueue.spool.format.layout import Layout
from fsqueue.spool.format.names import new_token
from fsqueue.spool.format.records import FORMAT, LINKS_FORMAT, UNDECODABLE, SpoolInfo
from fsqueue.spool.store.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from fsqueue.config import RecordKind


def open_store(
    root: Path,
    filesystem: Filesystem | None = None,
    key: bytes = b"",
    *,
    expected: str = "",
    records: RecordKind = "files",
    look: bool = False,
) -> Store:
    """Open the spool at `root`, creating it if there is none yet.

    Several processes may do this at once: the one whose `link` succeeds creates it.

    Args:
        root: the shared directory.
        filesystem: the file operations to use; None for the usual ones.
        key: the key that signs the spool's files; empty if they are not signed.
        expected: the id of the spool that must exist; nothing is then created. Empty accepts any
            spool.
        records: how to store small records: as "files", as symbolic "links", or "auto", which means
            links in a new spool on a network filesystem, and where there are no hard links.
        look: only read an existing spool. Nothing is created or written, so it may be on a
            read-only mount, or a copy.

    Raises:
        SpoolReplacedError: the root holds another spool than the expected one.
        SpoolError: the folder cannot be created or used, others may write to it, or its files are
            signed with another key.
        SpoolVersionError: the spool has another format version.
    """
    path = absolute(root)
    kind = LookingFilesystem if look else Filesystem
    fs = filesystem or kind(remote=is_remote(path), asks_at_open=asks_at_open(path))
    layout = Layout(path)
    try:
        if look or expected:
            info = _existing(fs, layout, expected, look=look)
        else:
            info = _join(fs, layout, key, records)
    except OSError as error:
        raise SpoolError(
            f"cannot use {path} as the shared directory: {error.strerror or error}. "
            "Set FSQUEUE__ROOT, or FSQueue(root=...), to a folder that you may write to."
        ) from error
    _check_key(layout, info, key)
    links = _uses_links(fs, layout, info, records)
    return Store(Files(fs, layout, info, key, links=links, look=look))


def _existing(fs: Filesystem, layout: Layout, expected: str, *, look: bool) -> SpoolInfo:
    """The existing spool. With `look`, only ``spool.json`` has to exist."""
    if not look:
        check_spool(fs, layout, expected)
    check_root(fs, layout.root)
    info = _read_info(fs, layout)
    if info is None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), layout.info)
    if look and expected and info.id != expected:
        check_spool(fs, layout, expected)
    return info


def _uses_links(fs: Filesystem, layout: Layout, info: SpoolInfo, records: RecordKind) -> bool:
    """Whether this process writes small records as links."""
    if records == "links" and not info.longest_link:
        raise SpoolError(
            f"{layout.root} has no records that are links: it was made without them, or its "
            'filesystem has none. Set records = "auto", or use a new folder.'
        )
    return records != "files" and not (fs.durable and not _commits_links(layout.root))


def _commits_links(path: str) -> bool:
    """Whether a new link survives a power cut of the server.

    NFS requires it of all operations that change names (RFC 1813, "Synchronous modifying
    operations").
    """
    return filesystem_type(path) in {"nfs", "nfs4"}


def _join(fs: Filesystem, layout: Layout, key: bytes, records: RecordKind) -> SpoolInfo:
    """The existing spool, or a new one."""
    fs.make_folders(layout.root)
    check_root(fs, layout.root)
    for folder in layout.folders:
        make_folder(fs, folder)
    return _read_info(fs, layout) or _create_info(fs, layout, key, records)


def make_folder(fs: Filesystem, path: str) -> None:
    """Create a folder of the spool if it is missing, and check it.

    Raises:
        SpoolError: the path is a file or a link.
    """
    fs.make_folders(path)
    check_folder(fs, path)


def check_folder(fs: Filesystem, path: str) -> None:
    """Check that a folder of the spool is a folder, and not a link to one.

    Raises:
        SpoolError: the path is a file or a link.
    """
    if not fs.is_folder(path):
        no_folder = NotADirectoryError(errno.ENOTDIR, "not a folder", path)
        raise SpoolError(
            f"{path} is a file or a link, and has to be a folder. Find out who put it there, and "
            "remove it."
        ) from no_folder


def _read_info(fs: Filesystem, layout: Layout) -> SpoolInfo | None:
    try:
        data = fs.read(layout.info)
    except FileNotFoundError:
        return None
    try:
        info = msgspec.json.decode(data, type=SpoolInfo)
    except UNDECODABLE as error:
        raise SpoolError(
            f"{layout.info} is damaged ({error}). Restore it, or start a new spool elsewhere."
        ) from error
    if info.format not in {FORMAT, LINKS_FORMAT}:
        raise SpoolVersionError(
            f"{layout.root} is a spool of format {info.format}; this fsqueue uses {LINKS_FORMAT}. "
            "Use one version of fsqueue on all hosts of a spool."
        )
    return info


def _check_key(layout: Layout, info: SpoolInfo, key: bytes) -> None:
    if info.key == key_name(key, info.id):
        return
    if not key:
        raise SpoolError(
            f"the files of {layout.root} are signed: set FSQUEUE__SIGNING_KEY_FILE to the file "
            "that holds its key"
        )
    if not info.key:
        raise SpoolError(
            f"the files of {layout.root} are not signed, and a signing key is set. A spool is "
            "signed from its first file on: use a new folder."
        )
    raise SpoolError(
        f"the files of {layout.root} are signed with another key than that in "
        "FSQUEUE__SIGNING_KEY_FILE"
    )


def _create_info(
    fs: Filesystem, layout: Layout, key: bytes, records: RecordKind, *, hard_links: bool = True
) -> SpoolInfo:
    spool_id = new_token(16)
    temporary = layout.tmp(spool_id, 0)
    wanted = records == "links" or (records == "auto" and (fs.remote or not hard_links))
    longest = longest_link(layout.tmp_folder, new_token(16)) if wanted else 0
    number = LINKS_FORMAT if longest else FORMAT
    info = SpoolInfo(number, spool_id, key_name(key, spool_id), longest)
    fs.create(temporary, [msgspec.json.encode(info)])
    try:
        if hard_links:
            fs.link(temporary, layout.info)
        else:
            fs.rename(temporary, layout.info)
    except FileExistsError:
        pass  # another process created it, or this reply was lost: the existing file counts
    except OSError as error:
        if not hard_links or not links_unsupported(error):
            raise
        fs.discard(temporary)
        return _create_info(fs, layout, key, records, hard_links=False)
    fs.discard(temporary)
    existing = _read_info(fs, layout)
    if existing is None:
        raise SpoolError(
            f"{layout.info} vanished while the spool was being created. Find out what removes "
            "files there, and try again."
        )
    return existing
