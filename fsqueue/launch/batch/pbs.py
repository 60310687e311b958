"""PBS Pro and OpenPBS: qsub, qselect and qstat, qdel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from fsqueue.common.values import format_clock
from fsqueue.launch.batch.answers import (
    Command,
    Listed,
    UnreadableError,
    is_ours,
    whole_lines,
)
from fsqueue.launch.batch.request import NAME_PREFIX, quoted_body
from fsqueue.launch.batch.system import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.launch.batch.answers import State
    from fsqueue.launch.batch.request import Request

_ID = re.compile(r"(\d{1,12})(\[\])?(\.\S+)?", re.ASCII)
_ARRAY = re.compile(r"\d{1,12}\[\](\.\S+)?", re.ASCII)
_BLOCK = "Job Id: "
_STATES: Final[Mapping[str, State]] = {
    **dict.fromkeys("QHWTU", "waiting"),
    **dict.fromkeys("RSB", "running"),
    "E": "ending",
}
# PBS can only check a script by accepting it. So the job is submitted with a hold, which keeps it
# from starting, and then deleted.
_CHECK = """trap '' HUP INT TERM
id=$(qsub -h) || exit
qdel "$id" || { echo "the job $id of this check is held: delete it by qdel '$id'" >&2; exit 1; }
echo "the script is accepted: $id was submitted with a hold, and deleted"
"""
# Tables cut names off, so this reads the long form, for the jobs of one user, which qselect finds.
_LIST = 'ids=$(qselect -u "$1") || exit; [ -z "$ids" ] || exec qstat -f -t $ids'
# Older versions refuse names of more than 15 characters.
_LONGEST_NAME: Final = 15


class Pbs(BatchSystem):
    """PBS Pro and OpenPBS."""

    prefix = "#PBS"
    kill_delay: float = 10.0
    longest_array = 10_000
    submit: tuple[str, ...] = ("qsub",)
    # If it is killed between the two commands, a held job remains, which never starts.
    check: tuple[str, ...] = ("/bin/sh", "-c", _CHECK)
    cancel: tuple[str, ...] = ("qdel",)  # running jobs get SIGTERM

    def directives(self, request: Request) -> list[str]:
        """The directives, without ``#PBS``."""
        profile = request.profile
        chunk = [f"ncpus={profile.cores}"]
        chunk += [f"mem={request.memory}mb"] if profile.memory else []
        chunk += [f"ngpus={profile.gpus}"] if profile.gpus else []
        # pbsdsh must find one entry for each node in its list, and no two chunks share a node.
        chunk += ["mpiprocs=1"] if profile.nodes > 1 else []
        return [
            f"-N {_name(request)}",
            f"-J 1-{request.count}" if request.count > 1 else "",
            f"-l select={profile.nodes}:{':'.join(chunk)}",
            "-l place=scatter" if profile.nodes > 1 else "",
            f"-l walltime={format_clock(profile.walltime)}",
            f"-q {profile.batch_queue}" if profile.batch_queue else "",
            f"-A {profile.account}" if profile.account else "",
            "-j oe",
            f"-o {request.logs}/",
            "-r y" if profile.requeue else "-r n",
        ]

    def body_of_nodes(self, request: Request) -> list[str]:
        """The commands."""
        return [f"exec pbsdsh -- /bin/bash -c {quoted_body(request)} </dev/null"]

    def submitted(self, output: str, count: int) -> Mapping[int, str]:
        """``1234.server``, or ``1234[].server`` for an array."""
        for line in reversed(output.splitlines()):
            match = _ID.fullmatch(line.strip())
            if match is not None and bool(match[2]) == (count > 1):
                server = match[3] or ""
                if count == 1:
                    return {1: f"{match[1]}{server}"}
                return {number: f"{match[1]}[{number}]{server}" for number in range(1, count + 1)}
        raise UnreadableError(f"no job id in {output!r}")

    def listing(self, user: str) -> Command:
        """List each element of an array."""
        return Command(("/bin/sh", "-c", _LIST, "sh", user))

    def listed(self, output: str) -> Sequence[Listed]:
        """Blocks of attributes; a long value continues on the next line, after a tab."""
        lines = whole_lines(output)
        if lines and lines[-1].strip():
            raise UnreadableError(f"the output is truncated: it ends with {lines[-1]!r}")
        text = "\n".join(lines).replace("\n\t", "")
        return [job for block in text.split(f"\n{_BLOCK}") for job in _of_block(block)]


def _of_block(block: str) -> Iterator[Listed]:
    job_id = block.strip().removeprefix(_BLOCK).partition("\n")[0].strip()
    pairs = re.findall(r"^\s+(\S+) = (.*)$", block, re.MULTILINE)
    values = dict(pairs)
    name, state = values.get("Job_Name", ""), values.get("job_state", "")
    # An array is listed along with its elements, but is not a job itself.
    if not is_ours(name) or _ARRAY.fullmatch(job_id):
        return
    if not job_id or not state:
        raise UnreadableError(f"qstat: a job without id or state: {block[:200]!r}")
    if state in _STATES:
        yield Listed(
            job_id,
            name,
            _STATES[state],
            values.get("comment", ""),
            values.get("estimated.start_time", ""),
        )


def _name(request: Request) -> str:
    """The job's name. It ends with the token, by which jobs are found again."""
    room = _LONGEST_NAME - len(f"{NAME_PREFIX}--{request.token}")
    return f"{NAME_PREFIX}-{request.fleet[: max(1, room)]}-{request.token}"
