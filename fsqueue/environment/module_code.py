"""Detects workers with older code: records which version of a module a process has loaded."""

from __future__ import annotations

import os
import sys
from functools import cached_property
from typing import Final

from blake3 import blake3

CHANGED: Final = "changed"
"""In place of a digest: the file has changed since this process loaded the module."""
_LENGTH = 8


class ModuleCode:
    """The source of a module as this process has loaded it.

    Made while the module is being loaded, when it costs one `stat`. The file is read once, when
    the digest is first needed.

    Args:
        module: the module's name.
    """

    def __init__(self, module: str) -> None:
        self.module = module
        path = getattr(sys.modules.get(module), "__file__", None)
        self.path: str = path if module != "__main__" and isinstance(path, str) else ""
        self.stamp: tuple[int, int] | None = self._now()

    def _now(self) -> tuple[int, int] | None:
        try:
            found = os.stat(self.path)
        except OSError:  # it has no file, or the file was removed
            return None
        return found.st_mtime_ns, found.st_size

    @cached_property
    def digest(self) -> str:
        """Short digest of the source, `CHANGED`, or empty if there is no source."""
        if self.stamp is None:
            return ""
        try:
            with open(self.path, "rb") as file:
                found = blake3(file.read()).hexdigest(_LENGTH)
        except OSError:
            return ""
        return found if self._now() == self.stamp else CHANGED

    @cached_property
    def for_calls(self) -> str:
        """The digest for the headers of calls; empty if this process itself has older code."""
        return "" if self.digest == CHANGED else self.digest

    def reason_against(self, digest: str) -> str:
        """How code with another digest differs from this; empty if it does not or if unknown."""
        mine = self.digest
        if not digest or digest == mine or not mine:
            return ""
        if mine == CHANGED:
            return f"{self.path} has changed since the worker loaded it. Restart the worker."
        return (
            f"its caller has loaded another version of {self.path}. Restart the worker, or the "
            "caller if that is older."
        )


_known: dict[tuple[str, object], ModuleCode] = {}


def code_of(module: str) -> ModuleCode:
    """The code of a module that is being loaded; the same object for all tasks of one load."""
    made = ModuleCode(module)
    return _known.setdefault((module, made.stamp), made)
