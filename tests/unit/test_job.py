"""What a job says about itself, by environments and answers as batch systems give them."""

from __future__ import annotations

import os
import stat

import pytest

from fsqueue.runner.processes.job import End, Host, find_end, job_of, this_host
from fsqueue.runner.processes.job_resources import (
    Cgroup,
    Devices,
    cgroup_of,
    choose_devices,
    cores_of,
    devices_of,
    memory_of,
    offered,
)
from fsqueue.spool.format.resources import profile_of

WALL, STEADY = 1_700_000_000.0, 5000.0


class Machine:
    """A node with these answers and files; it remembers what it was asked."""

    def __init__(self, answers=(), files=(), node="node1", cores=64):
        self.asked = []
        self.answers, self.files = dict(answers), dict(files)
        self.host = Host(
            self.ask,
            lambda path: self.files.get(path, ""),
            lambda: WALL,
            lambda: STEADY,
            node,
            cores,
        )

    def ask(self, argv):
        self.asked.append(" ".join(argv))
        return self.answers.get(" ".join(argv), "")


def left(environ, machine):
    end = find_end(environ, machine.host)
    return None if end is None else end.at - STEADY


ARRAY = {"SLURM_JOB_ID": "1238", "SLURM_ARRAY_JOB_ID": "1234", "SLURM_ARRAY_TASK_ID": "4"}


@pytest.mark.parametrize(
    ("environ", "job_id", "task", "restart"),
    [
        ({"SLURM_JOB_ID": "77"}, ("slurm", "77"), "", 0),
        ({"SLURM_JOB_ID": "77", "SLURM_RESTART_COUNT": "2"}, ("slurm", "77"), "", 2),
        (ARRAY, ("slurm", "1234_4"), "4", 0),
        ({**ARRAY, "SLURM_ARRAY_TASK_ID": "0"}, ("slurm", "1234_0"), "0", 0),
        ({"PBS_JOBID": "9.srv"}, ("pbs", "9.srv"), "", 0),
        ({"PBS_JOBID": "9[3].srv", "PBS_ARRAY_INDEX": "3"}, ("pbs", "9[3].srv"), "3", 0),
        ({"PBS_JOBID": "9[3].srv", "PBS_ARRAYID": "3"}, ("pbs", "9[3].srv"), "3", 0),
        ({"PBS_JOBID": "9.srv", "PBS_RUN_COUNT": "2"}, ("pbs", "9.srv"), "", 1),
        ({"JOB_ID": "5", "SGE_TASK_ID": "undefined"}, ("sge", "5"), "", 0),
        ({"JOB_ID": "5", "SGE_TASK_ID": "3", "RESTARTED": "1"}, ("sge", "5.3"), "3", 1),
        ({"LSB_JOBID": "8", "LSB_JOBINDEX": "0"}, ("lsf", "8"), "", 0),
        ({"LSB_JOBID": "8", "LSB_JOBINDEX": "2"}, ("lsf", "8[2]"), "2", 0),
        ({"FLUX_JOB_ID": "f2j", "FLUX_JOB_CC": "2"}, ("flux", "f2j"), "2", 0),
        ({"OAR_JOB_ID": "31", "OAR_ARRAY_INDEX": "2"}, ("oar", "31"), "2", 0),
    ],
)
def test_a_job_knows_its_id_as_the_cancel_command_takes_it(environ, job_id, task, restart):
    job = job_of(environ)
    assert (job.system, job.id) == job_id
    assert (job.array_task, job.restart) == (task, restart)
    assert job.number == int(task or 1)


def test_outside_of_a_job_there_is_none():
    assert job_of({}) is None
    assert job_of({"JOB_ID": "a variable of somebody's own"}) is None


def test_a_job_of_a_fleet_knows_its_fleet_and_submission():
    job = job_of({"SLURM_JOB_ID": "7", "FSQUEUE_FLEET": "cpu", "FSQUEUE_FLEET_TOKEN": "k7f3q2"})
    assert (job.fleet, job.token) == ("cpu", "k7f3q2")


