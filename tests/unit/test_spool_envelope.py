from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsqueue.errors import EnvelopeError, SpoolVersionError
from fsqueue.spool.format import envelope
from fsqueue.spool.format.digests import digest_of
from fsqueue.spool.format.records import Call, Failure, Outcome
from fsqueue.spool.format.states import State

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
BUFFERS = [b"constant", b"", bytearray(b"variable"), memoryview(b"view\n")]
WITH_BUFFERS = b"".join(envelope.encode(CALL, [b"abc"], b"", BUFFERS))
FILES = [DATA, WITH_BUFFERS]


def seal(second: bytes, payload: bytes = b"", *, version: int = 1, kind: str = "call") -> bytes:
    """A complete file with any content."""
    rest = b" %d\n" % len(second + payload) + second + payload
    return f"fsqueue {version} {kind} {digest_of(kind, [rest], b'')}".encode() + rest


def test_what_goes_in_comes_out():
    call, payload = envelope.decode([DATA], Call, "here")
    assert call == CALL
    assert payload == (b"abc\n\x00d4", [])
    data = b"".join(envelope.encode(OUTCOME))
    outcome, payload = envelope.decode([data], Outcome, "here")
    assert outcome == OUTCOME
    assert payload == (b"", [])


@given(st.lists(st.binary(max_size=50), max_size=4))
def test_any_payload(chunks):
    data = b"".join(envelope.encode(OUTCOME, chunks))
    assert envelope.decode([data], Outcome, "here")[1].data == b"".join(chunks)


def test_its_head_is_readable():
    first, second, _ = DATA.split(b"\n", 2)
    assert first.startswith(b"fsqueue 1 call ")
    assert json.loads(second)["task"] == "tasks.f"


@pytest.mark.parametrize("data", FILES)
def test_every_truncation_is_noticed(data):
    for length in range(len(data)):
        with pytest.raises(EnvelopeError, match="here"):
            envelope.decode([data[:length]], Call, "here")


@pytest.mark.parametrize("data", FILES)
def test_every_flipped_bit_is_noticed(data):
    for position in range(len(data)):
        for bit in range(8):
            damaged = bytearray(data)
            damaged[position] ^= 1 << bit
            with pytest.raises((EnvelopeError, SpoolVersionError)):
                envelope.decode([bytes(damaged)], Call, "here")


@given(st.binary(max_size=200) | st.binary(max_size=99).map(lambda rest: b"fsqueue 1 call" + rest))
def test_noise_is_an_error_and_nothing_worse(noise):
    with pytest.raises((EnvelopeError, SpoolVersionError)):
        envelope.decode([noise], Call, "here")


@given(
    st.binary(max_size=200)
    | st.recursive(st.none() | st.text(), st.lists).map(lambda value: json.dumps(value).encode())
)
def test_a_whole_file_with_any_header_is_an_error_and_nothing_worse(second):
    with pytest.raises(EnvelopeError, match="unreadable header"):
        envelope.decode([seal(second + b"\n")], Call, "here")


def test_a_header_nested_without_end_is_an_error_and_nothing_worse():
    second = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}\n"
    with pytest.raises(EnvelopeError, match="unreadable header"):
        envelope.decode([seal(second)], Call, "here")


def test_a_file_of_another_kind_is_refused():
    with pytest.raises(EnvelopeError, match="holds a 'call', not a 'outcome'"):
        envelope.decode([DATA], Outcome, "here")


def test_a_file_of_another_version_is_told_from_a_damaged_one():
    with pytest.raises(SpoolVersionError, match="format 2"):
        envelope.decode([seal(b"{}\n", version=2)], Call, "here")


def test_unknown_keys_are_a_newer_writers():
    header = json.loads(DATA.split(b"\n", 2)[1]) | {"colour": "blue"}
    call, payload = envelope.decode([seal(json.dumps(header).encode() + b"\n", b"p")], Call, "here")
    assert call == CALL
    assert payload.data == b"p"


# -- buffers --------------------------------------------------------------------------------------


def in_pieces(data: bytes) -> list[bytes | bytearray]:
    """As the reader of a large file does it."""
    content: list[bytes | bytearray] = []
    for size, writable in envelope.pieces(data[:2048], "here"):
        content.append(bytearray(data[:size]) if writable else data[:size])
        data = data[size:]
    assert not data
    return content


@pytest.mark.parametrize("read", [lambda data: [data], in_pieces])
def test_buffers_come_back_and_are_as_writable_as_they_were(read):
    call, payload = envelope.decode(read(WITH_BUFFERS), Call, "here")
    assert call == CALL
    assert payload == (b"abc", BUFFERS)
    assert [type(buffer) for buffer in payload.buffers] == [bytes, bytes, bytearray, bytes]


def test_all_but_buffers_is_one_piece():
    assert [size for size, _ in envelope.pieces(DATA, "here")] == [len(DATA)]
    first, *others = envelope.pieces(WITH_BUFFERS, "here")
    assert others == [(8, False), (0, False), (8, True), (5, False)]
    assert first.size == len(WITH_BUFFERS) - 21


@pytest.mark.parametrize(
    ("sizes", "others"),
    [
        (b" 8 0 8w 5\n", b" 8 0 8 5\n"),  # one that was writable
        (b" 8 0 8w 5\n", b" 0 8 8w 5\n"),  # which one is empty
        (b" 8 0 8w 5\n", b" 8 0 7w 6\n"),  # where one ends
        (b" 8 0 8w 5\n", b" 8 0 8w 05\n"),  # how a number is written
        (b" 8 0 8w 5\n", b" 8 8w 5\n"),  # how many they are
    ],
)
def test_sizes_are_under_the_digest(sizes, others):
    data = WITH_BUFFERS.replace(sizes, others)
    assert data != WITH_BUFFERS
    for read in (lambda data: [data], in_pieces):
        with pytest.raises(EnvelopeError, match="its digest does not match"):
            envelope.decode(read(data), Call, "here")


def test_pieces_of_other_sizes_are_refused():
    first, *others = in_pieces(WITH_BUFFERS)
    for content in ([first, *others[:-1]], [first, *others, b"more"], [first[:-1], *others]):
        with pytest.raises(EnvelopeError, match="bytes instead of"):
            envelope.decode(content, Call, "here")


def test_the_key_covers_buffers():
    data = b"".join(envelope.encode(CALL, [b"abc"], b"k" * 64, BUFFERS))
    assert envelope.decode(in_pieces(data), Call, "here", b"k" * 64)[1].buffers == BUFFERS
    for forged in (WITH_BUFFERS, data.replace(b"variable", b"variably")):
        with pytest.raises(EnvelopeError, match="signed"):
            envelope.decode(in_pieces(forged), Call, "here", b"k" * 64)


@given(
    st.lists(st.binary(max_size=20) | st.binary(max_size=20).map(bytearray), max_size=64),
    st.binary(max_size=20),
)
def test_any_buffers(buffers, payload):
    data = b"".join(envelope.encode(OUTCOME, [payload], b"", buffers))
    for content in ([data], in_pieces(data)):
        assert envelope.decode(content, Outcome, "here")[1] == (payload, buffers)


def test_the_first_line_has_room_for_the_sizes_of_the_most_buffers():
    digest = "0" * 32
    line = f"fsqueue 1 outcome {digest} {10**15 - 1}{f' {10**14}w' * 64}\n".encode()
    assert len(envelope.pieces(line[:2048], "here")) == 65
