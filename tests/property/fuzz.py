"""Decoders of a spool's files against any bytes: for the quick tests, and for long runs by hand.

A long run, guided by coverage: ``pip install atheris``, then
``python tests/property/fuzz.py -max_total_time=300``.
"""

from __future__ import annotations

import contextlib
import sys

import msgspec

from fsqueue.errors import EnvelopeError, SpoolVersionError, UnknownInvocationError
from fsqueue.spool.disk.identity import Process, is_gone
from fsqueue.spool.format import envelope
from fsqueue.spool.format.digests import digest_of
from fsqueue.spool.format.names import AttemptName, Slot, is_queue_name, split_member
from fsqueue.spool.format.records import (
    FORMAT,
    UNDECODABLE,
    Call,
    Failure,
    Member,
    Outcome,
    SpoolInfo,
    WorkerRecord,
)
from fsqueue.spool.format.states import State

KEYS = (b"", b"k" * 64)
CALL = Call(
    id="abcd-1",
    spool="spool",
    task="tasks.f",
    queue="default",
    slot="4.0000000000000",
    created=1.5,
    python="3.11",
    codec="cloudpickle",
    max_attempts=3,
    keep=True,
    segments=(3, 4),
)
OUTCOME = Outcome(
    id="abcd-1",
    spool="spool",
    attempt=1,
    state=State.FAILED,
    worker="w",
    started=1.0,
    ended=2.0,
    codec="",
    failure=Failure("ValueError", "bad"),
    members=(Member(State.SUCCEEDED, 3), Member(State.FAILED, 4)),
)
BUFFERS = ((), (b"constant", bytearray(b"variable")))
WHOLE = {
    (type(header), key, len(buffers)): b"".join(
        envelope.encode(header, [b"abc", b"defg"], key, buffers)
    )
    for header in (CALL, OUTCOME)
    for key in KEYS
    for buffers in BUFFERS
}


def look_at_bytes(data: bytes) -> None:
    """As a file of each kind, as a record and as names."""
    for kind in (Call, Outcome):
        for key in KEYS:
            try:
                envelope.decode([data], kind, "here", key)
            except (EnvelopeError, SpoolVersionError):
                continue
            assert data in WHOLE.values(), "nobody can make a digest by chance"
    with contextlib.suppress(EnvelopeError, SpoolVersionError):
        assert sum(piece.size for piece in envelope.pieces(data[:2048], "here")) > 0
    for kind in (SpoolInfo, WorkerRecord):
        try:
            record = msgspec.json.decode(data, type=kind)
        except UNDECODABLE:
            continue
        if isinstance(record, WorkerRecord):
            is_gone(Process(record.boot, record.pid, record.start))
    _look_at_name(data.decode("utf-8", "surrogateescape"))


def _look_at_name(text: str) -> None:
    name = AttemptName.parse(text)
    if name is not None:
        assert str(name) == text
        assert name.attempt > name.retries >= 0
    Slot.parse(text)
    is_queue_name(text)
    split_member(text)


def look_at_mutated(plan: bytes) -> None:
    """A whole file after a few changes, which `plan` chooses."""
    kind, key, count = list(WHOLE)[plan[0] % len(WHOLE)]
    data = bytearray(WHOLE[kind, key, count])
    for where, what in zip(plan[1::2], plan[2::2], strict=False):
        place = where * len(data) // 256
        match what % 5:
            case 0:
                data[place] = what
            case 1:
                data[place] ^= 1 << what % 8
            case 2:
                del data[place : place + what % 16]
            case 3:
                data[place:place] = plan[: what % 16]
            case 4:
                data[place:place] = data[: what % 64]
        if not data:
            break
    try:
        header, payload = envelope.decode([bytes(data)], kind, "here", key)
    except (EnvelopeError, SpoolVersionError):
        return
    # Only the number of the version is not under the digest.
    assert header == (CALL if kind is Call else OUTCOME)
    assert payload == (b"abcdefg", [*(BUFFERS[1] if count else ())])


def look_at_sealed(header: bytes) -> None:
    """A file whose digest holds, whatever its header is: what can be decoded can be used."""
    for kind, name in ((Call, "call"), (Outcome, "outcome")):
        second = header + b"\n"
        rest = b" %d\n" % len(second) + second
        first = f"fsqueue {FORMAT} {name} {digest_of(name, [rest], b'')}".encode()
        try:
            found, payload = envelope.decode([first + rest], kind, "here")
        except EnvelopeError:
            continue
        if isinstance(found, Outcome):
            for member in (None, 0, 1, 99):
                try:
                    found.part(payload, member)
                except UnknownInvocationError:
                    assert member is not None


def _one_input(data: bytes) -> None:
    if not data:
        return
    (look_at_bytes, look_at_mutated, look_at_sealed)[data[0] % 3](data[1:] or b"\0")


if __name__ == "__main__":
    import atheris

    atheris.instrument_all()
    atheris.Setup(sys.argv, _one_input)
    atheris.Fuzz()
