"""Which spool a command works on, and what it says when that goes wrong."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, NamedTuple

import click

from fsqueue.cli import exits
from fsqueue.cli.command import env
from fsqueue.cli.output import complain
from fsqueue.common.logs import TextFormatter
from fsqueue.environment.workdir import GONE, absolute, workdir
from fsqueue.errors import ConfigError, FSQueueError, UnknownInvocationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fsqueue.app import FSQueue
    from fsqueue.spool.store.store import Store


class NotFoundError(FSQueueError):
    """What the command was asked about does not exist."""


class Target(NamedTuple):
    """The application whose settings and spool count."""

    app: FSQueue
    named: bool
    """It is the user's, with tasks, and not one that only stands for a folder."""

    @property
    def root(self) -> str:
        """Its shared directory."""
        from fsqueue.config import default_root

        return absolute(self.app.conf.root or default_root(self.app.app_id))

    @property
    def store(self) -> Store:
        """Its spool, which must be there, with the file server's time.

        Raises:
            NotFoundError: nobody has used it yet.
        """
        from fsqueue.spool.admin.snapshot import has_spool

        if not has_spool(self.root):
            raise NotFoundError(
                f"there is no spool in {self.root}: the first call or worker makes it. Is it the "
                "right folder? Name another one with --root or FSQUEUE__ROOT."
            )
        store = self.app.store
        if store.clock.age == float("inf"):
            store.files.sync_clock()
        return store


@contextlib.contextmanager
def opened(app: str | None, root: Path | None) -> Iterator[Target]:
    """What the command works on; errors within the block end it with a message and exit code.

    Args:
        app: the option ``--app``.
        root: the option ``--root``.
    """
    with reporting():
        target = find_target(app, root)
        try:
            yield target
        finally:
            target.app.close()


def find_target(app: str | None, root: Path | None) -> Target:
    """The target of a command.

    Without options it is: what the configuration's file names as ``app``; the only application in
    the modules of the current folder; or else the configured shared directory.

    Raises:
        ConfigError: both are given, or none can be found.
    """
    from fsqueue.app import FSQueue
    from fsqueue.cli.discovery import find_app
    from fsqueue.cli.guess import applications_in
    from fsqueue.config import configured_application, load_config

    # As `python -m` does: the modules of the folder where the command is given come first. Also
    # for a value that is to be unpickled.
    here = workdir()
    if here is not None:
        sys.path.insert(0, str(here))
    if app is not None and root is not None:
        raise ConfigError(
            f"give --app or --root, not both (here: {app} and {root}; they may come from "
            f"{env('app')} and {env('root')})"
        )
    if root is not None:
        return Target(FSQueue(root=root), named=False)
    wanted = app or configured_application()
    if wanted:
        return Target(find_app(wanted), named=True)
    found = [] if here is None else applications_in(str(here))
    if len(found) == 1:
        return Target(find_app(found[0]), named=True)
    if load_config({}).root is not None:
        return Target(FSQueue(), named=False)
    there = f"{here} has several: {', '.join(found)}" if found else f"{here} has none"
    if here is None:
        there = GONE
    raise ConfigError(
        f"which application? {there}. Give --app MODULE:VARIABLE or --root DIR, set "
        "FSQUEUE__ROOT, or name it in the configuration: [tool.fsqueue] app = "
        '"module:variable".'
    )


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Turn the errors of the block into a message and an exit code."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter("fsqueue: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    try:
        yield
    except (NotFoundError, UnknownInvocationError) as error:
        complain(str(error))
        raise click.exceptions.Exit(exits.NOT_FOUND) from error
    except FSQueueError as error:
        complain(str(error))
        raise click.exceptions.Exit(exits.USAGE) from error
    except BrokenPipeError:
        raise  # whoever read the output has enough of it; the command line ends quietly
    except OSError as error:
        complain(f"the shared directory fails: {error}. Is it mounted, and may you write there?")
        raise click.exceptions.Exit(exits.USAGE) from error


def find_queue(target: Target, store: Store, name: str) -> str:
    """The folder name of a queue, without profiles, that is given by it, or by its name alone.

    Raises:
        NotFoundError: there is no such queue, or there are several.
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
        f"{store.layout.root} has no queue {name!r} that could be meant; there are: "
        f"{', '.join(there) or 'none'}"
    )


def check_id(text: str) -> tuple[str, int | None]:
    """The invocation whose file holds a call, and the call's place in it if it is a batch.

    Raises:
        ConfigError: not an invocation id.
    """
    from fsqueue.spool.format.names import client_of, split_member

    carrier, member = split_member(text)
    try:
        client_of(carrier)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    return carrier, member
