"""Takes one exception apart and rebuilds it.

Pickle calls ``type(exc)(*exc.args)``. This fails or gives other arguments for a class whose
`__init__` does not pass its own arguments to `super().__init__`. This module does not call the
class's `__init__`: the builtin base creates the instance, and then its arguments and attributes are
restored. A class with its own reducer (`__reduce__`, `copyreg`) keeps it.

The pickler and the unpickler are private, so that pickling elsewhere in the process does not
change. Other exceptions that an exception contains (members of a group, ``error.original``) are
replaced by numbers. They are sent beside it, with their own tracebacks.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from types import MemberDescriptorType, TracebackType
from typing import TYPE_CHECKING, Any

from fsqueue.codec.pickling import Pickler, Unpickler
from fsqueue.codec.texts import type_name
from fsqueue.codec.tracebacks import frames_of, traceback_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CREATE = -1  # stands for `_create`, beside the numbers of exceptions
# Set by Python itself, or by the caller of `load`.
_NOT_STATE = frozenset({BaseException, BaseExceptionGroup})


def dump(exc: BaseException, number: Callable[[BaseException], int]) -> bytes:
    """Pickle an exception and its class, without its chain and its traceback.

    Args:
        number: gives the number that stands for another exception.

    Raises:
        Exception: of any class, if a part of the exception cannot be pickled.
    """
    with io.BytesIO() as file:
        _Pickler(file, exc, number).dump((type(exc), exc))
        return file.getvalue()


def load(
    payload: bytes,
    resolve: Callable[[int], BaseException],
    announce: Callable[[BaseException], object],
) -> BaseException:
    """Turn the bytes of `dump` back into an exception.

    Args:
        payload: the bytes from `dump`, here or in another process.
        resolve: gives the exception that a number stands for.
        announce: called with the instance before its attributes are read, so that exceptions
            among them can refer back to it.

    Raises:
        TypeError: unpickling did not give an instance of the exception's class.
        Exception: of any class, if it cannot be unpickled.
    """
    with io.BytesIO(payload) as file:
        cls, exc = _Unpickler(file, resolve, announce).load()
    if type(exc) is not cls or not isinstance(exc, BaseException):
        raise TypeError(f"unpickling a {type_name(cls)} gave a {type_name(type(exc))}")
    return exc


def assign(exc: BaseException, name: str, value: object) -> None:
    """Set an attribute even if the class forbids it, as a frozen dataclass does."""
    object.__setattr__(exc, name, value)


class _Pickler(Pickler):
    def __init__(
        self, file: io.BytesIO, root: BaseException, number: Callable[[BaseException], int]
    ) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._root = root
        self._number = number

    def persistent_id(self, obj: Any) -> int | None:
        if obj is _create:
            return _CREATE
        # Not isinstance(): a mock claims to be an instance of the class it stands for.
        if obj is self._root or not issubclass(type(obj), BaseException):
            return None
        return self._number(obj)

    def reducer_override(self, obj: Any) -> Any:
        if obj is self._root and not _has_own_reducer(type(obj)):
            return _reduce(obj)
        if isinstance(obj, TracebackType):
            return traceback_from, (frames_of(obj),)
        return super().reducer_override(obj)


class _Unpickler(Unpickler):
    def __init__(
        self,
        file: io.BytesIO,
        resolve: Callable[[int], BaseException],
        announce: Callable[[BaseException], object],
    ) -> None:
        super().__init__(file)
        self._resolve = resolve
        self._announce = announce

    def persistent_load(self, pid: Any) -> Any:
        return self._create if pid == _CREATE else self._resolve(pid)

    def _create(self, cls: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
        exc = _create(cls, arguments)
        self._announce(exc)
        return exc


def _builtin_base(cls: type[BaseException]) -> type[BaseException]:
    return next(base for base in cls.__mro__ if base.__module__ == "builtins")


def _has_own_reducer(cls: type[BaseException]) -> bool:
    base = _builtin_base(cls)
    return (
        cls in copyreg.dispatch_table
        or cls.__reduce__ is not base.__reduce__
        or cls.__reduce_ex__ is not base.__reduce_ex__
    )


def _reduce(exc: BaseException) -> tuple[Any, ...]:
    state = {"args": exc.args, **dict(_members(exc)), **getattr(exc, "__dict__", {})}
    # The state goes last, after pickle has noted the instance: it may refer to the exception.
    return _create, (type(exc), creation_arguments(exc)), state, None, None, _restore


def creation_arguments(exc: BaseException) -> tuple[Any, ...]:
    """The arguments with which the builtin base creates an equal exception."""
    if isinstance(exc, BaseExceptionGroup):
        # A subclass with its own __new__ has other arguments in `args`.
        return exc.message, exc.exceptions
    if isinstance(exc, OSError) and exc.errno is None:
        # smtplib, for one, sets `args` directly. OSError would now take an errno from them.
        return ()
    # Not `args`: OSError removes its file names from them.
    reduced = _builtin_base(type(exc)).__reduce__(exc)
    return tuple(reduced[1])


def _members(exc: BaseException) -> Iterator[tuple[str, Any]]:
    """The attributes outside `__dict__`: slots, and fields such as ``SystemExit.code``."""
    for base in set(type(exc).__mro__) - _NOT_STATE:
        for name, member in vars(base).items():
            if not _is_field(type(exc), name, member) or not hasattr(exc, name):
                continue
            value = getattr(exc, name)
            # An unset field of a builtin reads as None, but OSError prints a None that was set.
            if value is not None or base.__module__ != "builtins":
                yield name, value


def _is_field(cls: type[BaseException], name: str, member: object) -> bool:
    return (
        isinstance(member, MemberDescriptorType)
        # A subclass may have replaced the field with a property.
        and getattr(cls, name, None) is member
        # The object that lacked the attribute is not a part of the message.
        and member is not AttributeError.obj
    )


def _create(cls: type[BaseException], arguments: tuple[Any, ...]) -> BaseException:
    base = _builtin_base(cls)
    exc = base.__new__(cls, *arguments)
    base.__init__(exc, *arguments)
    return exc


def _restore(exc: BaseException, state: dict[str, Any]) -> None:
    for name, value in state.items():
        assign(exc, name, value)
