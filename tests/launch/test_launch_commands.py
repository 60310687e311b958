"""What batch systems print, as recorded or as their manuals show it, and what is read from it."""

from __future__ import annotations

import os

import pytest
from fake_cluster import FakeBatch
from fakebatch import COMMANDS
from test_launch_scripts import request_of

from fsqueue.launch.batch import (
    Command,
    DoubtfulError,
    RefusedError,
    Reply,
    UnreadableError,
    batch_system,
    list_jobs,
    outer_job_removed,
    run,
    script_of,
    submit,
)

SYSTEMS = tuple(COMMANDS)
NAME = "fsq-cpu-k7f3q2"


def jobs(system: str, output: str) -> list[tuple]:
    return [(job.id, job.state, job.number) for job in batch_system(system).listed(output)]


# -- submitting ---------------------------------------------------------------------------------

WARNED = "sbatch: lua: your quota is low\n\n"


@pytest.mark.parametrize(
    ("system", "output", "count", "ids"),
    [
        ("slurm", "1234\n", 1, ["1234"]),
        ("slurm", "1234;cluster2\n", 1, ["1234"]),
        ("slurm", f"{WARNED}1234\n", 2, ["1234_1", "1234_2"]),
        ("pbs", "1234.pbs01.site\n", 1, ["1234.pbs01.site"]),
        ("pbs", "qsub: warning\n1234[].pbs01\n", 2, ["1234[1].pbs01", "1234[2].pbs01"]),
        ("sge", "1234\n", 1, ["1234"]),
        ("sge", "Unable to read script\n1234.1-2:1\n", 2, ["1234.1", "1234.2"]),
        ("lsf", "Job <1234> is submitted to default queue <normal>.\n", 1, ["1234"]),
        ("lsf", "Hi!\nJob <9> is submitted to queue <x>.\n", 2, ["9[1]", "9[2]"]),
        ("flux", "f2jKmA\n", 1, ["f2jKmA"]),
        ("flux", "\N{LATIN SMALL LETTER F WITH HOOK}2jK\nf2jL\n", 2, ["\u01922jK", "f2jL"]),
        ("oar", "[ADMISSION RULE] ok\nOAR_JOB_ID=31\n", 1, ["31"]),
        ("oar", "OAR_JOB_ID=31\nOAR_JOB_ID=32\nOAR_ARRAY_ID=31\n", 2, ["31", "32"]),
    ],
)
def test_ids_are_read_from_behind_warnings_as_the_cancel_command_takes_them(
    system, output, count, ids
):
    assert batch_system(system).submitted(output, count) == dict(enumerate(ids, 1))


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("output", ["", "welcome\n", "12 jobs are waiting\n", "OAR_JOB_ID=\n"])
def test_an_output_without_an_id_is_no_success(system, output):
    with pytest.raises(UnreadableError, match="job id"):
        batch_system(system).submitted(output, 1)


# -- listing ------------------------------------------------------------------------------------


def test_slurm_lists_elements_of_arrays_also_in_brackets():
    output = (
        "slurm_load_jobs: this is a message\n"
        f"1234_1|RUNNING|2026-01-01T10:00:00|None|{NAME}\n"
        f"1234_2|COMPLETING|N/A|None|{NAME}\n"
        f"1234_[3-4,7-11:2%4]|PENDING|2026-01-01T14:20:00|Priority|{NAME}\n"
        f"1300|CONFIGURING|N/A|None|{NAME}\n"
        f"1301|REQUEUED|N/A|BeginTime|{NAME}\n"
        f"1302|CANCELLED|N/A|None|{NAME}\n"
        "1303|PENDING|N/A|Priority|somebody's | own job\n"
    )
    assert jobs("slurm", output) == [
        ("1234_1", "running", 1),
        ("1234_2", "ending", 2),
        *((f"1234_{number}", "waiting", number) for number in (3, 4, 7, 9, 11)),
        ("1300", "running", None),
        ("1301", "waiting", None),
        ("1302", "ended", None),
    ]
    waiting = batch_system("slurm").listed(output)[2]
    assert (waiting.reason, waiting.start, waiting.token) == (
        "Priority",
        "2026-01-01T14:20:00",
        "k7f3q2",
    )


