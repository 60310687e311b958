"""The form of invocation and result files.

Line 1: magic, format version, kind, digest of all that follows. Line 2: a JSON header, so that
``head -2`` shows what a file is. Then the payload. Nothing is decoded before the digest holds.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, TypeVar

import msgspec

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.records import FORMAT, Call, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

H = TypeVar("H", Call, Outcome)

_KINDS: dict[type[Call | Outcome], str] = {Call: "call", Outcome: "outcome"}
_FIRST_LINE = re.compile(rb"fsqueue (\d{1,9}) ([a-z]{1,16}) ([0-9a-f]{32})\n")
_FIRST_LINE_LIMIT = 80
_DIGEST_SIZE = 16
_encode_header = msgspec.json.Encoder().encode
_decoders = {kind: msgspec.json.Decoder(kind) for kind in (Call, Outcome)}


def encode(header: Call | Outcome, payload: Sequence[bytes | memoryview] = ()) -> list[bytes]:
    """The chunks of a file, in order; the payload's bytes are not copied."""
    second = _encode_header(header) + b"\n"
    first = f"fsqueue {FORMAT} {_KINDS[type(header)]} {_digest([second, *payload])}\n".encode()
    return [first, second, *payload]  # type: ignore[list-item]


def decode(data: bytes, kind: type[H], where: str) -> tuple[H, memoryview]:
    """Header and payload of a file's content.

    Args:
        data: the whole content.
        kind: the header's type that is expected.
        where: the file's path, for messages.

    Raises:
        SpoolVersionError: written by another format version: leave the file alone.
        EnvelopeError: truncated, damaged or foreign.
    """
    match = _FIRST_LINE.match(data[:_FIRST_LINE_LIMIT])
    if match is None:
        raise EnvelopeError(f"{where} does not begin like a file of fsqueue")
    version = int(match[1])
    if version != FORMAT:
        raise SpoolVersionError(
            f"{where} has format {version}; this fsqueue reads format {FORMAT}. "
            "Use one version of fsqueue on all hosts of a spool."
        )
    rest = memoryview(data)[match.end() :]
    if _digest([rest]) != match[3].decode():
        raise EnvelopeError(f"{where} is truncated or damaged: its digest does not match")
    if match[2].decode() != _KINDS[kind]:
        raise EnvelopeError(f"{where} holds a {match[2].decode()!r}, not a {_KINDS[kind]!r}")
    end = data.find(b"\n", match.end())
    try:
        header: H = _decoders[kind].decode(data[match.end() : end])  # type: ignore[assignment]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise EnvelopeError(f"{where} has an unreadable header: {error}") from error
    return header, memoryview(data)[end + 1 :]


def _digest(chunks: Sequence[bytes | memoryview]) -> str:
    digest = hashlib.blake2b(digest_size=_DIGEST_SIZE)
    for chunk in chunks:
        digest.update(chunk)
    return digest.hexdigest()
