"""Labels: short texts by which people recognise calls, such as ``seed=3 lr=0.1``."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from fsqueue.spool.format.records import LONGEST_LABEL

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Sequence


class _Anything:
    """A placeholder argument that has every attribute and item, and fits every format."""

    def __getattr__(self, _: str) -> _Anything:
        return self

    def __getitem__(self, _: object) -> _Anything:
        return self

    def __format__(self, _: str) -> str:
        return ""


def check_label(template: Any) -> None:
    """Check that a template can be formatted with some arguments.

    Raises:
        ValueError: it cannot, for example because its braces are not balanced or it has no names.
    """
    if isinstance(template, str):
        try:
            template.format_map(defaultdict(_Anything))
        except ValueError as error:
            raise ValueError(
                f"label = {template!r}: {error}. Write parameters as '{{name}}', and a brace "
                "itself as '{{' or '}}'"
            ) from None


def label_of(template: str, bound: Callable[[], inspect.BoundArguments]) -> str:
    """The label of a call; empty if its arguments do not fit the template.

    Args:
        template: a string with the names of parameters in braces, as for `str.format`.
        bound: gives the call's arguments.
    """
    try:
        arguments = bound()
        try:
            text = template.format_map(arguments.arguments)
        except KeyError:  # it names a parameter with a default, or an argument of ``**kwargs``
            text = template.format_map(_all_named(arguments))
        return fitted(text)
    except Exception:  # noqa: BLE001 - the arguments' own code may raise anything; the call goes on
        return ""


def fitted(text: str) -> str:
    """A string as a label."""
    return text.encode("utf-8", "backslashreplace").decode()[:LONGEST_LABEL]


def _all_named(arguments: inspect.BoundArguments) -> dict[str, Any]:
    arguments.apply_defaults()
    named = dict(arguments.arguments)
    for name, parameter in arguments.signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named = {**named[name], **named}
    return named


def label_of_batch(labels: Sequence[str]) -> str:
    """The label of a file with several calls: that of the first, and how many others differ."""
    first = labels[0]
    if len(labels) == 1 or not any(labels) or all(label == first for label in labels):
        return first
    more = f" (+{len(labels) - 1})"
    return first[: LONGEST_LABEL - len(more)] + more
