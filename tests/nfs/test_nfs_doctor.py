"""`fsqueue doctor` on one NFS client, and on two at the same time."""

import json
import signal
import subprocess

import pytest
from support import wait_until

RACES = ("rename race", "link race", "create race")
# These depend on how full the lab's disk is and how busy this machine is, which is not tested here.
OF_THE_MACHINE = {"latency", "space"}


class Doctor:
    def __init__(self, site, client, *arguments):
        self.job = site.lab.popen(
            client,
            [site.python, "-m", "fsqueue", "doctor", site.root, "--json", *arguments],
            env=site.env | {"PYTHONFAULTHANDLER": "1"},
            cwd="/",
        )

    def wait_for(self, text):
        def has_reported():
            return text in self.job.stderr or self.job.poll() is not None

        wait_until(has_reported, timeout=100, what=text)
        assert text in self.job.stderr, self.job.stderr

    def refused(self):
        """Why it could not examine anything."""
        assert self.job.wait(100) == 2
        assert not self.job.stdout
        return self.job.stderr

    def report(self):
        try:
            code = self.job.wait(140)
        except subprocess.TimeoutExpired:
            self.job.send_signal(signal.SIGABRT)  # it writes where it is
            self.job.wait(20)
            raise AssertionError(self.job.stderr) from None
        assert self.job.stdout, self.job.stderr
        report = json.loads(self.job.stdout)
        assert code == {"ok": 0, "weak": 1, "bad": 2}[report["verdict"]]
        return report


@pytest.fixture
def doctor(site):
    """Starts doctors on clients, in a root that is there."""
    site.on_server(f"os.makedirs({exported(site)!r}, mode=0o700)")
    started = []

    def start(client, *arguments):
        started.append(Doctor(site, client, *arguments))
        return started[-1]

    yield start
    for each in started:
        if each.job.poll() is None and not each.job.guest.gone:
            each.job.kill()
            each.job.wait(50)


def exported(site):
    """The root by the server's path, seen past all caches."""
    return site.root.replace(site.lab.mountpoint, "/export")


def left(site):
    """What is in the root, at any depth."""
    return site.on_server(
        "sorted(where + '/' + name for where, folders, files in "
        f"os.walk({exported(site)!r}) for name in folders + files)"
    )


def weaknesses(findings):
    return {finding["name"] for finding in findings if finding["verdict"] != "ok"} - OF_THE_MACHINE


def one(findings, name):
    (finding,) = (finding for finding in findings if finding["name"] == name)
    return finding


def test_one_client(site, doctor, version):
    report = doctor("a").report()
    assert weaknesses(report["findings"]) == set()
    facts = one(report["findings"], "filesystem")["facts"]
    assert facts["remote"]
    assert f"vers={version}" in facts["options"].split(",")
    assert len(report["notes"]) == 1, "that two clients were not examined"
    settings = {each["name"]: each["value"] for each in report["settings"]}
    assert settings["watch"] == "auto"
    assert settings["lease"] >= 3 * settings["heartbeat"]
    assert left(site) == []


def test_two_clients(site, doctor, version, record_property):
    doctors = [doctor(client, "--peer") for client in "ab"]
    reports = [each.report() for each in doctors]
    for report, here, there in zip(reports, "ab", "ba", strict=True):
        assert report["hosts"] == {"here": here, "there": there}
        assert weaknesses(report["between"]) <= {"create race"}
        for name in RACES[:2]:
            facts = one(report["between"], name)["facts"]
            assert facts["doubles"] == facts["nobody"] == 0
            assert facts["here"] + facts["there"] == facts["names"] > 0
        for kind in ("flock", "fcntl"):
            assert one(report["between"], f"{kind} lock")["facts"]["excludes"]
        # A client that once heard that a name does not exist believes so for half a minute.
        assert one(report["between"], "sees exists")["facts"]["missed"] > 0
        pushed = one(report["between"], "wake-ups")
        assert pushed["facts"]["push"] == (version != "3"), pushed
        if version != "3":
            assert pushed["facts"]["wake"] < 1
    for finding in reports[0]["between"]:
        record_property(finding["name"], finding["measured"])
    assert left(site) == []


def test_a_client_that_is_stopped_leaves_nothing(site, doctor):
    stopped, other = doctor("a", "--peer"), doctor("b", "--peer")
    for each in (stopped, other):
        each.wait_for("together")
    stopped.job.send_signal(signal.SIGINT)
    assert "stopped" in stopped.refused()
    assert "the other examiner has left: it was stopped" in other.refused()
    assert left(site) == []


def test_a_client_that_dies_is_noticed(site, doctor, record_property):
    here, there = doctor("a", "--peer"), doctor("b", "--peer")
    for each in (here, there):
        each.wait_for("together")
    died = site.on("a", "time.time()")
    site.lab.kill("b")
    assert "the other examiner was silent for 15 s" in here.refused()
    record_property(
        "s from the death of the peer's host", round(site.on("a", "time.time()") - died)
    )
