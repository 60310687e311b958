"""How one exception is taken apart and put together again.

Pickle calls ``type(exc)(*exc.args)``, which fails, or gives other arguments, for a class whose
`__init__` does not hand its own arguments on to `super().__init__`. Here the class's `__init__`
is not called: the builtin base makes the instance, and its arguments and attributes are put back.
A class with a reducer of its own (`__reduce__`, `copyreg`) is left to it.

The pickler and the unpickler are private, so that pickling elsewhere in the process stays as it
is. Other exceptions that an exception holds (members of a group, ``error.original``) are
replaced by a number: they travel beside it, with their own tracebacks.
"""

from __future__ import annotations

import copyreg
import io
import pickle
from types import MemberDescriptorType, TracebackType
from typing import TYPE_CHECKING, Any

from fsqueue.codec.pickling import Pickler
from fsqueue.codec.texts import type_name
from fsqueue.codec.tracebacks import frames_of, traceback_from

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_CREATE = -1  # stands for `_create`, beside the numbers of exceptions
# Set by Python itself, or by the caller of `load`.
_NOT_STATE = frozenset({BaseException, BaseExceptionGroup})


def dump(exc: BaseException, number: Callable[[BaseException], int]) -> bytes:
    """Pickle an exception together with its class, without its chain and its traceback.

    Args:
        exc: the exception.
        number: gives the number that stands for another exception.

    Raises:
        Exception: of any kind, when something in it cannot be pickled.
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
        payload: bytes that `dump` returned, here or in another process.
        resolve: gives the exception that a number stands for.
        announce: is told of the instance before its attributes are read, so that exceptions
            that they lead to can refer back to it.

    Raises:
        TypeError: unpickling made something else than an instance of the exception's class.
        Exception: of any kind, when it cannot be unpickled.
    """
    with io.BytesIO(payload) as file:
        cls, exc = _Unpickler(file, resolve, announce).load()
    if type(exc) is not cls or not isinstance(exc, BaseException):
        raise TypeError(f"unpickling a {type_name(cls)} gave a {type_name(type(exc))}")
    return exc


def assign(exc: BaseException, name: str, value: object) -> None:
    """Set an attribute, also where the class forbids it (a frozen dataclass, for one)."""
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
        # Not isinstance(): a mock says that it is an instance of whatever it stands for.
        if obj is self._root or not issubclass(type(obj), BaseException):
            return None
        return self._number(obj)

    def reducer_override(self, obj: Any) -> Any:
        if obj is self._root and not _has_own_reducer(type(obj)):
            return _reduce(obj)
        if isinstance(obj, TracebackType):
            return traceback_from, (frames_of(obj),)
        return super().reducer_override(obj)


class _Unpickler(pickle.Unpickler):
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
    """What its builtin base is called with to make an equal one."""
    if isinstance(exc, BaseExceptionGroup):
        # A subclass with its own __new__ has other arguments in `args`.
        return exc.message, exc.exceptions
    if isinstance(exc, OSError) and exc.errno is None:
        # smtplib, for one, sets `args` past OSError, which would now read an errno from them.
        return ()
    # Not `args`: OSError takes its file names out of them.
    reduced = _builtin_base(type(exc)).__reduce__(exc)
    return tuple(reduced[1])


def _members(exc: BaseException) -> Iterator[tuple[str, Any]]:
    """What an exception keeps outside `__dict__`: slots, and fields such as ``SystemExit.code``."""
    for base in set(type(exc).__mro__) - _NOT_STATE:
        for name, member in vars(base).items():
            if not _is_field(type(exc), name, member) or not hasattr(exc, name):
                continue
            value = getattr(exc, name)
            # A builtin's field that is unset reads as None, but OSError prints a None that is set.
            if value is not None or base.__module__ != "builtins":
                yield name, value


def _is_field(cls: type[BaseException], name: str, member: object) -> bool:
    return (
        isinstance(member, MemberDescriptorType)
        # A subclass may have put a property of its own in the field's place.
        and getattr(cls, name, None) is member
        # Whatever lacked the attribute: not a part of the message.
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
