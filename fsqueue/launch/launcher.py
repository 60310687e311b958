"""Launches workers of an application as batch jobs, according to a profile."""

from __future__ import annotations

import contextlib
import os
import shutil
from typing import TYPE_CHECKING, Final, NamedTuple

from msgspec import structs

from fsqueue.config import PREFIX, fields
from fsqueue.errors import ConfigError
from fsqueue.launch.batch import BatchError, Request, batch_system, run, script_of
from fsqueue.launch.fleet import Fleet
from fsqueue.spool.disk.mounts import is_remote
from fsqueue.spool.fleets.records import FleetRecord
from fsqueue.spool.format.resources import amounts, profile_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.config import Config
    from fsqueue.launch.batch import BatchSystem, Command, Reply
    from fsqueue.launch.pace import Pace
    from fsqueue.launch.profiles import Profile
    from fsqueue.runner.host import Host
    from fsqueue.spool.fleets.records import Member
    from fsqueue.spool.store.store import Store

# Seconds that a worker needs after its stop_grace to return calls and leave.
_LEAVING: Final = 5.0
_SAMPLE_TOKEN: Final = "sample"  # noqa: S105 - of a script that is not submitted


class Application(NamedTuple):
    """What the worker of a batch job needs to find an application."""

    target: str
    """``module:variable``."""
    app_id: str
    folder: str
    """Absolute path of the folder from which it is imported."""
    root: str
    """Absolute path of the spool."""
    settings: Mapping[str, str]
    """Additional environment variables for the worker."""
    stop_grace: float


def application_of(host: Host, folder: str | None = None) -> Application:
    """How the worker of a batch job finds an application of this process.

    Args:
        folder: the folder from which it is imported; None: the current one.

    Raises:
        ConfigError: it has no root that other machines could see, or cannot be imported.
    """
    root = host.conf.root
    if root is None:
        raise ConfigError(
            "no root is set, and the private folder that is used without one cannot be seen by "
            "batch jobs: set FSQUEUE__ROOT, or FSQueue(root=...), to a folder on a shared disk"
        )
    return Application(
        target=host.locate(),
        app_id=host.app_id,
        folder=os.path.abspath(folder or "."),
        root=os.path.abspath(root),
        settings=settings_of(host.conf),
        stop_grace=host.conf.stop_grace,
    )


def settings_of(conf: Config) -> dict[str, str]:
    """The settings from this process's environment variables, which a batch job does not inherit.

    The worker finds settings from files and arguments by itself.
    """
    found = {}
    for name in fields():
        value = getattr(conf, name)
        variable = f"{PREFIX}{name.upper()}"
        from_environment = conf.source(name) == f"environment variable {variable}"
        if from_environment and name not in {"root", "stop_grace"}:
            found[variable] = str(value)
    return found


def grace_within(kill_delay: float, wanted: float) -> float:
    """Seconds for which bodies may go on after a signal, if the worker must leave before SIGKILL.

    Args:
        kill_delay: seconds between the batch system's signal and SIGKILL.
        wanted: the configured seconds.
    """
    return min(wanted, max(kill_delay - _LEAVING, kill_delay / 2))


class Rehearsal(NamedTuple):
    """The command and the script of a dry run."""

    command: Command
    script: str
    verdict: Reply | None
    """The batch system's answer about the script; None if it cannot check one."""


