"""Turns, chains and triggers between two NFS clients with a worker each."""

from collections import Counter

from nfs_harness import LOOK
from support import wait_until

TURNS, ORDERS = 20, 5


def test_turns_never_overlap_chains_cross_and_triggers_fire_once(site, record_property):
    marks = {"MARKS": site.folder}
    workers = [site.worker(name, app="nfs_features:app", queue=name, **marks) for name in "ab"]
    site.on_server(f"os.mkdir('{site.exported_marks}/turns')")
    site.allow("turns/free.0")
    answer = site.caller("a", "features", f"{site.folder}/turns", TURNS, ORDERS, **marks).answer()
    assert answer["path"] == ["a", "b", "a", "b"]
    assert len(answer["turns"]) == TURNS
    assert site.on_server(f"os.listdir('{site.exported_marks}/turns')") == [f"free.{TURNS}"]
    record_property("turns taken on each client", dict(sorted(Counter(answer["turns"]).items())))

    def runs(kind):
        return sorted(
            int(number) for name, _, number in (run.partition("-") for run in site.runs())
            if name == kind
        )  # fmt: skip

    wait_until(lambda: len(runs("tick")) >= 4, timeout=30, what="four ticks", pause=LOOK)
    wait_until(lambda: len(runs("order")) >= ORDERS, timeout=30, what="all orders", pause=LOOK)
    for worker in workers:
        worker.stop()
    assert runs("order") == list(range(ORDERS))
    ticks = runs("tick")
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    assert site.files("running") == site.files("quarantine") == []
