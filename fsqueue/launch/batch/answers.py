"""Requests to batch systems and their answers, in a form that all of them share."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from fsqueue.errors import FSQueueError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

State = Literal["waiting", "running", "ending", "ended"]
"""Some listings show ended jobs for some minutes."""

_NAME: Final = re.compile(r"fsq-[A-Za-z0-9_-]{1,64}-([a-z2-7]{4,16})", re.ASCII)


class BatchError(FSQueueError):
    """A command of the batch system failed."""


class RefusedError(BatchError):
    """The batch system refused a request, which therefore had no effect."""


class DoubtfulError(BatchError):
    """The answer to a request was lost or cannot be read; the request may have had its effect."""


class UnreadableError(BatchError):
    """The output of a command is truncated or has an unknown form."""


class Command(NamedTuple):
    """A command to run."""

    argv: tuple[str, ...]
    text: str = ""
    """Its standard input."""

    def __str__(self) -> str:
        shown = shlex.join(self.argv)
        return shown if len(shown) < 200 else f"{shown[:200]}..."  # noqa: PLR2004 - of a message


class Reply(NamedTuple):
    """The exit code and the output of a command."""

    code: int
    out: str
    err: str = ""


class Listed(NamedTuple):
    """A job in a listing."""

    id: str
    """The id that the cancel command takes."""
    name: str
    state: State
    reason: str = ""
    """Why it waits, or how it has ended, in the batch system's words."""
    start: str = ""
    """When it is expected to start, in the batch system's words; empty if that is not known."""

    @property
    def token(self) -> str:
        """The submission's token, the last part of the job's name."""
        match = _NAME.fullmatch(self.name)
        return match[1] if match else ""

    @property
    def number(self) -> int | None:
        """The job's number in its submission; None if the id does not contain it."""
        match = re.search(r"\[(\d+)\]|^\d+[._](\d+)$", self.id)
        return int(match[1] or match[2]) if match else None


def is_ours(name: str) -> bool:
    """Whether fsqueue gave a job this name."""
    return _NAME.fullmatch(name) is not None


def whole_lines(output: str) -> list[str]:
    """The lines of an output that ends with a line end.

    Raises:
        UnreadableError: it stops in the middle of a line.
    """
    if output and not output.endswith("\n"):
        raise UnreadableError(f"the output is truncated: it ends with {output[-60:]!r}")
    return output.splitlines()


def expand(numbers: str) -> Iterator[int]:
    """The numbers of ``1,3-5,7-11:2%4``, as arrays are listed; what follows ``%`` is a limit.

    Raises:
        UnreadableError: it has another form, as of a list that was cut off.
    """
    for part in numbers.partition("%")[0].split(","):
        match = re.fullmatch(r"(\d{1,7})(?:-(\d{1,7})(?::(\d{1,7}))?)?", part, re.ASCII)
        if match is None or match[3] == "0":
            raise UnreadableError(f"{numbers!r} is not a list of array elements")
        first = int(match[1])
        yield from range(first, int(match[2] or first) + 1, int(match[3] or 1))


def numbered(first: str, count: int, pattern: str) -> dict[int, str]:
    """Ids of a submission by number: one job's own id, or an array's made with `pattern`."""
    if count == 1:
        return {1: first}
    return {number: pattern.format(first, number) for number in range(1, count + 1)}


def last_id(output: str, pattern: re.Pattern[str]) -> re.Match[str]:
    """The last line that is an id. A site's plugins may print other lines before it.

    Raises:
        UnreadableError: there is none.
    """
    for line in reversed(output.splitlines()):
        if (match := pattern.fullmatch(line.strip())) is not None:
            return match
    raise UnreadableError(f"no job id in {output!r}")


def one_each(found: Sequence[str], count: int, output: str) -> dict[int, str]:
    """Ids of a submission by number, where each job has its own id.

    Raises:
        UnreadableError: there are more or fewer ids than jobs.
    """
    if len(found) != count:
        raise UnreadableError(f"{len(found)} job ids instead of {count} in {output!r}")
    return dict(enumerate(found, 1))


def directives_of(script: str, prefix: str) -> list[str]:
    """The directives in the first lines of a script, without their prefix."""
    found = []
    for line in script.splitlines()[1:]:
        if not line.startswith(f"{prefix} "):
            break
        found.append(line.removeprefix(prefix).strip())
    return found
