import ast
import base64
import copyreg
import functools
import gc
import importlib
import pickle
import subprocess
import sys
import textwrap
import threading
import traceback
import weakref
from types import TracebackType

import codec_zoo as zoo
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import examples
from fsqueue.codec import (
    decode,
    decode_exception,
    encode,
    encode_exception,
    exceptions,
    uncopied,
)
from fsqueue.codec.tracebacks import MAX_FRAMES, Frame, frames_of, traceback_from
from fsqueue.errors import DeserializationError, RemoteError, SerializationError

unhurried = settings(max_examples=examples(100), deadline=None)  # the machine may be busy


def sent(exc):
    return decode_exception(encode_exception(exc))


def caught(function, *args):
    with pytest.raises(BaseException) as info:
        function(*args)
    # Without the frame of this function and those of pytest.
    return info.value.with_traceback(info.value.__traceback__.tb_next)


def raised(exc, cause=None):
    def fail():
        if cause is None:
            raise exc
        raise exc from cause

    return caught(fail)


def printed(exc):
    return "".join(traceback.format_exception(exc))


def facts(exc):
    """What an exception says of itself, in a form that can be compared."""
    fields = ("errno", "strerror", "filename", "filename2", "characters_written", "code", "value")
    fields += ("start", "end", "object", "lineno", "offset", "text", "name", "path", "msg")
    values = {name: getattr(exc, name, None) for name in fields}
    return type(exc), repr(exc.args), str(exc), repr(vars(exc)), repr(values)


def module_of(tmp_path, monkeypatch, source):
    """Import a module that `forget` makes impossible to import again."""
    name = f"codec_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    module = importlib.import_module(name)

    def forget():
        del sys.modules[name]
        monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(tmp_path)])

    return module, forget


def run_script(path, source):
    path.write_text(textwrap.dedent(source))
    done = subprocess.run(
        [sys.executable, path], capture_output=True, check=True, timeout=50, text=True
    )
    return done.stdout.strip()


# --- values


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    # Surrogates come from file names.
    | st.binary()
    | st.text(st.characters(categories=["Cs"])),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


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


# --- buffers


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


# --- exceptions that travel as themselves


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


# --- exceptions that arrive as words


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
        assert f'File "{__file__}"' in back.traceback_text
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


# --- limits


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


def test_a_huge_exception_becomes_words(monkeypatch):
    monkeypatch.setattr(exceptions, "MAX_PAYLOAD", 1000)
    assert type(sent(ValueError("x" * 10))) is ValueError
    back = sent(ValueError("x" * 2000))
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


# --- tracebacks


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


# --- the rest of the process


def test_pickling_elsewhere_is_unchanged():
    before = dict(copyreg.dispatch_table)
    exc = raised(zoo.Rewording("h", 1), ValueError())
    sent(exc)
    assert copyreg.dispatch_table == before
    with pytest.raises(TypeError, match="cannot pickle 'traceback'"):
        pickle.dumps(exc.__traceback__)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        pickle.loads(pickle.dumps(exc))
    assert pickle.loads(pickle.dumps(raised(ValueError(1)))).__traceback__ is None


def test_nothing_outlives_its_use():
    class Tracked(Exception):
        pass

    gc.disable()
    try:
        exc = Tracked("x")
        exc.__cause__ = Tracked("cause")
        references = [weakref.ref(exc), weakref.ref(exc.__cause__)]
        back = sent(exc)
        references += [weakref.ref(back), weakref.ref(back.__cause__)]
        del exc, back
        assert [reference() for reference in references] == [None] * 4
    finally:
        gc.enable()


def test_a_class_of_the_worker_s_main_module(tmp_path):
    source = """
        import base64
        from fsqueue.codec import encode_exception

        class Mine(Exception):
            def __init__(self, *, code):
                super().__init__(f"code {code}")
                self.code = code

        try:
            raise Mine(code=3)
        except Mine as error:
            print(base64.b64encode(encode_exception(error)).decode())
    """
    output = run_script(tmp_path / "worker.py", source)
    back = decode_exception(base64.b64decode(output))
    assert (type(back).__name__, back.code, str(back)) == ("Mine", 3, "code 3")
    assert f'File "{tmp_path / "worker.py"}", line 11' in printed(back)


def test_a_class_of_the_caller_s_main_module_comes_home(tmp_path):
    worker = tmp_path / "worker.py"
    worker.write_text(
        textwrap.dedent("""
        import sys
        from fsqueue.codec import decode, encode_exception

        kind = decode(bytes.fromhex(sys.argv[1]), "kind")
        print(encode_exception(kind("from there")).hex())
        """)
    )
    source = f"""
        import subprocess, sys
        from fsqueue.codec import decode_exception, encode

        class Mine(Exception):
            pass

        command = [sys.executable, {str(worker)!r}, encode(Mine, "kind").hex()]
        output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
        back = decode_exception(bytes.fromhex(output))
        print((type(back) is Mine, back.args))
    """
    assert ast.literal_eval(run_script(tmp_path / "caller.py", source)) == (True, ("from there",))
