"""Junk of every kind in every folder: no command and no duty stops, hangs or crashes."""

import os
import shutil
import signal
import sys

import pytest
from acceptance_harness import KINDS, Site, wait_until
from cli_reference import commands
from command_server import LIKE_OTHERS
from junk import SAMPLES, open_up, plant
from support import WHOLE

from fsqueue.spool.disk.identity import boot_id, host_name
from fsqueue.spool.fleets.fleets import FleetFiles
from fsqueue.spool.fleets.records import FleetRecord, Member
from fsqueue.spool.format.layout import Layout

ENV = {"FSQUEUE__HEARTBEAT": "0.2", "FSQUEUE__LEASE": "2"}
DEAD = "dead-2-aaaaaa"


def test_there_is_junk_for_every_folder():
    tops = {f"/root/{sample.partition('/')[0]}" for sample in SAMPLES if "/" in sample}
    layout = Layout("/root")
    assert {*layout.folders, layout.fleets_folder} == tops


@pytest.fixture(scope="module", params=KINDS)
def site(request, tmp_path_factory):
    """A site full of junk, with a worker that is held by nothing of it."""
    if not os.geteuid() and shutil.which(LIKE_OTHERS[0]) is None:
        pytest.skip("needs setpriv")
    site = Site(tmp_path_factory.mktemp("junk"))
    planted = []
    try:
        site.open()
        site.tasks.app.store.files.sync_clock()
        site.before = () if os.geteuid() else LIKE_OTHERS
        site.kind = request.param
        site.kept = site.tasks.square(3)
        with_worker(site, lambda: site.kept.get(60))
        found_fleet(site.tasks.app.store.files)
        planted += plant(site.root)
        yield site
    finally:
        site.close()
        open_up(planted)


def found_fleet(files):
    """A fleet of which one job runs and has a log."""
    fleet = FleetFiles(files, "fleet")
    fleet.define(
        FleetRecord(
            name="fleet",
            system="slurm",
            app_id="acceptance",
            queues=("default",),
            walltime=600.0,
            slots=1,
        )
    )
    fleet.begin("realjob", 1)
    fleet.slots.take("realjob", 1, 1)
    fleet.submitted("realjob", {1: "77"})
    fleet.note_birth(Member("realjob", 1))
    fleet.note("submitted a job")
    with open(f"{fleet.logs}/77", "w", encoding="ascii") as log:
        log.write("the log of the job\n")


def with_worker(site, action):
    worker = site.worker(site.kind, 2, before=site.before, **ENV).wait_for_start()
    try:
        return action()
    finally:
        worker.signal(signal.SIGTERM)
        worker.wait()
        site.log = worker.text()


def dead_worker(site, invocation):
    """A worker that has died with a call, and that only its folder tells of."""
    (path,) = site.root.glob(f"pending/acceptance.default/*/{invocation.id}.1")
    folder = site.root / "running" / DEAD
    folder.mkdir()
    path.rename(folder / path.name)
    record = (
        f'{{"name":"{DEAD}","host":"{host_name()}","boot":"{boot_id()}","pid":1,"start":"x",'
        '"queues":[],"runner":"thread","concurrency":1,"started":0}'
    )
    (site.root / "workers" / f"{DEAD}.json").write_text(record, "ascii")


def run_command(site, *words):
    return site.run(
        *(*site.before, sys.executable, "-m", "fsqueue", *words), FSQUEUE__APP="tasks:app"
    )


