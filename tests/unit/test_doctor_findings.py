"""The doctor's findings and advice, from mount tables and from figures."""

import tomllib

import pytest

from fsqueue.config import load_config
from fsqueue.doctor.advice import as_toml, recommend
from fsqueue.doctor.findings import Finding, Verdict, in_words, worst
from fsqueue.doctor.mount_options import judge
from fsqueue.doctor.races import CONTESTS
from fsqueue.doctor.races import judge as judge_race
from fsqueue.spool.disk.mounts import Mount, find_mount

TABLE = r"""
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
30 22 0:25 / /dev/shm rw,nosuid,nodev - tmpfs tmpfs rw,size=4G
41 22 0:50 / /mnt/nfs rw,relatime - nfs4 server:/export rw,vers=4.2,hard,local_lock=none
42 41 0:51 / /mnt/nfs/a\040b rw - nfs server:/other rw,vers=3,soft,nolock,local_lock=all
43 22 254:0 /home /home rw - ext4 /dev/vda rw
44 22 0:60 / /nameless rw - fuse.x  rw
""".strip()


@pytest.mark.parametrize(
    ("path", "device", "point"),
    [
        ("/mnt/nfs/queue", "0:50", "/mnt/nfs"),
        ("/mnt/nfsqueue", "254:0", "/"),
        ("/mnt/nfs/a b/queue", "0:51", "/mnt/nfs/a b"),
        ("/home/me", "254:0", "/home"),
        ("/dev/shm", "0:25", "/dev/shm"),
        ("/home/subvolume", "0:99", "/home"),
        ("/mnt/nfs/not/there", "", "/mnt/nfs"),
        ("/nameless", "0:60", "/nameless"),
    ],
)
def test_the_mount_of_a_path(path, device, point):
    mounts = map(Mount.parse, TABLE.splitlines())
    assert find_mount(path, mounts, device).point == point


@pytest.mark.parametrize(
    ("kind", "options", "verdict", "word"),
    [
        ("nfs4", "rw,hard,vers=4.2,local_lock=none", None, ""),
        ("nfs4", "rw,soft", Verdict.WEAK, "soft"),
        ("nfs", "rw,hard,nolock", Verdict.WEAK, "locks"),
        ("nfs", "rw,local_lock=all", Verdict.WEAK, "locks"),
        ("nfs4", "rw,local_lock=posix", None, ""),
        ("nfs4", "ro", Verdict.BAD, "read-only"),
        ("nfs4", "rw,noac", Verdict.OK, "cached"),
        ("cifs", "rw,cache=loose", Verdict.BAD, "cache=loose"),
        ("lustre", "rw,localflock", Verdict.WEAK, "locks"),
        ("lustre", "rw,flock", None, ""),
        ("fuse.s3fs", "rw", Verdict.BAD, "object store"),
        ("ext4", "rw", None, ""),
    ],
)
def test_what_a_mount_means(kind, options, verdict, word):
    found = judge(Mount("0:1", "/mnt", kind, "server:/x", tuple(options.split(","))))
    assert [each[0] for each in found] == ([] if verdict is None else [verdict])
    assert all(word in meaning for _, meaning, _ in found)


def test_the_worst_finding_decides():
    findings = [Finding(str(verdict), verdict, "", "") for verdict in Verdict]
    assert worst(findings) is Verdict.BAD
    assert worst(findings[:2]) is Verdict.WEAK
    assert worst([]) is Verdict.OK


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0 us"), (12e-6, "12 us"), (3.44e-3, "3.4 ms"), (0.9, "900 ms"), (28, "28 s")],
)
def test_durations_in_words(seconds, text):
    assert in_words(seconds) == text


@pytest.mark.parametrize(
    ("mine", "theirs", "doubles", "nobody"),
    [({0, 2}, {1, 3}, 0, 0), ({0, 1, 2}, {2, 3}, 1, 0), ({0}, {1}, 0, 2), (set(), set(), 0, 4)],
)
def test_winners_of_races(mine, theirs, doubles, nobody):
    rename, _, create = CONTESTS
    right = doubles == nobody == 0
    finding = judge_race(rename, 4, mine, theirs)
    assert finding.verdict is (Verdict.OK if right else Verdict.BAD)
    assert (finding.facts["doubles"], finding.facts["nobody"]) == (doubles, nobody)
    # Nothing rests on exclusive creation.
    assert judge_race(create, 4, mine, theirs).verdict is (Verdict.OK if right else Verdict.WEAK)


def found(**facts):
    names = {"sees_beat": "sees beat", "flock": "flock lock", "pushed": "wake-ups"}
    return [
        Finding(names.get(key, key), Verdict.OK, "", "", "", value) for key, value in facts.items()
    ]


REMOTE = {"remote": True}


@pytest.mark.parametrize(
    ("findings", "name", "value"),
    [
        (found(events={"events": True}), "watch", "auto"),
        (found(events={"events": False}), "watch", "poll"),
        (found(filesystem=REMOTE, events={"events": False}), "watch", "auto"),
        (found(filesystem=REMOTE, pushed={"push": True}), "watch", "auto"),
        (found(filesystem=REMOTE, pushed={"push": False}), "watch", "auto"),
        (found(), "poll_interval", 1.0),
        (found(filesystem=REMOTE, latency={"list": 1e-4, "touch": 1e-4}), "poll_interval", 0.5),
        (found(filesystem=REMOTE, latency={"list": 3e-3, "touch": 1e-3}), "poll_interval", 2.0),
        (found(filesystem=REMOTE, latency={"list": 1.0, "touch": 1.0}), "poll_interval", 5.0),
        (found(clock={"granularity": 0.01}), "heartbeat", 2.0),
        (found(clock={"granularity": 2.0}), "heartbeat", 4.0),
        (found(sees_beat={"slowest": 3.2}), "heartbeat", 7.0),
        (found(sees_beat={"slowest": 3.2}), "lease", 105.0),
        (found(filesystem=REMOTE, flock={"excludes": True}), "lease", 60.0),
        (found(filesystem=REMOTE, flock={"excludes": False}), "lease", 30.0),
        (found(filesystem=REMOTE, sees_beat={"slowest": 15.0}), "lease", 300.0),
    ],
)
def test_settings(findings, name, value):
    settings = {each.name: each.value for each in recommend(findings)}
    assert settings[name] == value


@pytest.mark.parametrize("late", [0.0, 1.0, 15.0, 1000.0])
def test_any_advice_is_a_valid_configuration(tmp_path, late):
    settings = recommend(found(sees_beat={"slowest": late}, durability={"fsync": True}))
    root = 'a "quoted" \\ folder'
    text = as_toml(root, settings)
    (tmp_path / "fsqueue.toml").write_text(text, "utf-8")
    conf = load_config({}, environ={}, start=tmp_path)
    assert conf.root == tmp_path / root
    for each in settings:
        assert getattr(conf, each.name) == each.value
        assert tomllib.loads(text)[each.name] == each.value
