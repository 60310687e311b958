"""Calls of executors between NFS clients: scikit-learn by the joblib backend."""

import pytest
from nfs_harness import LOOK
from support import wait_until

SHORT = {"FSQUEUE__LEASE": "2"}
# Seconds for each step: on a busy machine a guest takes a minute to import scikit-learn.
IMPORTS = 200
FITS = 8 * 3 + 1  # each of the grid in each fold, and the best one again in the caller


@pytest.mark.timeout(3 * IMPORTS)
def test_a_grid_search_survives_the_death_of_a_worker_s_host(site, record_property):
    pytest.importorskip("sklearn")
    workers = [site.executor_worker(client, slots=2, **SHORT) for client in "ab"]
    caller = site.program("a", "nfs_grid.py", site.folder, **SHORT)
    caller.wait_for("ready", timeout=IMPORTS)
    # In the middle: a has finished some, and b has begun some and never finishes them.
    wait_until(
        lambda: {"a", "b"} <= set(site.runs()), timeout=IMPORTS, what="fits on both", pause=LOOK
    )
    begun_on_b = site.runs().count("b")
    site.lab.kill("b")
    answer = caller.answer(timeout=IMPORTS)
    assert answer == {"count": 9, "wrong": []}
    assert "is dead" in workers[0].log or "was silent" in workers[0].log
    runs = site.runs()
    assert runs.count("a") >= FITS
    record_property("fits that b had begun, and a repeated", begun_on_b)
    workers[0].stop()
    # Not even the second outcome of a call that b had ended, and could not put away before its
    # death: its caller removes that when it leaves.
    left = {top: site.files(top) for top in ("pending", "running", "quarantine", "done")}
    assert not any(left.values()), left
