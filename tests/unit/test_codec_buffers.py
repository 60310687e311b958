"""Large memory through the codec, apart from the pickle."""

import pickle

import pytest

from fsqueue.codec import (
    decode,
    encode,
    uncopied,
)
from fsqueue.errors import DeserializationError, SerializationError

LARGE = 1 << 20


class Array:
    """Pickled as those of numpy are."""

    def __init__(self, memory):
        self.memory = memory

    def __reduce_ex__(self, protocol):
        return Array, (pickle.PickleBuffer(self.memory),)


def apart(value):
    """Its pickle and its buffers, which become as those that are read from a file."""
    buffers = []
    data = encode(value, "value", buffers)
    return data, [bytes(each) if each.readonly else bytearray(each) for each in buffers]


def test_large_bytes_are_apart_and_not_copied():
    value, buffers = b"x" * LARGE, []
    data = encode((uncopied(value), 1), "value", buffers)
    assert len(data) < 100
    assert buffers[0].obj is value
    read = bytes(buffers[0])
    assert decode(data, "value", [read]) == (value, 1)
    assert decode(data, "value", [read])[0] is read


def test_what_is_small_or_no_bytes_is_pickled_as_ever():
    for value in (b"x", b"x" * 1000, bytearray(LARGE), "x" * LARGE, None, [b"x" * LARGE]):
        assert uncopied(value) is value
        data, buffers = apart(value)
        assert (data, buffers) == (encode(value, "value"), [])


@pytest.mark.parametrize("memory", [bytes(LARGE), bytearray(LARGE)])
def test_memory_that_a_value_offers_is_apart_wherever_it_is(memory):
    value = {"deep": [Array(memory)], "again": None}
    value["again"] = value["deep"][0]
    data, buffers = apart(value)
    assert len(data) < 300
    assert buffers == [memory]
    back = decode(data, "value", buffers)
    assert back["deep"][0].memory is buffers[0]
    assert back["again"] is back["deep"][0]


@pytest.mark.parametrize("memory", [bytes(9), bytearray(9), bytes(LARGE), bytearray(LARGE)])
def test_without_buffers_all_memory_is_in_the_pickle(memory):
    back = decode(encode(Array(memory), "value"), "value").memory
    assert back == memory
    assert type(back) is type(memory)
    assert back is not memory


def test_what_cannot_be_pickled_is_named_beside_large_bytes():
    with pytest.raises(SerializationError, match=r"its part \[1\] of type .*generator"):
        encode((uncopied(b"x" * LARGE), (_ for _ in ())), "value", [])


def test_buffers_that_do_not_fit_are_an_error():
    data, _ = apart(Array(bytes(LARGE)))
    with pytest.raises(DeserializationError, match="value cannot be deserialized"):
        decode(data, "value")
