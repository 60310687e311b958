"""Digests of files: BLAKE3, which takes a seventh of the time of BLAKE2b for large ones."""

from __future__ import annotations

import functools
import hashlib
from typing import TYPE_CHECKING

from blake3 import blake3

if TYPE_CHECKING:
    from collections.abc import Iterable

    from fsqueue.spool.disk.content import Buffer

_SIZE = 16


def digest_of(kind: str, chunks: Iterable[Buffer], key: bytes) -> str:
    """The digest of a file's content, in hexadecimal; without a key anybody can make it.

    Args:
        kind: what the file is, in 16 ASCII characters at most; each kind has digests of its own.
        chunks: the content.
        key: the spool's signing key, up to 64 bytes; empty if it has none.
    """
    digest = blake3(key=_key_of(kind, key))
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest(length=_SIZE)


@functools.lru_cache(maxsize=32)
def _key_of(kind: str, key: bytes) -> bytes:
    """BLAKE3 takes keys of 32 bytes, and has nothing else that tells kinds apart."""
    return hashlib.blake2b(key=key, digest_size=32, person=kind.encode()).digest()