# -- the end ------------------------------------------------------------------------------------


def test_the_end_that_the_script_has_noted_comes_first_and_asks_nobody():
    machine = Machine()
    environ = {**ARRAY, "FSQUEUE_JOB_UNTIL": f"{WALL + 60:.0f}", "SLURM_JOB_END_TIME": "1"}
    assert find_end(environ, machine.host) == End(STEADY + 60, "FSQUEUE_JOB_UNTIL")
    assert machine.asked == []


@pytest.mark.parametrize(("node", "seconds"), [("node1", 60), ("node2", 600)])
def test_a_time_that_another_node_has_noted_does_not_count(node, seconds):
    machine = Machine({"squeue -h -j 1234_4 -o %L": "10:00\n"}, node="node1")
    environ = {**ARRAY, "FSQUEUE_JOB_UNTIL": f"{WALL + 60:.0f}", "FSQUEUE_JOB_NODE": node}
    assert left(environ, machine) == seconds


def test_virtual_nodes_of_one_host_are_told_apart_by_nobody():
    environ = {"FSQUEUE_JOB_UNTIL": f"{WALL + 60:.0f}", "FSQUEUE_JOB_NODE": "n3"}
    assert left({**environ, "SLURMD_NODENAME": "n3"}, Machine()) == 60


def test_slurm_says_when_a_job_ends():
    assert left({**ARRAY, "SLURM_JOB_END_TIME": f"{WALL + 90:.0f}"}, Machine()) == 90


@pytest.mark.parametrize(
    ("environ", "question", "answer", "seconds"),
    [
        (ARRAY, "squeue -h -j 1234_4 -o %L", "1-02:00:30\n", 93_630),
        ({"SLURM_JOB_ID": "7"}, "squeue -h -j 7 -o %L", "0:42\n", 42),
        ({"SLURM_JOB_ID": "7"}, "squeue -h -j 7 -o %L", "UNLIMITED\n", None),
        ({"SLURM_JOB_ID": "7"}, "squeue -h -j 7 -o %L", "slow today\n59:00\n\n", 3540),
        ({"SLURM_JOB_ID": "7"}, "squeue -h -j 7 -o %L", "", None),
        ({"FLUX_JOB_ID": "f2j"}, "flux job timeleft", "1199\n", 1199),
        ({"FLUX_JOB_ID": "f2j"}, "flux job timeleft", "infinity\n", None),
        ({"LSB_JOBID": "8"}, "bjobs -noheader -o time_left 8", "3:59 L\n", 14_340),
        ({"LSB_JOBID": "8"}, "bjobs -noheader -o time_left 8", "3:59 E\n", None),
        ({"LSB_JOBID": "8"}, "bjobs -noheader -o time_left 8", "-\n", None),
        (
            {"PBS_JOBID": "9.srv"},
            "qstat -f 9.srv",
            (
                "Job Id: 9.srv\n    Resource_List.walltime = 04:00:00\n"
                "    resources_used.walltime = 01:00:00\n"
            ),
            10_800,
        ),
        (
            {"PBS_JOBID": "9.srv"},
            "qstat -f 9.srv",
            "Job Id: 9.srv\n    Resource_List.walltime = 00:10:00\n",
            600,
        ),
        ({"PBS_JOBID": "9.srv"}, "qstat -f 9.srv", "Job Id: 9.srv\n", None),
    ],
)
def test_the_batch_system_is_asked_once_for_the_time_left(environ, question, answer, seconds):
    machine = Machine({question: answer})
    assert left(environ, machine) == seconds
    assert machine.asked == [question]


def test_oar_says_the_walltime_in_the_environment():
    assert left({"OAR_JOB_ID": "3", "OAR_JOB_WALLTIME_SECONDS": "1200"}, Machine()) == 1200


