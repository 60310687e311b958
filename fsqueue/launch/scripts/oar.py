"""Scripts for OAR."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from fsqueue.common.values import format_clock
from fsqueue.launch.scripts.body import plain_body, quoted_body

if TYPE_CHECKING:
    from fsqueue.launch.scripts.body import Request

PREFIX: Final = "#OAR"
_USR2: Final = 12


def directives(request: Request) -> list[str]:
    """The directives, without ``#OAR``. OAR has no standard name for memory: use `options`."""
    profile = request.profile
    resources = f"/nodes={profile.nodes}/core={profile.cores}"
    if profile.gpus:
        resources = f"/nodes={profile.nodes}/gpu={profile.gpus}"
    before = math.ceil(profile.signal_before)
    lines = [
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
    return [line for line in lines if line]


def body(request: Request) -> list[str]:
    """The commands. OAR starts them on the first node only; oarsh reaches the others."""
    if request.profile.nodes == 1:
        return plain_body(request)
    return [
        f"body={quoted_body(request)}",
        # The warning reaches this shell only, which must outlive it: oarsh passes no signals on, so
        # the workers go by their own clocks.
        "trap : USR2",
        "trap 'kill $(jobs -p) 2>/dev/null' TERM INT",
        'mapfile -t nodes < <(sort -u "$OAR_NODEFILE")',
        'for node in "${nodes[@]}"; do',
        # As the input of bash it needs no quotes for whatever shell is there.
        '  oarsh "$node" /bin/bash -s <<<"$body" &',
        "done",
        'while [ -n "$(jobs -p -r)" ]; do wait; done',
    ]
