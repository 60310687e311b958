"""Calls between two NFS clients that nothing happens to."""


def test_a_hundred_blocking_calls_and_those_that_raise(site, record_property):
    worker = site.worker("b")
    answer = site.caller("a", "blocking", 100).answer()
    assert answer["wrong"] == []
    record_property("median of 100 calls, ms", round(1000 * answer["median"], 1))
    record_property("slowest of 100 calls, ms", round(1000 * answer["max"], 1))
    assert site.caller("a", "refused", 10).answer()["wrong"] == []
    worker.stop()
    site.reconcile()
    assert len(site.files("failed")) == 10


def test_a_fan_out_over_workers_of_two_clients(site, record_property):
    caller = site.caller("a", "squares", site.local, 300)
    client = caller.published()
    workers = [site.worker(name) for name in "ab"]
    answer = caller.answer()
    assert answer["wrong"] == []
    assert answer["count"] == 300
    record_property("seconds for 300 pending calls, two workers", round(answer["seconds"], 1))
    for worker in workers:
        worker.stop()
    runs = [*site.local_runs("a"), *site.local_runs("b")]
    assert sorted(map(int, runs)) == list(range(300))
    site.reconcile(f"{client}-{number}" for number in range(1, 301))


def test_each_of_two_thousand_calls_has_one_claimant(site, record_property):
    assert site.caller("a", "publish", 2000).answer() == {"ids": 2000}
    published = site.files("pending")
    claimants = [site.script(name, "nfs_claims.py", site.local) for name in "ab"]
    site.allow("go")
    for claimant in claimants:
        claimant.wait_for("claimed ")
        record_property(f"client {claimant.client}", claimant.printed.splitlines()[-1])
    claims = {name: site.local_runs(name) for name in "ab"}
    assert sorted([*claims["a"], *claims["b"]]) == published
    assert site.files("running") == published
    assert site.files("pending") == []
    assert claims["a"]
    assert claims["b"]
    site.allow("release")
    for claimant in claimants:
        claimant.ends()
    assert site.files("pending") == published
    assert site.files("running") == []


def test_states_are_seen_though_nobody_waits(site):
    """Who asks early is told "no such outcome", which NFS clients remember for half a minute."""
    worker = site.worker("b")
    caller = site.caller("a", "polled", site.folder)
    invocation_id = caller.published()
    observer = site.caller("b", "watched", invocation_id)
    for process in (caller, observer):
        process.wait_for("running")
    site.allow("release")
    assert caller.answer(timeout=10)["result"] == ["first", "b"]
    assert observer.answer(timeout=10)["states"][-1] == "succeeded"
    worker.stop()
    site.reconcile([invocation_id])


def test_nothing_is_lost_when_its_slot_is_removed_by_another_client(site):
    """The mover's kernel knows the slot, and takes the source for gone when the server does not."""
    with site.steps("a") as mover, site.steps("b") as remover:
        move_to_and_fro(site, mover, remover)
    assert len(site.files("pending")) == 20


def move_to_and_fro(site, mover, remover):
    mover(
        "from pathlib import Path\n"
        "from fsqueue.spool.store.open_spool import open_store\n"
        f"store = open_store(Path({site.root!r}))\n"
        f"os.mkdir('{site.root}/pending/nfs.default')"
    )
    for number in range(20):
        source = f"{site.root}/tmp/{number}"
        slot = f"{site.root}/pending/nfs.default/slot-{number}"
        mover(
            f"store.fs.create({source!r}, [b'content']); "
            f"store.files.move({source!r}, '{slot}/{number}')"
        )
        mover(f"os.rename('{slot}/{number}', {source!r})")
        # It lists the slot first, as a worker does; then its removal is one call.
        remover(f"os.listdir(os.path.dirname({slot!r})); os.listdir({slot!r}); os.rmdir({slot!r})")
        assert mover(f"store.files.move({source!r}, '{slot}/{number}')")