def test_calls_run_and_maintenance_goes_on(site):
    resumed = run_command(site, "resume", "default")  # the test of `pause` may have come first
    assert resumed.returncode == 0, resumed.stderr
    lost = site.tasks.square(4)
    dead_worker(site, lost)
    visits = site.folder("visits")

    def work():
        assert lost.get(60)[0] == 16
        assert site.tasks.square(5).get(60)[0] == 25
        first = site.tasks.square(6)
        assert site.tasks.square_of(first).get(60) == 36 * 36
        for visit in [site.tasks.visit(visits.folder, number) for number in range(6)]:
            assert visit.get(60) <= 2
        stamp = site.root / "locks" / "upkeep"
        for _ in range(3):
            before = stamp.stat().st_mtime_ns
            wait_until(lambda seen=before: stamp.stat().st_mtime_ns != seen, "upkeep")

    with_worker(site, work)
    assert "Traceback" not in site.log, site.log
    assert "failed, trying again" not in site.log, site.log


COMMANDS = {
    "worker": None,  # above
    "doctor": ("{root}",),
    "status": (),
    "top": None,
    "monitor": None,  # it shows what the commands print
    "workers": (),
    "stats": (),
    "metrics": (),
    "list": (),
    "show": ("{kept}",),
    "failures": (),
    "runs": (),
    "report": ("-o", "-"),
    "logs": ("{kept}",),
    "wait": ("{kept}",),
    "result": ("{kept}",),
    "submit": ("square", "--arg", "7"),
    "emit": ("something",),
    "triggers": (),
    "cancel": ("{pending}",),
    "retry": ("--all-failed",),
    "requeue": ("{running}", "--yes"),
    "pause": ("default",),
    "resume": ("default",),
    "purge": ("default", "--yes"),
    "drain": ("--all",),
    "gc": (),
    "config": (),
    "version": (),
    "completion": None,  # it opens no spool
    "fleet": None,  # a group
    "fleet list": (),
    "fleet show": ("fleet",),
    "fleet logs": ("fleet",),
    "fleet scale": ("fleet", "1"),
    "fleet pause": ("fleet",),
    "fleet resume": ("fleet",),
    # They submit jobs and cancel them, or start workers: see `tests/launch`.
    **dict.fromkeys(("launch", "autoscale", "up", "fleet stop", "fleet forget")),
}
PENDING = ("list", "--state", "pending"), ("list", "--state", "running"), ("list", "--json")
# What the commands above may leave in tables.
AS_JSON = [
    (*name.split(), *rest, "--json")
    for name, rest in COMMANDS.items()
    if rest is not None and name != "list"
]
EXPIRED = [("gc", "--older-than", "30d"), ("list", "--state", "failed")]
UNKNOWN = [(name, "zzzzzzzz-1") for name in ("show", "logs", "wait", "result", "cancel", "retry")]


def test_every_command_is_tried():
    assert set(commands()) == set(COMMANDS)


@pytest.fixture
def ids(site):
    pending, running = site.tasks.square(8), site.tasks.square(9)
    (path,) = site.root.glob(f"pending/acceptance.default/*/{running.id}.1")
    folder = site.root / "running" / "alive-3-aaaaaa"
    folder.mkdir(exist_ok=True)
    path.rename(folder / path.name)
    return {"pending": pending.id, "running": running.id, "kept": site.kept.id, "root": site.root}


EVERY = [(*name.split(), *rest) for name, rest in COMMANDS.items() if rest is not None]


# Commands know nothing of the slots of the worker that ran the call that is kept.
@pytest.mark.parametrize("site", ["process", "thread"] if WHOLE else ["process"], indirect=True)
@pytest.mark.parametrize("command", [*EVERY, *AS_JSON, *PENDING, *EXPIRED, *UNKNOWN], ids=" ".join)
def test_a_command(site, ids, command):
    ended = run_command(site, *(part.format_map(ids) for part in command))
    text = ended.stdout + ended.stderr
    assert "Traceback" not in text
    assert "the shared directory fails" not in text
    assert "root:x:" not in text
    # What cannot be run again is listed.
    expected = {3} if command in UNKNOWN else {1} if command[0] == "retry" else {0}
    if command[0] == "doctor":
        expected = {0, 1}  # a busy machine has weak points
    assert ended.returncode in expected, text
