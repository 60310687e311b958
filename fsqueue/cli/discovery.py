"""Imports the application that ``MODULE:VARIABLE`` names."""

from __future__ import annotations

import importlib

from fsqueue.app import FSQueue
from fsqueue.environment.workdir import GONE, workdir
from fsqueue.errors import ConfigError


def find_app(target: str) -> FSQueue:
    """Import an application.

    Args:
        target: ``module:variable``, or ``module`` if it has exactly one.

    Raises:
        ConfigError: there is no such application; the message lists those that exist.
    """
    name, _, variable = target.partition(":")
    if name.endswith(".py"):
        raise ConfigError(f"{name} is a file: give the module instead, {name[:-3]!r}")
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{target!r} is not a module name; expected MODULE or MODULE:VARIABLE")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise  # the module exists, but not something that it imports
        where = "here" if workdir() is not None else f"in PYTHONPATH, and {GONE}"
        raise ConfigError(
            f"there is no module {name!r} {where}. Run this in the folder that holds it, or set "
            "PYTHONPATH."
        ) from error
    apps = {key: value for key, value in vars(module).items() if isinstance(value, FSQueue)}
    if variable:
        if variable not in apps:
            there = ", ".join(apps) or "none"
            raise ConfigError(f"{name} has no FSQueue called {variable!r}; it has: {there}")
        return apps[variable]
    if len({id(app) for app in apps.values()}) != 1:
        there = ", ".join(f"{name}:{key}" for key in apps) or "none"
        raise ConfigError(
            f"{name} must have exactly one FSQueue, or give MODULE:VARIABLE; has: {there}"
        )
    return next(iter(apps.values()))
