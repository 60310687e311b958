"""A submission, and the part of its script that is the same for all systems: the worker."""

from __future__ import annotations

import math
import re
import shlex
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from fsqueue.common.values import format_duration
from fsqueue.errors import ConfigError
from fsqueue.runner.processes.job import FLEET, NODE, TOKEN, UNTIL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fsqueue.launch.profiles import Profile

MEBIBYTE: Final = 1 << 20
NAME_PREFIX: Final = "fsq"
# Characters that no batch system interprets in a log's path. Others may denote hosts or patterns.
_PLAIN_PATH: Final = re.compile(r"/[A-Za-z0-9_./+~-]*", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One submission: a job, or an array of identical jobs.

    Args:
        profile: what a job asks for.
        fleet: name of the profile.
        application: ``module:variable``, as the worker imports it in `folder`.
        root: absolute path of the spool.
        folder: absolute path of the folder in which the worker starts.
        token: names this submission.
        count: number of jobs; several are an array.
        stop_grace: seconds that bodies have after a signal; less than the site's kill delay.
        settings: environment variables that the worker also needs, such as FSQUEUE__GROUP.
        options: raw directives of the command line, put after those of the profile.
        python: the interpreter, if the profile has none.
        module: a module and its arguments, which the job runs instead of a worker.
    """

    profile: Profile
    fleet: str
    application: str
    root: str
    folder: str
    token: str
    count: int = 1
    stop_grace: float = 25.0
    settings: Mapping[str, str] = field(default_factory=dict)
    options: tuple[str, ...] = ()
    python: str = sys.executable
    module: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The jobs' name in the batch system; it ends with the token."""
        return f"{NAME_PREFIX}-{self.fleet}-{self.token}"

    @property
    def logs(self) -> str:
        """Folder of the jobs' logs, which must exist before a job starts."""
        return f"{self.root}/fleet/{self.fleet}/logs"

    @property
    def memory(self) -> int:
        """Memory of a job on each node, in MiB."""
        return math.ceil(self.profile.memory / MEBIBYTE)


def check_request(request: Request) -> None:
    """Refuse values that cannot be written into a script.

    Raises:
        ConfigError: there is one; the message names it.
    """
    if not _PLAIN_PATH.fullmatch(request.root):
        raise ConfigError(
            f"root = {request.root!r}: batch systems write the jobs' logs there, and misread paths "
            "with characters other than letters, digits and _./+~-. Use another folder."
        )
    for name, text in (("application", request.application), ("folder", request.folder)):
        if set(text) & set("\0\n\r"):
            raise ConfigError(f"{name} = {text!r}: expected a single line")
    for option in request.options:
        if not option.strip() or set(option) & set("\0\n\r"):
            raise ConfigError(f"option {option!r}: expected a single line that is not empty")


def preparation(request: Request) -> list[str]:
    """All lines before the worker's. The job's end is computed first: set-up can take minutes."""
    exports = {
        FLEET: request.fleet,
        TOKEN: request.token,
        "FSQUEUE__ROOT": request.root,
        "FSQUEUE__STOP_GRACE": f"{request.stop_grace:g}",
        **request.settings,
        **request.profile.env,
    }
    return [
        f"export {UNTIL}=$(( $(date +%s) + {math.floor(request.profile.walltime)} ))",
        f"{NODE}=$(uname -n) && export {NODE}",
        *(f"export {name}={shlex.quote(value)}" for name, value in exports.items()),
        f"cd {shlex.quote(request.folder)} || exit 1",
        *request.profile.setup,
    ]


def worker(request: Request, before: str = "") -> str:
    """The last line: the worker replaces the shell, so that signals reach it.

    Its standard input is redirected, because PBS feeds the script through it.

    Args:
        request: the submission.
        before: starts the worker on each node of the job.
    """
    profile = request.profile
    words = [profile.python or request.python, "-m", *(request.module or _worker_words(request))]
    parts = ["exec", before, profile.wrap, shlex.join(words), "</dev/null"]
    return " ".join(part for part in parts if part)


def _worker_words(request: Request) -> list[str]:
    profile = request.profile
    return [
        *("fsqueue", "worker", request.application),
        *("--runner", profile.runner, "--concurrency", "cores"),
        *(word for queue in profile.queues for word in ("--queue", queue)),
        *(("--resource", f"mem={request.memory}M") if request.memory else ()),
        *("--time-limit", "auto", "--idle-timeout", format_duration(profile.idle_timeout)),
        *("--gpus", "auto"),
    ]


def plain_body(request: Request) -> list[str]:
    """The body of a job on one node."""
    return [*preparation(request), worker(request)]


def quoted_body(request: Request) -> str:
    """The body as one argument of ``bash -c``, to be run on each node of a job.

    Each node then notes the end by its own clock.
    """
    return shlex.quote("\n".join(plain_body(request)))
