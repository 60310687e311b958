"""What the codec must leave alone: pickling elsewhere, and the main modules of both sides."""

import ast
import base64
import copyreg
import gc
import pickle
import textwrap
import weakref

import codec_zoo as zoo
import pytest
from codec_support import printed, raised, run_script, sent

from fsqueue.codec import (
    decode_exception,
)


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
