"""Finds the spool that a command works on, and reports errors."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import click

from fsqueue.cli import exits
from fsqueue.cli.output import print_error
from fsqueue.common.logs import TextFormatter
from fsqueue.environment.workdir import absolute
from fsqueue.errors import ConfigError, FSQueueError, UnknownInvocationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fsqueue.app import FSQueue
    from fsqueue.spool.store.store import Store


class NotFoundError(FSQueueError):
    """The thing that the command is about does not exist."""


class Target(NamedTuple):
    """The application whose settings and spool a command uses."""

    app: FSQueue
    named: bool
    """Whether it is the user's application, with tasks, and not just a stand-in for a folder."""
    explicit: bool = False
    """Whether the command line names the shared directory, with ``--root``."""

    @property
    def root(self) -> str:
        """The shared directory."""
        from fsqueue.environment.machine import default_root

        return absolute(self.app.conf.root or default_root(self.app.app_id))

    @property
    def store(self) -> Store:
        """The spool, which must exist, with its clock synchronized.

        Raises:
            NotFoundError: there is no spool yet.
        """
        self._check_spool()
        store = self.app.store
        if store.clock.age == float("inf"):
            store.files.sync_clock()
        return store

    def look(self) -> Store:
        """The spool, for a command that only shows what is in it.

        If the configured root is not in use yet, it is shown as an empty spool, with a notice. The
        folder of ``--root`` must be a spool.

        Raises:
            NotFoundError: there is no spool in the folder of ``--root``.
        """
        if not self.explicit and not self._has_spool:
            _check_folder(self.root)
            _tell_unused(self.root)
            store = empty_store(self.root)
        else:
            self._check_spool()
            store = look_at(self.app)
        store.files.sync_clock()
        return store

    @property
    def _has_spool(self) -> bool:
        from fsqueue.spool.admin.snapshot import has_spool

        return has_spool(self.root)

    def _check_spool(self) -> None:
        if not self._has_spool:
            _check_folder(self.root)
            raise self._missing()

    def _missing(self) -> NotFoundError:
        from fsqueue.cli.finding.nearest_spool import nearest_spool
        from fsqueue.config import load_config

        root = self.root
        if not self.explicit:
            return NotFoundError(f"there is no spool in {root}: the first call or worker makes it")
        configured = load_config({}).root
        near = nearest_spool(root, None if configured is None else absolute(configured))
        if near is not None:
            return NotFoundError(f"there is no spool in {root}. Did you mean --root {near}?")
        return NotFoundError(
            f"there is no spool in {root}, nor near it. Name the right folder with --root."
        )


def _check_folder(root: str) -> None:
    """Refuse a root that the first call or worker could not make.

    Raises:
        ConfigError: it, or a folder above it, is something else than a folder.
    """
    for path in (root, *map(str, Path(root).parents)):
        if os.path.lexists(path):
            if not os.path.isdir(path):
                raise ConfigError(
                    f"cannot use {root} as the shared directory: {path} is not a folder"
                )
            return


@functools.cache  # a command may look several times
def _tell_unused(root: str) -> None:
    print_error(f"{root} is not in use yet: the first call or worker creates the spool there")


def empty_store(root: str) -> Store:
    """A handle on a spool that does not exist yet, which shows it as empty and writes nothing."""
    from fsqueue.spool.disk.looking import LookingFilesystem
    from fsqueue.spool.files.files import Files
    from fsqueue.spool.format.layout import Layout
    from fsqueue.spool.format.records import FORMAT, SpoolInfo
    from fsqueue.spool.store.store import Store

    info = SpoolInfo(format=FORMAT, id="", key="")
    return Store(Files(LookingFilesystem(), Layout(root), info, look=True))


def look_at(app: FSQueue) -> Store:
    """A handle on an application's spool, which must exist, that writes nothing."""
    return app._session.look()  # noqa: SLF001 - a program that only looks is a command


@contextlib.contextmanager
def open_target(app: str | None, root: Path | None) -> Iterator[Target]:
    """Find and close the target; an error in the block ends with a message and an exit code.

    Args:
        app: the option ``--app``.
        root: the option ``--root``.
    """
    with report_errors():
        target = find_target(app, root)
        try:
            yield target
        finally:
            target.app.close()


def find_target(app: str | None, root: Path | None) -> Target:
    """The target of a command.

    Without options, it is the application that `discovery` finds; else the configured shared
    directory.

    Raises:
        ConfigError: both options are given, or there is no target.
    """
    from fsqueue.app import FSQueue
    from fsqueue.cli.finding.discovery import make_importable, name_of_application
    from fsqueue.config import load_config

    if root is None:
        found = name_of_application(app)
        if not isinstance(found, ConfigError):
            return find_application(app)
        if load_config({}).root is None:
            raise ConfigError(f"{found} Or name a shared directory: --root DIR, or FSQUEUE__ROOT.")
    elif app is not None:
        raise ConfigError(f"give --app or --root, not both (here: {app} and {root})")
    make_importable()  # unpickling may need the modules
    return Target(FSQueue(root=root), named=False, explicit=root is not None)


def find_application(app: str | None) -> Target:
    """The target of a command that needs the application.

    If the command line does not name it, a terminal is told where it was found.

    Raises:
        ConfigError: there is none, or more than one.
    """
    from fsqueue.cli.finding.discovery import discover

    found = discover(app)
    if found.origin and sys.stderr.isatty():
        print_error(f"application {found.name}, {found.origin}")
    return Target(found.app, named=True)


@contextlib.contextmanager
def report_errors() -> Iterator[None]:
    """Report errors in the block as a message and an exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter("fsqueue: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        yield
    except (NotFoundError, UnknownInvocationError) as error:
        print_error(str(error))
        raise click.exceptions.Exit(exits.NOT_FOUND) from error
    except FSQueueError as error:
        print_error(str(error))
        raise click.exceptions.Exit(exits.USAGE) from error
    except BrokenPipeError:
        raise  # the reader has closed the pipe; the command line ends quietly
    except OSError as error:
        print_error(f"the shared directory fails: {error}. Is it mounted, and may you write there?")
        raise click.exceptions.Exit(exits.USAGE) from error


def find_queue(target: Target, store: Store, name: str) -> str:
    """The folder name of a queue, without profiles, from that name or from the queue's name alone.

    Raises:
        NotFoundError: no queue has this name, or several have it.
    """
    from fsqueue.spool.admin.snapshot import queue_names
    from fsqueue.spool.format.names import queue_folder, split_profile

    there = sorted({split_profile(folder)[0] for folder in queue_names(store)})
    if name in there:
        return name
    if target.named and queue_folder(target.app.app_id, name) in there:
        return queue_folder(target.app.app_id, name)
    found = [each for each in there if each.rpartition(".")[2] == name]
    if len(found) == 1 and not target.named:
        return found[0]
    raise NotFoundError(
        f"{store.layout.root} has no queue {name!r}, or several; there are: "
        f"{', '.join(there) or 'none'}"
    )


def check_id(text: str) -> tuple[str, int | None]:
    """Parse an id: the invocation whose file holds the call, and the call's place in a batch.

    Raises:
        ConfigError: the text is not an invocation id.
    """
    from fsqueue.spool.format.names import client_of, split_member

    carrier, member = split_member(text)
    try:
        client_of(carrier)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return carrier, member
