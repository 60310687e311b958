"""Values that would arrive as something else, or that belong to one process, are refused."""

from __future__ import annotations

import contextvars
import ctypes
import io
import logging
import mmap
import multiprocessing
import os
import sqlite3
import subprocess
import sys
import tempfile
import threading
import types
import weakref
from collections import OrderedDict
from dataclasses import dataclass

import pytest

from fsqueue.codec import decode, decode_exception, encode, encode_exception
from fsqueue.errors import RemoteError, SerializationError


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("first\nsecond\n", encoding="utf-8")
    with open(path, encoding="utf-8") as file:
        yield file


@dataclass
class Holder:
    held: object


def in_closure(value):
    return lambda: value


def as_default(value):
    return lambda found=value: found


WRAPPERS = [
    lambda value: value,
    lambda value: [1, (value,)],
    lambda value: {"key": {"deeper": value}},
    Holder,
    in_closure,
    as_default,
    lambda value: types.SimpleNamespace(file=value),
]


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_an_open_text_file_is_refused_wherever_it_is(text_file, wrap):
    with pytest.raises(SerializationError, match=r"an open file .*notes.txt.*pass its path"):
        encode(wrap(text_file), "it")


@pytest.mark.parametrize("mode", ["r", "w", "a", "x", "r+", "w+", "rb", "wb", "ab", "rb+"])
@pytest.mark.parametrize("closed", [False, True])
def test_a_file_is_refused_in_each_mode_open_or_closed(tmp_path, mode, closed):
    path = tmp_path / "file"
    if "x" not in mode:
        path.touch()
    with open(path, mode) as file:
        if closed:
            file.close()
        with pytest.raises(SerializationError):
            encode([file], "it")


def test_files_that_wrap_others_are_refused(tmp_path):
    with (
        tempfile.NamedTemporaryFile("w+", dir=tmp_path) as named,
        tempfile.TemporaryFile(dir=tmp_path) as unnamed,
        io.TextIOWrapper(io.BytesIO(b"text")) as in_memory,
        os.fdopen(os.open(named.name, os.O_RDONLY)) as by_number,
    ):
        for file in (named, unnamed, in_memory, by_number):
            with pytest.raises(SerializationError):
                encode(file, "it")


@pytest.mark.parametrize("view", [memoryview(b"abc"), memoryview(bytearray(8)).cast("d")])
def test_a_memoryview_is_refused(view):
    with pytest.raises(SerializationError, match=r"pass bytes\(view\)"):
        encode({"view": view}, "it")


def test_a_weak_set_with_members_is_refused():
    member = Holder(None)
    with pytest.raises(SerializationError, match="pass a set"):
        encode(weakref.WeakSet([type(member)]), "it")
    assert isinstance(decode(encode(weakref.WeakSet(), "it"), "it"), weakref.WeakSet)


@pytest.mark.parametrize("held", [Holder(None), Holder])
def test_a_weak_proxy_is_refused(held):
    with pytest.raises(SerializationError, match="pass the object"):
        encode([weakref.proxy(held)], "it")


def test_a_temporary_directory_is_refused(tmp_path):
    """It would arrive without its end, and that of a body is removed when the body returns."""
    folder = tempfile.TemporaryDirectory(dir=tmp_path)
    with folder as path:
        with pytest.raises(SerializationError, match=r"TemporaryDirectory.*pass the path"):
            encode({"folder": folder}, "it")
        assert decode(encode(path, "it"), "it") == path


def test_a_connection_of_multiprocessing_is_refused():
    """It would arrive as a number, and close what the other side has open under that number."""
    reader, writer = multiprocessing.Pipe(duplex=False)
    with reader, writer:
        for end in (reader, writer):
            with pytest.raises(SerializationError, match="a descriptor of this process"):
                encode([end], "it")


def _generator():
    yield 1


@pytest.mark.parametrize(
    "make",
    [
        threading.Lock,
        threading.local,
        _generator,
        lambda: contextvars.ContextVar("name"),
        contextvars.copy_context,
        lambda: sqlite3.connect(":memory:"),
        lambda: mmap.mmap(-1, 16),
        lambda: weakref.ref(Holder),
        lambda: os.scandir("."),
        lambda: logging.StreamHandler(io.StringIO()),
    ],
)
def test_what_belongs_to_one_process_is_refused(make):
    value = make()
    try:
        with pytest.raises(SerializationError):
            encode([value], "it")
    finally:
        getattr(value, "close", lambda: None)()


