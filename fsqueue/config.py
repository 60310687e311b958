"""Settings, by precedence: argument, environment, file, default. Each is checked at its source.

``Settings`` is the only list of fields. Conversion, error messages and the reference derive from
it through ``fields()``.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, TypedDict

import msgspec
from msgspec import Meta

from fsqueue.common.fields import describe
from fsqueue.common.values import LONGEST
from fsqueue.environment.config_file import ConfigFile
from fsqueue.environment.machine import usable_cpus
from fsqueue.environment.workdir import GONE, workdir
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fsqueue.common.fields import Field

PREFIX: Final = "FSQUEUE__"
TASK_TABLE: Final = "task"
APP_KEY: Final = "app"
LAUNCH_TABLE: Final = "launch"
COMMAND_LINE_KEYS: Final = frozenset(["APP", "JSON", "TIMEOUT", "YES"])
"""Flags that several commands share. Their variables have the same prefix as the settings."""
TASK_PREFIX: Final = "FSQUEUE__TASK__"
RunnerKind = Literal["thread", "process"]
WatchMode = Literal["auto", "events", "push", "poll"]
RecordKind = Literal["auto", "links", "files"]
Durability = Literal["crash", "power"]
Serializer = Literal["cloudpickle", "pickle", "json"]
StaleCode = Literal["warn", "refuse", "ignore"]
Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1, le=99_999)]


def _doc(description: str, **bounds: Any) -> Meta:
    return Meta(description=description, **bounds)


def duration(
    description: str, *, ge: float | None = None, gt: float | None = None, le: float = LONGEST
) -> Meta:
    """Describe a field with a duration in seconds and its bounds."""
    bounds = {name: bound for name, bound in (("ge", ge), ("gt", gt)) if bound is not None}
    return _doc(description, le=le, extra={"unit": "seconds"}, **bounds)


class Settings(msgspec.Struct, kw_only=True):
    """The settings. A ``Final`` one is fixed once loaded."""

    root: Final[
        Annotated[Path | None, _doc("shared directory of the spool; unset: a private one")]
    ] = None
    dev_mode_force_sync_tasks: Annotated[bool, _doc("run every task in the calling thread")] = False
    runner: Final[Annotated[RunnerKind, _doc("slots of a worker: threads or processes")]] = "thread"
    concurrency: Final[
        Annotated[Count | None, _doc("calls that a worker runs at once; unset: by its CPUs")]
    ] = None
    watch: Final[
        Annotated[
            WatchMode,
            _doc("how changes are noticed: file events, push (NFSv4), polling; auto: by the mount"),
        ]
    ] = "auto"
    poll_interval: Final[
        Annotated[float, duration("longest interval between checks for changes", ge=0.01, le=60)]
    ] = 1.0
    heartbeat: Final[
        Annotated[float, duration("interval between two heartbeats of a worker", ge=0.1, le=60)]
    ] = 2.0
    lease: Final[
        Annotated[
            float,
            duration(
                "a remote worker without a heartbeat for this long is dead; at least 3 * heartbeat",
                gt=0,
            ),
        ]
    ] = 60.0
    max_attempts: Final[
        Annotated[
            Count,
            _doc("attempts of a call whose workers die, before it fails with WorkerLostError"),
        ]
    ] = 3
    stop_grace: Final[
        Annotated[
            float,
            duration(
                "how long running bodies may continue after SIGTERM or another stop signal",
                ge=0,
                le=86_400,
            ),
        ]
    ] = 25.0
    result_ttl: Final[
        Annotated[float, duration("how long results and failed calls are kept", gt=0)]
    ] = 7 * 24 * 3600.0
    journal_ttl: Final[
        Annotated[
            float, duration("how long journals of finished calls are kept; 0: no journal", ge=0)
        ]
    ] = 24 * 3600.0
    record_commands: Final[
        Annotated[
            bool, _doc("record the command lines of processes that make calls, for `fsqueue runs`")
        ]
    ] = True
    serializer: Final[
        Annotated[
            Serializer, _doc("how arguments and results are serialized, unless the task sets it")
        ]
    ] = "cloudpickle"
    stale_code: Final[
        Annotated[StaleCode, _doc("calls whose caller has loaded other code than the worker")]
    ] = "warn"
    durability: Final[
        Annotated[
            Durability,
            _doc(
                'failures an accepted call survives: process crashes, or ("power") also a power cut'
            ),
        ]
    ] = "crash"
    records: Final[
        Annotated[
            RecordKind,
            _doc("small records of a new spool: links, files, or links where those are faster"),
        ]
    ] = "auto"
    group: Final[
        Annotated[Text | None, _doc("Unix group that shares the spool; unset: one user only")]
    ] = None
    signing_key_file: Final[
        Annotated[Path | None, _doc("private file with the signing key; unset: no signatures")]
    ] = None


class Options(TypedDict, total=False):
    """Keyword arguments of ``FSQueue`` besides ``root``; ``None`` means not given."""

    dev_mode_force_sync_tasks: bool | None
    runner: RunnerKind | None
    concurrency: int | None
    watch: WatchMode | None
    poll_interval: float | None
    heartbeat: float | None
    lease: float | None
    max_attempts: int | None
    stop_grace: float | None
    result_ttl: float | None
    journal_ttl: float | None
    record_commands: bool | None
    serializer: Serializer | None
    stale_code: StaleCode | None
    durability: Durability | None
    records: RecordKind | None
    group: str | None
    signing_key_file: str | os.PathLike[str] | None


class TaskOffer(NamedTuple):
    """A task option from a configuration source, for one task or for all."""

    scope: str
    """``module.func``, or ``MODULE__FUNC`` from the environment; empty: every task."""
    option: str
    value: Any
    source: str
    strict: bool = True

    def is_for(self, task: str) -> bool:
        """Whether it applies to the task with this name."""
        return self.scope in {"", task, task.upper().replace(".", "__")}


class Config(Settings, kw_only=True):
    """Checked settings. Only ``dev_mode_force_sync_tasks`` can be changed later."""

    sources: Final[dict[str, str]]
    task_offers: Final[tuple[TaskOffer, ...]] = ()
    """Options of tasks, weakest first."""

    def __post_init__(self) -> None:
        for field in Settings.__struct_fields__:  # an older version may have pickled it without
            self.sources.setdefault(field, "default")
        if self.group is not None and self.root is None:
            raise ConfigError(
                f"{self.source('group')}: group = {self.group!r}, and no root is set. The default "
                "root is private. Set FSQUEUE__ROOT to a folder of the group."
            )
        least = 3 * self.heartbeat
        if self.lease < least and not math.isclose(self.lease, least):
            raise ConfigError(
                f"{self.source('lease')}: lease = {self.lease:g}, expected at least {least:g} "
                f"(3 * heartbeat, which is {self.heartbeat:g}, from {self.source('heartbeat')})"
            )

    def source(self, field: str) -> str:
        """The source of a value.

        Returns:
            "argument", "environment variable FSQUEUE__X", a file's path, "assignment", "default".

        Raises:
            KeyError: there is no such field.
        """
        return self.sources[field]

    def slots(self, runner: RunnerKind | None = None) -> int:
        """How many calls a worker runs at once, with this kind of slots or the configured one."""
        cpus = usable_cpus()
        by_kind = {"process": cpus, "thread": max(8, min(32, cpus + 4))}
        return self.concurrency or by_kind[runner or self.runner]

    # These methods would make type checkers accept any name.
    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise AttributeError(_unknown(name), name=name, obj=self)

        def __setattr__(self, name: str, value: Any) -> None:
            if name not in fields():
                raise AttributeError(_unknown(name), name=name, obj=self)
            if name != "dev_mode_force_sync_tasks":
                raise AttributeError(
                    f"{name} is fixed once loaded: pass it to FSQueue({name}=...) "
                    f"or set {PREFIX}{name.upper()} in the environment"
                )
            super().__setattr__(name, _Offer(name, value, "assignment").convert())
            self.sources[name] = "assignment"


def fields() -> Mapping[str, Field]:
    """The description of each setting by name, in the order of ``Settings``."""
    return describe(Settings)


def load_config(
    options: Mapping[str, Any],
    *,
    environ: Mapping[str, str] | None = None,
    start: Path | None = None,
) -> Config:
    """Collect the settings of all sources and check each, even if another one overrides it.

    Args:
        options: the explicit arguments; ``None`` means not given.
        environ: replaces ``os.environ``.
        start: where the search for a file begins, in place of the current directory.

    Raises:
        ConfigError: a setting is unknown or has a bad value. The message names its source.
    """
    values: dict[str, Any] = {}
    sources = dict.fromkeys(fields(), "default")
    file = ConfigFile.nearest(start)
    environment = os.environ if environ is None else environ
    for offer in (  # weakest first: a later one replaces an earlier one
        *_from_file(file),
        *_from_environment(environment),
        *_from_options(options),
    ):
        values[offer.key] = offer.convert()
        sources[offer.key] = offer.source
    offers = (*_task_offers_of_file(file), *_task_offers_of_environment(environment))
    return Config(**values, sources=sources, task_offers=offers)


def configured_application() -> tuple[str, str] | None:
    """The application that the configuration names, and where: ``FSQUEUE__APP`` or the file.

    Raises:
        ConfigError: ``app`` is not a string.
    """
    if name := os.environ.get(f"{PREFIX}APP"):
        return name, f"named by {PREFIX}APP"
    file = ConfigFile.nearest(None)
    target = file.table.get(APP_KEY)
    if target is None:
        return None
    if not isinstance(target, str) or not target:
        raise ConfigError(f"{file.path}: app = {target!r}, expected a text like 'module:variable'")
    return target, f"named by {file.path}"


def checked_argument(field: str, value: Any) -> Any:
    """Convert and check the value of a setting that is given as an argument.

    Raises:
        ConfigError: the value is bad.
    """
    return _Offer(field, value, "argument").convert()


class _Offer(NamedTuple):
    """A value for a setting, from one source."""

    key: str
    value: Any
    source: str
    base: Path | None = None
    strict: bool = True

    def convert(self) -> Any:
        if self.key not in fields():
            raise ConfigError(f"{self.source}: {_unknown(self.key)}")
        field = fields()[self.key]
        try:
            result = field.convert(
                self.key, self.value, strict=self.strict, words=True, decode=self._path
            )
        except ValueError as error:
            cause = error.__cause__ and error.__cause__.__cause__
            if isinstance(cause, ConfigError):  # the message of `_path` is more exact
                text = f"{self.source}: {self.key} = {self.value!r}: {cause}"
                raise ConfigError(text) from error
            raise ConfigError(f"{self.source}: {error}") from error
        if result is None:  # msgspec converts the string "null" to None
            raise ConfigError(f"{self.source}: {field.refuse(self.key, self.value)}")
        return result

    def _path(self, _type: type, value: Any) -> Path:
        if value == "":  # as a Path it would be the current directory
            raise ValueError
        path = Path(value).expanduser()
        base = self.base or workdir()
        if base is None and not path.is_absolute():
            raise ConfigError(f"a relative path, and {GONE}; give an absolute path")
        return path if base is None else base / path


def _from_options(options: Mapping[str, Any]) -> Iterator[_Offer]:
    for key, value in options.items():
        if value is not None or key not in fields():
            yield _Offer(key, value, "argument")


def _from_environment(environ: Mapping[str, str]) -> Iterator[_Offer]:
    keys = {f"{PREFIX}{key.upper()}": key for key in fields()}
    for name, value in environ.items():
        key = name.removeprefix(PREFIX)
        # ``TASK__TIMEOUT`` is for task options, ``LIST__STATE`` and ``JSON`` are flags.
        if key != name and value and "__" not in key and key not in COMMAND_LINE_KEYS:
            yield _Offer(keys.get(name, name), value, f"environment variable {name}", strict=False)


def _from_file(file: ConfigFile) -> Iterator[_Offer]:
    for key, value in file.table.items():
        if key not in {TASK_TABLE, APP_KEY, LAUNCH_TABLE}:
            yield _Offer(key, value, str(file.path), base=file.path.parent)


def _task_offers_of_file(file: ConfigFile) -> list[TaskOffer]:
    """The table ``task``: options of all tasks, and one table per task with its own options."""
    table = file.table.get(TASK_TABLE, {})
    if not isinstance(table, dict):
        raise ConfigError(f"{file.path}: {TASK_TABLE} = {table!r}, expected a table")
    for_all, for_one = [], []
    for key, value in table.items():
        # A task name contains a dot. A table without one is an option, such as `resources`.
        if isinstance(value, dict) and "." in key:
            for_one += [TaskOffer(key, name, each, str(file.path)) for name, each in value.items()]
        else:
            for_all.append(TaskOffer("", key, value, str(file.path)))
    return for_all + for_one


def _task_offers_of_environment(environ: Mapping[str, str]) -> list[TaskOffer]:
    """``FSQUEUE__TASK__<OPTION>`` and ``FSQUEUE__TASK__<MODULE>__<FUNC>__<OPTION>``."""
    offers = []
    for name, value in environ.items():
        if name.startswith(TASK_PREFIX) and value:
            scope, _, option = name.removeprefix(TASK_PREFIX).rpartition("__")
            source = f"environment variable {name}"
            offers.append(TaskOffer(scope, option.lower(), value, source, strict=False))
    return sorted(offers, key=lambda offer: offer.scope != "")


def _unknown(name: str) -> str:
    import difflib

    # Compare without the prefix, which would make all variables similar.
    prefix = PREFIX if name.startswith(PREFIX) else ""
    valid = {key: prefix + key.upper() if prefix else key for key in fields()}
    near = difflib.get_close_matches(name.removeprefix(prefix).lower(), valid, n=1)
    hint = f"did you mean {valid[near[0]]}? " if near else ""
    return f"unknown setting {name}; {hint}valid: {', '.join(valid.values())}"
