"""Limits of the size of exceptions and tracebacks."""

import sys
import traceback

import codec_zoo as zoo
from codec_support import caught, printed, raised, sent

from fsqueue.codec import (
    decode_exception,
    encode_exception,
    exceptions,
)
from fsqueue.codec.tracebacks import MAX_FRAMES
from fsqueue.errors import RemoteError


def test_huge_texts_are_cut_with_a_mark():
    exc = zoo.RaisingReduce("m" * 10_000_000)
    for _ in range(1000):
        exc.add_note("n" * 100_000)
    data = encode_exception(raised(exc))
    back = decode_exception(data)
    assert len(back.message) < exceptions.MAX_MESSAGE + 100
    assert len(back.traceback_text) < exceptions.MAX_TRACEBACK + 100
    assert "characters left out" in back.message
    assert "characters left out" in back.traceback_text
    assert len(data) < 10_000_000


def test_a_chain_of_huge_texts_has_a_limit_too():
    exc = None
    for _ in range(100):
        following = zoo.RaisingReduce("m" * 100_000)
        following.__context__ = exc
        exc = raised(following)
    share = (2 * exceptions.MAX_MESSAGE + exceptions.MAX_TRACEBACK) // 16
    assert len(encode_exception(exc)) < 200_000 + 100 * share


def test_a_huge_exception_becomes_words():
    small, back = (
        decode_exception(encode_exception(ValueError("x" * length), longest=1000))
        for length in (10, 2000)
    )
    assert type(small) is ValueError
    assert type(back) is RemoteError
    assert "1000 are allowed" in back.__notes__[0]


def test_a_deep_traceback_keeps_both_ends():
    def deep(level):
        if level:
            deep(level - 1)
        raise ValueError

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(10_000)
    try:
        exc = caught(deep, 3000)
    finally:
        sys.setrecursionlimit(limit)
    frames = traceback.extract_tb(sent(exc).__traceback__)
    assert len(frames) == MAX_FRAMES + 1
    assert (frames[0].name, frames[-1].name) == ("deep", "deep")
    assert "frames left out" in frames[MAX_FRAMES // 2].name


def test_a_recursion_error_travels():
    def forever():
        forever()

    exc = caught(forever)
    assert printed(sent(exc)) == printed(exc)
