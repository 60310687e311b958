"""Fingerprints of failures, which group the failures that a person would call the same.

A fingerprint is a digest of the exception's type, of its message without the parts that change from
call to call, and of the file and function in the user's code that raised it. It has no line number,
which changes with each edit.
"""

from __future__ import annotations

import hashlib
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from types import TracebackType

LENGTH: Final = 8
"""The number of hex digits of a fingerprint."""
_LONGEST = 500
_LONGEST_PLACE = 200
# In this order: quoted texts may hold anything, and a path may hold numbers.
_CHANGING = re.compile(
    r"""'[^'\n]*'|"[^"\n]*"|`[^`\n]*`"""
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"
    r"|(?:[A-Za-z]:)?[\w.~-]*[/\\][\w./\\~@+-]+"
    r"|\b[a-z2-7]{10}-\d+(?::\d+)?"
    r"|0[xX][0-9a-fA-F]+|\b(?=[a-f]*\d)[0-9a-f]{8,}\b"
    r"|[-+]?\d+(?:[.,]\d+)*(?:[eE][-+]?\d+)?"
)
_OWN: Final = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# `sysconfig` knows it too, but loads the settings of Python's build, which take much memory.
_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep
_SITES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")


class Fingerprint(NamedTuple):
    """The fingerprint of a failure, and where it was raised."""

    digest: str
    place: str
    """File, line and function, such as ``model.py:88 in step``; empty without a traceback."""


def fingerprint_of(error: BaseException, kind: str = "", text: str = "") -> Fingerprint:
    """The fingerprint of an exception.

    Args:
        error: the exception, with its traceback.
        kind: the name of its type, if that is not the type of `error`.
        text: its message.
    """
    frame = _blamed(error.__traceback__)
    kind = kind or type(error).__qualname__
    if frame is None:
        return Fingerprint(digest_of(kind, text), "")
    code = frame.tb_frame.f_code
    file = os.path.basename(code.co_filename)
    place = f"{file}:{frame.tb_lineno} in {code.co_name}"[:_LONGEST_PLACE]
    return Fingerprint(digest_of(kind, text, file, code.co_name), place)


def digest_of(kind: str, text: str = "", file: str = "", function: str = "") -> str:
    """The fingerprint of a failure with this message at this place."""
    parts = "\n".join((kind, steady(text), file, function))
    return hashlib.blake2b(
        parts.encode("utf-8", "backslashreplace"), digest_size=LENGTH // 2, person=b"fsqueue fail"
    ).hexdigest()


def steady(message: str) -> str:
    """A message with numbers, ids, quoted texts and paths replaced by ``#``."""
    return _CHANGING.sub("#", message[:_LONGEST])


def _blamed(traceback: TracebackType | None) -> TracebackType | None:
    """The innermost frame of the user's code; the innermost one of all if there is none."""
    found = last = None
    while traceback is not None:
        last = traceback
        if _is_of_user(traceback.tb_frame.f_code.co_filename):
            found = traceback
        traceback = traceback.tb_next
    return found or last


def _is_of_user(file: str) -> bool:
    if file.startswith(("<", _OWN)) or any(site in file for site in _SITES):
        return False
    return not file.startswith(_LIBRARY)
