"""Tracebacks of exceptions that have travelled."""

import subprocess
import traceback

import codec_zoo as zoo
import pytest
from codec_support import caught, printed, raised, run_script, sent, unhurried
from hypothesis import given
from hypothesis import strategies as st

from fsqueue.codec import (
    decode_exception,
    encode_exception,
)
from fsqueue.codec.tracebacks import Frame, frames_of, traceback_from


def test_a_raised_copy_shows_the_worker_s_file_line_and_function():
    def body(key="key"):
        return [1, 2, 3][key]  # the place

    back = sent(caught(body))
    again = raised(back)
    last = traceback.extract_tb(again.__traceback__)[-1]
    assert (last.filename, last.name, last.line) == (
        __file__,
        "body",
        "return [1, 2, 3][key]  # the place",
    )
    assert "~~~~~~~~~^^^^^" in printed(again)


def test_an_uncaught_copy_is_printed_by_the_interpreter(tmp_path):
    source = """
        import sys
        from fsqueue.codec import decode_exception, encode_exception
        def body():
            return [1, 2, 3]["key"]
        try:
            body()
        except TypeError as error:
            data = encode_exception(error)
        raise decode_exception(data)
    """
    script = tmp_path / "script.py"
    with pytest.raises(subprocess.CalledProcessError) as failure:
        run_script(script, source)
    assert f'File "{script}", line 5, in body' in failure.value.stderr
    assert "~~~~~~~~~^^^^^^^" in failure.value.stderr


def test_this_package_s_leading_frames_are_left_out():
    def from_package(function):
        run = {"__name__": "fsqueue.runner.pool"}
        exec(compile("def call(f): f()", "/package/pool.py", "exec"), run)
        return lambda: run["call"](function)

    def body():
        from_package(fail)()

    def fail():
        raise zoo.Locked("x")

    error = caught(from_package(body))
    error = error.with_traceback(error.__traceback__.tb_next)
    text = sent(error).traceback_text
    assert text.count("/package/pool.py") == 1
    assert text.index("in body") < text.index("/package/pool.py") < text.index("in fail")


def test_a_failure_of_this_package_keeps_its_frames():
    run = {"__name__": "fsqueue.runner.pool"}
    exec(compile("def call(): 1 / 0", "/package/pool.py", "exec"), run)
    error = caught(run["call"])
    assert [frame.name for frame in traceback.extract_tb(sent(error).__traceback__)] == ["call"]


def test_variables_stay_on_the_worker():
    def body():
        secret = "hunter" + str(2)
        raise ValueError(len(secret))

    exc = caught(body)
    data = encode_exception(exc)
    assert b"hunter2" not in data
    innermost = list(traceback.walk_tb(decode_exception(data).__traceback__))[-1][0]
    assert innermost.f_locals == {}
    assert innermost.f_back is None


def test_frames_can_be_cleared():
    traceback.clear_frames(sent(raised(ValueError())).__traceback__)


def test_an_exception_without_a_traceback():
    assert sent(ValueError()).__traceback__ is None
    assert sent(zoo.Locked("x")).traceback_text == ""


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def frames(draw):
    line, lines = draw(st.integers(1, 10**6)), draw(st.integers(0, 1000))
    column, width = draw(st.integers(0, 10**4)), draw(st.integers(0, 10**4))
    names = [draw(TEXTS) for _ in range(3)]
    if draw(st.booleans()):
        return Frame(*names, line, line, -1, -1)
    return Frame(*names, line, line + lines, column, column + width)


@unhurried
@given(st.lists(frames(), max_size=5))
def test_any_traceback_can_be_made_and_read_again(made):
    assert frames_of(traceback_from(made)) == made