@pytest.mark.parametrize("environ", [{}, {"JOB_ID": "5", "SGE_TASK_ID": "undefined"}])
def test_an_unknown_end_is_none_and_nobody_is_asked(environ):
    machine = Machine()
    assert left(environ, machine) is None
    assert machine.asked == []


@pytest.mark.parametrize("noise", ["", "soon", "-5", "1e9", "NaN"])
def test_a_bad_time_is_passed_over(noise):
    assert left({"FSQUEUE_JOB_UNTIL": noise}, Machine()) is None


def test_real_commands_are_run_with_plain_messages_and_may_be_missing(tmp_path, monkeypatch):
    program = tmp_path / "squeue"
    program.write_text('#!/bin/sh\n[ "$LC_ALL" = C ] && [ "$3" = 7 ] && echo 10:00\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    end = find_end({"SLURM_JOB_ID": "7"}, this_host()._replace(monotonic=lambda: 1000.0))
    assert end.at == 1600.0
    program.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_end({"SLURM_JOB_ID": "7"}, this_host()) is None


# -- what it has --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "cores"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_PER_TASK": "4", "SLURM_CPUS_ON_NODE": "16"}, 4),
        ({"SLURM_JOB_ID": "7", "SLURM_CPUS_ON_NODE": "16"}, 16),
        ({"PBS_JOBID": "9", "NCPUS": "8"}, 8),
        ({"JOB_ID": "5", "SGE_TASK_ID": "undefined", "NSLOTS": "6"}, 6),
        ({"LSB_JOBID": "8", "LSB_DJOB_NUMPROC": "12"}, 12),
        ({"OAR_JOB_ID": "3", "OAR_NODEFILE": "/nodes"}, 2),
        ({"NSLOTS": "6"}, 64),
        ({}, 64),
    ],
)
def test_cores_are_those_of_the_job_and_not_of_the_machine(environ, cores):
    machine = Machine(files={"/nodes": "node1.cluster\nnode2.cluster\nnode1.cluster\n"})
    assert cores_of(environ, machine.host) == cores


V2 = {"/proc/self/cgroup": "0::/system.slice/job_7\n"}


def test_the_tightest_cgroup_above_the_process_limits_it():
    files = {
        **V2,
        "/sys/fs/cgroup/system.slice/job_7/cpu.max": "max 100000\n",
        "/sys/fs/cgroup/system.slice/cpu.max": "350000 100000\n",
        "/sys/fs/cgroup/system.slice/job_7/memory.max": "4294967296\n",
        "/sys/fs/cgroup/memory.max": "max\n",
    }
    host = Machine(files=files).host
    assert cgroup_of(host) == Cgroup(3.5, 4 << 30)
    assert cores_of({}, host) == 3
    assert memory_of({}, host) == 4 << 30


def test_the_older_cgroups_are_read_too():
    files = {
        "/proc/self/cgroup": "4:memory:/slurm/job_7\n3:cpu,cpuacct:/slurm/job_7\n",
        "/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_quota_us": "200000\n",
        "/sys/fs/cgroup/cpu,cpuacct/slurm/job_7/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "/sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        "/sys/fs/cgroup/memory/slurm/job_7/memory.limit_in_bytes": "1073741824\n",
        "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    }
    assert cgroup_of(Machine(files=files).host) == Cgroup(2.0, 1 << 30)


def test_half_a_core_is_one():
    files = {**V2, "/sys/fs/cgroup/system.slice/job_7/cpu.max": "50000 100000\n"}
    assert cores_of({}, Machine(files=files).host) == 1


@pytest.mark.parametrize(
    ("environ", "mebibytes"),
    [
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "4000"}, 4000),
        ({"SLURM_JOB_ID": "7", "SLURM_MEM_PER_CPU": "500", "SLURM_CPUS_PER_TASK": "4"}, 2000),
    ],
)
def test_memory_is_that_of_the_job(environ, mebibytes):
    assert memory_of(environ, Machine().host) == mebibytes << 20


