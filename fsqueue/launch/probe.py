"""Examines a compute node from inside a job: ``python -m fsqueue.launch.probe``.

``doctor --launch`` submits it. It writes what it finds into files of a folder in the spool. Then it
runs until it is killed, to see which signals arrive and when:

==========  ======================================================================================
``facts``   JSON, written once
``events``  a line for each signal, ``<name> <seconds since the epoch>``, and one ``beat`` each half
            second, so that the last one shows when the process was killed
==========  ======================================================================================
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import signal
import sys
import time
from typing import TYPE_CHECKING, Final

from fsqueue.runner.processes.job import find_end, job_of, this_host
from fsqueue.runner.processes.job_resources import cores_of, devices_of, memory_of

if TYPE_CHECKING:
    from collections.abc import Mapping

FACTS: Final = "facts"
EVENTS: Final = "events"
_BEAT: Final = 0.5
_SIGNALS: Final = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGXCPU,
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
)


def main(folder: str, application: str, program: str) -> None:
    """Write the facts, and then events until the process is killed.

    Args:
        folder: where the files go; it is below the spool's root.
        application: ``module:variable``, to be imported here.
        program: the command that submits jobs.
    """
    for number in _SIGNALS:
        signal.signal(number, lambda number, _: _write(folder, signal.Signals(number).name))
    facts = find_facts(application, program)
    with open(f"{folder}/{FACTS}.new", "w", encoding="utf-8") as file:
        json.dump(facts, file)
    os.rename(f"{folder}/{FACTS}.new", f"{folder}/{FACTS}")
    while os.path.isdir(folder):
        _write(folder, "beat")
        time.sleep(_BEAT)


def find_facts(application: str, program: str) -> Mapping[str, object]:
    """Facts about this node, this job and this interpreter."""
    host, environ = this_host(), os.environ
    job, end, devices = job_of(environ), find_end(environ, host), devices_of(environ)
    return {
        "node": host.node,
        "job": job and job.id,
        "python": platform.python_version(),
        "spool": _spool_id(environ["FSQUEUE__ROOT"]),
        "import": _import(application),
        "left": end and end.at - host.monotonic(),
        "source": end and end.source,
        "cores": cores_of(environ, host),
        "memory": memory_of(environ, host),
        "gpus": list(devices.names) if devices else [],
        "can_submit": shutil.which(program) is not None,
    }


def _spool_id(root: str) -> str:
    try:
        with open(f"{root}/spool.json", encoding="utf-8") as file:
            return str(json.load(file)["id"])
    except Exception as error:  # noqa: BLE001 - reported
        return f"{type(error).__name__}: {error}"


def _import(application: str) -> str:
    """An empty text if it can be imported; otherwise the reason."""
    module, _, variable = application.partition(":")
    sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), variable, None)
    except Exception as error:  # noqa: BLE001 - reported
        return f"{type(error).__name__}: {error}"
    return "" if found is not None else f"{module} has no {variable}"


def _write(folder: str, event: str) -> None:
    with open(f"{folder}/{EVENTS}", "a", encoding="ascii") as file:
        file.write(f"{event} {time.time():.2f}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
