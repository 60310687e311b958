"""The file format of calls and outcomes.

Line 1 has the magic word, the format version, the kind, a digest of everything that follows, and
the length of the rest in bytes, so a reader can check that a file is complete before it allocates
memory for it. Line 2 is a JSON header, so ``head -2`` shows what a file is. The payload follows.
The digest is verified before anything is decoded. In a spool with a signing key, the digest is
keyed (BLAKE3), so only holders of the key can write files that are accepted.

The payload may be followed by buffers: large parts of a value that are written from and read into
memory without copies. Line 1 lists the size of each buffer after that of the rest, with a ``w`` if
the buffer is writable. A file of common arguments has the same form without a header.
"""

from __future__ import annotations

import hmac
import re
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import msgspec

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.disk.content import Piece
from fsqueue.spool.format.digests import digest_of
from fsqueue.spool.format.records import FORMAT, UNDECODABLE, Call, Outcome, Payload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.spool.disk.content import Buffer, Content

H = TypeVar("H", Call, Outcome)

_KINDS: dict[type[Call | Outcome], str] = {Call: "call", Outcome: "outcome"}
_FIRST_LINE = re.compile(
    rb"fsqueue %d ([a-z]{1,16}) ([0-9a-f]{32})( (\d{1,15})((?: \d{1,15}w?)*)\n)" % FORMAT
)
# Enough for 64 buffers, the most that a value can have.
_FIRST_LINE_LIMIT = 1 << 11
# The only thing about the first line that later formats guarantee.
_VERSION = re.compile(rb"fsqueue ([1-9]\d{0,8})[ \n]")
LIKELY_HEADER_SIZE = 1 << 13
"""`unverified_header` needs this many bytes, unless the call is a large batch."""
_encode_header = msgspec.json.Encoder().encode
_decode_header = {kind: msgspec.json.Decoder(kind).decode for kind in (Call, Outcome)}


def encode(
    header: Call | Outcome,
    payload: Sequence[bytes | memoryview] = (),
    key: bytes = b"",
    buffers: Sequence[Buffer] = (),
) -> list[Buffer]:
    """Encode a file as chunks, in order. Payload and buffers are not copied."""
    second = _encode_header(header) + b"\n"
    return seal(_KINDS[type(header)], [second, *payload], key, buffers)[1]


def seal(
    kind: str, data: Sequence[bytes | memoryview], key: bytes, buffers: Sequence[Buffer]
) -> tuple[str, list[Buffer]]:
    """Encode a file of any kind: digest and chunks. If it has a header, `data` begins with it."""
    sizes = str(sum(map(len, data)))
    for each in buffers:
        sizes += f" {len(each)}{'' if memoryview(each).readonly else 'w'}"
    rest = [f" {sizes}\n".encode(), *data, *buffers]
    digest = digest_of(kind, rest, key)
    return digest, [f"fsqueue {FORMAT} {kind} {digest}".encode(), *rest]


class Unsealed(NamedTuple):
    """The verified content of a file."""

    kind: str
    digest: str
    payload: Payload
    """It begins with the header, if the file has one."""


def unseal(content: Content, where: str, key: bytes = b"") -> Unsealed:
    """Verify a file of any kind; see `decode` for arguments and errors."""
    match, end, buffers = _verified(content, where, key)
    data = memoryview(content[0])[match.end() : end]
    return Unsealed(match[1].decode(), match[2].decode(), Payload(data, buffers))


def _verified(content: Content, where: str, key: bytes) -> tuple[re.Match[bytes], int, Content]:
    """Verify a file; returns its first line, where the rest ends, and its buffers."""
    first = content[0]
    match = _FIRST_LINE.match(first, 0, _FIRST_LINE_LIMIT)
    if match is None:
        raise _strange(first, where)
    name, given, length, listed = match.group(1, 2, 4, 5)
    kind, digest, end = name.decode(), given.decode(), match.end() + int(length)
    sizes, buffers = _buffers(match) if listed else [], content[1:]
    found, expected = len(first) + sum(map(len, buffers)), end + sum(map(itemgetter(0), sizes))
    if found != expected:
        raise EnvelopeError(f"{where} is truncated or damaged: {found} bytes instead of {expected}")
    whole = memoryview(first)
    chunks = [whole[match.start(3) :], *buffers]
    if not hmac.compare_digest(digest_of(kind, chunks, key), digest):
        raise EnvelopeError(f"{where} {_distrust(kind, chunks, digest, key)}")
    if sizes and not buffers:  # a small file, which was read in one piece
        buffers = _cut(whole[end:], sizes)
    return match, end, buffers


