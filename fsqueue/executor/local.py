"""Local workers that live as long as an executor."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from fsqueue.config import PREFIX, fields, load_config
from fsqueue.environment.machine import default_root
from fsqueue.executor.application import ByValue, release, share
from fsqueue.launch.handles import local_workers
from fsqueue.runner.host import EXECUTOR_APP

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsqueue.config import Options
    from fsqueue.launch.handles import LocalWorkers

_KIND = "local"


class Local:
    """Local workers of an executor.

    Args:
        app: the built-in application.
        slots: number of calls that they run at a time.
        folder: private folder, removed when they have left; empty if the root was configured.

    Attributes:
        app: as given.
        slots: as given.
        workers: one worker, which is replaced if it dies.
    """

    def __init__(self, app: ByValue, slots: int, folder: str) -> None:
        self._folder = folder
        self.app: ByValue = app
        self.slots: int = slots
        app.local = True
        options = {"--concurrency": slots, "--runner": "process"}
        self.workers: LocalWorkers = local_workers(app, 1, options, environ=_settings_of(app))

    def clean_up(self) -> None:
        """Leave the spool, and remove the private folder, after the workers have left."""
        release(self.app)
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def start_local(slots: int, root: str | os.PathLike[str] | None, options: Options) -> Local:
    """Start local workers.

    Without a configured root they use a private folder, since the workers of another program may
    lack what this one imports.
    """
    if root is not None or load_config({**options}).root is not None:
        return Local(share(root, options), slots, "")
    parent = str(default_root(EXECUTOR_APP).parent)
    os.makedirs(parent, mode=0o700, exist_ok=True)
    _remove_left_behind(parent)
    folder = tempfile.mkdtemp(prefix=f"{_KIND}-{os.getpid()}-", dir=parent)
    return Local(share(folder, options), slots, folder)


def _remove_left_behind(parent: str) -> None:
    """Remove the folders of processes that were killed."""
    for name in os.listdir(parent):
        kind, _, rest = name.partition("-")
        pid = rest.partition("-")[0]
        if kind == _KIND and pid.isdecimal() and not _exists(int(pid)):
            shutil.rmtree(f"{parent}/{name}", ignore_errors=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _settings_of(app: ByValue) -> Mapping[str, str]:
    """The settings that were given as arguments, for workers that are other processes."""
    return {
        f"{PREFIX}{name.upper()}": str(getattr(app.conf, name))
        for name in fields()
        if app.conf.source(name) == "argument" and name not in {"root", "runner", "concurrency"}
    }
