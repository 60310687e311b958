"""Cuts: interruptions of calls by the end of their worker's batch job, in ``cuts/<id>``.

An interrupted call is given back as the same attempt. Each cut is a line of JSON, which the worker
appends before it gives the call back. While it holds the call, no other process writes the file. It
is not signed: a process that can write it could damage the call, too.

People read the lines, and `Recovery.cut_off` finds calls by them that fit into no job. Lines that
are damaged or too long do not count.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format.records import UNDECODABLE

if TYPE_CHECKING:
    from fsqueue.spool.files.files import Files

# The most bytes of a file of cuts: about 400 cuts.
_LONGEST: Final = 1 << 16
# A call that was cut off after less than this share of its worker's time began too late.
_FULL: Final = 0.8


class Cut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: a call was cut off. Times are in seconds."""

    worker: str
    at: float
    """By the file server's clock."""
    ran: float
    """How long the worker held the call."""
    limit: float = 0.0
    """How long the worker could let any call run: the time from its start; 0: unknown."""
    job: str = ""
    """The batch job's id."""

    @property
    def is_full(self) -> bool:
        """Whether the worker had given the call nearly all its time."""
        return 0 < self.limit * _FULL <= self.ran


def add_cut(files: Files, invocation_id: str, cut: Cut) -> list[Cut]:
    """Add a cut of a call, and return all its cuts.

    Dies before it: the call has one cut less. Dies in it: the same, as half a line does not count.
    Lost reply: the cut is there, and the caller gets an error that it may not be.

    Raises:
        OSError: it may not have been noted.
    """
    path = files.layout.cuts(invocation_id)
    found = _read(files, path)
    if len(found) < _LONGEST:
        broken = b"\n" if found and not found.endswith(b"\n") else b""
        files.append(path, broken + msgspec.json.encode(cut) + b"\n")
    return [*_decoded(found), cut]


def cuts_of(files: Files, invocation_id: str) -> list[Cut]:
    """The cuts of a call, the first one first."""
    return _decoded(_read(files, files.layout.cuts(invocation_id)))


def _read(files: Files, path: str) -> bytes:
    try:
        return files.fs.read_part(path, _LONGEST)
    except (OSError, EnvelopeError):
        return b""


def _decoded(data: bytes) -> list[Cut]:
    found = []
    for line in data.split(b"\n"):
        try:
            found.append(msgspec.json.decode(line, type=Cut))
        except UNDECODABLE:
            continue
    return list(dict.fromkeys(found))
