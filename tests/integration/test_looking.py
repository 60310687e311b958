"""Looking never writes (P12): read-only mounts, copies, full disks, files that vanish."""

from __future__ import annotations

import ast
import os
import pathlib
import random
import shutil
import subprocess

import pytest
from support import PATIENCE

import fsqueue as fsqueue_package
import fsqueue.spool
from fsqueue import State
from fsqueue.cli import exits
from fsqueue.spool.admin.glance import Looks
from fsqueue.spool.admin.listing import call_details, list_calls
from fsqueue.spool.disk.looking import LookingFilesystem
from fsqueue.spool.store.open_spool import open_store
from integration import sample_tasks
from integration.conftest import working

UNPICKLES = {"pickle", "cloudpickle", "shelve", "marshal"}
pytestmark = pytest.mark.leaves_strays


@pytest.fixture
def ids(app, tmp_path):
    """A spool with calls in all states that need no worker; its ids by state."""
    add = app.task(sample_tasks.add)
    with working(app):
        good, bad = add(1), app.task(sample_tasks.fail_before)(str(tmp_path / "ran"), 9)
        assert good.get(timeout=PATIENCE) == 2
        with pytest.raises(ConnectionError):
            bad.get(timeout=PATIENCE)
    app.store.files.make_folders(app.store.layout.running("gone-1-aaaaaa"))
    waiting, gone = add(2), add.options(countdown=1000)(3)
    assert gone.cancel()
    return {"succeeded": good.id, "failed": bad.id, "pending": waiting.id, "cancelled": gone.id}


def looks_of(ids):
    yield from ([name] for name in ("status", "workers", "stats", "metrics", "list"))
    yield ["fleet", "list"]
    yield ["report", "--json"]
    for command in ("show", "logs", "wait", "result"):
        for state, invocation_id in ids.items():
            if state != "pending" or command == "show":
                yield [command, invocation_id]


def tree(root):
    """All names in a spool, with their times."""
    found = {}
    for folder, _, names in os.walk(root):
        for path in (folder, *(os.path.join(folder, name) for name in names)):
            status = os.lstat(path)
            found[path] = status.st_mtime_ns, status.st_ctime_ns, status.st_size
    return found


def expected(command, ids):
    """The exit code: that of `wait` and `result` tells how the call has ended."""
    negative = command[0] in {"wait", "result"} and command[1] != ids["succeeded"]
    return exits.NEGATIVE if negative else exits.OK


def test_no_look_changes_anything(app, fsqueue, ids):
    before = tree(app.store.layout.root)
    for command in looks_of(ids):
        fsqueue(*command, expect=expected(command, ids))
        assert tree(app.store.layout.root) == before, command


def test_looks_at_a_copy(app, fsqueue, ids, tmp_path):
    """A copy needs no empty folders: some archives leave them out."""
    copy = tmp_path / "copy"
    shutil.copytree(app.store.layout.root, copy)
    for folder, _, _ in os.walk(copy, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)
    copy.chmod(0o755)
    before = tree(copy)
    for command in looks_of(ids):
        done = fsqueue(*command, "--root", copy, root=False, expect=expected(command, ids))
        assert not done.stderr or command[0] in {"result", "logs"}, command
    assert tree(copy) == before


@pytest.fixture
def mounted(tmp_path):
    """Mount something; it is unmounted when the test ends."""
    places = []

    def mount(*arguments):
        place = tmp_path / f"mount-{len(places)}"
        place.mkdir()
        if (
            os.geteuid()
            or subprocess.run(
                ["mount", *arguments, place], check=False, capture_output=True
            ).returncode
        ):
            pytest.skip("needs to mount")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", "--lazy", place], check=True)


def test_looks_at_a_read_only_mount(app, fsqueue, ids, mounted):
    place = mounted("-t", "tmpfs", "-o", "size=8m,mode=700", "tmpfs")
    shutil.copytree(app.store.layout.root, place, dirs_exist_ok=True)
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    for command in looks_of(ids):
        fsqueue(*command, "--root", place, root=False, expect=expected(command, ids))


def test_looks_at_a_full_disk(app, fsqueue, ids, mounted):
    place = mounted("-t", "tmpfs", "-o", "size=8m,mode=700,nr_inodes=2000", "tmpfs")
    shutil.copytree(app.store.layout.root, place, dirs_exist_ok=True)
    with pytest.raises(OSError, match="No space"):
        (place / "ballast").write_bytes(bytes(9 << 20))
    for command in looks_of(ids):
        fsqueue(*command, "--root", place, root=False, expect=expected(command, ids))


def test_no_module_that_reads_a_spool_imports_pickle():
    folder = pathlib.Path(fsqueue_package.spool.__file__).parent
    paths = list(folder.rglob("*.py"))
    assert len(paths) > 60
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not {name.partition(".")[0] for name in names} & UNPICKLES, path
            assert not any(name.startswith("fsqueue.codec") for name in names), path


class Vanishing(LookingFilesystem):
    """Removes some of what it has listed, before anything else is asked of it."""

    dice = random.Random(1)

    def names(self, path, **options):
        found = super().names(path, **options)
        for name in found:
            victim = os.path.join(path, name)
            if self.dice.random() < 0.1 and victim.count("/") > 4:
                if os.path.isdir(victim):
                    shutil.rmtree(victim, ignore_errors=True)
                elif os.path.exists(victim):
                    os.unlink(victim)
        return found


def test_files_vanish_during_a_look(app, ids, tmp_path):
    for number in range(30):
        copy = tmp_path / str(number)
        shutil.copytree(app.store.layout.root, copy)
        copy.chmod(0o700)
        store = open_store(copy, Vanishing(), look=True)
        glance = Looks(store, heartbeat=2.0, result_ttl=1e6).look()
        assert len(glance.snapshot.queues) <= 1
        assert {each.state for each in list_calls(store)} <= set(State)
        if os.path.exists(store.layout.kept(ids["succeeded"])):
            assert call_details(store, ids["succeeded"]).state is State.SUCCEEDED


def test_a_step_that_writes_is_refused_in_a_look(app, ids):
    store = open_store(app.store.layout.root, look=True)
    for step in (
        lambda: store.files.make_folders(store.layout.queue("other")),
        lambda: store.files.replace_file(store.layout.latest, [b""]),
        lambda: store.fs.unlink(store.layout.info),
        lambda: store.fs.touch(store.layout.info),
        lambda: store.fs.set_time(store.layout.info, 1.0),
        lambda: store.withdraw(store.layout.info),
    ):
        with pytest.raises(OSError, match="only looks"):
            step()


def test_a_remote_spool_is_looked_at_without_touching_folders(app, ids):
    before = tree(app.store.layout.root)

    class Remote(LookingFilesystem):
        def _call(self, verb, function, /, *args, **kwargs):
            seen.append(verb)
            return super()._call(verb, function, *args, **kwargs)

    seen = []
    store = open_store(app.store.layout.root, Remote(remote=True), look=True)
    Looks(store, heartbeat=2.0, result_ttl=1e6).look()
    assert {each.id for each in list_calls(store)} == set(ids.values())
    assert "fstat" in seen
    assert tree(app.store.layout.root) == before
