"""Serialization of values and exceptions.

Modules, from the top down::

    values          arguments and results as pickles, with errors that name the bad part
    plain           arguments and results as JSON
    exceptions      exceptions as a list of records, one for each exception
    reduction       how one exception is taken apart and rebuilt
    pickling        cloudpickle without its silent conversions
    tracebacks      frames as data, and tracebacks made from them
    texts           texts about objects whose methods may fail
"""

from __future__ import annotations

from fsqueue.codec.exceptions import decode_exception, encode_exception, traceback_text
from fsqueue.codec.values import PYTHON, check_codec, decode, encode, uncopied

__all__ = [
    "PYTHON",
    "check_codec",
    "decode",
    "decode_exception",
    "encode",
    "encode_exception",
    "traceback_text",
    "uncopied",
]
