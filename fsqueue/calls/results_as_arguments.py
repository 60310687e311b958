"""Invocations as arguments: their results in a body that runs here, and references in JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsqueue.inline_invocation import InlineInvocation
from fsqueue.invocation import Invocation, InvocationGroup
from fsqueue.references import mark, replaced

if TYPE_CHECKING:
    from collections.abc import Mapping


def with_results(
    child: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Arguments of a body that runs in this thread, with results in place of invocations.

    Invocations in lists, tuples and dicts are replaced too. A worker replaces them while it
    decodes the arguments.

    Args:
        child: names the call in the error.
        args: its positional arguments.
        kwargs: its arguments by name.

    Raises:
        DependencyError: one of the invocations failed.
    """

    def result_of(value: Any) -> Any:
        if isinstance(value, InvocationGroup):
            return [result_of(each) for each in value]
        if not isinstance(value, Invocation):
            return value
        try:
            return value.get()
        except Exception as error:  # noqa: BLE001 - becomes the cause of the DependencyError
            from fsqueue.runner.attempt.dependencies import dependency_error

            failed = dependency_error(child, value.id, "", error)
            raise failed from failed.__cause__

    return replaced(args, result_of), replaced(dict(kwargs), result_of)


def marked_if_invocation(value: Any) -> Any:
    """The JSON form of an invocation or a group; other values unchanged."""
    if isinstance(value, InvocationGroup):
        return [marked_if_invocation(each) for each in value]
    if not isinstance(value, Invocation):
        return value
    here = isinstance(value, InlineInvocation) or value.pending_result.is_cached
    return value.get() if here else mark(value)
