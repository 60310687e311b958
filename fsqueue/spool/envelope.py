"""The form of invocation and result files.

Line 1: magic, format version, kind, digest of the kind and of all that follows, and how many bytes
those are: so a reader knows that a file is whole before it takes memory for it. Line 2: a JSON
header, so that ``head -2`` shows what a file is. Then the payload. Nothing is decoded before the
digest holds. In a spool with a signing key the digest is keyed (BLAKE3), so that nobody without
the key can make a file that is believed.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.digests import digest_of
from fsqueue.spool.records import FORMAT, UNDECODABLE, Call, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

H = TypeVar("H", Call, Outcome)

_KINDS: dict[type[Call | Outcome], str] = {Call: "call", Outcome: "outcome"}
_FIRST_LINE = re.compile(rb"fsqueue %d ([a-z]{1,16}) ([0-9a-f]{32}) (\d{1,15})\n" % FORMAT)
_FIRST_LINE_LIMIT = 96
# All that later formats promise of their first line.
_VERSION = re.compile(rb"fsqueue ([1-9]\d{0,8})[ \n]")
_encode_header = msgspec.json.Encoder().encode
_decoders = {kind: msgspec.json.Decoder(kind) for kind in (Call, Outcome)}


def encode(
    header: Call | Outcome, payload: Sequence[bytes | memoryview] = (), key: bytes = b""
) -> list[bytes]:
    """The chunks of a file, in order; the payload's bytes are not copied."""
    kind = _KINDS[type(header)]
    second = _encode_header(header) + b"\n"
    rest = [second, *payload]
    size = sum(map(len, rest))
    first = f"fsqueue {FORMAT} {kind} {digest_of(kind, rest, key)} {size}\n".encode()
    return [first, *rest]  # type: ignore[list-item]


def decode(data: bytes, kind: type[H], where: str, key: bytes = b"") -> tuple[H, memoryview]:
    """Header and payload of a file's content.

    Args:
        data: the whole content.
        kind: the header's type that is expected.
        where: the file's path, for messages.
        key: the spool's signing key, if it has one: up to 64 bytes.

    Raises:
        SpoolVersionError: written by another format version: leave the file alone.
        EnvelopeError: truncated, damaged, foreign, or not signed with the key.
    """
    match = _first_line(data, where)
    rest = memoryview(data)[match.end() :]
    found, digest, size = match[1].decode(), match[2].decode(), int(match[3])
    if len(rest) != size:
        raise EnvelopeError(f"{where} is truncated or damaged: {len(rest)} bytes instead of {size}")
    if not hmac.compare_digest(digest_of(found, [rest], key), digest):
        raise EnvelopeError(f"{where} {_distrust(found, rest, digest, key)}")
    if found != _KINDS[kind]:
        raise EnvelopeError(f"{where} holds a {found!r}, not a {_KINDS[kind]!r}")
    end = data.find(b"\n", match.end())
    try:
        header: H = _decoders[kind].decode(data[match.end() : end])  # type: ignore[assignment]
    except UNDECODABLE as error:
        raise EnvelopeError(f"{where} has an unreadable header: {error}") from error
    return header, memoryview(data)[end + 1 :]


def length(beginning: bytes, where: str) -> int:
    """How long a file is by its own account, from its first bytes.

    Raises:
        SpoolVersionError: written by another format version.
        EnvelopeError: it does not begin like a file of fsqueue.
    """
    match = _first_line(beginning, where)
    return match.end() + int(match[3])


def _first_line(data: bytes, where: str) -> re.Match[bytes]:
    match = _FIRST_LINE.match(data[:_FIRST_LINE_LIMIT])
    if match is not None:
        return match
    other = _VERSION.match(data[:_FIRST_LINE_LIMIT])
    if other is None or int(other[1]) == FORMAT:
        raise EnvelopeError(f"{where} does not begin like a file of fsqueue")
    raise SpoolVersionError(
        f"{where} has format {int(other[1])}; this fsqueue reads format {FORMAT}. "
        "Use one version of fsqueue on all hosts of a spool."
    )


def glance(data: bytes, kind: type[H]) -> H | None:
    """The header at the beginning of a file, or None if it is incomplete or unreadable.

    The digest is not checked, so this is for looks and never for decisions.
    """
    match = _FIRST_LINE.match(data[:_FIRST_LINE_LIMIT])
    end = -1 if match is None else data.find(b"\n", match.end())
    if match is None or end < 0 or match[1].decode() != _KINDS[kind]:
        return None
    try:
        header: H = _decoders[kind].decode(data[match.end() : end])  # type: ignore[assignment]
    except UNDECODABLE:
        return None
    return header


def _distrust(kind: str, rest: memoryview, digest: str, key: bytes) -> str:
    """What is wrong with a file whose digest does not match."""
    if not key:
        return "is truncated or damaged: its digest does not match"
    if digest_of(kind, [rest], b"") == digest:
        return "is not signed, and this spool has a signing key"
    return "is damaged, or signed with another key than this spool's"
