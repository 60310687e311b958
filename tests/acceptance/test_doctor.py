"""`fsqueue doctor` on real filesystems, good ones and bad ones."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tomllib
from pathlib import Path

import psutil
import pytest
from acceptance_harness import alive, wait_until
from doctor_harness import command, diagnose, one, snapshot, verdicts, weaknesses
from support import open_store

from fsqueue import FSQueue
from fsqueue.config import load_config

RACES = ("rename race", "link race", "create race")
# A process whose number means nothing here is that of another host.
ELSEWHERE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def root(spool):
    folder = Path(spool)
    folder.mkdir(mode=0o700)
    return folder


def nothing_left(folder):
    return list(folder.iterdir()) == []


# -- filesystems of one host ------------------------------------------------------------------


def test_a_local_disk_is_fit(tmp_path):
    root = tmp_path / "queue"
    root.mkdir(mode=0o700)
    report = diagnose(root)
    assert weaknesses(report["findings"]) == set()
    for name in RACES:
        facts = one(report["findings"], name)["facts"]
        assert facts["doubles"] == facts["nobody"] == 0
        assert facts["here"] + facts["there"] == facts["names"] > 0
    assert one(report["findings"], "replacement")["facts"]["reads"] > 0
    assert one(report["findings"], "flock lock")["facts"]["excludes"]
    assert report["between"] == report["notes"] == []
    assert nothing_left(root)


def test_memory_is_fit_and_a_queue_that_is_there_is_not_touched(root):
    app = FSQueue("doctored", root=root)
    app.task(json.dumps)("called")
    app.close()
    before = snapshot(root)
    assert any(path.startswith("pending/") for path in before)
    findings = diagnose(root)["findings"]
    assert weaknesses(findings) == set()
    assert one(findings, "filesystem")["facts"]["remote"] is False
    assert snapshot(root) == before
    open_store(root)


@contextlib.contextmanager
def exfat(tmp_path):
    """No hard links, no modes, no case, times of whole seconds; mounted in user space."""
    image, folder = tmp_path / "image", tmp_path / "mounted"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.exfat", str(image)], check=True, capture_output=True)
    losetup = ["losetup", "--find", "--show", str(image)]
    done = subprocess.run(losetup, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device: {done.stderr.strip()}")
    device = done.stdout.strip()
    try:
        mount = ["mount.exfat-fuse", device, str(folder)]
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"exFAT cannot be mounted here: {done.stderr.strip()}")
        try:
            yield folder
        finally:
            subprocess.run(["fusermount", "-u", "-z", str(folder)], check=True)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount an image")
@pytest.mark.skipif(
    not (shutil.which("mkfs.exfat") and shutil.which("mount.exfat-fuse")),
    reason="exfatprogs and exfat-fuse are not installed",
)
def test_a_filesystem_of_memory_cards_is_unfit(tmp_path):
    with exfat(tmp_path) as mounted:
        root = mounted / "queue"
        root.mkdir()
        report = diagnose(root)
        assert nothing_left(root)
    found = verdicts(report["findings"])
    assert report["verdict"] == "bad"
    assert {name: found[name] for name in ("permissions", "modes")} == {
        "permissions": "bad",
        "modes": "bad",
    }
    weak = ("names", "links", "link race", "clock")
    assert {name: found[name] for name in weak} == dict.fromkeys(weak, "weak")
    assert found["rename race"] == "ok"
    assert one(report["findings"], "clock")["facts"]["granularity"] >= 1
    heartbeat = next(each for each in report["settings"] if each["name"] == "heartbeat")
    assert heartbeat["value"] >= 2


def test_a_directory_that_others_may_write_to_is_unfit_and_old_leftovers_go(root):
    old = root / "doctor" / "abcdefgh"
    old.mkdir(parents=True)
    (old / "here").touch()
    os.utime(old, (1, 1))
    root.chmod(0o777)
    report = diagnose(root)
    assert verdicts(report["findings"])["permissions"] == "bad"
    assert "chmod go-w" in one(report["findings"], "permissions")["advice"]
    assert nothing_left(root)


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_directory_without_the_right_to_write(root):
    root.chmod(0o500)
    report = diagnose(root)
    root.chmod(0o700)
    assert verdicts(report["findings"])["writable"] == "bad"


# -- the command --------------------------------------------------------------------------------


def test_the_text_ends_with_settings_that_can_be_used(root, tmp_path):
    done = subprocess.run(command(root), capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in {0, 1}, done.stderr
    head, _, snippet = done.stdout.partition("# fsqueue.toml\n")
    assert head.startswith(f"{root}: ")
    assert "rename race" in head
    (tmp_path / "fsqueue.toml").write_text(snippet, "utf-8")
    conf = load_config({}, environ={}, start=tmp_path)
    assert conf.root == root
    assert set(tomllib.loads(snippet)) == {
        "root",
        "watch",
        "poll_interval",
        "heartbeat",
        "lease",
        "durability",
    }


def test_a_missing_directory(tmp_path):
    missing = tmp_path / "missing"
    done = subprocess.run(command(missing), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"fsqueue: {missing} is not a directory: make it first\n"
    assert not missing.exists()


def test_no_other_host_comes(root):
    done = subprocess.run(
        command(root, "--peer", "--wait", "1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "no other host came within 1 s" in done.stderr
    assert nothing_left(root)


class Running:
    """A doctor in the background, with its second process."""

    def __init__(self, root, *arguments, before=(), **options):
        self.popen = subprocess.Popen(
            [*before, *command(root, "--json", *arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **options,
        )

    def wait_for(self, text):
        """Read its progress up to a line that contains a text."""
        for line in self.popen.stderr:
            if text in line:
                return
        raise AssertionError(f"ended with {self.popen.wait()}, without {text!r}")

    def ends(self):
        out, err = self.popen.communicate(timeout=90)
        assert "Traceback" not in err, err
        return out, err

    def kill(self):
        if self.popen.poll() is None:
            self.popen.kill()
        self.popen.communicate()


@pytest.fixture
def start():
    started = []

    def running(*arguments, **options):
        started.append(Running(*arguments, **options))
        return started[-1]

    yield running
    for each in started:
        each.kill()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (signal.SIGINT, "examining"),
        (signal.SIGTERM, "waiting"),
        (signal.SIGHUP, "examining"),
    ],
)
def test_a_signal_leaves_nothing(root, start, number, text):
    # nohup has children ignore SIGHUP, and so does the doctor.
    doctor = start(root, "--peer", before=["env", f"--default-signal={number.name[3:]}"])
    doctor.wait_for(text)
    wait_until(lambda: not nothing_left(root), "it has begun")
    pids = partners(doctor.popen.pid)
    # As a terminal does: the whole group gets it.
    os.killpg(doctor.popen.pid, number)
    out, err = doctor.ends()
    assert (doctor.popen.returncode, out) == (2, "")
    assert "stopped" in err
    assert nothing_left(root)
    assert not any(map(alive, pids))


def test_the_second_process_clears_up_when_the_first_is_killed(root, start):
    doctor = start(root, "--peer")
    doctor.wait_for("waiting")
    doctor.popen.kill()
    wait_until(lambda: nothing_left(root), "everything is removed")


def partners(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]


# -- two hosts ----------------------------------------------------------------------------------


def pair_of(root, start):
    """Two doctors that have met: first the one in whose workspace they work."""
    pair = [start(root, "--peer") for _ in range(2)]
    for each in pair:
        each.wait_for("together")
    (place,) = (where for where in (root / "doctor").iterdir() if (where / "together").is_dir())
    return sorted(pair, key=lambda each: place.name not in second_of(each).cmdline())


def second_of(doctor):
    (second,) = psutil.Process(doctor.popen.pid).children()
    return second


@pytest.mark.parametrize(
    ("number", "why", "leads"),
    [
        (signal.SIGINT, "it was stopped", False),
        (signal.SIGKILL, "it was killed", True),
    ],
)
def test_a_peer_that_ends_early_is_noticed(root, start, number, why, leads):
    ending, other = pair_of(root, start)[:: 1 if leads else -1]
    ending.popen.send_signal(number)
    out, err = other.ends()
    assert (other.popen.returncode, out) == (2, "")
    assert f"the other examiner has left: {why}; start it on both hosts again" in err
    ending.ends()
    wait_until(lambda: nothing_left(root), "everything is removed")


def test_three_come_and_two_of_them_meet(root, start):
    for patience in ("8", "50"):  # on a busy machine they may start one after the other's end
        trio = [start(root, "--peer", "--wait", patience) for _ in range(3)]
        codes = sorted([each.ends() and each.popen.returncode for each in trio])
        if codes != [2, 2, 2]:
            break
    assert codes[-1] == 2, "the third finds no other host"
    assert codes[:2] != [2, 2]
    assert nothing_left(root)


@pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="/dev/fuse cannot be used")
@pytest.mark.skipif(shutil.which("bindfs") is None, reason="bindfs is not installed")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
@pytest.mark.timeout(150)
def test_two_mounts_whose_caches_are_stale(tmp_path, start):
    """Each mount has its own locks, and its own cache, which it trusts for minutes."""
    disk = tmp_path / "disk"
    (disk / "queue").mkdir(parents=True, mode=0o700)
    with contextlib.ExitStack() as stack:
        mounts = [stack.enter_context(stale_mount(disk, tmp_path / name)) for name in "ab"]
        doctors = [start(each / "queue", "--peer", before=ELSEWHERE) for each in mounts]
        reports = [json.loads(doctor.ends()[0]) for doctor in doctors]
        assert nothing_left(disk / "queue")
    for report in reports:
        found = verdicts(report["between"])
        assert {name: found[name] for name in (*RACES, "hosts", "publication")} == dict.fromkeys(
            (*RACES, "hosts", "publication"), "ok"
        )
        relied = {f"sees {name}" for name in ("fresh listing", "fresh absence", "beat")}
        assert {name: found[name] for name in relied} == dict.fromkeys(relied, "ok")
        assert one(report["between"], "sees exists")["facts"]["missed"] == 8
        # bindfs keeps locks in each kernel.
        assert found["flock lock"] == "weak"
        settings = {each["name"]: each["value"] for each in report["settings"]}
        assert settings["lease"] < 60
        assert settings["watch"] == "auto"


@contextlib.contextmanager
def stale_mount(disk, folder):
    folder.mkdir()
    options = "attr_timeout=1,entry_timeout=300,negative_timeout=300"
    bind = ["bindfs", "-o", options, str(disk), str(folder)]
    done = subprocess.run(bind, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"bindfs cannot mount here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["fusermount", "-u", "-z", str(folder)], check=True)
