"""A batch system on PATH: one file that plays the commands of six.

It keeps its jobs in a file beside itself. They change their states as the test says, or with
`FAKEBATCH_RUN` they really run, one process each, with their system's signals and delays.

A small program under the names of all commands imports this file, which has to start quickly.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import signal
import sys
import time

COMMANDS = {
    "slurm": ("sbatch", "squeue", "scancel", "scontrol"),
    "pbs": ("qsub", "qselect", "qstat", "qdel"),
    "sge": ("qsub", "qstat", "qdel"),
    "lsf": ("bsub", "bjobs", "bkill"),
    "flux": ("flux",),
    "oar": ("oarsub", "oarstat", "oardel"),
}
# Seconds between the soft signal and SIGKILL, as fast as tests want it.
KILL_DELAY = 2.0
SOFT = {"slurm": signal.SIGTERM, "pbs": signal.SIGTERM, "sge": signal.SIGUSR2}


class Jobs:
    """The jobs, under a lock for the time of a `with` block."""

    def __init__(self, folder: str) -> None:
        self.path = f"{folder}/jobs.json"

    def __enter__(self) -> dict:
        self.file = open(self.path, "a+", encoding="utf-8")
        fcntl.flock(self.file, fcntl.LOCK_EX)
        self.file.seek(0)
        text = self.file.read()
        self.state = json.loads(text) if text else {"next": 100, "jobs": {}, "faults": {}}
        return self.state

    def __exit__(self, *_: object) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.file.write(json.dumps(self.state))
        self.file.close()


# -- submitting -----------------------------------------------------------------------------


def directives(script: str) -> str:
    lines = script.splitlines()[1:]
    return "\n".join(line for line in lines if line.startswith("#"))


def wanted(system: str, text: str) -> tuple[str, int]:
    """Name and number of the jobs of a submission."""
    names = {
        "slurm": r"--job-name=(\S+)",
        "pbs": r"-N (\S+)",
        "sge": r"-N (\S+)",
        "lsf": r'-J "([^\["]+)',
        "flux": r"--job-name=(\S+)",
        "oar": r"-n (\S+)",
    }
    counts = {
        "slurm": r"--array=1-(\d+)",
        "pbs": r"-J 1-(\d+)",
        "sge": r"-t 1-(\d+)",
        "lsf": r'-J "[^"]*\[1-(\d+)\]',
        "flux": r"--cc=1-(\d+)",
        "oar": r"--array (\d+)",
    }
    name, count = re.search(names[system], text), re.search(counts[system], text)
    return name[1] if name else "", int(count[1]) if count else 1


def limit_of(system: str, text: str) -> float:
    patterns = {
        "slurm": r"--time=(\d+):(\d+):(\d+)",
        "pbs": r"walltime=(\d+):(\d+):(\d+)",
        "sge": r"h_rt=(\d+):(\d+):(\d+)",
        "oar": r"walltime=(\d+):(\d+):(\d+)",
    }
    if system == "lsf":
        return 60.0 * int(re.search(r"-W (\d+)", text)[1])
    if system == "flux":
        return float(re.search(r"--time-limit=([\d.]+)s", text)[1])
    hours, minutes, seconds = map(int, re.search(patterns[system], text).groups())
    return 3600.0 * hours + 60 * minutes + seconds


def ids_of(system: str, first: int, count: int) -> list[str]:
    if system in {"flux", "oar"}:
        ids = [first + number for number in range(count)]
        return [f"f{to_base58(each)}" if system == "flux" else str(each) for each in ids]
    if count == 1:
        return [f"{first}.server" if system == "pbs" else str(first)]
    pattern = {"slurm": "{}_{}", "pbs": "{}[{}].server", "sge": "{}.{}", "lsf": "{}[{}]"}[system]
    return [pattern.format(first, number) for number in range(1, count + 1)]


def to_base58(number: int) -> str:
    alphabet, text = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz", ""
    while number:
        number, rest = divmod(number, 58)
        text = alphabet[rest] + text
    return text


def add_jobs(folder: str, system: str, text: str, script: str) -> tuple[list[str], int]:
    name, count = wanted(system, text)
    with Jobs(folder) as state:
        first = state["next"]
        state["next"] += count + 1
        ids = ids_of(system, first, count)
        for number, job_id in enumerate(ids, 1):
            state["jobs"][job_id] = {
                "system": system,
                "name": name,
                "number": number,
                "array": count > 1,
                "state": "held" if "-h" in text.split() else "waiting",
                "restarts": 0,
                "limit": limit_of(system, text),
            }
    if os.path.exists(f"{folder}/run"):
        for job_id in ids:
            start_running(folder, job_id, script)
    return ids, first


def submit(folder: str, system: str, text: str, script: str, fault: str) -> int:
    if fault == "refuse":
        print("error: Batch job submission failed: Invalid account", file=sys.stderr)
        return 1
    if fault == "no-answer":
        print("error: Unable to contact the controller (connect failure)", file=sys.stderr)
        return 1
    ids, first = add_jobs(folder, system, text, script)
    if fault == "lost":
        print("error: Batch job submission failed: Socket timed out", file=sys.stderr)
        return 1
    if fault == "garbage":
        print("welcome to the cluster")
        return 0
    print_submitted(system, ids, first)
    return 0


def print_submitted(system: str, ids: list[str], first: int) -> None:
    several = len(ids) > 1
    if system == "flux":
        print("\n".join(ids))
    elif system == "oar":
        print("Generate a job key...", *(f"OAR_JOB_ID={each}" for each in ids), sep="\n")
    elif system == "lsf":
        print(f"Job <{first}> is submitted to queue <standard>.")
    elif system == "pbs":
        print(f"{first}[].server" if several else f"{first}.server")
    elif system == "sge":
        print(f"{first}.1-{len(ids)}:1" if several else first)
    else:
        print(first)


# -- listing --------------------------------------------------------------------------------


def listing(system: str, jobs: dict) -> str:
    live = {job_id: job for job_id, job in jobs.items() if job["state"] != "ended"}
    lines = [LINES[system](job_id, job) for job_id, job in live.items()] if system in LINES else []
    if system == "slurm":
        return "".join(f"{line}\n" for line in lines)
    if system == "pbs":
        return "".join(lines)
    if system == "sge":
        return f"<?xml version='1.0'?>\n<job_info>{''.join(lines)}</job_info>\n"
    if system == "oar":
        states = {"waiting": "Waiting", "running": "Running"}
        shown = {
            job_id: {"name": job["name"], "state": states[job["state"]]}
            for job_id, job in live.items()
        }
        return json.dumps(shown) if shown else ""
    return "".join(f"{line}\n" for line in lines)


LINES = {
    "slurm": lambda job_id, job: "|".join(
        [job_id, "PENDING" if job["state"] == "waiting" else "RUNNING", "N/A", "None", job["name"]]
    ),
    "pbs": lambda job_id, job: (
        f"Job Id: {job_id}\n    Job_Name = {job['name']}\n"
        f"    job_state = { {'waiting': 'Q', 'held': 'H'}.get(job['state'], 'R') }\n\n"
    ),
    "sge": lambda job_id, job: (
        f"<job_list><JB_job_number>{job_id.partition('.')[0]}</JB_job_number>"
        f"<JB_name>{job['name']}</JB_name>"
        f"<state>{'qw' if job['state'] == 'waiting' else 'r'}</state>"
        f"<tasks>{job['number'] if job['array'] else ''}</tasks></job_list>"
    ),
    "lsf": lambda job_id, job: "|".join(
        [
            job_id.partition("[")[0],
            str(job["number"] if job["array"] else 0),
            "PEND" if job["state"] == "waiting" else "RUN",
            *("-", "-"),
            f"{job['name']}[{job['number']}]" if job["array"] else job["name"],
        ]
    ),
    "flux": lambda job_id, job: "|".join(
        [job_id, "SCHED" if job["state"] == "waiting" else "RUN", "-", job["name"]]
    ),
}


def show(folder: str, system: str, fault: str) -> int:
    with Jobs(folder) as state:
        jobs = {key: job for key, job in state["jobs"].items() if job["system"] == system}
    if fault == "fail":
        print("error: Unable to contact the controller", file=sys.stderr)
        return 1
    text = listing(system, jobs)
    if fault == "truncate" and len(text) > 1:
        text = text[: len(text) // 2].rstrip("\n")
    sys.stdout.write(text)
    return 0


# -- cancelling -----------------------------------------------------------------------------


def elements(jobs: dict, job_id: str) -> list[str]:
    """The jobs of an array of PBS, as `1234[].server` names them all; else the one job."""
    head, brackets, _ = job_id.partition("[]")
    return [each for each in jobs if each.startswith(f"{head}[")] if brackets else [job_id]


def cancel(folder: str, ids: list[str], *, waiting_only: bool) -> int:
    with Jobs(folder) as state:
        for job_id in [one for each in ids for one in elements(state["jobs"], each)]:
            job = state["jobs"].get(job_id)
            if job is None or (waiting_only and job["state"] != "waiting"):
                continue  # as scancel does with the raw id of an array's element
            if job.get("pid"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(job["pid"], signal.SIGUSR1)
            else:
                job["state"] = "ended"
    return 0


# -- running --------------------------------------------------------------------------------


def start_running(folder: str, job_id: str, script: str) -> None:
    path = f"{folder}/{re.sub('[^0-9A-Za-z]', '-', job_id)}.sh"
    with open(path, "w", encoding="utf-8") as file:
        file.write(script)
    program = os.path.join(folder, "fakebatch")
    import subprocess

    with open(os.devnull, "r+b") as null:
        subprocess.Popen(
            [sys.executable, "-IS", program, folder, job_id, path],
            stdin=null,
            stdout=null,
            stderr=null,
            start_new_session=True,
        )


def supervise(folder: str, job_id: str, path: str) -> int:
    """One job: its script runs, is warned and killed as its system does, and ends."""
    import subprocess

    cancelled = []
    signal.signal(signal.SIGUSR1, lambda *_: cancelled.append(1))
    with Jobs(folder) as state:
        job = state["jobs"][job_id]
        if job["state"] == "ended":
            return 0
        job["pid"], job["state"] = os.getpid(), "running"
    with open(f"{path}.log", "ab") as log:
        child = subprocess.Popen(
            ["/bin/bash", path],
            env=job_environment(job_id, job),
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        wait_for(child, job, cancelled)
    with Jobs(folder) as state:
        state["jobs"][job_id]["state"] = "ended"
        state["jobs"][job_id]["code"] = child.returncode
    return 0


def wait_for(child, job: dict, cancelled: list) -> None:
    end = time.monotonic() + job["limit"]
    killed_at = None
    while child.poll() is None:
        now = time.monotonic()
        if killed_at is None and (cancelled or now >= end):
            os.killpg(child.pid, SOFT.get(job["system"], signal.SIGTERM))
            killed_at = now + KILL_DELAY
        if killed_at is not None and now >= killed_at:
            os.killpg(child.pid, signal.SIGKILL)
        time.sleep(0.02)


def job_environment(job_id: str, job: dict) -> dict[str, str]:
    plain, number = re.match(r"f?\w+", job_id)[0].partition("_")[0], str(job["number"])
    array = job["array"]
    values = {
        "slurm": {"SLURM_JOB_ID": plain}
        | ({"SLURM_ARRAY_JOB_ID": plain, "SLURM_ARRAY_TASK_ID": number} if array else {}),
        "pbs": {"PBS_JOBID": job_id} | ({"PBS_ARRAY_INDEX": number} if array else {}),
        "sge": {"JOB_ID": plain, "SGE_TASK_ID": number if array else "undefined"},
        "lsf": {"LSB_JOBID": plain, "LSB_JOBINDEX": number if array else "0"},
        "flux": {"FLUX_JOB_ID": job_id} | ({"FLUX_JOB_CC": number} if array else {}),
        "oar": {"OAR_JOB_ID": job_id} | ({"OAR_ARRAY_INDEX": number} if array else {}),
    }
    return {**os.environ, **values[job["system"]]}


# -- the program ----------------------------------------------------------------------------


def next_fault(folder: str, kind: str) -> str:
    with Jobs(folder) as state:
        waiting = state["faults"].get(kind, [])
        return waiting.pop(0) if waiting else ""


def main(argv: list[str]) -> int:
    folder = os.path.dirname(os.path.abspath(argv[0]))
    name, rest = os.path.basename(argv[0]), argv[1:]
    if name == "fakebatch":
        return supervise(*rest)
    if name == "flux":
        name, rest = f"flux {rest[0]}", rest[1:]
    system = playing(folder)
    if name == "scontrol" or {"--test-only", "-w", "--dry-run"}.intersection(rest):
        print("KillWait                = 20 sec\nMaxArraySize            = 4")
        print("the script is accepted", file=sys.stderr)
        return 0
    if name in {"sbatch", "qsub", "bsub", "oarsub", "flux submit"}:
        by_arguments = system in {"flux", "oar"}
        script = rest[-1] if by_arguments else sys.stdin.read()
        text = " ".join(rest[:-1] if by_arguments else [directives(script), *rest])
        return submit(folder, system, text, script, next_fault(folder, "submit"))
    if name == "qselect":
        print("100.server")
        return 0
    if name in {"squeue", "qstat", "bjobs", "oarstat", "flux jobs"}:
        return show(folder, system, next_fault(folder, "list"))
    return cancel_all(folder, rest)


def cancel_all(folder: str, rest: list[str]) -> int:
    if next_fault(folder, "cancel") == "refuse":
        print("error: the server is down", file=sys.stderr)
        return 1
    ids = [each for each in rest if each not in {"-stat", "pend", "--state=PENDING"}]
    return cancel(folder, ids, waiting_only=len(ids) < len(rest))


def playing(folder: str) -> str:
    with open(f"{folder}/system", encoding="ascii") as file:
        return file.read()
