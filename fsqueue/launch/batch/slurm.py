"""Slurm: sbatch, squeue, scancel."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Final

from fsqueue.common.values import format_clock
from fsqueue.launch.batch.answers import (
    Command,
    Listed,
    UnreadableError,
    expand,
    is_ours,
    last_id,
    numbered,
    whole_lines,
)
from fsqueue.launch.batch.request import preparation, worker
from fsqueue.launch.batch.system import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.launch.batch.answers import State
    from fsqueue.launch.batch.request import Request

_PARSABLE = re.compile(r"(\d{1,12})(?:;\S+)?", re.ASCII)
_ID = re.compile(r"\d{1,12}(?:_(?:\d{1,7}|\[[^\]|]*\]?))?", re.ASCII)
_WAITING = frozenset({"PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT"})
_ENDING = frozenset({"COMPLETING", "STAGE_OUT", "SIGNALING"})
_ENDED = frozenset(
    {
        *("COMPLETED", "CANCELLED", "FAILED", "TIMEOUT", "NODE_FAIL", "BOOT_FAIL"),
        *("OUT_OF_MEMORY", "DEADLINE", "PREEMPTED", "REVOKED"),
    }
)
# If one worker is killed, those on the other nodes go on.
_ON_EACH_NODE: Final = "srun --kill-on-bad-exit=0 --wait=0 --input=none"


class Slurm(BatchSystem):
    """Slurm."""

    prefix = "#SBATCH"
    kill_delay: float = 30.0
    longest_array = 1000  # MaxArraySize is 1001 unless set, and counts element 0
    submit: tuple[str, ...] = ("sbatch", "--parsable")
    # The answer also contains the expected start of the job.
    check: tuple[str, ...] = ("sbatch", "--test-only")
    # Takes ``1234_7``; ignores an element's raw id, but exits with code 0.
    cancel: tuple[str, ...] = ("scancel",)
    only_waiting: tuple[str, ...] = ("--state=PENDING",)

    def directives(self, request: Request) -> list[str]:
        """The directives, without ``#SBATCH``."""
        profile = request.profile
        several = profile.nodes > 1
        # B: only the batch shell gets the signal. The worker has replaced it; with several nodes,
        # srun has, and passes the signal on.
        return [
            f"--job-name={request.name}",
            f"--comment=fsqueue:{request.fleet}:{request.token}",
            f"--array=1-{request.count}" if request.count > 1 else "",
            f"--nodes={profile.nodes}",
            "--ntasks-per-node=1" if several else "--ntasks=1",
            f"--cpus-per-task={profile.cores}",
            f"--mem={request.memory}M" if profile.memory else "",
            f"--gres=gpu:{profile.gpus}" if profile.gpus else "",
            f"--time={format_clock(profile.walltime)}",
            f"--partition={profile.batch_queue}" if profile.batch_queue else "",
            f"--account={profile.account}" if profile.account else "",
            f"--signal=B:USR2@{math.ceil(profile.signal_before)}" if profile.signal_before else "",
            "--requeue" if profile.requeue else "--no-requeue",
            "--open-mode=append",
            f"--output={request.logs}/{'%A_%a' if request.count > 1 else '%j'}.log",
        ]

    def body_of_nodes(self, request: Request) -> list[str]:
        """``srun`` starts a worker on each node."""
        # srun ignores the job's own number of cores: without this, its steps get one core each.
        cores = f"export SRUN_CPUS_PER_TASK={request.profile.cores}"
        return [*preparation(request), cores, worker(request, _ON_EACH_NODE)]

    def submitted(self, output: str, count: int) -> Mapping[int, str]:
        """``1234`` or ``1234;cluster``, after whatever the site's plugins print."""
        return numbered(last_id(output, _PARSABLE)[1], count, "{}_{}")

    def listing(self, user: str) -> Command:
        """List jobs, with those that ended minutes ago; names last, as they may have separators."""
        return Command(("squeue", "-h", "-r", "-t", "all", "-u", user, "-o", "%i|%T|%S|%r|%j"))

    def listed(self, output: str) -> Sequence[Listed]:
        """Lines of other forms are messages, unless they name a job of fsqueue."""
        return [job for line in whole_lines(output) for job in _of_line(line)]

    def site(self) -> Command:
        """Show the site's settings."""
        return Command(("scontrol", "show", "config"))

    def limits(self, settings: str) -> tuple[float, int]:
        """The values of KillWait and MaxArraySize."""
        delay = re.search(r"^KillWait\s*=\s*(\d+) sec", settings, re.MULTILINE)
        size = re.search(r"^MaxArraySize\s*=\s*(\d+)", settings, re.MULTILINE)
        return (
            float(delay[1]) if delay else self.kill_delay,
            max(1, int(size[1]) - 1) if size else self.longest_array,
        )


def _of_line(line: str) -> Iterator[Listed]:
    fields = line.split("|", 4)
    name = fields[-1].strip()
    if not is_ours(name):
        return
    if len(fields) < 5 or not _ID.fullmatch(fields[0]):  # noqa: PLR2004 - those of `listing`
        raise UnreadableError(f"squeue: cannot read {line!r}")
    job_id, state, start, reason, _ = fields
    if state in _ENDED:
        reason = state
    start = "" if start in {"N/A", "NONE", ""} else start
    for each in _elements(job_id):
        yield Listed(each, name, _state(state), reason if reason != "None" else "", start)


def _elements(job_id: str) -> Iterator[str]:
    """The ids in a line. Without -r, waiting elements share one line: ``1234_[3-10%4]``."""
    array, bracket, numbers = job_id.partition("_[")
    if not bracket:
        yield job_id
        return
    if not numbers.endswith("]") or "..." in numbers:
        raise UnreadableError(f"squeue: {job_id!r} was cut off")
    for number in expand(numbers[:-1]):
        yield f"{array}_{number}"


def _state(text: str) -> State:
    if text in _WAITING:
        return "waiting"
    if text in _ENDED:
        return "ended"
    return "ending" if text in _ENDING else "running"