class WithFile(ValueError):
    pass


@pytest.mark.parametrize("wrap", WRAPPERS)
def test_an_exception_that_holds_an_open_file_travels_as_words(text_file, wrap):
    error = WithFile("bad line")
    error.source = wrap(text_file)
    back = decode_exception(encode_exception(error))
    assert isinstance(back, RemoteError)
    assert "bad line" in str(back)
    assert any("notes.txt" in note for note in back.__notes__)


class Property:
    @property
    def value(self):
        return 1

    @classmethod
    def made(cls):
        return cls()


@pytest.mark.parametrize(
    ("value", "same"),
    [
        ({"a": 1}.keys(), lambda back: list(back) == ["a"] and type(back) is type({}.keys())),
        ({"a": 1}.values(), lambda back: list(back) == [1]),
        ({"a": 1}.items(), lambda back: list(back) == [("a", 1)]),
        (OrderedDict(a=1).keys(), lambda back: list(back) == ["a"]),
        (types.MappingProxyType({"a": 1}), lambda back: back == {"a": 1}),
        (logging.getLogger("a.b"), lambda back: back is logging.getLogger("a.b")),
        (io.StringIO("text"), lambda back: back.read() == "text"),
        (Property.made, lambda back: isinstance(back(), Property)),
        (os, lambda back: back is os),
        (bytearray(b"abc"), lambda back: type(back) is bytearray),
    ],
)
def test_what_arrives_as_it_was_is_taken(value, same):
    assert same(decode(encode(value, "it"), "it"))


def test_standard_output_is_that_of_the_other_side(tmp_path):
    """It travels by its name, as a logger does."""
    kept = sys.stdout
    with open(tmp_path / "out", "w", encoding="utf-8") as out:
        sys.stdout = out
        try:
            data = encode(sys.stdout, "it")
            assert decode(data, "it") is out
        finally:
            sys.stdout = kept
        with pytest.raises(SerializationError):
            encode(out, "it")


@pytest.mark.parametrize(
    "value",
    [sys.flags, sys.version_info, sys.float_info, sys.implementation, ctypes.CDLL(None)],
)
def test_a_class_that_cannot_be_made_anew_is_refused(value):
    """The other side would fail to read it."""
    with pytest.raises(SerializationError, match="define it in a module"):
        encode({"value": value}, "it")


@pytest.mark.parametrize("kind", [ctypes.c_int, ctypes.c_double])
def test_an_array_of_ctypes_is_taken(kind):
    rows = ((kind * 2) * 2)((1, 2), (3, 4))
    found = decode(encode({"rows": rows}, "it"), "it")["rows"]
    assert type(found) is type(rows)
    assert [list(row) for row in found] == [[1, 2], [3, 4]]


def test_ctypes_of_the_main_script_are_refused():
    class Pair(ctypes.Structure):
        _fields_ = [("one", ctypes.c_int)]

    class Two(ctypes.Array):
        _type_, _length_ = ctypes.c_int, 2

    for value in (Pair(1), (Pair * 2)(), Two(1, 2)):
        with pytest.raises(SerializationError, match="define it in a module"):
            encode(value, "it")


_SLOTTED = """
import dataclasses, sys
from fsqueue.codec import decode, encode

class Private:
    __slots__ = ("__hidden", "shown")
    def __init__(self):
        self.__hidden, self.shown = 1, 2
    def __eq__(self, other):
        return (self.__hidden, self.shown) == (other.__hidden, other.shown)

class Below(Private):
    __slots__ = ("more", "__weakref__")

@dataclasses.dataclass(slots=True)
class Row:
    number: int = 3

values = [Private(), Below(), Row(4)]
"""


def test_slots_of_classes_of_the_main_script_go_there_and_back():
    there = (
        "import sys; from fsqueue.codec import decode, encode\n"
        "values = decode(sys.stdin.buffer.read(), 'it')\n"
        "assert not any(hasattr(value, '__dict__') for value in values)\n"
        "sys.stdout.buffer.write(encode(values, 'it'))"
    )
    script = (
        f"{_SLOTTED}\nimport subprocess\n"
        f"command = [sys.executable, '-c', {there!r}]\n"
        "done = subprocess.run(command, input=encode(values, 'it'), stdout=-1, check=True)\n"
        "assert decode(done.stdout, 'it') == values\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
