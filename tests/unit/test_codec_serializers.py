"""The serializers besides cloudpickle, and what a reader says that cannot read."""

from __future__ import annotations

import enum
import json
import pickle
from collections import OrderedDict
from typing import Any, NamedTuple, get_args

import pytest

from fsqueue.codec import (
    PYTHON,
    check_codec,
    decode,
    decode_exception,
    encode,
    encode_exception,
    traceback_text,
    uncopied,
)
from fsqueue.config import Serializer
from fsqueue.errors import (
    DeserializationError,
    RemoteError,
    RetryError,
    SerializationError,
    SpoolVersionError,
)


class Pair(NamedTuple):
    a: Any
    b: Any


class Colour(enum.StrEnum):
    RED = "red"


class OwnError(Exception):
    pass


def explode():
    raise AssertionError("this was unpickled")


class Explosive:
    def __reduce__(self):
        return explode, ()


def test_each_serializer_of_the_configuration_is_one_of_the_codec():
    for name in get_args(Serializer):
        check_codec(name, "it")
        assert decode(encode({"a": [1]}, "it", codec=name), "it", codec=name) == {"a": [1]}


# -- json -----------------------------------------------------------------------------------

PLAIN = [
    None,
    True,
    0,
    -(2**70),
    0.1,
    -0.0,
    1e300,
    "",
    'ä\u2028\n"\\',
    [],
    {},
    {"": [{"a": None}]},
    [[[1], 2.0], "x"],
]


@pytest.mark.parametrize("value", PLAIN, ids=repr)
def test_json_carries_it_as_it_is(value):
    data = encode(value, "it", codec="json")
    assert json.loads(data) == value
    back = decode(memoryview(data), "it", codec="json")
    assert back == value
    assert type(back) is type(value)
    assert repr(back) == repr(value)


def test_tuples_become_lists():
    assert decode(encode(((1, (2,)), {"a": ()}), "it", codec="json"), "it", codec="json") == [
        [1, [2]],
        {"a": []},
    ]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"x", "a value of type builtins.bytes"),
        ({1: 2}, "a key of a dict is 1, not a text"),
        ({"a": [0, {None: 1}]}, "a key of its part ['a'][1] is None"),
        ({Colour.RED: 1}, "a key of a dict is <Colour.RED"),
        ([1, Colour.RED], "its part [1] of type test_codec_serializers.Colour"),
        ({"p": Pair(1, 2)}, "its part ['p'] of type test_codec_serializers.Pair"),
        ({1, 2}, "a value of type builtins.set"),
        (OrderedDict(), "a value of type collections.OrderedDict"),
        ([float("nan")], "its part [0] of type builtins.float (nan)"),
        (float("-inf"), "a value of type builtins.float (-inf)"),
        ("\ud800", "UnicodeEncodeError"),
        (10**5000, "ValueError"),
    ],
    ids=lambda value: repr(value)[:20] if not isinstance(value, int) else "",
)
def test_json_refuses_what_would_arrive_as_something_else(value, words):
    with pytest.raises(
        SerializationError, match=r"the arguments of t.f cannot be written as JSON"
    ) as caught:
        encode(value, "the arguments of t.f", codec="json")
    assert words in str(caught.value)


def test_json_refuses_circles():
    circle = []
    circle.append(circle)
    with pytest.raises(SerializationError, match="RecursionError"):
        encode(circle, "it", codec="json")


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b"[" * 100_000, pickle.dumps(Explosive())])
def test_what_is_no_json_is_not_read(data):
    with pytest.raises(DeserializationError, match="it should be JSON and cannot be read"):
        decode(data, "it", codec="json")


def test_large_bytes_are_not_taken_apart_for_json():
    assert type(uncopied(bytes(1 << 19), "json")) is bytes


def fail(error):
    try:
        {}["first"]
    except KeyError as cause:
        raise error from cause


def raised(error):
    with pytest.raises(BaseException) as caught:
        fail(error)
    return caught.value


