"""Finds the application that a command works on, and imports it. All commands use these rules."""

from __future__ import annotations

import sys
import traceback
from typing import TYPE_CHECKING, NamedTuple

from fsqueue.cli.finding.guess import applications_in
from fsqueue.config import configured_application
from fsqueue.environment.config_file import ConfigFile
from fsqueue.environment.importable import import_for_command
from fsqueue.environment.workdir import GONE, workdir
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fsqueue.app import FSQueue


class Application(NamedTuple):
    """An application, and how it was found."""

    app: FSQueue
    name: str
    """``module`` or ``module:variable``."""
    origin: str = ""
    """The place that names it, in words; empty if the command line does."""


def discover(wanted: str | None) -> Application:
    """The application that the command line or the configuration names, or that of the folder.

    Args:
        wanted: the name that the command line gives.

    Raises:
        ConfigError: there is none, or more than one; the message lists them.
    """
    found = name_of_application(wanted)
    if isinstance(found, ConfigError):
        raise found
    make_importable()
    name, origin = found
    return Application(import_application(name), name, origin)


def one_name(argument: str | None, option: str | None) -> str | None:
    """The name that the command line gives, either as an argument or with ``--app``.

    Raises:
        ConfigError: both are given.
    """
    if argument is not None and option is not None:
        raise ConfigError(f"give {argument} or --app {option}, not both")
    return option if argument is None else argument


def name_of_application(wanted: str | None) -> tuple[str, str] | ConfigError:
    """The name of the application and its origin, without importing it, or why there is none.

    The first of these counts: `wanted`; ``FSQUEUE__APP``; ``app`` of the configuration file; the
    only application in the modules of the current folder; the only one in those of the folder of
    the configuration file.
    """
    if wanted is not None:  # an empty one is a mistake, such as "$APP" without a value
        return wanted, ""
    if (configured := configured_application()) is not None:
        return configured
    folders = import_folders()
    for folder in folders:
        found = applications_in(folder)
        if len(found) == 1:
            return found[0], f"the only one in {folder}"
        if found:
            return _several(folder, found)
    searched = " or ".join(folders)
    where = f"No *.py file in {searched} contains `app = FSQueue(...)`" if folders else GONE
    return ConfigError(
        f"which application? {where}. Run this in the folder of your tasks, or name the "
        'application: --app MODULE:VARIABLE, or app = "module:variable" in fsqueue.toml.'
    )


def _several(folder: str, found: Sequence[str]) -> ConfigError:
    return ConfigError(
        f"which application? {folder} has {len(found)}: {', '.join(found)}. Choose one: --app "
        f'{found[0]}, or app = "{found[0]}" in fsqueue.toml.'
    )


def import_folders() -> list[str]:
    """The folders whose modules a command can import.

    These are the current folder, as for `python -m`, and that of the configuration file.
    """
    here, file = workdir(), ConfigFile.nearest(None)
    folders = [] if here is None else [str(here)]
    if file.table and str(file.path.parent) not in folders:
        folders.append(str(file.path.parent))
    return folders


def make_importable() -> None:
    """Let imports, including those of unpickling, find the modules of these folders first."""
    sys.path[:0] = import_folders()


def import_application(target: str) -> FSQueue:
    """Import an application.

    Args:
        target: ``module:variable``, or ``module`` if it has exactly one.

    Raises:
        ConfigError: there is no such application; the message lists those that exist.
    """
    from fsqueue.app import FSQueue

    name, _, variable = target.partition(":")
    _refuse_path(name)
    if not all(part.isidentifier() for part in name.split(".")):
        raise ConfigError(f"{target!r} is not a module name; expected MODULE or MODULE:VARIABLE")
    try:
        module = import_for_command(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise ConfigError(
                f"{name} cannot be imported: {error}, which {_importer(error)} imports. Install it "
                f"for {sys.executable}, or use the environment that has it."
            ) from error
        here = workdir()
        where = f"in PYTHONPATH, and {GONE}" if here is None else f"in {here}"
        raise ConfigError(
            f"there is no module {name!r} {where}. Run this in the folder that holds it, or set "
            "PYTHONPATH."
        ) from error
    apps = {key: value for key, value in vars(module).items() if isinstance(value, FSQueue)}
    if variable:
        found = getattr(module, variable, None)  # a module may define it on demand
        if not isinstance(found, FSQueue):
            there = ", ".join(apps) or "none"
            raise ConfigError(f"{name} has no FSQueue called {variable!r}; it has: {there}")
        return found
    if len({id(app) for app in apps.values()}) != 1:
        there = ", ".join(f"{name}:{key}" for key in apps) or "none"
        raise ConfigError(
            f"{name} must have exactly one FSQueue, or give MODULE:VARIABLE; has: {there}"
        )
    return next(iter(apps.values()))


def _refuse_path(name: str) -> None:
    folder, _, file = name.rpartition("/")
    module = file.removesuffix(".py")
    if (folder or module != file) and module.isidentifier():
        elsewhere = folder not in {"", "."}
        where = f"run this in the folder {folder}, and" if elsewhere else "instead,"
        raise ConfigError(f"{name} is a path: {where} give the name of the module, {module!r}")


def _importer(error: ModuleNotFoundError) -> str:
    """The file and the line whose import failed."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<frozen ")
    ]
    return f"{frames[-1].filename}, line {frames[-1].lineno},"
