"""Names by which another process imports an object."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAIN = frozenset({"__main__", "__mp_main__"})


def importable_name(wanted: object, first: Iterable[str] = ()) -> str | None:
    """The name ``module:variable`` of an object; None if no module but the main script has it.

    Args:
        wanted: the object.
        first: names of modules to search before the others.
    """
    for name in dict.fromkeys([*first, *sys.modules]):
        if name in _MAIN or (module := sys.modules.get(name)) is None:
            continue
        for variable, value in list(vars(module).items()):
            if value is wanted:
                return f"{name}:{variable}"
    return None
