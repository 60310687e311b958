"""Names that are in the bytes of calls and outcomes, and so belong to the format on disk.

A pickle names functions and classes by their module. During an update there are files of the
older version, and only if these names are still found can they be read. So the names here may be
added to, and none may go. Whoever moves one adds the module's old name to `MOVED` of
`fsqueue.codec.pickling`, and the old name of the class or function to `OLDER`.
"""

import base64
import gzip
import importlib.util
import json
import pickle
import pickletools
import re
from pathlib import Path

import codec_zoo as zoo
import msgspec
import pytest

import fsqueue
from fsqueue import FSQueue, Progress, State, args, codec, errors, references
from fsqueue.codec.pickling import MOVED
from fsqueue.spool.format.records import Call, Outcome

DATA = Path(__file__).parent.parent / "data"
ARCHIVE = DATA / "spool_v1.tar.gz"
PICKLES = json.loads((DATA / "pickles_v1.json").read_text("utf-8"))

OWN = {
    "fsqueue.codec.reduction _restore",
    "fsqueue.codec.tracebacks Frame",
    "fsqueue.codec.tracebacks traceback_from",
    "fsqueue.references given",
    "fsqueue.references value_of",
}
"""What fsqueue itself puts into pickles: references to results, and how exceptions are made."""

ERRORS = {
    f"fsqueue.errors {name}"
    for name in (
        *("CancelledError", "ConfigError", "DependencyError", "DeserializationError"),
        *("DifferentArgumentsError", "EnvelopeError", "FSQueueError", "InvocationCorruptError"),
        *("InvocationError", "InvocationExpiredError", "RemoteError", "RetryError"),
        *("SerializationError", "SpoolError", "SpoolVersionError", "TaskNotFoundError"),
        *("TaskTimeoutError", "UnknownInvocationError", "WalltimeError"),
        *("StaleCodeError", "WorkerLostError"),
    )
}
"""Exceptions of fsqueue, which bodies raise; those of JSON calls and of headers have these names
too."""

PUBLIC = {
    "fsqueue.app FSQueue",
    "fsqueue.calls.arguments Arguments",
    "fsqueue.calls.arguments args",
    "fsqueue.config Config",
    "fsqueue.executor.executor Executor",
    "fsqueue.invocation Invocation",
    "fsqueue.invocation InvocationGroup",
    "fsqueue.results.waiting as_completed",
    "fsqueue.results.waiting wait",
    "fsqueue.runner.attempt.context current_invocation",
    "fsqueue.spool.features.body_reports Progress",
    "fsqueue.spool.format.states State",
    "fsqueue.task Task",
}
"""What users can send, or name in functions that travel by value: where it is pickled by today."""

TRIGGERS = {
    *(f"fsqueue.triggers.kinds {name}" for name in ("AllOf", "AnyOf", "Cron", "Occurrence")),
    *(f"fsqueue.triggers.kinds {name}" for name in ("OnEvent", "OnException", "OnResult")),
    *(f"fsqueue.triggers.kinds {name}" for name in ("OnStatus", "Trigger", "all_of", "any_of")),
    *(f"fsqueue.triggers.making {name}" for name in ("all_of", "any_of", "cron", "on_event")),
    *(f"fsqueue.triggers.making {name}" for name in ("on_exception", "on_result", "on_status")),
}
"""Triggers and what fires them. An occurrence can become an argument of the call it causes."""

OLDER = {
    "fsqueue.arguments Arguments",
    "fsqueue.arguments args",
    "fsqueue.runner.context current_invocation",
    "fsqueue.spool.reports Progress",
    "fsqueue.spool.states State",
    "fsqueue.spool.store.body_reports Progress",
}
"""Where public names were defined before. Files in flight may name these modules."""

CALL_FIELDS = {
    *("id", "spool", "task", "queue", "slot", "created", "python", "codec", "max_attempts", "keep"),
    *("segments", "members", "blob", "timeout", "expires", "retry", "capture", "trace", "after"),
    *("countdown", "retry_of", "lanes", "within", "cache", "cache_ttl", "code"),
}
OUTCOME_FIELDS = {
    *("id", "spool", "attempt", "state", "worker", "started", "ended", "codec", "failure"),
    *("members", "task", "queue", "created", "retries", "python", "cache", "cache_ttl"),
}


def names_in(data):
    """The globals of this package that a pickle names, as ``module name``."""
    found, texts, memo = set(), [], []
    for code, value, _ in pickletools.genops(data):
        if code.name == "GLOBAL":
            found.add(value)
        elif code.name == "STACK_GLOBAL":
            found.add(" ".join(texts[-2:]))
        elif code.name == "MEMOIZE":
            memo.append(texts[-1] if texts else "")
        elif code.name in {"BINGET", "LONG_BINGET"}:
            texts.append(memo[value])
        elif isinstance(value, str):
            texts.append(value)
    return {name for name in found if name.startswith("fsqueue")}


def exception_names(error):
    """The globals in the pickles of an exception and of all that it leads to."""
    records = msgspec.msgpack.decode(codec.encode_exception(error))
    return set().union(*(names_in(each["payload"]) for each in records if each.get("payload")))


def raised(error):
    """An exception with a traceback."""
    try:
        raise error
    except type(error) as caught:
        return caught


@pytest.fixture
def app(spool):
    app = FSQueue("t", root=spool)
    yield app
    app.close()


