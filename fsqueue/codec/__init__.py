"""Values and exceptions as bytes, and back.

Modules, from the top down::

    values          what a call takes and gives: pickles, with errors that name the part
    plain           the same as JSON
    exceptions      what a call raises: a bundle of records, one an exception
    reduction       how one exception is taken apart and put together again
    pickling        cloudpickle without its silent conversions
    tracebacks      frames as data, and tracebacks made of them
    texts           words about objects that may refuse to be described
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
