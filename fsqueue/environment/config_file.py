"""The nearest configuration file: ``fsqueue.toml``, or ``tool.fsqueue`` in ``pyproject.toml``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from fsqueue.environment.workdir import workdir
from fsqueue.errors import ConfigError


class ConfigFile(NamedTuple):
    """The fsqueue table of a configuration file. Empty if there is no file."""

    path: Path
    table: dict[str, Any]

    @classmethod
    def nearest(cls, start: Path | None) -> ConfigFile:
        """The nearest file, from a directory upwards; None: from the current directory."""
        start = start or workdir()
        if start is None:  # it was removed, so its parents are unknown
            return cls(Path(), {})
        path, table = _find_table(start.absolute())
        if not isinstance(table, dict):
            raise ConfigError(f"{path}: tool.fsqueue = {table!r}, expected a table")
        return cls(path, table)


def _find_table(start: Path) -> tuple[Path, Any]:
    for folder in (start, *start.parents):
        if (own := read_toml(folder / "fsqueue.toml")) is not None:
            return folder / "fsqueue.toml", own
        tool = (read_toml(folder / "pyproject.toml") or {}).get("tool")
        if isinstance(tool, dict) and "fsqueue" in tool:
            return folder / "pyproject.toml", tool["fsqueue"]
    return start, {}


def read_toml(path: Path) -> dict[str, Any] | None:
    """The content of a TOML file; None if there is no such file.

    Raises:
        ConfigError: the file cannot be read.
    """
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8")) if path.is_file() else None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