class JobTemplate:
    """The jobs of one profile: their scripts, and their fleet's definition in the spool.

    Args:
        application: the application that the workers serve.
        name: name of the fleet and its profile.
        profile: what a job asks for.
        options: raw directives, put after those of the profile.
        run: runs a command of the batch system.

    Attributes:
        name: name of the fleet.
        application: the application that the workers serve.
        profile: what a job asks for.
        options: raw directives, put after those of the profile.
        batch: the commands of the batch system.
        record: the fleet's definition in the spool.

    Raises:
        ConfigError: the profile is for this machine and not for a batch system.
    """

    def __init__(
        self,
        application: Application,
        name: str,
        profile: Profile,
        *,
        options: tuple[str, ...] = (),
        run: Callable[[Command], Reply] = run,
    ) -> None:
        if profile.system == "local":
            raise ConfigError(
                f"launch.{name}: local is not a batch system: start workers on this machine with "
                "`fsqueue up`"
            )
        self.name: str = name
        self.application: Application = application
        self.run: Callable[[Command], Reply] = run
        self.batch: BatchSystem = batch_system(profile.system)
        self.record: FleetRecord = _record_of(name, profile, application)
        self.profile: Profile = profile
        self.options: tuple[str, ...] = options
        self._site: tuple[float, int] | None = None

    def check(self, which: Callable[[str], str | None] = shutil.which) -> None:
        """Check everything that can be checked before a submission.

        Raises:
            ConfigError: no job could work; the message has the reason.
        """
        program = self.batch.submission("").argv[0]
        if which(program) is None:
            raise ConfigError(
                f"launch.{self.name}: {program} is not on PATH: run this where the commands of "
                f"{self.profile.system} are"
            )
        self.script_of(_SAMPLE_TOKEN, 1)

    def warnings(self) -> list[str]:
        """Possible mistakes, as far as this machine can see."""
        paths = {"root": self.application.root, "the application's folder": self.application.folder}
        return [
            f"{what}, {path}, is on a disk of this machine: compute nodes may not see it"
            for what, path in paths.items()
            if not is_remote(path)
        ]

    def rehearse(self, count: int, *, ask: bool = True) -> Rehearsal:
        """Prepare a submission without making it.

        Args:
            count: jobs to submit.
            ask: whether to let the batch system check the script.

        Raises:
            BatchError: the batch system cannot be asked, or does not answer.
        """
        script = self.script_of(_SAMPLE_TOKEN, count)
        check = self.batch.verdict(script) if ask else None
        verdict = None if check is None else self.run(check)
        return Rehearsal(self.batch.submission(script), script, verdict)

    def script_of(self, token: str, count: int, module: tuple[str, ...] = ()) -> str:
        """The script of a submission.

        Args:
            token: names the submission.
            module: what the jobs run in place of workers; see `Request`.

        Raises:
            ConfigError: it cannot be written.
        """
        application, (kill_delay, _) = self.application, self._limits()
        return script_of(
            Request(
                profile=self.profile,
                fleet=self.name,
                application=application.target,
                root=application.root,
                folder=application.folder,
                token=token,
                count=count,
                stop_grace=grace_within(kill_delay, application.stop_grace),
                settings=application.settings,
                options=self.options,
                module=module,
            )
        )

    @property
    def longest_array(self) -> int:
        """The most jobs of one submission: the site's limit, where a command tells it."""
        return self._limits()[1]

    def _limits(self) -> tuple[float, int]:
        """Kill delay and longest array: the site's, where a command tells them; asked once."""
        if self._site is None:
            ask, settings = self.batch.site(), ""
            if ask is not None:
                with contextlib.suppress(BatchError):
                    settings = self.run(ask).out
            self._site = self.batch.limits(settings)
        return self._site


class Launcher:
    """Submits jobs of one fleet.

    Args:
        pace: how patient the fleet is.

    Attributes:
        fleet: the fleet.
    """

    def __init__(self, store: Store, template: JobTemplate, *, pace: Pace | None = None) -> None:
        self._template = template
        self.fleet: Fleet = Fleet(store.files, template.name, run=template.run, pace=pace)

    def define(self) -> None:
        """Write the fleet's definition into the spool, and make its folder of logs.

        Raises:
            ConfigError: another application has a fleet of this name.
        """
        existing, app_id = self.fleet.files.record(), self._template.application.app_id
        if existing is not None and existing.app_id != app_id:
            raise ConfigError(
                f"fleet {self.fleet.name} belongs to the application {existing.app_id!r}: give the "
                "profile another name"
            )
        record = self._template.record
        if existing is not None and existing.profile_max == record.profile_max:
            # A limit set by `Fleet.scale` stays in force until the profile changes.
            record = structs.replace(record, min=min(record.min, existing.max), max=existing.max)
        self.fleet.files.define(record)

    def submit(self, count: int) -> list[Member]:
        """Submit jobs, in as many arrays as the site's limit requires.

        Returns:
            The jobs: fewer if not that many slots are free.

        Raises:
            RefusedError: the batch system refuses them; arrays submitted before stay.
            DoubtfulError: they may exist.
        """
        members: list[Member] = []
        while len(members) < count:
            most = min(count - len(members), self._template.longest_array)
            found = self.fleet.submit(most, self._template.script_of)
            if not found:
                break
            members += found
        return members


def _record_of(name: str, profile: Profile, application: Application) -> FleetRecord:
    resources = {
        resource: amount
        for resource, amount in (("gpu", profile.gpus), ("mem", profile.memory))
        if amount
    }
    return FleetRecord(
        name=name,
        system=profile.system,
        app_id=application.app_id,
        queues=profile.queues,
        walltime=profile.walltime,
        slots=profile.cores * profile.nodes,
        resources=profile_of(amounts(resources)),
        min=profile.min,
        max=profile.max,
        profile_max=profile.max,
        backlog=profile.backlog,
    )
