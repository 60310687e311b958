"""Helpers of the tests of the codec."""

import importlib
import subprocess
import sys
import textwrap
import traceback

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from examples import examples
from fsqueue.codec import (
    decode_exception,
    encode_exception,
)

unhurried = settings(max_examples=examples(100), deadline=None)  # the machine may be busy

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
