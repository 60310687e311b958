"""Which failures are one to a person."""

from __future__ import annotations

import json

import pytest

from fsqueue.common.fingerprints import LENGTH, digest_of, fingerprint_of, steady
from fsqueue.errors import DependencyError, RemoteError, WorkerLostError
from fsqueue.runner.attempt.answers import failure_of

PAIRS = [
    ("no such file: '/data/a/1.nc'", "no such file: '/data/b/22.nc'"),
    ("job 17 failed after 3.5 s", "job 18 failed after 1e-3 s"),
    ("cannot read /scratch/u7/x.h5", "cannot read /scratch/u8/y/z.h5"),
    ("task 3f2504e0-4f89-11d3-9a0c-0305e82c3301", "task 3f2504e0-4f89-11d3-9a0c-0305e82c3302"),
    ("object at 0x7f00aa", "object at 0x7f00bb"),
    ("invocation abcdefghij-7 was lost", "invocation zzzzzzzzzz-901 was lost"),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_what_changes_from_call_to_call_does_not_count(one, other):
    assert steady(one) == steady(other)
    assert digest_of("ValueError", one) == digest_of("ValueError", other)


def test_other_words_types_and_places_count():
    found = {
        digest_of("ValueError", "negative rate", "model.py", "step"),
        digest_of("ValueError", "negative rates", "model.py", "step"),
        digest_of("TypeError", "negative rate", "model.py", "step"),
        digest_of("ValueError", "negative rate", "model.py", "stop"),
        digest_of("ValueError", "negative rate", "other.py", "step"),
    }
    assert len(found) == 5
    assert {len(each) for each in found} == {LENGTH}


def raised(function, *args):
    try:
        function(*args)
    except Exception as error:  # noqa: BLE001
        return error
    raise AssertionError


def parse(text):
    return json.loads(text)


def also_parse(text):
    return json.loads(text)


def test_the_place_is_the_innermost_one_in_the_users_code():
    error = raised(parse, "{")
    found = fingerprint_of(error, text=str(error))
    assert found.place.startswith("test_fingerprints.py:")
    assert found.place.endswith("in parse")
    assert found != fingerprint_of(raised(also_parse, "{"), text=str(error))
    assert found.digest == fingerprint_of(raised(parse, "{"), text=str(error)).digest


def test_a_call_that_was_not_run_belongs_to_the_failure_of_the_other():
    cause = raised(parse, "{")
    error = DependencyError("invocation b-1 was not run", "a-1", "t.f")
    error.__cause__ = cause
    assert failure_of(error).fp == failure_of(cause).fp
    assert failure_of(error).type == "DependencyError"


def test_failures_of_the_queue_are_one_by_type():
    one, other = WorkerLostError("invocation a-1 was lost"), WorkerLostError("its worker n7 died")
    assert failure_of(one).fp == failure_of(other).fp == digest_of("WorkerLostError")
    assert failure_of(RemoteError("A", "b 1")).fp == failure_of(RemoteError("A", "b 2")).fp


@pytest.mark.parametrize("text", ["", "\ud800", "'" * 5000, "\x1b[31m", "1" * 10**5])
def test_any_text_has_one(text):
    assert len(digest_of(text, text, text, text)) == LENGTH