@pytest.mark.parametrize(
    "error",
    [
        ValueError("bad", 3),
        ZeroDivisionError(),
        FileNotFoundError(2, "not there", "/x"),
        SystemExit(3),
        RetryError("later"),
        KeyError("key"),
    ],
    ids=repr,
)
def test_exceptions_of_python_arrive_as_themselves_without_a_pickle(error):
    error.add_note("noted")
    data = encode_exception(raised(error), "json")
    assert "payload" not in json.loads(data)[0]
    back = decode_exception(data, "json")
    assert type(back) is type(error)
    assert str(back) == str(error)
    assert back.__notes__ == ["noted"]
    assert type(back.__cause__) is KeyError
    assert "fail" in traceback_text(data, "json")
    assert "The above exception was the direct cause" in traceback_text(data, "json")


@pytest.mark.parametrize(
    "error", [OwnError("own"), ValueError(b"x"), ExceptionGroup("g", [OwnError()])]
)
def test_other_exceptions_arrive_as_words(error):
    back = decode_exception(encode_exception(raised(error), "json"), "json")
    assert type(back) is RemoteError
    assert type(error).__name__ in back.type_name
    assert back.message == str(error)
    assert type(back.__cause__) is KeyError
    assert "could not be sent as itself" in back.__notes__[-1]


def test_a_pickle_in_a_record_of_json_is_not_looked_at():
    (record, *_) = json.loads(encode_exception(OwnError("own"), "json"))
    record["payload"] = "gASVEQAAAAAAAACMAnMUlC4="
    for name in ("test_codec_serializers.OwnError", "builtins.eval", "os.system", "pickle.loads"):
        record.update(type_name=name, arguments=["explode()"])
        back = decode_exception(json.dumps([record]).encode(), "json")
        assert type(back) is RemoteError


# -- pickle ---------------------------------------------------------------------------------


def test_pickle_takes_no_functions_by_value():
    assert decode(encode(len, "it", codec="pickle"), "it", codec="pickle") is len
    with pytest.raises(SerializationError, match=r"it cannot be serialized: its part \['f'\]"):
        encode({"f": lambda: 1}, "it", codec="pickle")
    assert decode(encode(lambda: 1, "it"), "it")() == 1


def test_pickle_takes_large_memory_apart_too():
    buffers = []
    data = encode(uncopied(bytes(1 << 19), "pickle"), "it", buffers, codec="pickle")
    assert len(data) < 100
    assert decode(data, "it", buffers, codec="pickle") == bytes(1 << 19)


# -- readers of another kind ------------------------------------------------------------------


def test_a_codec_of_a_newer_version_is_named():
    for read in (check_codec, lambda codec, what: decode(b"", what, codec=codec)):
        with pytest.raises(SpoolVersionError, match="it is written as 'avro', which this fsqueue"):
            read("avro", "it")


def test_no_pickle_is_taken_where_none_is_wanted():
    check_codec("json", "it", unpickles=False)
    with pytest.raises(
        DeserializationError, match=r"it is a pickle \(pickle\) and is not unpickled"
    ):
        check_codec("pickle", "it", unpickles=False)


def test_another_python_is_named():
    data = encode({"f": lambda: 1}, "it")
    with pytest.raises(DeserializationError, match="it holds the code of a function") as caught:
        decode(data, "it", python="2.7")
    assert f"Python 2.7 has written it, and Python {PYTHON} reads it" in str(caught.value)
    assert decode(encode([1, len], "it"), "it", python="2.7") == [1, len]
    buffers = []
    data = encode(uncopied(bytes(1 << 19)), "it", buffers)
    assert decode(data, "it", buffers, python="2.7") == bytes(1 << 19)


@pytest.mark.parametrize("python", ["", "2.7", PYTHON])
def test_a_missing_package_is_named(python):
    with pytest.raises(
        DeserializationError, match=r"On \S+, \S+ cannot import no_such_package: install"
    ):
        decode(b"cno_such_package\nthing\n.", "it", python=python)
