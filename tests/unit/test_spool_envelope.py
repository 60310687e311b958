from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool import envelope
from fsqueue.spool.digests import digest_of
from fsqueue.spool.records import Call, Failure, Outcome
from fsqueue.spool.states import State

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
    failure=Failure("ValueError", "b\nad"),
)
DATA = b"".join(envelope.encode(CALL, [b"abc", memoryview(b"\n\x00d4")]))


def seal(second: bytes, payload: bytes = b"", *, version: int = 1, kind: str = "call") -> bytes:
    """A file that is whole, whatever it says."""
    digest = digest_of(kind, [second, payload], b"")
    size = len(second + payload)
    return f"fsqueue {version} {kind} {digest} {size}\n".encode() + second + payload


def test_what_goes_in_comes_out():
    call, payload = envelope.decode(DATA, Call, "here")
    assert call == CALL
    assert payload == b"abc\n\x00d4"
    data = b"".join(envelope.encode(OUTCOME))
    outcome, payload = envelope.decode(data, Outcome, "here")
    assert outcome == OUTCOME
    assert payload == b""


@given(st.lists(st.binary(max_size=50), max_size=4))
def test_any_payload(chunks):
    data = b"".join(envelope.encode(OUTCOME, chunks))
    assert envelope.decode(data, Outcome, "here")[1] == b"".join(chunks)


def test_its_head_is_readable():
    first, second, _ = DATA.split(b"\n", 2)
    assert first.startswith(b"fsqueue 1 call ")
    assert json.loads(second)["task"] == "tasks.f"


@pytest.mark.parametrize("length", range(len(DATA)))
def test_every_truncation_is_noticed(length):
    with pytest.raises(EnvelopeError, match="here"):
        envelope.decode(DATA[:length], Call, "here")


def test_every_flipped_bit_is_noticed():
    for position in range(len(DATA)):
        for bit in range(8):
            damaged = bytearray(DATA)
            damaged[position] ^= 1 << bit
            with pytest.raises((EnvelopeError, SpoolVersionError)):
                envelope.decode(bytes(damaged), Call, "here")


@given(st.binary(max_size=200) | st.binary(max_size=99).map(lambda rest: b"fsqueue 1 call" + rest))
def test_noise_is_an_error_and_nothing_worse(noise):
    with pytest.raises((EnvelopeError, SpoolVersionError)):
        envelope.decode(noise, Call, "here")


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_a_whole_file_with_any_header_is_an_error_and_nothing_worse(second):
    with pytest.raises(EnvelopeError, match="unreadable header"):
        envelope.decode(seal(second + b"\n"), Call, "here")


def test_a_header_nested_without_end_is_an_error_and_nothing_worse():
    second = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    with pytest.raises(EnvelopeError, match="unreadable header"):
        envelope.decode(seal(second), Call, "here")


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(EnvelopeError, match="holds a 'call', not a 'outcome'"):
        envelope.decode(DATA, Outcome, "here")


def test_a_file_of_another_version_is_told_from_a_damaged_one():
    with pytest.raises(SpoolVersionError, match="format 2"):
        envelope.decode(seal(b"{}\n", version=2), Call, "here")


def test_unknown_keys_are_a_newer_writers():
    header = json.loads(DATA.split(b"\n", 2)[1]) | {"colour": "blue"}
    call, payload = envelope.decode(seal(json.dumps(header).encode() + b"\n", b"p"), Call, "here")
    assert call == CALL
    assert payload == b"p"
