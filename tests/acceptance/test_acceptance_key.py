"""A spool with a signing key, or shared with a group, served from the command line."""

import contextlib
import os
import shutil
import stat
import sys

import pytest
from acceptance_harness import wait_until

KEY, OTHER_KEY = "the key of this project's spool", "the key of another project"
CALLER = """
import sys
from tasks import app, pid, square
from fsqueue.errors import FSQueueError
try:
    print(square(7).get(60)[0])
except FSQueueError as error:
    print(type(error).__name__, error)
"""


def make_key(site, name="key", content=KEY):
    path = site.base / name
    path.touch(mode=0o600)
    path.write_text(f"{content}\n", encoding="ascii")
    return str(path)


def complaint(site, **env):
    """What a worker that cannot start says: one line, and no traceback."""
    result = site.fsqueue("worker", "tasks:app", **env)
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("fsqueue: ")
    return line


def call(site, **env):
    """What a caller of the project prints who has other settings."""
    result = site.run(sys.executable, "-c", CALLER, **env)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture
def key(site):
    return make_key(site)


# -- the key ------------------------------------------------------------------------------------


def test_callers_and_slots_have_the_key_of_the_environment(site, kind, key):
    worker = site.worker(kind, 2, FSQUEUE__SIGNING_KEY_FILE=key).wait_for_start()

    assert call(site, FSQUEUE__SIGNING_KEY_FILE=key) == "49"
    assert "another key" not in worker.text()


def test_callers_and_slots_have_the_key_of_the_project_file(site, kind, key):
    (site.project / "fsqueue.toml").write_text(f'signing_key_file = "{key}"\n', encoding="ascii")
    site.worker(kind, 2).wait_for_start()

    assert call(site) == "49"


def test_a_caller_without_the_key_is_told_the_variable(site, key):
    site.worker("thread", 1, FSQUEUE__SIGNING_KEY_FILE=key).wait_for_start()

    said = call(site)
    assert said.startswith("SpoolError ")
    assert "FSQUEUE__SIGNING_KEY_FILE" in said
    assert call(site, FSQUEUE__SIGNING_KEY_FILE=key) == "49"


def test_a_worker_with_another_key_or_none(site, key):
    assert call_later(site, FSQUEUE__SIGNING_KEY_FILE=key)
    other = make_key(site, "other", OTHER_KEY)

    assert "signed with another key" in complaint(site, FSQUEUE__SIGNING_KEY_FILE=other)
    assert "set FSQUEUE__SIGNING_KEY_FILE" in complaint(site)


def call_later(site, **env):
    """Make calls that no worker has run yet; this makes the spool, too."""
    result = site.run(sys.executable, "submit.py", **env)
    assert result.returncode == 0, result.stderr
    return result.stdout.split()[0]


def test_a_key_for_a_spool_that_has_none(site, key):
    call_later(site)

    assert "use a new folder" in complaint(site, FSQUEUE__SIGNING_KEY_FILE=key)


@pytest.mark.parametrize(
    ("spoil", "part"),
    [
        (lambda path: os.chmod(path, 0o640), "chmod 600"),
        (lambda path: os.chmod(path, 0o604), "chmod 600"),
        (os.unlink, "No such file"),
        (lambda path: os.truncate(path, 3), "expected 16 to 4096"),
    ],
    ids=["group", "others", "missing", "short"],
)
def test_a_key_that_cannot_be_used(site, key, spoil, part):
    spoil(key)

    line = complaint(site, FSQUEUE__SIGNING_KEY_FILE=key)
    assert part in line
    assert key in line
    assert not (site.root / "spool.json").exists()


def test_a_call_that_the_key_has_not_signed_is_set_aside(site, key):
    """Made without the key in a spool of its own, and put into the signed one."""
    site.worker("thread", 1, FSQUEUE__SIGNING_KEY_FILE=key).wait_for_start()
    other = site.base / "other-spool"
    identity = call_later(site, FSQUEUE__ROOT=str(other))
    (forged,) = other.glob(f"pending/*/*/{identity}.1")
    slot = site.root / forged.parent.relative_to(other)
    # At once: the worker removes a slot that is empty.
    shutil.copytree(forged.parent, site.base / "copy")
    slot.parent.mkdir(parents=True, exist_ok=True)
    (site.base / "copy").rename(slot)

    reason = site.root / "quarantine" / f"{identity}.1.reason"
    wait_until(reason.exists, "the call is in quarantine")
    wait_until(lambda: "is not signed" in reason.read_text("utf-8"), reason.read_text)
    assert call(site, FSQUEUE__SIGNING_KEY_FILE=key) == "49"


# -- a group ------------------------------------------------------------------------------------


def test_a_worker_and_its_callers_share_with_a_group(site, kind):
    group = str(os.getgid())
    site.worker(kind, 1, FSQUEUE__GROUP=group).wait_for_start()

    assert call(site, FSQUEUE__GROUP=group) == "49"
    for path in [site.root, *site.root.rglob("*")]:
        with contextlib.suppress(FileNotFoundError):  # the worker goes on
            found = path.stat().st_mode
            assert stat.S_IMODE(found) == (0o2770 if stat.S_ISDIR(found) else 0o660), path


def test_a_group_that_is_none(site):
    line = complaint(site, FSQUEUE__GROUP="no-such-group")
    assert "no-such-group" in line
    assert "id -Gn" in line


def test_a_spool_of_somebody_who_does_not_share_it(site):
    call_later(site)

    assert "chmod 2770" in complaint(site, FSQUEUE__GROUP=str(os.getgid()))
    site.root.chmod(0o777)
    assert "chmod go-w" in complaint(site)
