"""Access control: checks who can write to a spool, and reads its signing key.

Any user who can write to a spool, or sign its files, can run code. See docs/security.md for the
threat model.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from typing import TYPE_CHECKING

from fsqueue.errors import ConfigError, SpoolError

if TYPE_CHECKING:
    from pathlib import Path

    from fsqueue.spool.disk.filesystem import Filesystem

_SHORTEST_KEY = 16
_LONGEST_KEY = 4096


def group_number(name: str) -> int:
    """The id of a group on this machine, given by name or number.

    Raises:
        ConfigError: the group does not exist.
    """
    import grp

    try:
        return grp.getgrgid(int(name)).gr_gid if name.isdecimal() else grp.getgrnam(name).gr_gid
    except KeyError:
        raise ConfigError(
            f"group = {name!r}: this machine has no such group; `id -Gn` lists yours"
        ) from None


def check_root(fs: Filesystem, root: str) -> None:
    """Refuse a shared directory that other users can write to.

    Raises:
        SpoolError: it does not belong to the user or the sharing group, or others may write to it.
        NotADirectoryError: it is not a folder, so advice about its mode would be misleading.
    """
    found = fs.status(root)
    mode = stat.filemode(found.st_mode)
    if not stat.S_ISDIR(found.st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), root)
    if fs.group is None:
        if found.st_uid != os.geteuid():
            raise SpoolError(
                f"{root} belongs to user {found.st_uid} ({mode}), who could run code as you "
                f"(user {os.geteuid()}) by writing into it. Use a folder of your own, or share "
                "one with a group you trust: set FSQUEUE__GROUP."
            )
        if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise SpoolError(
                f"others may write to {root} ({mode}), and so could run code as you. Fix it with "
                f"`chmod go-w {root}`, or share it with a group you trust: set FSQUEUE__GROUP."
            )
        return
    if found.st_gid != fs.group:
        raise SpoolError(
            f"{root} belongs to group {found.st_gid} ({mode}), and is to be shared with group "
            f"{fs.group}. Fix it with `chgrp {fs.group} {root} && chmod 2770 {root}`."
        )
    if found.st_mode & stat.S_IWOTH or not found.st_mode & stat.S_IWGRP:
        raise SpoolError(
            f"{root} ({mode}) must be writable for its group and for nobody else. Fix it with "
            f"`chmod 2770 {root}`."
        )


def check_private_folder(path: str) -> None:
    """Refuse a folder in a world-writable place unless it is private.

    Raises:
        SpoolError: it belongs to another user, is a link, or is accessible to others.
    """
    found = os.lstat(path)
    private = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o077
    if not private or found.st_uid != os.geteuid():
        raise SpoolError(
            f"{path} is not a private folder of yours (owner {found.st_uid}, mode "
            f"{stat.filemode(found.st_mode)}): anybody who can write there could run code "
            "as you. Remove it, or set FSQUEUE__ROOT to a folder of your own."
        )


def read_key(path: Path) -> bytes:
    """The signing key in a file: 64 bytes derived from its content.

    Raises:
        ConfigError: the file is missing, not private, or too short for a secret.
    """
    try:
        content = _read_private(path).strip()
    except OSError as error:
        raise ConfigError(f"signing_key_file = {path}: cannot be read: {error.strerror}") from error
    if not _SHORTEST_KEY <= len(content) <= _LONGEST_KEY:
        raise ConfigError(
            f"signing_key_file = {path}: holds {len(content)} bytes, expected {_SHORTEST_KEY} to "
            f"{_LONGEST_KEY}. Make one with `umask 077; head -c 32 /dev/urandom | base64 > {path}`."
        )
    return hashlib.blake2b(content, person=b"fsqueue key").digest()


def _read_private(path: Path) -> bytes:
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise ConfigError(f"signing_key_file = {path}: not a regular file")
        if found.st_uid not in {0, os.geteuid()} or found.st_mode & 0o077:
            raise ConfigError(
                f"signing_key_file = {path}: others may read or change it (owner {found.st_uid}, "
                f"{stat.filemode(found.st_mode)}). Fix it with `chmod 600 {path}`, and make a new "
                "key if somebody may have read it."
            )
        return os.read(handle, _LONGEST_KEY + 1)
    finally:
        os.close(handle)


def key_name(key: bytes, spool_id: str) -> str:
    """The name of a signing key in ``spool.json``, which reveals a wrong key at once."""
    if not key:
        return ""
    return hashlib.blake2b(
        spool_id.encode(), key=key, digest_size=16, person=b"fsqueue name"
    ).hexdigest()
