"""The interface of batch systems. Each of them is implemented by one module of this package.

The methods here suit most systems, which differ in attributes only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fsqueue.errors import ConfigError
from fsqueue.launch.batch.answers import Command
from fsqueue.launch.batch.request import check_request, plain_body

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from fsqueue.launch.batch.answers import Listed
    from fsqueue.launch.batch.request import Request


class BatchSystem:
    """A batch system's scripts, its commands as argument lists, and the parsers of their output."""

    prefix: str
    """Starts each directive of a script."""
    kill_delay: float
    """Seconds between the soft signal and SIGKILL, unless the site has another value."""
    longest_array: int = 1000
    """Jobs that one submission may have, unless the site has another value."""
    submit: tuple[str, ...]
    """Submits the script on its standard input; the batch system keeps a copy."""
    check: tuple[str, ...] = ()
    """Checks the script on its standard input; empty if the system only checks by submitting."""
    cancel: tuple[str, ...]
    """Cancels the jobs whose ids follow."""
    only_waiting: tuple[str, ...] = ()
    """Limits `cancel` to jobs that have not started; empty if the system has no such option."""

    # -- scripts --------------------------------------------------------------------------

    def script(self, request: Request) -> str:
        """The script of a submission.

        Raises:
            ConfigError: the profile, or a path, cannot be written as a script of this batch system.
        """
        check_request(request)
        ours = _without_removed(request, [each for each in self.directives(request) if each])
        lines = [f"{self.prefix} {each}" for each in ours]
        body = plain_body(request) if request.profile.nodes == 1 else self.body_of_nodes(request)
        return "\n".join(["#!/bin/bash", *lines, *body, ""])

    def directives(self, request: Request) -> Sequence[str]:
        """The directives, without the prefix; empty ones are left out."""
        raise NotImplementedError

    def body_of_nodes(self, request: Request) -> Sequence[str]:
        """The commands of a job of several nodes, where the system does not start them on each."""
        return plain_body(request)

    # -- commands and answers -------------------------------------------------------------

    def submission(self, script: str) -> Command:
        """Submit a script."""
        return Command(self.submit, script)

    def submitted(self, output: str, count: int) -> Mapping[int, str]:
        """Ids of the jobs of a submission, by their numbers from 1.

        Raises:
            UnreadableError: there is no id in it.
        """
        raise NotImplementedError

    def verdict(self, script: str) -> Command | None:
        """Let the batch system check a script without submitting it; None where it cannot."""
        return Command(self.check, script) if self.check else None

    def listing(self, user: str) -> Command:
        """List a user's jobs that have not ended, each element of an array by itself."""
        raise NotImplementedError

    def listed(self, output: str) -> Sequence[Listed]:
        """The jobs of a listing that were named by fsqueue.

        Raises:
            UnreadableError: it is truncated or has another form.
        """
        raise NotImplementedError

    def cancellation(self, ids: Sequence[str], *, waiting_only: bool) -> Command:
        """Cancel jobs; only those that have not started, where the system can tell them apart."""
        return Command((*self.cancel, *(self.only_waiting if waiting_only else ()), *ids))

    def site(self) -> Command | None:
        """Show the site's settings; None where the system has no command for that."""
        return None

    def limits(self, settings: str) -> tuple[float, int]:
        """Kill delay and longest array: the site's settings, or else the defaults."""
        del settings
        return self.kill_delay, self.longest_array


def _without_removed(request: Request, ours: list[str]) -> list[str]:
    """Our directives without those that an option "!..." removes, followed by the raw options."""
    raw = [*request.profile.options, *request.options]
    for option in raw:
        if option.startswith("!"):
            removed = option[1:].strip()
            kept = [each for each in ours if not _is_of(each, removed)]
            if len(kept) == len(ours):
                raise ConfigError(
                    f"launch.{request.fleet}: options: {option!r} removes nothing; the directives "
                    f"are: {', '.join(ours)}"
                )
            ours = kept
    return [*ours, *(option for option in raw if not option.startswith("!"))]


def _is_of(directive: str, flag: str) -> bool:
    """Whether a directive begins with a flag, and not with a longer one."""
    return directive == flag or directive.startswith((f"{flag} ", f"{flag}="))
