"""The standard streams of a worker, its slots and its callers, also where they are closed."""

import os
import pty
import signal
import sys

import pytest
from acceptance_harness import KINDS, wait_until

NULL = "/dev/null"
APP = "programs:app"


@pytest.mark.parametrize("kind", KINDS)
def test_bodies_read_nothing(site, programs, kind):
    site.worker(kind, 1, app=APP, before=("sh", "-c", 'yes | "$@"', "sh"))
    assert programs.read_stdin().get(timeout=60) == ("", b"", b"")


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
@pytest.mark.parametrize("kind", KINDS)
def test_closed_streams_of_a_worker(site, programs, kind, closed):
    script = f'exec "$@" {closed}'
    site.worker(kind, 1, app=APP, before=("sh", "-c", script, "sh"))
    found = programs.descriptors().get(timeout=60)
    spool = [path for path in found if str(site.root) in path]
    assert not spool
    assert found[0] == NULL
    for number in (1, 2):
        assert (found[number] == NULL) == (f"{number}>&-" in closed)


CALLER = """
import os, subprocess, sys
from programs import app, pid
calls = [pid() for _ in range(3)]
values = [call.get(timeout=60) for call in calls]
found = []
for number in range(3):
    found.append(os.readlink(f"/proc/self/fd/{number}"))
open(sys.argv[1], "w").write("\\n".join(found))
app.close()
"""


@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&- 2>&-"])
def test_closed_streams_of_a_caller(site, programs, tmp_path, closed):
    site.worker("thread", 1, app=APP)
    (site.project / "closed_caller.py").write_text(CALLER)
    told = tmp_path / "told"
    done = site.run(
        "sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "closed_caller.py", str(told)
    )
    assert done.returncode == 0
    assert told.read_text().split("\n")[1] == NULL


def test_closed_streams_of_a_command(site):
    done = site.run(
        "sh", "-c", 'exec "$@" 0<&- 2>&-', "sh", sys.executable, "-m", "fsqueue", "version"
    )
    assert done.returncode == 0
    assert done.stdout


@pytest.mark.parametrize("kind", KINDS)
def test_a_worker_in_the_background_of_a_terminal(site, programs, kind, tmp_path):
    """Programs that read the terminal, or write to one that forbids it, must not stop it."""
    command = [sys.executable, "-m", "fsqueue", "worker", "programs:app", "--runner", kind]
    script = 'stty tostop; set -m; "$@" & echo $! > pid; sleep 300'
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(site.project)
        os.execvpe("bash", ["bash", "-c", script, "bash", *command], site.env)
    try:
        call = programs.use_terminal()
        assert call.get(timeout=60) in {"EIO", "ENXIO"}
        background = int((site.project / "pid").read_text())
        os.kill(background, signal.SIGTERM)
        wait_until(lambda: not site.names("workers"), "it leaves")
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)
