"""Batch scripts as text: pure functions from a request to the script of one batch system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from fsqueue.errors import ConfigError
from fsqueue.launch.scripts import flux, lsf, oar, pbs, sge, slurm
from fsqueue.launch.scripts.body import Request, check_request

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Request", "script_of"]


class _Module(Protocol):
    PREFIX: str

    def directives(self, request: Request, /) -> Sequence[str]: ...

    def body(self, request: Request, /) -> Sequence[str]: ...


_MODULES: Final[Mapping[str, _Module]] = {
    "slurm": slurm,
    "pbs": pbs,
    "sge": sge,
    "lsf": lsf,
    "flux": flux,
    "oar": oar,
}


def script_of(request: Request) -> str:
    """The script of a submission.

    Raises:
        ConfigError: the profile, or a path, cannot be written as a script of this batch system.
    """
    system = request.profile.system
    if system not in _MODULES:
        raise ConfigError(f"launch.{request.fleet}: {system} has no batch scripts")
    check_request(request)
    module = _MODULES[system]
    ours = _without_removed(request, list(module.directives(request)))
    lines = [f"{module.PREFIX} {each}" for each in ours]
    return "\n".join(["#!/bin/bash", *lines, *module.body(request), ""])


def _without_removed(request: Request, ours: list[str]) -> list[str]:
    """Our directives, without those that an option "!..." removes, and then the raw ones."""
    raw = [*request.profile.options, *request.options]
    for option in raw:
        if option.startswith("!"):
            removed = option[1:].strip()
            kept = [each for each in ours if not _is_of(each, removed)]
            if len(kept) == len(ours):
                raise ConfigError(
                    f"launch.{request.fleet}: options: {option!r} removes nothing; the directives "
                    f"are: {', '.join(ours)}"
                )
            ours = kept
    return [*ours, *(option for option in raw if not option.startswith("!"))]


def _is_of(directive: str, flag: str) -> bool:
    """Whether a directive begins with a flag, and not with a longer one."""
    return directive == flag or directive.startswith((f"{flag} ", f"{flag}="))
