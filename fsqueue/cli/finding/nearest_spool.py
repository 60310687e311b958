"""Finds the spool that the user probably meant when there is none at the given path."""

from __future__ import annotations

import itertools
import os
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_MOST_FOLDERS: Final = 500


def nearest_spool(path: str, configured: str | None) -> str | None:
    """The spool whose path is most like `path`; None if there is none near it.

    These places are searched: the folders above it, the folders in it, the folders beside it or
    beside the first of its parents that exists, and the configured root.
    """
    from fsqueue.spool.admin.snapshot import has_spool

    spools = [each for each in dict.fromkeys(_places(path, configured)) if has_spool(each)]
    return max(spools, key=lambda each: SequenceMatcher(None, each, path).ratio(), default=None)


def _places(path: str, configured: str | None) -> Iterator[str]:
    if configured is not None:
        yield configured
    above = path
    while (parent := os.path.dirname(above)) != above:
        yield parent
        above = parent
    there = path
    while not os.path.isdir(there):
        there = os.path.dirname(there)
    for folder in dict.fromkeys((there, os.path.dirname(there) if there == path else there)):
        try:
            with os.scandir(folder) as entries:
                yield from (each.path for each in itertools.islice(entries, _MOST_FOLDERS))
        except OSError:
            continue  # closed to this user
