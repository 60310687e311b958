"""Values through the codec, and values that it refuses."""

import functools
import pickle
import threading

import codec_zoo as zoo
import pytest
from codec_support import VALUES, module_of, unhurried
from hypothesis import given

from fsqueue.codec import (
    decode,
    encode,
)
from fsqueue.errors import DeserializationError, SerializationError


@unhurried
@given(VALUES)
def test_a_value_comes_back(value):
    assert decode(encode(value, "value"), "value") == value


def test_a_function_of_main_or_a_closure_travels():
    assert decode(encode(lambda x: x + 1, "f"), "f")(1) == 2


def test_the_highest_protocol_is_used():
    assert encode(1, "x")[:2] == b"\x80" + bytes([pickle.HIGHEST_PROTOCOL])


def test_a_memoryview_can_be_decoded():
    assert decode(memoryview(encode([1], "x")), "x") == [1]


# --- what cannot travel


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (threading.Lock(), "a value of type _thread.lock: TypeError: cannot pickle"),
        ((1, threading.Lock()), "its part [1] of type _thread.lock: TypeError: cannot pickle"),
        (((), {"a": 1, "b": [threading.Lock()]}), "its part [1]['b'][0] of type _thread.lock"),
        (zoo.RaisingReduce(), "a value of type codec_zoo.RaisingReduce: ZeroDivisionError: in red"),
    ],
)
def test_an_unpicklable_value_is_named(value, part):
    with pytest.raises(SerializationError) as caught_error:
        encode(value, "The arguments of app.add")
    assert str(caught_error.value).startswith(
        f"The arguments of app.add cannot be serialized: {part}"
    )
    assert caught_error.value.__cause__ is not None


def test_too_deep_a_value_is_an_error():
    deep = functools.reduce(lambda inner, _: [inner], range(100_000), [])
    with pytest.raises(SerializationError, match="The result cannot be serialized"):
        encode(deep, "The result")


def test_an_unreadable_value_names_itself_the_reason_and_the_remedy(tmp_path, monkeypatch):
    module, forget = module_of(tmp_path, monkeypatch, "class Thing: pass")
    data = encode(module.Thing(), "x")
    forget()
    with pytest.raises(DeserializationError) as caught_error:
        decode(data, "The result of c-1")
    message = str(caught_error.value)
    assert message.startswith(
        "The result of c-1 cannot be deserialized: ModuleNotFoundError: No mod"
    )
    assert "same packages" in message
    assert isinstance(caught_error.value.__cause__, ModuleNotFoundError)


@pytest.mark.parametrize("data", [b"", b"garbage", encode([1, 2], "x")[:-2]])
def test_damaged_bytes_are_an_error(data):
    with pytest.raises(DeserializationError):
        decode(data, "x")
