import collections
import dataclasses
import datetime as dt
import enum
import functools
import inspect
import itertools
import os
import subprocess
import sys
import threading
import types
import zoneinfo
from array import array
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fsqueue.calls.keys import arguments_of, check_key_arguments, digest_of
from fsqueue.errors import SerializationError


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: float
    labels: set = dataclasses.field(default_factory=set)


class Deeper(Point):
    """No dataclass of its own: its instances are more than their fields."""


class Plain:
    def __init__(self, **values):
        vars(self).update(values)


def deeper(extra):
    point = Deeper(1.0)
    point.extra = extra
    return point


def words(*order):
    return {f"word{n}" for n in order}


def zoo():
    """Values that all differ."""
    moment = dt.datetime(2026, 1, 2, 3, 4, 5)  # noqa: DTZ001
    return [
        None,
        True,
        False,
        0,
        1,
        -1,
        255,
        -256,
        1 << 40_000,
        1.0,
        -0.0,
        0.0,
        float("inf"),
        1j,
        "",
        "1",
        "ü",
        "\udc80",
        b"",
        b"1",
        bytearray(b"1"),
        (),
        (1,),
        [1],
        [1, 2],
        [2, 1],
        [[1], 2],
        [1, [2]],
        [1, 2, []],
        {},
        {1: 2},
        {2: 1},
        {1: {2: 3}},
        {True: 2},
        set(),
        {1},
        {1, 2},
        frozenset({1}),
        frozenset(),
        moment,
        moment.replace(tzinfo=dt.UTC),
        moment.replace(tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        moment.replace(fold=1),
        moment.date(),
        moment.time(),
        dt.timedelta(1),
        dt.UTC,
        zoneinfo.ZoneInfo("Europe/Berlin"),
        Path("a"),
        Path("a/b"),
        PurePosixPath("a"),
        Colour.RED,
        Colour.GREEN,
        Access.READ,
        Access.READ | Access.WRITE,
        Point(1.0),
        Point(2.0),
        Point(1.0, {1}),
        deeper(1),
        deeper(2),
        Plain(a=1),
        Plain(a=2),
        Plain(a=Plain(a=1)),
        array("i", [1]),
        array("l", [1]),
        array("i", [1, 2]),
        collections.OrderedDict(a=1, b=2),
        collections.OrderedDict(b=2, a=1),
        collections.defaultdict(int, a=1),
        collections.defaultdict(list, a=1),
        collections.Counter("ab"),
        range(3),
        Point,
        len,
        words,
        lambda: 1,
        lambda: 2,
        functools.partial(words, 1),
        functools.partial(words, 2),
        ValueError("a"),
        ...,
        "x" * 300,
        ["x" * 300],
        b"x" * 300,
    ]


def test_different_values_differ():
    digests = [digest_of(value) for value in zoo()]
    same = [
        pair
        for pair in itertools.combinations(range(len(digests)), 2)
        if digests[pair[0]] == digests[pair[1]]
    ]
    assert same == []


def test_equal_values_made_anew_do_not():
    assert [digest_of(value) for value in zoo()] == [digest_of(value) for value in zoo()]


_PROGRAM = """
import sys

sys.path[:0] = [{folder!r}, {folder!r} + '/..']
import test_keys

print([test_keys.digest_of(value) for value in test_keys.zoo()])
"""


@pytest.mark.parametrize("seed", ["1", "2"])
def test_other_processes_agree(seed):
    program = _PROGRAM.format(folder=os.path.dirname(__file__))
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str([digest_of(value) for value in zoo()])


@pytest.mark.parametrize(
    "kind", [dict, functools.partial(collections.defaultdict, int)], ids=["dict", "subclass"]
)
def test_order_in_dicts_does_not_count(kind):
    pairs = [(f"key{n}", n) for n in range(50)]
    assert digest_of(kind(pairs)) == digest_of(kind(reversed(pairs)))
    assert digest_of([Plain(**dict(pairs))]) == digest_of([Plain(**dict(reversed(pairs)))])


def test_order_in_sets_does_not_count():
    assert digest_of({8, 0, 16}) == digest_of({16, 8, 0})
    assert digest_of(words(*range(50))) == digest_of(words(*reversed(range(50))))


def test_neither_does_whether_parts_are_one_object():
    shared = ["a" * 3, "b"]
    assert digest_of([shared, shared]) == digest_of([["aaa", "b"], ["a" + "aa", "b"]])


def test_what_is_shared_many_times_takes_no_time():
    value = []
    for _ in range(200):
        value = [value, value]
    assert digest_of(value) == digest_of([value[0], value[1]])


def test_what_contains_itself_has_a_digest():
    first, second = [1], [1]
    first.append(first)
    second.append(second)
    assert digest_of(first) == digest_of(second) != digest_of([1, [1]])


def test_a_view_counts_by_its_numbers():
    numbers = array("d", range(10))
    assert digest_of(numbers) == digest_of(array("d", range(10))) != digest_of(list(numbers))


def test_a_key_while_another_thread_imports_numpy(monkeypatch):
    monkeypatch.setitem(sys.modules, "numpy", types.ModuleType("numpy"))
    assert digest_of(Point(1.0)) != digest_of(Point(2.0))


def test_arrays_of_numpy():
    numpy = pytest.importorskip("numpy")
    grid = numpy.arange(600.0).reshape(20, 30)
    assert digest_of(grid) == digest_of(numpy.asfortranarray(grid)) == digest_of(grid.T.copy().T)
    assert digest_of(grid[::2]) == digest_of(grid[::2].copy())
    differ = [
        grid,
        grid.T,
        grid.ravel(),
        grid.astype("f4"),
        grid.tolist(),
        grid[0],
        numpy.float64(1),
        1.0,
    ]
    differ += [numpy.ma.array([1, 2], mask=mask) for mask in ([0, 1], [1, 0])]
    differ += [numpy.array(["2026-01-01"], dtype="M8[D]"), numpy.array([["a"], [1]], dtype=object)]
    assert len({digest_of(each) for each in differ}) == len(differ)
    texts = ["".join("word"), "word"]
    assert digest_of(numpy.array(texts, dtype=object)) == digest_of(
        numpy.array(["word"] * 2, dtype=object)
    )


def test_what_cannot_be_pickled_is_an_error():
    with pytest.raises(SerializationError, match="part of a key"):
        digest_of([threading.Lock()])


_leaves = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
_values = st.recursive(
    _leaves, lambda each: st.lists(each) | st.dictionaries(st.text(), each) | st.tuples(each, each)
)


@settings(max_examples=examples(100), deadline=None)
@given(_values, _values)
def test_digests_are_equal_for_values_of_equal_text(one, other):
    assert (digest_of(one) == digest_of(other)) == (canonical(one) == canonical(other))


def canonical(value):
    if isinstance(value, dict):
        return f"dict{sorted((key, canonical(each)) for key, each in value.items())}"
    if isinstance(value, list | tuple):
        return f"{type(value)}{[canonical(each) for each in value]}"
    return repr(value)


# -- arguments ------------------------------------------------------------------------------


def example(a, /, b=2, *rest, c=3, **others): ...


def bound(*args, **kwargs):
    return inspect.signature(example).bind(*args, **kwargs)


def test_defaults_are_arguments():
    assert (
        arguments_of(bound(1))
        == arguments_of(bound(1, 2, c=3))
        == {"a": 1, "b": 2, "rest": (), "c": 3, "others": {}}
    )


def test_an_argument_by_name_may_be_called_like_one_by_place():
    assert arguments_of(
        inspect.BoundArguments(bound(1).signature, {"a": 1, "others": {"a": 2}}), ["a"]
    ) == {"a": 1}


def test_key_arguments_are_picked():
    assert arguments_of(bound(1, c=5, other=6), ["c", "other", "missing"]) == {"c": 5, "other": 6}


def test_key_arguments_are_parameters():
    check_key_arguments(inspect.signature(example), ["b", "anything"])
    with pytest.raises(ValueError, match=r"key_arguments names y, z, .*there are: x"):
        check_key_arguments(inspect.signature(lambda x: x), ["x", "y", "z"])
