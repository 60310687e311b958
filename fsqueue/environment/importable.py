"""Names by which another process imports an object, and the import by such a name."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, TypeVar

from fsqueue.errors import TaskNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

T = TypeVar("T")

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
                f"this worker cannot import {module} for the task {name}: {error}. Start it "
                "where the module can be imported, or add its folder to PYTHONPATH."
            ) from error
    if name not in tasks:
        raise TaskNotFoundError(
            f"{module} has no task {name} of the application {app_id!r} on this worker. If "
            "its code is older than the caller's, restart the worker."
        )
    return tasks[name]