def test_memory_without_a_limit_is_not_known():
    assert memory_of({"SLURM_MEM_PER_NODE": "0"}, Machine().host) is None


@pytest.mark.parametrize(
    ("environ", "devices"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0,2"}, Devices("CUDA_VISIBLE_DEVICES", ("0", "2"))),
        (
            {"CUDA_VISIBLE_DEVICES": "GPU-8, GPU-9"},
            Devices("CUDA_VISIBLE_DEVICES", ("GPU-8", "GPU-9")),
        ),
        (
            {"CUDA_VISIBLE_DEVICES": "", "ROCR_VISIBLE_DEVICES": "1"},
            Devices(
                "ROCR_VISIBLE_DEVICES",
                ("1",),
            ),
        ),
        ({"ZE_AFFINITY_MASK": "0.0,0.1"}, Devices("ZE_AFFINITY_MASK", ("0.0", "0.1"))),
        ({"CUDA_VISIBLE_DEVICES": "NoDevFiles"}, None),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, None),
        ({}, None),
    ],
)
def test_gpus_are_those_that_the_job_may_see(environ, devices):
    assert devices_of(environ) == devices


def test_this_host_is_the_real_one():
    host = this_host()
    assert host.cores >= 1
    assert host.node == os.uname().nodename
    assert cgroup_of(host).cores is None or cgroup_of(host).cores > 0
    assert cores_of({}, host) <= host.cores


# -- what a worker offers ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "environ", "devices"),
    [
        ("none", {"CUDA_VISIBLE_DEVICES": "0"}, None),
        ("auto", {}, None),
        ("auto", {"CUDA_VISIBLE_DEVICES": "0,3"}, Devices("CUDA_VISIBLE_DEVICES", ("0", "3"))),
        ("1, 2", {}, Devices("CUDA_VISIBLE_DEVICES", ("1", "2"))),
        ("1", {"ROCR_VISIBLE_DEVICES": "0,1"}, Devices("ROCR_VISIBLE_DEVICES", ("1",))),
        ("GPU-5e8a/MIG-1", {}, Devices("CUDA_VISIBLE_DEVICES", ("GPU-5e8a/MIG-1",))),
    ],
)
def test_devices_are_those_of_the_job_or_given_ones(text, environ, devices):
    assert choose_devices(text, environ) == devices


@pytest.mark.parametrize("text", ["", "0,", "0,0", "a b", "0;1"])
def test_bad_names_of_devices_are_refused(text):
    with pytest.raises(ValueError, match="expected auto, none, or different names"):
        choose_devices(text, {})


TWO = Devices("CUDA_VISIBLE_DEVICES", ("0", "1"))
IN_JOB = {"SLURM_JOB_ID": "7", "SLURM_MEM_PER_NODE": "2048"}


@pytest.mark.parametrize(
    ("given", "devices", "environ", "profile"),
    [
        ("", None, {}, ""),
        ("", TWO, {}, "gpu-2"),
        ("gpu=1 mem=1G", TWO, {}, "gpu-1_mem-1G"),
        ({"gpu": 0.5}, TWO, {}, "gpu-0p5"),
        ("mem=auto", None, IN_JOB, "mem-2G"),
        ({"mem": "auto", "disk": 3}, None, IN_JOB, "disk-3_mem-2G"),
        ("mem=auto,disk=3", None, {}, "disk-3"),
    ],
)
def test_a_worker_offers_what_is_given_and_what_its_job_has(given, devices, environ, profile):
    assert profile_of(offered(given, devices, environ, Machine().host)) == profile


@pytest.mark.parametrize("given", ["gpu=1 gpu=2", "gpu=auto", "mem", {"Mem": 1}, "walltime=3"])
def test_bad_amounts_are_refused(given):
    with pytest.raises(ValueError, match=r"given twice|expected|not a resource"):
        offered(given, None, IN_JOB, Machine().host)
