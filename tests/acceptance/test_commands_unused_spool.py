"""Commands on a folder that is not a spool, or not yet."""

import json

import pytest

from fsqueue.cli import exits


@pytest.fixture
def spool(site):
    """A spool that exists, in a folder of its own."""
    site.root = site.base / "shared" / "queue"
    env = {"FSQUEUE__ROOT": str(site.root)}
    done = site.fsqueue("submit", "square", "7", "--app", "tasks", **env)
    assert done.returncode == exits.OK, done.stderr
    return site


@pytest.mark.parametrize(
    "wrong", ["shared", "shared/quue", "shared/queue/pending", "shared/queue/x/y", "shard/queue"]
)
def test_a_root_without_a_spool_is_an_error_that_names_the_nearest_one(spool, wrong):
    before = sorted(spool.base.rglob("*"))
    path = spool.base / wrong
    configured = str(spool.root) if wrong.startswith("shard") else ""
    done = spool.fsqueue("status", "--root", str(path), FSQUEUE__ROOT=configured)
    assert done.returncode == exits.NOT_FOUND
    assert f"there is no spool in {path}. Did you mean --root {spool.root}?" in done.stderr
    assert "Traceback" not in done.stderr
    assert {*sorted(spool.base.rglob("*"))} - {*before} == set()


def test_a_root_far_from_any_spool_is_an_error_too(site):
    done = site.fsqueue("list", "--root", str(site.base / "none"), FSQUEUE__ROOT="")
    assert done.returncode == exits.NOT_FOUND
    assert f"there is no spool in {site.base / 'none'}, nor near it" in done.stderr
    assert not (site.base / "none").exists()


LOOKING = ("status", "workers", "list", "stats", "metrics", "fleet list", "triggers --app tasks")


@pytest.mark.parametrize("command", LOOKING)
@pytest.mark.parametrize("form", [(), ("--json",)], ids=["text", "json"])
def test_a_configured_root_that_is_not_in_use_yet_is_shown_as_empty(site, command, form):
    done = site.fsqueue(*command.split(), *form)
    assert done.returncode == exits.OK, done.stderr
    notice = f"{site.root} is not in use yet: the first call or worker creates the spool there"
    assert done.stderr == f"fsqueue: {notice}\n"
    if form:
        json.loads(done.stdout)
    assert not site.root.exists()


def test_the_default_root_that_is_not_in_use_yet_is_shown_as_empty(site):
    temporary = site.base / "tmp"
    temporary.mkdir()
    done = site.fsqueue("list", "--app", "tasks", FSQUEUE__ROOT="", TMPDIR=str(temporary))
    assert (done.returncode, done.stdout) == (exits.OK, "0 calls\n")
    assert "is not in use yet" in done.stderr
    assert not list(temporary.iterdir())


@pytest.mark.parametrize(
    "command",
    ["show abcdefghij-1", "logs abcdefghij-1", "wait abcdefghij-1", "cancel abcdefghij-1"],
)
def test_a_call_in_a_root_that_is_not_in_use_yet_is_not_found(site, command):
    done = site.fsqueue(*command.split())
    assert done.returncode == exits.NOT_FOUND
    assert "Traceback" not in done.stderr
    assert not site.root.exists()
