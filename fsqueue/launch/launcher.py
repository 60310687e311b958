"""Launches workers of an application as batch jobs, as a profile says."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Final, NamedTuple

from fsqueue.config import PREFIX, fields
from fsqueue.errors import ConfigError
from fsqueue.launch.commands import BatchError, commands_of, run, slurm
from fsqueue.launch.fleet import Fleet
from fsqueue.launch.scripts import Request, script_of
from fsqueue.spool.disk.mounts import is_remote
from fsqueue.spool.fleets.records import FleetRecord
from fsqueue.spool.format.resources import amounts, profile_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fsqueue.config import Config
    from fsqueue.launch.commands import Command, Reply
    from fsqueue.launch.fleet import Pace
    from fsqueue.launch.profiles import Profile
    from fsqueue.runner.host import Host
    from fsqueue.spool.fleets.records import Member
    from fsqueue.spool.store.store import Store

# What a worker needs after its stop_grace to give calls back and to leave.
_LEAVING: Final = 5.0
_SAMPLE_TOKEN: Final = "sample"  # noqa: S105 - of a script that is not submitted


class Application(NamedTuple):
    """An application as the worker of a batch job finds it."""

    target: str
    """``module:variable``."""
    app_id: str
    folder: str
    """Absolute path of the folder from which it is imported."""
    root: str
    """Absolute path of the spool."""
    settings: Mapping[str, str]
    """Variables that the worker needs besides."""
    stop_grace: float


def application_of(host: Host, folder: str | None = None) -> Application:
    """How the worker of a batch job finds an application of this process.

    Args:
        host: the application.
        folder: from which it is imported; None: the current one.

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
    """Settings that this process has from its environment, which a batch job does not share.

    Those of files and arguments are found by the worker itself.
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
    """Seconds that bodies may go on after a signal, so that a worker leaves before it is killed.

    Args:
        kill_delay: seconds between the batch system's signal and SIGKILL.
        wanted: as configured.
    """
    return min(wanted, max(kill_delay - _LEAVING, kill_delay / 2))


class Rehearsal(NamedTuple):
    """What a submission would do."""

    command: Command
    script: str
    verdict: Reply | None
    """What the batch system says about the script; None if it cannot check one."""


class Launcher:
    """Submits jobs of one fleet.

    Args:
        store: the spool.
        application: whose workers are started.
        name: of the fleet and its profile.
        profile: what a job asks for.
        options: raw directives behind those of the profile.
        run: runs a command of the batch system.
        pace: how patient the fleet is.

    Attributes:
        fleet: the fleet.
        record: what the spool gets to know of it.

    Raises:
        ConfigError: the profile is for this machine and not for a batch system.
    """

    def __init__(
        self,
        store: Store,
        application: Application,
        name: str,
        profile: Profile,
        *,
        options: tuple[str, ...] = (),
        run: Callable[[Command], Reply] = run,
        pace: Pace | None = None,
    ) -> None:
        if profile.system == "local":
            raise ConfigError(f"launch.{name}: local is no batch system: start a worker instead")
        self._store, self._application = store, application
        self._profile, self._options, self._run = profile, options, run
        self._batch = commands_of(profile.system)
        self._site: tuple[float, int] | None = None
        self.fleet = Fleet(store.files, name, run=run, pace=pace)
        self.record = _record_of(name, profile, application)

    def check(self, which: Callable[[str], str | None] = shutil.which) -> list[str]:
        """Look for what is wrong before anything is submitted.

        Returns:
            Warnings: what may be wrong, as it looks from this machine.

        Raises:
            ConfigError: no job could work; says why.
        """
        program = self._batch.submission("").argv[0]
        if which(program) is None:
            raise ConfigError(
                f"launch.{self.fleet.name}: {program} is not on PATH: run this where the commands "
                f"of {self._profile.system} are"
            )
        existing = self.fleet.files.record()
        if existing is not None and existing.app_id != self._application.app_id:
            raise ConfigError(
                f"fleet {self.fleet.name} belongs to the application {existing.app_id!r}: give the "
                "profile another name"
            )
        self.script_of(_SAMPLE_TOKEN, 1)
        root, folder = self._application.root, self._application.folder
        paths = {"root": root, "the application's folder": folder}
        return [
            f"{what}, {path}, lies on a disk of this machine: compute nodes may not see it"
            for what, path in paths.items()
            if not is_remote(path)
        ]

    def define(self) -> None:
        """Write what the fleet is into the spool, and make its folder of logs."""
        self.fleet.files.define(self.record)

    def submit(self, count: int) -> list[Member]:
        """Submit jobs, in as many arrays as the site's limit makes of them.

        Returns:
            The jobs: fewer if not so many slots are free.

        Raises:
            RefusedError: the batch system refuses them; earlier arrays of this call stay.
            DoubtfulError: they may exist.
        """
        members: list[Member] = []
        _, longest = self._limits()
        while len(members) < count:
            found = self.fleet.submit(min(count - len(members), longest), self.script_of)
            if not found:
                break
            members += found
        return members

    def rehearse(self, count: int) -> Rehearsal:
        """What `submit` would do, and what the batch system says about it."""
        script = self.script_of(_SAMPLE_TOKEN, count)
        check = self._batch.verdict(script)
        verdict = None if check is None else self._run(check)
        return Rehearsal(self._batch.submission(script), script, verdict)

    def script_of(self, token: str, count: int) -> str:
        """The script of a submission.

        Raises:
            ConfigError: it cannot be written.
        """
        application, (kill_delay, _) = self._application, self._limits()
        return script_of(
            Request(
                profile=self._profile,
                fleet=self.fleet.name,
                application=application.target,
                root=application.root,
                folder=application.folder,
                token=token,
                count=count,
                stop_grace=grace_within(kill_delay, application.stop_grace),
                settings=application.settings,
                options=self._options,
            )
        )

    def _limits(self) -> tuple[float, int]:
        """Kill delay and longest array: the site's where it can be asked; asked once."""
        if self._site is None:
            self._site = self._batch.KILL_DELAY, self._batch.LONGEST_ARRAY
            if self._profile.system == "slurm":
                try:
                    output = self._run(slurm.site()).out
                except BatchError:
                    output = ""
                self._site = (
                    slurm.kill_delay(output) or self._batch.KILL_DELAY,
                    slurm.longest_array(output) or self._batch.LONGEST_ARRAY,
                )
        return self._site


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
        backlog=profile.backlog,
    )