def test_pbs_lists_elements_and_not_the_array_itself():
    output = f"""Job Id: 1234[].pbs01
    Job_Name = {NAME}
    job_state = B

Job Id: 1234[1].pbs01
    Job_Name = {NAME}
    job_state = R
    comment = Job run at Thu Jan 01 at 10:00 on (node1:ncpus=16) and a line th
\tat goes on

Job Id: 1234[2].pbs01
    Job_Name = {NAME}
    job_state = Q

Job Id: 1235.pbs01
    Job_Name = fsq-c-k7f3q3
    job_state = E

Job Id: 1236.pbs01
    Job_Name = other
    job_state = R

Job Id: 1234[3].pbs01
    Job_Name = {NAME}
    job_state = X

"""
    assert jobs("pbs", output) == [
        ("1234[1].pbs01", "running", 1),
        ("1234[2].pbs01", "waiting", 2),
        ("1235.pbs01", "ending", None),
    ]


def test_grid_engine_lists_elements_and_ranges():
    def job(number, state, tasks=""):
        return (
            f"<job_list state='x'><JB_job_number>{number}</JB_job_number><JB_name>{NAME}</JB_name>"
            f"<state>{state}</state>{tasks and f'<tasks>{tasks}</tasks>'}</job_list>"
        )

    output = (
        "a message of the site\n<?xml version='1.0'?>\n<job_info><queue_info>"
        f"{job(5, 'r', 1)}{job(5, 'dr', 2)}</queue_info><job_info>{job(5, 'qw', '3-5:2')}"
        f"{job(6, 'hqw')}{job(7, 'Eqw')}{job(8, 't')}{job(9, 'Rr')}"
        "<job_list><JB_job_number>10</JB_job_number><JB_name>x</JB_name><state>r</state></job_list>"
        "</job_info></job_info>\n"
    )
    assert jobs("sge", output) == [
        ("5.1", "running", 1),
        ("5.2", "ending", 2),
        ("5.3", "waiting", 3),
        ("5.5", "waiting", 5),
        ("6", "waiting", None),
        ("7", "waiting", None),
        ("8", "running", None),
        ("9", "running", None),
    ]
    assert "last start failed" in batch_system("sge").listed(output)[5].reason


def test_lsf_lists_elements():
    output = (
        f"1234|1|RUN|-|-|{NAME}[1]\n"
        f"1234|2|PEND|Jan 1 14:20|Job slot limit|{NAME}[2]\n"
        f"1235|0|SSUSP|-|-|{NAME}\n"
        f"1236|0|DONE|-|-|{NAME}\n"
        "1237|0|RUN|-|-|somebody's own\n"
    )
    assert jobs("lsf", output) == [
        ("1234[1]", "running", 1),
        ("1234[2]", "waiting", 2),
        ("1235", "running", None),
    ]


def test_flux_and_oar_list_jobs_with_ids_of_their_own():
    output = f"f2jK|SCHED|1700000000|{NAME}\nf2jL|RUN|-|{NAME}\nf2jM|CLEANUP|-|{NAME}\nf2|RUN|-|x\n"
    assert [state for _, state, _ in jobs("flux", output)] == ["waiting", "running", "ending"]
    output = (
        f'{{"31": {{"name": "{NAME}", "state": "Waiting"}}, "32": {{"name": "{NAME}", "state":'
        f' "Running"}}, "33": {{"name": "{NAME}", "state": "Terminated"}},'
        ' "34": {"name": null, "state": "Running"}}\n'
    )
    assert jobs("oar", output) == [("31", "waiting", None), ("32", "running", None)]


@pytest.mark.parametrize("system", SYSTEMS)
def test_no_jobs_are_no_jobs(system):
    output = "<job_info></job_info>" if system == "sge" else ""
    assert jobs(system, output) == []


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_listing_that_was_cut_off_anywhere_is_no_listing(system, folder):
    """At a line's end nothing shows it in a table of lines; there the exit code has to."""
    cluster = FakeBatch(folder, system)
    run_there = on_path(folder)
    submit(batch_system(system), script_of(request_of(system, "array")), 4, run_there)
    whole = run_there(batch_system(system).listing("me")).out
    assert len(batch_system(system).listed(whole)) == 4
    by_line = system in {"slurm", "lsf", "flux"}
    for end in range(1, len(whole) - (system in {"sge", "oar"})):
        if by_line and whole[end - 1] == "\n":
            continue
        if system == "pbs" and whole[:end].endswith("\n\n"):
            continue
        with pytest.raises(UnreadableError):
            batch_system(system).listed(whole[:end])
    assert cluster.live()


def test_an_array_whose_elements_were_cut_off_is_not_taken_for_fewer_jobs():
    for numbers in ("[3-10", "[1,2,...]", "[1-3,]"):
        with pytest.raises(UnreadableError):
            jobs("slurm", f"1234_{numbers}|PENDING|N/A|None|{NAME}\n")


