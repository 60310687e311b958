"""Records stored as symbolic links: the link's text is the content.

On a network filesystem, a single request creates the record atomically and fails if the name
exists, and a single request reads it. Servers do not delegate links, so a dead host's records can
be moved at once. docs/design/link-records.md has the measurements.

No part of fsqueue follows these links: the text is data, in base85 after a prefix. It has no slash,
so a program that did follow it would look for that name in the same folder.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from fsqueue.errors import EnvelopeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.content import Buffer

_PREFIX: Final = "fsqueue-record:"
# Lengths of link texts to try: the most on Linux (PATH_MAX without the NUL), then what other
# servers may allow.
_LENGTHS: Final = (4095, 2047, 1023)

NO_LINK: Final = frozenset(
    {
        errno.EINVAL,
        errno.ENOSYS,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.ENAMETOOLONG,
        errno.E2BIG,
    }
)
"""Errors if a filesystem has no links or refuses their text, or if what is read is not a link."""


def link_text(chunks: Sequence[Buffer], limit: int) -> str | None:
    """The text of a link with this content; None if it would be longer than `limit`."""
    size = sum(map(len, chunks))
    if size > limit * 4 // 5:  # base85 turns 4 bytes into 5 characters
        return None
    text = _PREFIX + base64.b85encode(b"".join(chunks)).decode()
    return text if len(text) <= limit else None


def make_link(path: str, text: bytes) -> None:
    """Create a link with a text from `link_text`; `FileExistsError` if the name exists."""
    os.symlink(text, path)


def read_link(path: str) -> bytes:
    """The content of a record that is a link.

    Raises:
        EnvelopeError: it is a link that fsqueue did not make.
        OSError: it is missing, or (``EINVAL``) not a link.
    """
    text = os.readlink(path)
    if not text.startswith(_PREFIX):
        raise EnvelopeError(f"{path} is not a regular file, but a link that fsqueue has not made")
    try:
        return base64.b85decode(text[len(_PREFIX) :])
    except ValueError as error:
        raise EnvelopeError(f"{path} is a damaged record: {error}") from error


def longest_link(folder: str, name: str) -> int:
    """Find by trial the longest link text that a folder's filesystem keeps; 0 if too short.

    Args:
        folder: an existing folder.
        name: an unused name in the folder; the function removes what it creates.
    """
    path = f"{folder}/{name}"
    for length in _LENGTHS:
        text = _PREFIX.ljust(length, "x")
        try:
            os.symlink(text, path)
            if os.readlink(path) == text:
                return length
        except OSError:
            continue
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
    return 0
