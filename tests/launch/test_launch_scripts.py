"""Batch scripts, compared with golden files; `python tests/launch/test_launch_scripts.py` writes
them anew."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from fsqueue.cli.start.worker import command as worker_command
from fsqueue.cli.start.worker_options import as_words, runner_options
from fsqueue.errors import ConfigError
from fsqueue.launch.batch import Request, batch_system, script_of
from fsqueue.launch.profiles import Source, load_profile

GOLDEN = Path(__file__).parent / "golden"
SYSTEMS = ("slurm", "pbs", "sge", "lsf", "flux", "oar")
COMMON = {
    "walltime": "4h",
    "cores": 16,
    "memory": "64G",
    "batch_queue": "standard",
    "account": "proj42",
    "env": {"OMP_NUM_THREADS": "1"},
}
REMOVED = {
    "slurm": ["!--mem", "--qos=long"],
    "pbs": ["!-l walltime", "-l max_walltime=08:00:00"],
    "sge": ["!-l h_vmem", "-l mem_free=4G"],
    "lsf": ["!-P", '-G "group a"'],
    "flux": ["!--cores-per-task", "--exclusive"],
    "oar": ["!-l", "-l /nodes=1,walltime=04:00:00"],
}
SETUP = ["module load python/3.11", 'source "$HOME/venv/bin/activate"']
VARIANTS = {
    "single": ({}, 1),
    "array": ({"queues": ["default", "large"], "requeue": False}, 4),
    "gpu": ({"gpus": 4, "signal_before": "10m", "runner": "thread"}, 1),
    "multi-node": ({"nodes": 4, "gpus": 1}, 1),
    "wrap": ({"wrap": 'apptainer exec "my image.sif"', "setup": SETUP, "python": "python3"}, 1),
    "removed": ({}, 1),
}
CASES = [
    (system, variant)
    for system in SYSTEMS
    for variant in VARIANTS
    if (system, variant) != ("sge", "multi-node")
]


def request_of(system: str, variant: str = "single", **changes: object) -> Request:
    keys, count = VARIANTS[variant]
    options = REMOVED[system] if variant == "removed" else []
    table = {**COMMON, **keys, "system": system, "options": options}
    profile = load_profile("cpu", [Source(Path("fsqueue.toml"), {"cpu": table})])
    given = {
        "profile": profile,
        "fleet": "cpu",
        "application": "tasks:app",
        "root": "/shared/queue",
        "folder": "/shared/my project",
        "token": "k7f3q2",
        "count": count,
        "python": "/shared/venv/bin/python",
        "settings": {"FSQUEUE__GROUP": "lab 7"},
    }
    return Request(**{**given, **changes})


def golden(system: str, variant: str) -> Path:
    return GOLDEN / f"{system}-{variant}.sh"


@pytest.mark.parametrize(("system", "variant"), CASES)
def test_the_script_is_the_golden_one(system, variant):
    assert script_of(request_of(system, variant)) == golden(system, variant).read_text("utf-8")


def test_there_is_no_other_golden_file():
    names = {f"{system}-{variant}.sh" for system, variant in CASES}
    assert {path.name for path in GOLDEN.iterdir()} == names


@pytest.mark.parametrize(("system", "variant"), CASES)
def test_the_script_is_valid_bash(system, variant):
    subprocess.run(["bash", "-n", golden(system, variant)], check=True)


@pytest.mark.parametrize(("system", "variant"), CASES)
def test_the_worker_takes_the_flags_of_the_script(system, variant):
    text = golden(system, variant).read_text("utf-8")
    (flags,) = re.findall(r" -m fsqueue worker (.+?) </dev/null", text)
    context = worker_command.make_context("worker", flags.split())
    options = runner_options(context.params)
    assert (options["time_limit"], options["concurrency"]) == ("auto", "cores")
    assert (options["idle_timeout"], options["gpus"]) == (300, "auto")
    again = worker_command.make_context("worker", ["tasks:app", *as_words(context.params)])
    assert again.params == context.params, "they can be handed on to other workers"


# Files that set-up lines source are not here; PBS and OAR run the quoted body on other nodes.
_SHELLCHECK = "SC1090,SC1091,SC2016"


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    paths = [golden(*case) for case in CASES]
    done = subprocess.run(
        ["shellcheck", "--shell=bash", f"--exclude={_SHELLCHECK}", *paths],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == ""


# Each starts the rest of its command line on a node; oarsh gives it to a shell, like ssh.
STARTERS = {
    "pbsdsh": 'shift; exec "$@"',
    "blaunch": 'shift 2; exec "$@"',
    "oarsh": 'shift; exec /bin/sh -c "$*"',
}
WORKER = """#!/bin/sh
echo "$PWD|$FSQUEUE_FLEET|$FSQUEUE_FLEET_TOKEN|$FSQUEUE__ROOT|$FSQUEUE__GROUP|$FSQUEUE_JOB_NODE|$*"
cat
"""


@pytest.mark.parametrize(
    ("system", "variant"),
    [case for case in CASES if case[1] in {"single", "multi-node"} and case[0] != "slurm"]
    + [("slurm", "single")],
)
def test_the_body_becomes_a_worker_with_all_that_it_needs(system, variant, tmp_path):
    """For real, with a worker that prints what it was given, and then its input."""
    programs = {"python": WORKER} | {
        name: f"#!/bin/sh\n{line}\n" for name, line in STARTERS.items()
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "nodes").write_text("node1\nnode1\n")
    folder = tmp_path / "a folder"
    folder.mkdir()
    done = subprocess.run(
        [
            "bash",
            "-c",
            script_of(
                request_of(system, variant, folder=str(folder), python=str(tmp_path / "python"))
            ),
        ],
        env={
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "OAR_NODEFILE": str(tmp_path / "nodes"),
            "LSB_DJOB_HOSTFILE": str(tmp_path / "nodes"),
        },
        input="the rest of the script\n",
        capture_output=True,
        text=True,
        check=True,
    )
    fields = done.stdout.rstrip("\n").split("|")
    assert done.stdout.count("\n") == 1, "the worker has read the script's input, or runs twice"
    assert fields[:5] == [str(folder), "cpu", "k7f3q2", "/shared/queue", "lab 7"]
    assert fields[5]
    assert fields[6].startswith("-m fsqueue worker tasks:app --runner process --concurrency cores")


def test_several_nodes_are_refused_where_there_is_no_common_way():
    with pytest.raises(ConfigError, match="nodes = 4: Grid Engine has no parallel environment"):
        request_of("sge", "multi-node")


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_name_ends_with_the_token_also_where_names_are_short(system):
    script = script_of(request_of(system, fleet="a-long-name-for-a-fleet"))
    assert "-k7f3q2" in script
    if system == "pbs":
        (name,) = [line.split()[-1] for line in script.splitlines() if line.startswith("#PBS -N")]
        assert len(name) <= 15


def test_a_removal_that_removes_nothing_is_a_typing_error():
    with pytest.raises(ConfigError, match=r"'!--memm' removes nothing; the directives are: --job"):
        script_of(request_of("slurm", options=("!--memm",)))


def test_a_removal_takes_the_flag_it_names_and_no_longer_one():
    script = script_of(request_of("slurm", options=("!--nodes", "--nodes=2-4")))
    assert "--nodes=1\n" not in script
    assert "--ntasks=1\n" in script
    assert script.index("#SBATCH --nodes=2-4") > script.index("#SBATCH --output")


@pytest.mark.parametrize("root", ["/my queue", "/q%j", "/q$HOME", "/a:b", "/a,b", "queue", "/q\n"])
def test_a_root_that_batch_systems_misread_is_refused(root):
    with pytest.raises(ConfigError, match="Use another folder"):
        script_of(request_of("slurm", root=root))


@pytest.mark.parametrize("system", ["flux", "oar"])
def test_directives_become_arguments_where_the_system_reads_none(system):
    script = script_of(request_of(system, "array"))
    argv = batch_system(system).submission(script).argv
    assert argv[-1].count("exec /shared/venv/bin/python") == 1
    assert all("\n" not in word for word in argv[:-1])
    assert "standard" in " ".join(argv[:-1])


@pytest.mark.parametrize(
    "change", [{"application": "a\nb"}, {"folder": "/a\nb"}, {"options": ("a\nb",)}]
)
def test_line_ends_cannot_smuggle_lines_into_a_script(change):
    with pytest.raises(ConfigError, match="single line"):
        script_of(request_of("slurm", **change))


if __name__ == "__main__":
    for case in CASES:
        golden(*case).write_text(script_of(request_of(*case)), "utf-8")