# -- cancelling, checking -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("system", "ids", "line"),
    [
        ("slurm", ["1234_7", "9"], "scancel --state=PENDING 1234_7 9"),
        ("pbs", ["1234[7].srv"], "qdel '1234[7].srv'"),
        ("sge", ["1234.7"], "qdel 1234.7"),
        ("lsf", ["1234[7]"], "bkill -stat pend '1234[7]'"),
        ("flux", ["f2j"], "flux cancel f2j"),
        ("oar", ["31"], "oardel 31"),
    ],
)
def test_waiting_jobs_are_cancelled_by_their_own_ids(system, ids, line):
    assert str(batch_system(system).cancellation(ids, waiting_only=True)) == line


def test_systems_that_can_check_a_script_do_so():
    verdicts = {system: batch_system(system).verdict("#!/bin/bash\n") for system in SYSTEMS}
    assert {system for system, command in verdicts.items() if command} == {
        *("slurm", "pbs", "sge", "flux")
    }
    assert str(verdicts["slurm"]) == "sbatch --test-only"


def test_slurm_says_what_the_site_has_set():
    output = "KillWait                = 45 sec\nMaxArraySize            = 501\nX = 1\n"
    assert batch_system("slurm").limits(output) == (45.0, 500)
    assert batch_system("slurm").limits("") == (30.0, 1000)


# -- running --------------------------------------------------------------------------------------


def on_path(folder: str):
    """Runs commands with a folder first on PATH."""

    def run_there(command: Command) -> Reply:
        path = f"PATH={folder}:{os.environ['PATH']}"
        return run(Command(("/usr/bin/env", path, *command.argv), command.text))

    return run_there


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize("variant", ["single", "array"])
def test_jobs_are_submitted_listed_and_cancelled(system, variant, folder):
    cluster, batch, run_there = FakeBatch(folder, system), batch_system(system), on_path(folder)
    count = 4 if variant == "array" else 1
    ids = submit(batch, script_of(request_of(system, variant)), count, run_there)
    assert list(ids) == list(range(1, count + 1))
    listed = list_jobs(batch, "me", run_there)
    assert sorted(job.id for job in listed) == sorted(ids.values()) == sorted(cluster.live())
    assert {job.token for job in listed} == {"k7f3q2"}
    run_there(batch.cancellation([ids[1]], waiting_only=True))
    assert sorted(cluster.live()) == sorted(ids[number] for number in ids if number > 1)


@pytest.mark.parametrize("system", SYSTEMS)
@pytest.mark.parametrize(
    ("fault", "error", "exist"),
    [
        ("refuse", RefusedError, 0),
        ("no-answer", DoubtfulError, 0),
        ("lost", DoubtfulError, 1),
        ("garbage", DoubtfulError, 1),
    ],
)
def test_a_failed_submission_is_refused_or_in_doubt(system, fault, error, exist, folder):
    cluster = FakeBatch(folder, system)
    cluster.fault("submit", fault)
    with pytest.raises(error):
        submit(batch_system(system), script_of(request_of(system)), 1, on_path(folder))
    assert len(cluster.live()) == exist


def test_a_missing_command_is_told_before_anything_happens():
    with pytest.raises(RefusedError, match="cannot run no-such-command: No such file"):
        run(Command(("no-such-command",)))


def test_a_command_that_does_not_answer_is_killed_and_in_doubt():
    with pytest.raises(DoubtfulError, match=r"sleep 60 has not answered for 0\.2 s"):
        run(Command(("sleep", "60")), patience=0.2)


def test_the_variables_of_an_enclosing_job_do_not_reach_an_inner_one(monkeypatch):
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "100")
    monkeypatch.setenv("FSQUEUE_FLEET_TOKEN", "outer")
    monkeypatch.setenv("SLURM_CONF", "/etc/slurm.conf")
    shown = run(Command(("env",))).out
    assert "SLURM_MEM_PER_NODE" not in shown
    assert "FSQUEUE_FLEET_TOKEN" not in shown
    assert "SLURM_CONF=/etc/slurm.conf" in shown
    assert "LC_ALL=C" in shown


def test_users_own_defaults_stay():
    environ = {
        "SBATCH_ACCOUNT": "a",
        "SBATCH_EXPORT": "NONE",
        "PBS_JOBID": "1",
        "PBS_EXEC": "/opt/pbs",
        "LSB_JOBID": "1",
        "JOB_ID": "1",
        "HOME": "/home/me",
    }
    assert set(outer_job_removed(environ)) == {"SBATCH_ACCOUNT", "PBS_EXEC", "HOME"}
