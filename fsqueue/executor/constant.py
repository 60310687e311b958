"""Recognizes functions that always serialize to the same bytes, to serialize them only once."""

from __future__ import annotations

import sys
from types import BuiltinFunctionType, CodeType, FunctionType
from typing import Any

import cloudpickle  # type: ignore[import-untyped]

# Values of exactly these types cannot change.
_CONSTANT = (bytes, str, int, float, complex, bool, type(None))


def constant_parts(function: Any) -> tuple[Any, ...] | None:
    """The objects that determine a function's bytes: its code and the contents of its closure.

    For a function that is sent by name, that is the function itself. None if a function refers to
    anything that may change: globals, attributes of itself, defaults, inner functions, or mutable
    objects in its closure.

    Compare the objects by identity. Functions with the same objects serialize to the same bytes, as
    long as these objects live.
    """
    if _is_sent_by_name(function):
        return (function,)
    if type(function) is not FunctionType or function.__defaults__ or function.__kwdefaults__:
        return None
    code = function.__code__
    inner = any(isinstance(each, CodeType) for each in code.co_consts)
    if inner or function.__dict__ or not function.__globals__.keys().isdisjoint(code.co_names):
        return None
    try:
        contents = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # a cell is empty
        return None
    if not all(type(each) in _CONSTANT for each in contents):
        return None
    names = (function.__module__, function.__qualname__, function.__doc__)
    return (code, *names, *contents) if not function.__annotations__ else None


def _is_sent_by_name(function: Any) -> bool:
    """Whether only the names of a function and its module are sent."""
    if type(function) not in {FunctionType, BuiltinFunctionType}:
        return False
    module = sys.modules.get(function.__module__ or "")
    if (
        module is None
        or module.__name__ == "__main__"
        or cloudpickle.list_registry_pickle_by_value()
    ):
        return False
    return getattr(module, function.__qualname__, None) is function
