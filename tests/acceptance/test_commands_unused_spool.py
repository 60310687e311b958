"""Commands on a folder that is not a spool, or not yet."""

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
