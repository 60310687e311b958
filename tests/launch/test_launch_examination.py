"""`doctor --launch`: a job examines its node, in a batch system that a program plays."""

from __future__ import annotations

import os
import sys

import pytest
from fake_cluster import FakeBatch
from support import open_store

from fsqueue.doctor.findings import Verdict
from fsqueue.launch.batch import run
from fsqueue.launch.examination import Times, examine_nodes
from fsqueue.launch.launcher import Application, JobTemplate
from fsqueue.launch.profiles import Profile
from fsqueue.spool.fleets.fleets import fleet_names

# The fake kills a job two seconds after its end.
QUICK = Times(wait=60.0, walltime=3.0, warning=1.0, after=60.0, silence=4.0)


class Nodes:
    """A cluster whose jobs really run, and a profile for it."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        self.cluster = FakeBatch(f"{folder}/bin", "slurm", running=True)
        monkeypatch.setenv("PATH", f"{self.cluster.folder}{os.pathsep}{os.environ['PATH']}")
        with open(f"{folder}/probed_tasks.py", "w", encoding="utf-8") as file:
            file.write("from fsqueue import FSQueue\napp = FSQueue('t')\n")
        self.store = open_store(f"{folder}/spool")
        self.cores = len(os.sched_getaffinity(0))

    def examine(self, target="probed_tasks:app", times=QUICK, **changes):
        application = Application(
            target, "t", self.folder, f"{self.folder}/spool", {}, stop_grace=25.0
        )
        values = {"walltime": 3600.0, "cores": self.cores, "python": sys.executable, **changes}
        model = JobTemplate(application, "cpu", Profile(system="slurm", **values), run=run)
        said = []
        found = examine_nodes(self.store, model, times=times, report=said.append)
        return {finding.name: finding for finding in found}, said


@pytest.fixture
def nodes(folder, monkeypatch):
    made = Nodes(folder, monkeypatch)
    yield made
    made.cluster.end()
    assert fleet_names(made.store.files) == [], "the examination leaves nothing behind"


def test_a_good_node(nodes):
    found, said = nodes.examine()
    assert said[0].startswith("job 100 is submitted")
    bad = [each for each in found.values() if each.verdict is not Verdict.OK]
    assert [each.name for each in bad] == ["warning"], "the fake sends none"
    assert found["end of the job"].measured == "known from FSQUEUE_JOB_UNTIL"
    assert found["kill delay"].measured.startswith("2 s between SIGTERM and SIGKILL")
    assert found["jobs from jobs"].measured == "the node can submit jobs"


def test_what_is_wrong_on_a_node_is_said_with_the_remedy(nodes):
    found, _ = nodes.examine("missing_tasks:app", cores=nodes.cores + 3, gpus=2)
    assert found["code"].verdict is Verdict.BAD
    assert "No module named 'missing_tasks'" in found["code"].measured
    assert found["cores"].verdict is Verdict.WEAK
    assert found["gpus"].verdict is Verdict.BAD


def test_a_job_that_ends_without_a_report_is_told(nodes):
    found, _ = nodes.examine(setup=("exit 3",), times=Times(wait=3.0))
    assert list(found) == ["start"]
    assert found["start"].verdict is Verdict.BAD
