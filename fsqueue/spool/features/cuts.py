"""Cuts: records of calls interrupted by the end of their worker's batch job, in ``cuts/<id>``.

The worker appends one line of JSON for each cut, and then gives the call back as the same attempt.
While it holds the call, no other process writes the file. The file is not signed: any process that
can write it could damage the call, too.

The lines are shown to people, and tell `Recovery.cut_off` which calls do not fit into any job.
Damaged or overlong lines are ignored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from fsqueue.errors import EnvelopeError
from fsqueue.spool.format.records import UNDECODABLE

if TYPE_CHECKING:
    from fsqueue.spool.files.files import Files

# The most bytes to read from a file of cuts: about 400 cuts.
_LONGEST: Final = 1 << 16
# A call that had less than this share of its worker's time simply started too late.
_FULL: Final = 0.8


class Cut(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line: a call was interrupted. Times are in seconds."""

    worker: str
    at: float
    """By the file server's clock."""
    ran: float
    """How long the worker had held the call."""
    limit: float = 0.0
    """The longest that this worker could have run any call, counted from its start; 0: unknown."""
    job: str = ""
    """The batch job's id."""

    @property
    def is_full(self) -> bool:
        """Whether the call had nearly all of the worker's time."""
        return 0 < self.limit * _FULL <= self.ran


def add_cut(files: Files, invocation_id: str, cut: Cut) -> list[Cut]:
    """Record a cut of a call, and return all its cuts.

    Dies before the append: the call has one cut less. Dies during it: the same, since half a line
    does not count. Lost reply: the cut is there, although the caller gets an error.

    Raises:
        OSError: the cut may not have been recorded.
    """
    path = files.layout.cuts(invocation_id)
    found = _read(files, path)
    if len(found) < _LONGEST:
        broken = b"\n" if found and not found.endswith(b"\n") else b""
        files.append(path, broken + msgspec.json.encode(cut) + b"\n")
    return [*_decoded(found), cut]


def cuts_of(files: Files, invocation_id: str) -> list[Cut]:
    """The cuts of a call, oldest first."""
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
