"""Launch profiles: what a batch job of workers asks for, from configuration files.

A profile is a table ``[launch.NAME]`` of the project's ``fsqueue.toml`` (or of ``tool.fsqueue`` in
its ``pyproject.toml``), of the user's ``~/.config/fsqueue/launch.toml``, or of the site's file,
which ``FSQUEUE_SITE_CONFIG`` names (default ``/etc/fsqueue/launch.toml``). The files are searched
in this order, and the first one that has the name counts.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, get_args

import msgspec
from msgspec import Meta

from fsqueue.common.fields import describe
from fsqueue.common.values import duration, format_duration, plain
from fsqueue.config import LAUNCH_TABLE, RunnerKind
from fsqueue.environment.config_file import ConfigFile, read_toml
from fsqueue.errors import ConfigError
from fsqueue.spool.fleets.records import check_name
from fsqueue.spool.format.names import is_safe_name
from fsqueue.spool.format.resources import amounts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fsqueue.common.fields import Field

SITE_VARIABLE: Final = "FSQUEUE_SITE_CONFIG"
_SITE_FILE: Final = "/etc/fsqueue/launch.toml"
_USER_FILE: Final = "fsqueue/launch.toml"

System = Literal["slurm", "pbs", "sge", "lsf", "flux", "oar", "local"]
SYSTEMS: Final[tuple[str, ...]] = get_args(System)

# The command whose presence shows which batch system there is. Grid Engine and PBS both have qsub;
# only Grid Engine has qconf. "local" is never guessed.
_PROGRAMS: Final = {
    "slurm": "sbatch",
    "flux": "flux",
    "lsf": "bsub",
    "oar": "oarsub",
    "sge": "qconf",
    "pbs": "qsub",
}

Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Number = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(extra={"unit": "seconds"})]


def _doc(description: str, **bounds: Any) -> Meta:
    return Meta(description=description, **bounds)


class Profile(msgspec.Struct, frozen=True, kw_only=True):
    """The resources of a batch job of workers, and the number of jobs."""

    system: Annotated[System, _doc("the batch system; unset: the one whose command is on PATH")]
    walltime: Annotated[Seconds, _doc("time limit of a job; required, except for local", ge=0)] = 0
    cores: Annotated[Count, _doc("cores of a job, on each of its nodes")] = 1
    memory: Annotated[
        int, _doc("memory of a job on each node, in bytes or like 64G", ge=0, le=2**60)
    ] = 0
    gpus: Annotated[Number, _doc("GPUs of a job, on each of its nodes")] = 0
    nodes: Annotated[Count, _doc("nodes of a job: one worker runs on each")] = 1
    batch_queue: Annotated[str, _doc("partition or queue of the batch system")] = ""
    account: Annotated[str, _doc("account or project that is charged")] = ""
    queues: Annotated[tuple[str, ...], _doc("queues of fsqueue that the workers serve")] = (
        "default",
    )
    runner: Annotated[RunnerKind, _doc("whether tasks run in processes or in threads")] = "process"
    options: Annotated[
        tuple[str, ...], _doc('raw directives, put last; "!--mem" removes one that fsqueue writes')
    ] = ()
    setup: Annotated[tuple[str, ...], _doc("shell lines that run before the worker")] = ()
    wrap: Annotated[str, _doc("command that starts the worker's, such as that of a container")] = ""
    env: Annotated[dict[str, str], _doc("environment of the worker")] = {}
    min: Annotated[Number, _doc("jobs that the autoscaler keeps")] = 0
    max: Annotated[Count, _doc("jobs that may exist at a time")] = 10
    backlog: Annotated[Count, _doc("jobs that may wait in the batch system's queue")] = 2
    idle_timeout: Annotated[
        Seconds, _doc("how long a worker without calls waits before it leaves", gt=0)
    ] = 300
    signal_before: Annotated[
        Seconds, _doc("how long before the end the batch system sends a warning", ge=0)
    ] = 120
    requeue: Annotated[bool, _doc("the batch system may run a job again after its node fails")] = (
        True
    )
    python: Annotated[str, _doc("interpreter on the compute nodes; unset: the launching one")] = ""


_DURATIONS: Final = frozenset({"walltime", "idle_timeout", "signal_before"})
EXTENDS: Final = "extends"
# One word, as it becomes part of a directive.
_WORD: Final = re.compile(r"[A-Za-z0-9_.,:@/+%=-]{1,200}", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)


def profile_fields() -> Mapping[str, Field]:
    """The reference of profiles by key, in the order of `Profile`."""
    return describe(Profile)


class Source(NamedTuple):
    """A file with profiles."""

    path: Path
    tables: Mapping[str, Any]


def find_sources(
    *, start: Path | None = None, environ: Mapping[str, str] | None = None
) -> list[Source]:
    """The files that may have profiles, in order of precedence; missing ones are left out.

    Args:
        start: the directory where the search for the project's file begins.
        environ: used instead of ``os.environ``.

    Raises:
        ConfigError: a file cannot be read, or ``FSQUEUE_SITE_CONFIG`` names one that is missing.
    """
    environment = os.environ if environ is None else environ
    file = ConfigFile.nearest(start)
    sources = [Source(file.path, _tables(file.path, file.table.get(LAUNCH_TABLE, {})))]
    home = environment.get("XDG_CONFIG_HOME") or os.path.join(
        environment.get("HOME", "~"), ".config"
    )
    sources += _optional(Path(home, _USER_FILE).expanduser())
    named = environment.get(SITE_VARIABLE)
    site = _optional(Path(named or _SITE_FILE))
    if named and not site:
        raise ConfigError(f"environment variable {SITE_VARIABLE}: {named} is not a file")
    return sources + site


def _optional(path: Path) -> list[Source]:
    content = read_toml(path)
    if content is None:
        return []
    for key in content:
        if key != LAUNCH_TABLE:
            raise ConfigError(f"{path}: unknown key {key!r}; expected tables like [launch.cpu]")
    return [Source(path, _tables(path, content.get(LAUNCH_TABLE, {})))]


def _tables(path: Path, table: Any) -> Mapping[str, Any]:
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: launch = {table!r}, expected tables like [launch.cpu]")
    for name, each in table.items():
        if not isinstance(each, dict):
            raise ConfigError(
                f"{path}: launch.{name} = {each!r}, expected a table: begin it with [launch.NAME]"
            )
    return table


def load_profile(
    name: str,
    sources: list[Source],
    *,
    overrides: Mapping[str, Any] | None = None,
    which: Callable[[str], str | None] = shutil.which,
) -> Profile:
    """Load a profile. The name of a batch system is a profile without further settings.

    Args:
        name: name of the profile, or of a batch system.
        sources: from `find_sources`.
        overrides: values that replace those of the files, such as flags of a command.
        which: finds a command, to guess the batch system if the profile names none.

    Raises:
        ConfigError: there is no such profile, or a value in it is wrong; the message shows where.
    """
    values = _values_of(name, sources)
    for key, value in (overrides or {}).items():
        values[key] = _Value(value, "argument")
    if "system" not in values:
        values["system"] = _Value(name if name in SYSTEMS else _guess(name, which), "PATH")
    where = f"launch.{name}"
    profile = Profile(**{key: _convert(where, key, each) for key, each in values.items()})
    _check(profile, where, values)
    return profile


class _Value(NamedTuple):
    value: Any
    source: str


def _values_of(name: str, sources: list[Source]) -> dict[str, _Value]:
    """The keys of a profile and of those that it extends."""
    tables = list(_chain(name, sources))
    if not tables and name not in SYSTEMS:
        raise ConfigError(_no_such_profile(name, sources))
    values: dict[str, _Value] = {}
    for source, found, table in reversed(tables):
        where = f"{source.path}: launch.{found}"
        for key, value in table.items():
            if key != EXTENDS:
                _check_key(where, key)
                values[key] = _Value(value, str(source.path))
    return values


def _chain(name: str, sources: list[Source]) -> Iterator[tuple[Source, str, Mapping[str, Any]]]:
    """A profile, the one that it extends, and so on.

    A profile that extends its own name means the one of the next file.
    """
    seen: list[str] = []
    start = 0
    while (found := _find(name, sources, start)) is not None:
        at, source = found
        if (key := f"{source.path}: launch.{name}") in seen:
            raise ConfigError(f"{key} extends itself: {' -> '.join([*seen, key])}")
        seen.append(key)
        table = source.tables[name]
        yield source, name, table
        if EXTENDS not in table:
            return
        base = table[EXTENDS]
        start = at + 1 if base == name else 0
        if not isinstance(base, str) or _find(base, sources, start) is None:
            raise ConfigError(f"{key}: extends = {base!r}: {_no_such_profile(base, sources)}")
        name = base


def _find(name: Any, sources: list[Source], start: int) -> tuple[int, Source] | None:
    found = ((at, each) for at, each in enumerate(sources) if at >= start and name in each.tables)
    return next(found, None)


def _no_such_profile(name: Any, sources: list[Source]) -> str:
    known = list(dict.fromkeys(each for source in sources for each in source.tables))
    near = _nearest(str(name), known)
    files = ", ".join(str(source.path) for source in sources)
    there = f"there are: {', '.join(known)}" if known else "there are no profiles"
    return f"no launch profile {name!r}; {near}{there} ({files})"


def _check_key(where: str, key: str) -> None:
    known = [*profile_fields(), EXTENDS]
    if key not in known:
        near = _nearest(key, known)
        raise ConfigError(f"{where}: unknown key {key}; {near}valid: {', '.join(known)}")


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f"did you mean {near[0]}? " if near else ""


def _guess(name: str, which: Callable[[str], str | None]) -> str:
    for system, program in _PROGRAMS.items():
        if which(program) is not None:
            return system
    raise ConfigError(
        f"launch.{name}: no batch system found: none of {', '.join(_PROGRAMS.values())} is on "
        f"PATH. Run this where the batch system's commands are, or set system to one of "
        f"{', '.join(SYSTEMS)}."
    )


def _convert(where: str, key: str, given: _Value) -> Any:
    _check_key(f"{given.source}: {where}", key)
    field, value = profile_fields()[key], plain(given.value)
    try:
        if key in _DURATIONS:
            value = duration(key, value)
        elif key == "memory":
            value = _bytes(key, value)
        return msgspec.convert(value, field.hint)
    except ValueError as error:
        reason = field.refuse(key, given.value)
        if not isinstance(error, msgspec.ValidationError):
            reason = str(error)
        raise ConfigError(f"{given.source}: {where}: {reason}") from error


def _bytes(key: str, value: Any) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        return amounts({"memory": str(value)}).get("memory", 0) // 1000
    except ValueError:
        raise ValueError(
            f"{key} = {value!r}, expected a number of bytes or a text like 64G"
        ) from None


def _check(profile: Profile, where: str, values: Mapping[str, _Value]) -> None:
    def refuse(key: str, reason: str) -> ConfigError:
        source = values[key].source if key in values else "default"
        return ConfigError(f"{source}: {where}: {key} = {getattr(profile, key)!r}: {reason}")

    for key, reason in (*_wrong_limits(profile), *_wrong_texts(profile)):
        raise refuse(key, reason)
    try:
        check_name(where.removeprefix("launch."))
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from error


def _wrong_limits(profile: Profile) -> Iterator[tuple[str, str]]:
    local = profile.system == "local"
    if not local and not profile.walltime:
        yield "walltime", 'a job needs a time limit, like "4h"'
    if not local and 0 < profile.walltime <= profile.signal_before:
        before = format_duration(profile.signal_before)
        yield "walltime", f"is not longer than signal_before, which is {before}"
    if profile.min > profile.max:
        yield "min", f"is more than max, which is {profile.max}"
    if profile.nodes > 1 and profile.system in {"sge", "local"}:
        yield (
            "nodes",
            (
                "Grid Engine has no parallel environment for nodes that all sites share, and "
                "local is one machine: use nodes = 1 and more jobs"
            ),
        )


def _wrong_texts(profile: Profile) -> Iterator[tuple[str, str]]:
    for key in ("batch_queue", "account"):
        value = getattr(profile, key)
        if value and not _WORD.fullmatch(value):
            yield key, "expected one word"
    if not profile.queues or not all(map(is_safe_name, profile.queues)):
        yield "queues", "expected names of letters, digits, '-' and '_'"
    yield from _wrong_lines(profile)
    for name, value in profile.env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            yield "env", f"{name!r} is not the name of a variable, or its value has a null byte"


def _wrong_lines(profile: Profile) -> Iterator[tuple[str, str]]:
    for key in ("options", "setup"):
        if any(not line.strip() or set(line) & set("\0\n\r") for line in getattr(profile, key)):
            yield key, "expected a list of single lines that are not empty"
    for key in ("wrap", "python"):
        if set(getattr(profile, key)) & set("\0\n\r"):
            yield key, "expected a single line"
    if not _splits(profile.wrap):
        yield "wrap", "has a quote that is not closed"


def _splits(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True
