"""Reads the headers of calls and outcomes for display, without checking their digests."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.format.envelope import LIKELY_HEADER_SIZE, unverified_header
from fsqueue.spool.format.records import Call, Outcome

if TYPE_CHECKING:
    from fsqueue.spool.files.files import Files

H = TypeVar("H", Call, Outcome)


def beginning_of(files: Files, path: str, kind: type[H]) -> H | None:
    """The header at the beginning of a file; None if the file is gone or cannot be read."""
    try:
        data = files.fs.read_part(path, LIKELY_HEADER_SIZE)
        header = unverified_header(data, kind)
        if header is None and len(data) == LIKELY_HEADER_SIZE:
            header = unverified_header(files.read_file(path)[0], kind)
    except (OSError, EnvelopeError, SpoolVersionError):
        return None
    return header


def outcome_of(files: Files, invocation_id: str) -> Outcome | None:
    """The header of an invocation's outcome; None if there is none, or it cannot be read."""
    for path in (files.layout.kept(invocation_id), files.layout.done(invocation_id)):
        outcome = beginning_of(files, path, Outcome)
        if outcome is not None:
            return outcome
    return None