# -- old names are still there -----------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(OWN | ERRORS | PUBLIC | TRIGGERS | OLDER))
@pytest.mark.parametrize("python", [codec.PYTHON, "3.1"])
def test_a_name_in_older_files_can_be_unpickled(name, python):
    module, _, attribute = name.partition(" ")
    found = codec.decode(f"c{module}\n{attribute}\n.".encode(), "it", python=python)
    assert found.__name__ == attribute


def test_modules_that_moved_are_gone_from_their_old_places():
    """Otherwise the name in a pickle would be found where it is not meant."""
    for old, new in MOVED.items():
        assert importlib.util.find_spec(new) is not None
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(old)


@pytest.mark.parametrize("name", sorted(PICKLES["values"]))
def test_a_value_that_an_older_version_pickled_is_the_same_today(name):
    expected = dict(make_pickles().values())[name]
    assert codec.decode(base64.b64decode(PICKLES["values"][name]), name) == expected


@pytest.mark.parametrize("name", sorted(PICKLES["exceptions"]))
def test_an_exception_that_an_older_version_pickled_is_the_same_today(name):
    expected = dict(make_pickles().exceptions())[name]
    found = codec.decode_exception(base64.b64decode(PICKLES["exceptions"][name]))
    assert type(found) is type(expected)
    assert found.args == expected.args
    assert vars(found) == vars(expected)


def test_buffers_of_a_value_with_an_old_name_are_not_copied():
    data = bytearray(9)
    old = b"\x80\x05cfsqueue.spool.states\nState\n\x8c\x06failed\x85R\x97\x86."
    state, found = codec.decode(old, "it", [data])
    assert state is State.FAILED
    assert found is data


def make_pickles():
    """The module that wrote the pickles, with the values of today."""
    spec = importlib.util.spec_from_file_location("make_pickles", DATA / "make_pickles.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_reference_of_an_older_call_is_the_result_it_refers_to():
    old = b"\x80\x05cfsqueue.references\nvalue_of\n(\x8c\x03a-1tR."
    with references.resolving({"a-1": 7}.__getitem__):
        assert codec.decode(old, "it") == 7
    assert codec.decode(b"\x80\x05cfsqueue.references\ngiven\n(]K\x01atR.", "it") == [1]


def test_a_frame_of_an_older_exception_has_the_same_fields():
    values = b"\x8c\x04f.py\x8c\x01f\x8c\x01mK\x01K\x02K\x03K\x04"
    frame = pickle.loads(b"\x80\x05cfsqueue.codec.tracebacks\nFrame\n(" + values + b"t\x81.")
    assert frame == ("f.py", "f", "m", 1, 2, 3, 4)
    assert frame._fields == ("file", "name", "module", "line", "end_line", "column", "end_column")


def test_the_archived_spool_names_nothing_else():
    """Also in plain text: the type of a failure in a header, and the mark of a reference."""
    data = gzip.decompress(ARCHIVE.read_bytes())
    found = {each.decode() for each in re.findall(rb"fsqueue(?:\.[a-z_]+)+", data)}
    modules = {name.partition(" ")[0] for name in OWN | ERRORS}
    assert found - {"fsqueue.errors"} <= modules


# -- new files name nothing else ---------------------------------------------------------------


def test_names_in_arguments(app):
    task = app.task(zoo_task)
    first, group = task(1), task.parallelize([(2,), (3,)])
    found = set()
    for name in ("cloudpickle", "pickle"):
        with references.collecting() as met:
            found |= names_in(codec.encode([first, {"in": group}], "it", codec=name))
        assert [each.id for each in met] == [each.id for each in (first, *group)]
    assert found == {"fsqueue.references given", "fsqueue.references value_of"}
    with references.collecting():
        assert references.mark(first) == {"$fsqueue.result": first.id}
    group.abandon()


def zoo_task(number):
    return number


def test_names_in_exceptions():
    kinds = [
        raised(LookupError("plain")),
        raised(zoo.KeywordOnly(code=3)),
        raised(zoo.Holder(raised(ValueError("held")))),
        raised(ExceptionGroup("g", [raised(KeyError("member")), raised(OSError(2, "no"))])),
    ]
    chained = raised(RuntimeError("after"))
    chained.__cause__ = raised(ValueError("before"))
    chained.kept = raised(TypeError("with a traceback")).__traceback__
    found = set().union(*map(exception_names, [*kinds, chained]))
    assert found == OWN - {"fsqueue.references given", "fsqueue.references value_of"}


def test_names_in_exceptions_of_the_queue_itself():
    classes = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.FSQueueError)
    }
    assert {f"{each.__module__} {each.__name__}" for each in classes} >= ERRORS
    for error in (errors.SpoolError("s"), errors.RetryError("r"), errors.RemoteError("t", "m")):
        found = exception_names(raised(error))
        assert found - OWN == {f"fsqueue.errors {type(error).__name__}"}


def test_names_in_values_of_public_types():
    values = [State.PENDING, Progress(1.0, 2.0, "half"), args(1, key=2)]
    found = set().union(*(names_in(codec.encode(each, "it")) for each in values))
    assert found <= PUBLIC
    assert len(found) == len(values)


def test_names_of_public_functions_and_classes():
    for name in fsqueue.__all__:
        value = getattr(fsqueue, name)
        if callable(value):
            assert f"{value.__module__} {value.__qualname__}" in ERRORS | PUBLIC


def test_the_names_of_header_fields():
    """A newer version may add some; what older files have keeps its name."""
    assert {field.encode_name for field in msgspec.structs.fields(Call)} >= CALL_FIELDS
    assert {field.encode_name for field in msgspec.structs.fields(Outcome)} >= OUTCOME_FIELDS
