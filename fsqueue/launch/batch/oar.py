"""OAR: oarsub, oarstat, oardel."""

from __future__ import annotations

import math
import re
import shlex
from typing import TYPE_CHECKING, Any, Final

import msgspec

from fsqueue.common.values import format_clock
from fsqueue.launch.batch.answers import (
    Command,
    Listed,
    UnreadableError,
    directives_of,
    is_ours,
    one_each,
)
from fsqueue.launch.batch.request import quoted_body
from fsqueue.launch.batch.system import BatchSystem

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fsqueue.launch.batch.answers import State
    from fsqueue.launch.batch.request import Request

_SUBMITTED = re.compile(r"^OAR_JOB_ID=(\d{1,12})\s*$", re.MULTILINE | re.ASCII)
_WAITING = frozenset({"Waiting", "Hold", "toLaunch", "toAckReservation"})
_ENDED = frozenset({"Terminated", "Error"})
_USR2: Final = 12


class Oar(BatchSystem):
    """OAR, whose jobs each have an id of their own."""

    prefix = "#OAR"
    kill_delay: float = 10.0
    cancel: tuple[str, ...] = ("oardel",)

    def directives(self, request: Request) -> list[str]:
        """The directives, without ``#OAR``. OAR has no standard name for memory: use `options`."""
        profile = request.profile
        resources = f"/nodes={profile.nodes}/core={profile.cores}"
        if profile.gpus:
            resources = f"/nodes={profile.nodes}/gpu={profile.gpus}"
        before = math.ceil(profile.signal_before)
        return [
            f"-n {request.name}",
            f"--array {request.count}" if request.count > 1 else "",
            f"-l {resources},walltime={format_clock(profile.walltime)}",
            f"-q {profile.batch_queue}" if profile.batch_queue else "",
            f"--project {profile.account}" if profile.account else "",
            f"--checkpoint {before}" if before else "",
            f"--signal {_USR2}" if before else "",
            "-t idempotent" if profile.requeue else "",
            f"-O {request.logs}/%jobid%.log",
            f"-E {request.logs}/%jobid%.log",
        ]

    def body_of_nodes(self, request: Request) -> list[str]:
        """The commands. OAR starts them on the first node only; oarsh reaches the others."""
        return [
            f"body={quoted_body(request)}",
            # Only this shell gets the warning signal, and must survive it. oarsh passes no signals
            # on, so the workers know the end by their own clocks.
            "trap : USR2",
            "trap 'kill $(jobs -p) 2>/dev/null' TERM INT",
            'mapfile -t nodes < <(sort -u "$OAR_NODEFILE")',
            'for node in "${nodes[@]}"; do',
            # As standard input of bash, the script needs no quoting for the remote login shell.
            '  oarsh "$node" /bin/bash -s <<<"$body" &',
            "done",
            'while [ -n "$(jobs -p -r)" ]; do wait; done',
        ]

    def submission(self, script: str) -> Command:
        """Pass the directives as arguments: with -S, OAR would run the script from its path."""
        options = [
            word for each in directives_of(script, self.prefix) for word in each.split(" ", 1)
        ]
        return Command(("oarsub", *options, shlex.join(("/bin/bash", "-c", script))))

    def submitted(self, output: str, count: int) -> Mapping[int, str]:
        """``OAR_JOB_ID=1234``, once for each job of an array."""
        return one_each(_SUBMITTED.findall(output), count, output)

    def listing(self, user: str) -> Command:
        """List jobs as JSON, since tables cut names off."""
        return Command(("oarstat", "-u", user, "-J"))

    def listed(self, output: str) -> Sequence[Listed]:
        """A JSON object with a member for each job; no output at all without jobs."""
        if not output.strip():
            return []
        try:
            jobs = msgspec.json.decode(output[max(0, output.find("{")) :], type=dict[str, Any])
        except (msgspec.MsgspecError, RecursionError) as error:
            raise UnreadableError(
                f"oarstat: the output is truncated or not JSON: {error}"
            ) from error
        return [job for job_id, values in jobs.items() for job in _of_job(job_id, values)]


def _of_job(job_id: str, values: Any) -> Iterator[Listed]:
    if not isinstance(values, dict):
        raise UnreadableError(f"oarstat: job {job_id} is {values!r}")
    name, state = str(values.get("name") or ""), str(values.get("state") or "")
    if not is_ours(name) or state in _ENDED:
        return
    if not state:
        raise UnreadableError(f"oarstat: job {job_id} has no state")
    yield Listed(job_id, name, _state(state), str(values.get("message") or ""))


def _state(text: str) -> State:
    if text in _WAITING:
        return "waiting"
    return "ending" if text == "Finishing" else "running"
