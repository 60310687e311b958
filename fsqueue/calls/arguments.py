"""The arguments of a call, and the name of its task."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from fsqueue.common.coroutines import is_async_generator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_ARGUMENT = re.compile(r"(?:\[0\]\[(\d+)\]|\[1\]\[((?:'.*?')|(?:\".*?\"))\])((?:\[.*)?)", re.DOTALL)


class Arguments(NamedTuple):
    """The arguments of one call."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def sharing(self, common: Mapping[str, Any]) -> Arguments:
        """These arguments plus a group's common ones. The call's own arguments take precedence."""
        return Arguments(self.args, {**common, **self.kwargs})


def args(*positional: Any, **keywords: Any) -> Arguments:
    """The arguments of one call of a fan-out, written as in a call."""
    return Arguments(positional, keywords)


Item: TypeAlias = "tuple[Any, ...] | dict[str, Any] | Arguments"
"""One call of a fan-out: positional arguments, arguments by name, or `args(...)`."""


def argument_at(path: str) -> str:
    """Describe the argument that contains a part of ``(args, kwargs)``, for messages.

    Args:
        path: the part, such as ``[0][2]['x']``, which is in the third positional argument.
    """
    match = _ARGUMENT.fullmatch(path)
    if match is None:
        return f"part {path} of (args, kwargs)"
    number, name, rest = match.groups()
    argument = f"argument {name}" if number is None else f"positional argument {number}"
    return f"part {rest} of {argument}" if rest else argument


def as_arguments(item: Item) -> Arguments:
    """The arguments of one call, from any of the forms that users can write.

    Raises:
        TypeError: the item has another type.
    """
    if isinstance(item, Arguments):
        return item
    if isinstance(item, tuple):
        return Arguments(item, {})
    if isinstance(item, dict):
        return Arguments((), item)
    raise TypeError(
        f"a call's arguments are a tuple, a dict or args(...), not {type(item).__name__}"
    )


def misnamed(signature: inspect.Signature, names: Iterable[str]) -> str:
    """Python's message for a parameter that a function does not have; empty if all names fit.

    ``bind`` looks for missing arguments first, and would call a misspelled one missing.
    """
    parameters = signature.parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return ""
    wrong = next((name for name in names if name not in parameters), None)
    return "" if wrong is None else f"got an unexpected keyword argument {wrong!r}"


def task_name(func: Callable[..., Any]) -> str:
    """The name under which a worker in another process can import a function.

    Raises:
        RuntimeError: the function belongs to the main script.
        TypeError: it cannot be imported, or it is not a plain function.
    """
    if not inspect.isfunction(func):
        raise TypeError(f"only functions can become tasks, not {func!r}")
    if inspect.isgeneratorfunction(func) or is_async_generator(func):
        raise TypeError(f"{func.__qualname__} is a generator; a task returns one value: a list")
    if "." in func.__qualname__ or "<" in func.__qualname__:
        raise TypeError(
            f"{func.__qualname__} is a nested function, a lambda or a method; a worker could not "
            "import it. Define it with def at the top level of a module."
        )
    if func.__module__ in {"__main__", "__mp_main__"}:
        raise RuntimeError(
            f"{func.__name__} is defined in the main script, where no worker could import it. "
            "Move it into a module of its own (say, tasks.py) and import it from there."
        )
    return f"{func.__module__}.{func.__qualname__}"