def decode(content: Content, kind: type[H], where: str, key: bytes = b"") -> tuple[H, Payload]:
    """Verify and decode a file; returns its header and payload.

    Args:
        content: the whole file.
        kind: the expected type of the header.
        where: the file's path, for messages.
        key: the spool's signing key of up to 64 bytes; empty if it has none.

    Raises:
        SpoolVersionError: the file has another format version and must be left alone.
        EnvelopeError: the file is truncated, damaged, foreign, or not signed with the key.
    """
    match, end, buffers = _verified(content, where, key)
    if (found := match[1].decode()) != _KINDS[kind]:
        raise EnvelopeError(f"{where} holds a {found!r}, not a {_KINDS[kind]!r}")
    whole, start = content[0], match.end()
    stop = max(start, whole.find(b"\n", start, end))
    try:
        header: H = _decode_header[kind](whole[start:stop])  # type: ignore[assignment]
    except UNDECODABLE as error:
        raise EnvelopeError(f"{where} has an unreadable header: {error}") from error
    return header, Payload(memoryview(whole)[stop + 1 : end], buffers)


def pieces(beginning: bytes, where: str) -> list[Piece]:
    """A file's pieces, as listed in its first line: everything but the buffers, then each buffer.

    Raises:
        SpoolVersionError: the file has another format version.
        EnvelopeError: it does not begin like an fsqueue file.
    """
    match = _FIRST_LINE.match(beginning, 0, _FIRST_LINE_LIMIT)
    if match is None:
        raise _strange(beginning, where)
    return [Piece(match.end() + int(match[4])), *_buffers(match)]


def _buffers(match: re.Match[bytes]) -> list[Piece]:
    return [Piece(int(each.rstrip(b"w")), each.endswith(b"w")) for each in match[5].split()]


def _cut(rest: memoryview, sizes: Sequence[Piece]) -> Content:
    """The buffers at the end of a file, each in separate memory."""
    buffers: Content = []
    start = 0
    for size, writable in sizes:
        part = rest[start : start + size]
        buffers.append(bytearray(part) if writable else bytes(part))
        start += size
    return buffers


def _strange(data: bytes | bytearray, where: str) -> EnvelopeError | SpoolVersionError:
    """The error for an invalid first line."""
    other = _VERSION.match(data[:_FIRST_LINE_LIMIT])
    if other is None or int(other[1]) == FORMAT:
        return EnvelopeError(f"{where} does not begin like a file of fsqueue")
    return SpoolVersionError(
        f"{where} has format {int(other[1])}; this fsqueue reads format {FORMAT}. "
        "Use one version of fsqueue on all hosts of a spool."
    )


def unverified_header(data: bytes | bytearray, kind: type[H]) -> H | None:
    """The header at the beginning of a file, or None if it is incomplete or unreadable.

    The digest is not checked, so use this only for display and never for decisions.
    """
    match = _FIRST_LINE.match(data, 0, _FIRST_LINE_LIMIT)
    end = -1 if match is None else data.find(b"\n", match.end())
    if match is None or end < 0 or match[1].decode() != _KINDS[kind]:
        return None
    try:
        header: H = _decode_header[kind](data[match.end() : end])  # type: ignore[assignment]
    except UNDECODABLE:
        return None
    return header


def _distrust(kind: str, chunks: Sequence[Buffer], digest: str, key: bytes) -> str:
    """The reason why a file's digest does not match."""
    if not key:
        return "is truncated or damaged: its digest does not match"
    if digest_of(kind, chunks, b"") == digest:
        return "is not signed, and this spool has a signing key"
    return "is damaged, or signed with another key than this spool's"
