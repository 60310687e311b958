"""Exceptions that arrive as themselves, with their chains and groups."""

import copyreg
import threading
import traceback
from types import TracebackType

import codec_zoo as zoo
import pytest
from codec_support import VALUES, caught, facts, printed, raised, sent, unhurried
from hypothesis import given
from hypothesis import strategies as st

from fsqueue.codec import (
    exceptions,
)
from fsqueue.errors import RemoteError


@pytest.mark.parametrize("exc", zoo.FAITHFUL, ids=lambda exc: type(exc).__name__)
def test_an_exception_comes_back_as_itself(exc):
    assert facts(sent(exc)) == facts(exc)


def test_slots_travel():
    back = sent(zoo.Slotted(3))
    assert (type(back), back.args, back.code, back.secret) == (zoo.Slotted, ("slotted",), 3, -3)
    assert back.obj is None
    assert not hasattr(back, "unset")


def test_text_that_cannot_be_made_does_not_matter_to_the_exception():
    assert type(sent(zoo.RaisingStr("x"))) is zoo.RaisingStr


def test_an_exception_that_refers_to_itself():
    exc = ValueError("x")
    exc.me = exc
    back = sent(exc)
    assert back.me is back


def test_a_registered_reducer_is_respected(monkeypatch):
    class Local(Exception):
        pass

    monkeypatch.setitem(copyreg.dispatch_table, Local, lambda _: (Local, ("registered",)))
    assert sent(Local("x")).args == ("registered",)


@pytest.mark.parametrize("kind", [ValueError, zoo.OwnReduce, zoo.Frozen])
def test_notes_travel(kind):
    exc = kind(1, 2) if kind is not ValueError else ValueError()
    object.__setattr__(exc, "__notes__", ["one", "two"])
    assert sent(exc).__notes__ == ["one", "two"]


def test_the_chain_travels_with_tracebacks():
    def fail():
        try:
            {}["context"]  # the context
        except KeyError:
            raise zoo.Rewording("h", 1) from OSError(2, "cause", "file")

    exc = caught(fail)
    back = sent(exc)
    assert facts(back.__cause__) == facts(exc.__cause__)
    assert facts(back.__context__) == facts(exc.__context__)
    assert back.__suppress_context__
    assert printed(back) == printed(exc)
    assert "# the context" in "".join(traceback.format_tb(back.__context__.__traceback__))


def test_a_suppressed_context_stays_suppressed():
    exc = ValueError()
    exc.__context__ = KeyError()
    assert sent(exc).__suppress_context__ is False
    exc.__suppress_context__ = True
    assert sent(exc).__suppress_context__ is True
    assert sent(exc).__cause__ is None


def test_a_circular_chain():
    first, second = ValueError("first"), KeyError("second")
    first.__context__, second.__context__, second.__cause__ = second, first, second
    back = sent(first)
    assert back.__context__.__context__ is back
    assert back.__context__.__cause__ is back.__context__
    assert printed(back) == printed(first)


def test_a_very_long_chain_is_cut_with_a_mark():
    exc = ValueError(0)
    for number in range(1, 20_000):
        following = ValueError(number)
        following.__context__ = exc
        exc = following
    chain = [sent(exc)]
    while chain[-1].__context__ is not None:
        chain.append(chain[-1].__context__)
    assert [each.args for each in chain[:-1]] == [(19_999 - n,) for n in range(len(chain) - 1)]
    assert len(chain) == exceptions.MAX_EXCEPTIONS + 1
    assert isinstance(chain[-1], RemoteError)
    assert "left out" in str(chain[-1])


def test_a_held_exception_is_the_same_as_the_cause():
    cause = raised(ValueError("cause"))
    back = sent(raised(zoo.Holder(cause), cause))
    assert back.original is back.__cause__ is back.args[0]
    assert "in fail" in "".join(traceback.format_tb(back.original.__traceback__))


def test_exceptions_that_hold_each_other():
    first, second = zoo.Holder(1), zoo.Holder(2)
    first.other, second.other = second, first
    back = sent(first)
    assert (back.args, back.other.args) == ((1,), (2,))
    assert back.other.other is back
    first.lock = threading.Lock()
    assert type(sent(second).other) is RemoteError


def test_groups_nested():
    leaf = raised(zoo.Rewording("h", 1), raised(KeyError("cause")))
    leaf.add_note("a note")
    inner = raised(ExceptionGroup("inner", [leaf, ValueError("v")]))
    exc = raised(BaseExceptionGroup("outer", [inner, KeyboardInterrupt()]))
    back = sent(exc)
    assert type(back) is BaseExceptionGroup
    assert printed(back) == printed(exc)
    assert type(back.exceptions[1]) is KeyboardInterrupt
    back_leaf = back.exceptions[0].exceptions[0]
    assert facts(back_leaf) == facts(leaf)
    assert facts(back_leaf.__cause__) == facts(leaf.__cause__)
    assert back.subgroup(zoo.Rewording).exceptions[0].exceptions == (back_leaf,)


def test_a_group_with_its_own_constructor():
    back = sent(zoo.Errors([ValueError(1), KeyError(2)], 3))
    assert (type(back), back.exit_code, back.message) == (zoo.Errors, 3, "exit code: 3")
    assert [type(each) for each in back.exceptions] == [ValueError, KeyError]
    assert back.args[0] == list(back.exceptions)


def test_groups_nested_beyond_the_recursion_limit():
    group = ValueError("innermost")
    for _ in range(400):
        group = ExceptionGroup("g", [group])
    back = sent(group)
    for _ in range(400):
        (back,) = back.exceptions
    assert facts(back) == facts(ValueError("innermost"))


def test_one_exception_twice_in_a_group():
    twice = ValueError()
    back = sent(ExceptionGroup("g", [twice, twice]))
    assert back.exceptions[0] is back.exceptions[1]


def test_a_traceback_as_an_attribute():
    exc = ValueError()
    exc.where = raised(KeyError()).__traceback__
    back = sent(exc)
    assert isinstance(back.where, TracebackType)
    assert traceback.format_tb(back.where) == traceback.format_tb(exc.where)


MAKERS = [ValueError, KeyError, zoo.KeywordOnly, zoo.Holder, KeyboardInterrupt]
NUMBERS = st.none() | st.integers(0, 7)


@unhurried
@given(
    st.lists(st.tuples(st.sampled_from(MAKERS), VALUES, NUMBERS, NUMBERS), min_size=8, max_size=8)
)
def test_any_graph_of_exceptions_comes_back(plan):
    made = [
        maker(code=value) if maker is zoo.KeywordOnly else raised(maker(value))
        for maker, value, _, _ in plan
    ]
    for exc, (_, _, cause, context) in zip(made, plan, strict=True):
        exc.__cause__ = None if cause is None else made[cause]
        exc.__context__ = None if context is None else made[context]
    pairs, seen = [(made[0], sent(made[0]))], {}
    while pairs:
        exc, back = pairs.pop()
        if exc is None or id(exc) in seen:
            assert back is seen.get(id(exc))
            continue
        seen[id(exc)] = back
        assert facts(back) == facts(exc)
        assert back.__suppress_context__ == exc.__suppress_context__
        assert traceback.format_tb(back.__traceback__) == traceback.format_tb(exc.__traceback__)
        pairs += [(exc.__cause__, back.__cause__), (exc.__context__, back.__context__)]
