"""The profile of a launch, from files and flags; shared by the commands that submit jobs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from fsqueue.cli.command import option
from fsqueue.cli.finding.target import find_application
from fsqueue.cli.options import seconds
from fsqueue.cli.output import print_error
from fsqueue.config import PREFIX
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from fsqueue.cli.finding.target import Target
    from fsqueue.launch.launcher import JobTemplate

COUNT = click.IntRange(min=1, max=1_000_000)
NUMBER = click.IntRange(min=0, max=1_000_000)

_RESOURCES = (
    option("--walltime", type=seconds(), metavar="DURATION", help="Time limit of a job, like 4h."),
    option("--cores", type=COUNT, metavar="NUMBER", help="Cores of a job, on each node."),
    option("--memory", metavar="AMOUNT", help="Memory of a job on each node, like 64G."),
    option("--gpus", type=NUMBER, metavar="NUMBER", help="GPUs, on each node."),
    option("--nodes", type=COUNT, metavar="NUMBER", help="Nodes of a job, with a worker each."),
)


def resource_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that replace values of a profile."""
    for each in reversed(_RESOURCES):
        command = each(command)
    return command


class Launching(NamedTuple):
    """The application and the job templates of a command that submits jobs."""

    target: Target
    templates: list[JobTemplate]
    """One for each profile."""


def open_launch(
    names: tuple[str, ...],
    app: str | None,
    root: Path | None,
    overrides: Mapping[str, Any],
    options: tuple[str, ...] = (),
) -> Launching:
    """Find the application and the profiles, and print warnings about them.

    Args:
        names: names of the profiles.
        app: the option ``--app``.
        root: the option ``--root``.
        overrides: values of flags by key of the profile; None: not given.
        options: raw directives.

    Raises:
        ConfigError: something is wrong with one of them.
    """
    from fsqueue.environment.workdir import workdir
    from fsqueue.launch.launcher import JobTemplate, application_of
    from fsqueue.launch.profiles import find_sources, load_profile

    target = find_served(app, root)
    here = workdir()
    application = application_of(target.app, None if here is None else str(here))
    sources = find_sources()
    given = {key: value for key, value in overrides.items() if value is not None}
    templates = [
        JobTemplate(
            application, name, load_profile(name, sources, overrides=given), options=options
        )
        for name in names
    ]
    for warning in dict.fromkeys(each for template in templates for each in template.warnings()):
        print_error(warning)
    return Launching(target, templates)


def find_served(app: str | None, root: Path | None) -> Target:
    """The application, with the given root: a job needs both.

    Raises:
        ConfigError: there is no application, or it has another root.
    """
    variable = f"{PREFIX}ROOT"
    if root is not None:
        # The application reads it when it is imported, and so do the slots of the workers.
        os.environ[variable] = str(root)
    target = find_application(app)
    if root is not None and os.path.abspath(target.root) != os.path.abspath(root):
        raise ConfigError(
            f"--root {root}: the application chooses {target.root} itself, with FSQueue(root=...)"
        )
    return target
