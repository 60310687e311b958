"""Finds the name by which another process can import an object, and imports objects by name."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, TypeVar

from fsqueue.environment.workdir import GONE, workdir
from fsqueue.errors import TaskNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import ModuleType

T = TypeVar("T")

_MAIN = frozenset({"__main__", "__mp_main__"})
_being_imported: list[str] = []


def import_for_command(module: str) -> ModuleType:
    """Import the module of an application for a command, such as ``fsqueue worker``."""
    _being_imported.append(module)
    try:
        return importlib.import_module(module)
    finally:
        _being_imported.pop()


def being_imported() -> str:
    """The module that a command is importing; empty afterwards, and in other processes."""
    return _being_imported[-1] if _being_imported else ""


def importable_name(wanted: object, first: Iterable[str] = ()) -> str | None:
    """The name ``module:variable`` of an object; None if no module but the main script has it.

    Args:
        first: names of modules to search before the others.
    """
    for name in dict.fromkeys([*first, *sys.modules]):
        if name in _MAIN or (module := sys.modules.get(name)) is None:
            continue
        for variable, value in list(vars(module).items()):
            if value is wanted:
                return f"{name}:{variable}"
    return None


def _advice(module: str, error: Exception) -> str:
    """What to do on the worker's side. The caller sees this message, so it names the place."""
    host, lacks = os.uname().nodename, isinstance(error, ModuleNotFoundError) and error.name
    if lacks and not f"{module}.".startswith(f"{lacks}."):
        return f"Install it on {host} for {sys.executable}."
    where = f"It runs in {workdir() or GONE} on {host}"
    return f"{where}: start it in the folder of {module}, or add that folder to PYTHONPATH."


def find_task(name: str, tasks: Mapping[str, T], app_id: str) -> T:
    """A task of an application by its name. Imports its module if necessary.

    Args:
        name: ``module.function``.
        tasks: the tasks of the application, to which the import adds.
        app_id: the application.

    Raises:
        TaskNotFoundError: this process cannot find or import the task.
    """
    module = name.rpartition(".")[0]
    if name not in tasks:
        try:
            importlib.import_module(module)
        except Exception as error:
            raise TaskNotFoundError(
                f"this worker cannot import {module} for the task {name}: {error}. "
                f"{_advice(module, error)}"
            ) from error
    if name not in tasks:
        raise TaskNotFoundError(
            f"{module} has no task {name} of the application {app_id!r} on this worker. If "
            "its code is older than the caller's, restart the worker."
        )
    return tasks[name]
