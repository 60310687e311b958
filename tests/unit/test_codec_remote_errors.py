"""Exceptions that cannot travel and arrive as a RemoteError."""

import threading

import codec_zoo as zoo
import pytest
from codec_support import caught, facts, module_of, raised, sent, unhurried
from hypothesis import given
from hypothesis import strategies as st

from fsqueue.codec import (
    decode_exception,
    encode_exception,
)
from fsqueue.errors import RemoteError


@pytest.mark.parametrize(
    ("exc", "name", "message", "reason"),
    [
        (zoo.Locked("held"), "Locked", "held", "cannot pickle '_thread.lock' object"),
        (zoo.RaisingReduce("r"), "RaisingReduce", "r", "ZeroDivisionError: in reduce"),
        (zoo.OtherType("o"), "OtherType", "o", "gave a builtins.ValueError"),
        (zoo.NoException("n"), "NoException", "n", "gave a builtins.dict"),
        (zoo.RaisingLoad("l"), "RaisingLoad", "l", "ValueError: invalid literal"),
        (zoo.RaisingCause("c"), "RaisingCause", "c", "ZeroDivisionError: in cause"),
    ],
)
def test_what_cannot_travel_becomes_words(exc, name, message, reason):
    exc.add_note("a note")
    back = sent(raised(exc))
    assert type(back) is RemoteError
    assert (back.type_name, back.message) == (f"codec_zoo.{name}", message)
    # The worker has found out, not the caller.
    assert back.__notes__[-1].startswith("It could not be sent as itself: ")
    assert reason in back.__notes__[-1]
    if not isinstance(exc, zoo.RaisingCause):
        assert back.__notes__[0] == "a note"
        assert f'File "{raised.__code__.co_filename}"' in back.traceback_text
        assert "raise exc" in back.traceback_text


def test_an_argument_of_a_builtin_that_cannot_be_pickled():
    assert sent(ValueError(threading.Lock())).type_name == "builtins.ValueError"


def test_words_of_an_exception_that_has_none():
    exc = zoo.RaisingStr("x")
    exc.lock = threading.Lock()
    assert sent(exc).message == "<str() raised ZeroDivisionError>"


def test_a_class_without_a_name():
    assert "ZeroDivisionError" in sent(zoo.WithoutName(threading.Lock())).type_name


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_an_unpicklable_member_of_the_chain_does_not_hold_up_the_others(link):
    exc = raised(ValueError("fine"))
    setattr(exc, link, raised(zoo.Locked("held"), KeyError("root cause")))
    back = sent(exc)
    assert facts(back) == facts(exc)
    words = getattr(back, link)
    assert (words.type_name, words.message) == ("codec_zoo.Locked", "held")
    assert "in fail" in words.traceback_text
    assert type(words.__cause__) is KeyError
    assert words.__suppress_context__


def test_an_unpicklable_member_of_a_group():
    back = sent(ExceptionGroup("g", [ValueError("v"), zoo.Locked("held")]))
    assert [type(each) for each in back.exceptions] == [ValueError, RemoteError]


def test_a_group_that_cannot_travel_tells_of_its_members():
    group = ExceptionGroup("g", [raised(ValueError("member"), KeyError("its cause"))])
    group.lock = threading.Lock()
    text = sent(raised(group)).traceback_text
    assert "ValueError: member" in text
    assert "KeyError: 'its cause'" in text


def test_an_exception_that_needs_one_that_became_words():
    back = sent(zoo.Needy(zoo.Locked("held")))
    assert back.type_name == "codec_zoo.Needy"
    assert "needs the original" in back.__notes__[-1]
    assert type(sent(zoo.Needy(ValueError()))) is zoo.Needy


def test_a_class_that_the_caller_cannot_import(tmp_path, monkeypatch):
    module, forget = module_of(
        tmp_path,
        monkeypatch,
        """
        class Strange(Exception):
            pass

        def fail():
            raise Strange("far away")
        """,
    )
    strange = caught(module.fail)
    data = encode_exception(strange)
    as_cause = encode_exception(raised(ValueError("here"), strange))
    assert type(decode_exception(data)) is module.Strange
    forget()
    back = decode_exception(data)
    assert (back.type_name, back.message) == (f"{module.__name__}.Strange", "far away")
    assert f'File "{module.__file__}", line 6, in fail' in back.traceback_text
    assert 'raise Strange("far away")' in back.traceback_text
    assert f"No module named '{module.__name__}'" in back.__notes__[0]
    chained = decode_exception(as_cause)
    assert (type(chained), type(chained.__cause__)) == (ValueError, RemoteError)


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x90", b"\x91\x80", b"\xc0"])
def test_damaged_bytes_are_a_remote_error(data):
    assert type(decode_exception(data)) is RemoteError


@unhurried
@given(st.binary())
def test_decoding_never_raises(data):
    assert isinstance(decode_exception(data), BaseException)


def test_cut_bytes_are_a_remote_error():
    data = encode_exception(raised(ValueError("x"), KeyError()))
    assert {type(decode_exception(data[:end])) for end in range(len(data))} == {RemoteError}


def test_an_order_to_the_process_is_not_held_back():
    with pytest.raises(KeyboardInterrupt):
        encode_exception(zoo.InterruptingReduce())
