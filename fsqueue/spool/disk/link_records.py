"""Records that are symbolic links: the link's text is the content of the file.

On a network filesystem, one request creates such a record, entirely or not at all, and refuses a
name that exists; one request reads it. A server hands out no delegation for a link, so the records
of a dead host can be moved at once. docs/design/link-records.md has the measurements.

No part of fsqueue follows a link: the text is data, in base85 behind a prefix. It has no slash, so
anything that did follow it would look for that name in the same folder.
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
# The longest text of a link on Linux (PATH_MAX without the NUL), and what other servers may allow.
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
"""Errors where a filesystem has no links or refuses their text, and of reading what is no link."""


def link_text(chunks: Sequence[Buffer], limit: int) -> str | None:
    """The text of a link with this content; None if it would be longer than `limit`."""
    size = sum(map(len, chunks))
    if size > limit * 4 // 5:  # base85 makes 5 characters of 4 bytes
        return None
    text = _PREFIX + base64.b85encode(b"".join(chunks)).decode()
    return text if len(text) <= limit else None


def make_link(path: str, text: bytes) -> None:
    """Make a link with a text from `link_text`; `FileExistsError` if the name exists."""
    os.symlink(text, path)


def read_link(path: str) -> bytes:
    """The content of a record that is a link.

    Raises:
        EnvelopeError: it is a link that fsqueue has not made.
        OSError: it is missing, or (``EINVAL``) no link.
    """
    text = os.readlink(path)
    if not text.startswith(_PREFIX):
        raise EnvelopeError(f"{path} is not a regular file, but a link that fsqueue has not made")
    try:
        return base64.b85decode(text[len(_PREFIX) :])
    except ValueError as error:
        raise EnvelopeError(f"{path} is a damaged record: {error}") from error


def longest_link(folder: str, name: str) -> int:
    """The longest text of a link that a folder's filesystem keeps, by trying; 0 if too short.

    Args:
        folder: an existing folder.
        name: a name in it that nothing else uses; the function removes what it makes.
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
