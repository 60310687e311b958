"""GPUs by name, in real workers: nothing is given twice, and bodies see what is theirs."""

import pytest

ONE = {"gpu": 1}
NAMES = "7,GPU-b"


def seen(site, needed, folder=None):
    task = site.tasks.gpus_seen
    return (task.options(resources=needed) if needed else task)(folder)


def as_shown(kind, devices):
    """The value of the variable: threads share the worker's, which has none here."""
    return ",".join(devices) if kind == "process" else None


@pytest.mark.parametrize(("needed", "at_once"), [(ONE, 2), ({"gpu": 0.5}, 4), ({"gpu": 2}, 1)])
def test_calls_at_once_share_no_more_than_there_is(site, kind, needed, at_once):
    site.worker(kind, 5, "--gpus", NAMES).wait_for_start()
    marks = site.folder("marks")
    calls = [seen(site, needed, marks.folder) for _ in range(at_once + 1)]
    marks.wait_for_starts(at_once)
    seen(site, None).get(timeout=60)  # with other free slots, no more of them have begun
    assert len(marks.pids("starts")) == at_once
    marks.release()
    found = [each.get(timeout=60) for each in calls]

    for variable, devices, _ in found:
        assert variable == as_shown(kind, devices)
        assert len(devices) == -(-needed["gpu"] // 1)
    devices = sorted(devices for _, devices, _ in found)
    if needed == ONE:
        assert {*devices} == {("7",), ("GPU-b",)}
    elif needed == {"gpu": 2}:
        assert devices == [("7", "GPU-b")] * 2
    else:
        assert devices.count(("7",)) in {2, 3}, "at most two halves of each at a time"
        assert {*devices} == {("7",), ("GPU-b",)}


def test_a_process_is_replaced_before_it_gets_other_gpus(site):
    site.worker(
        "process", 1, "--gpus", NAMES, CUDA_VISIBLE_DEVICES="of-the-worker"
    ).wait_for_start()
    plain, one, again, two, half, last = (
        seen(site, needed).get(timeout=60)
        for needed in (None, ONE, ONE, {"gpu": 2}, {"gpu": 0.5}, None)
    )
    assert plain[:2] == ("of-the-worker", ())
    assert one[:2] == again[:2] == half[:2] == ("7", ("7",))
    assert two[:2] == ("7,GPU-b", ("7", "GPU-b"))
    assert last[:2] == ("of-the-worker", ())
    assert plain[2] == one[2] == again[2], "it goes on with the same GPU"
    assert len({one[2], two[2], half[2]}) == 3


def test_processes_keep_their_gpus(site):
    site.worker("process", 2, "--gpus", NAMES).wait_for_start()
    pids = {}
    for number in range(4):
        marks = site.folder(f"marks-{number}")
        calls = [seen(site, ONE, marks.folder) for _ in range(2)]
        marks.wait_for_starts(2)
        marks.release()
        for each in calls:
            _, devices, pid = each.get(timeout=60)
            pids.setdefault(devices, set()).add(pid)
    assert sorted(map(len, pids.values())) == [1, 1]


@pytest.mark.parametrize("needed", [1, 2])
def test_a_nested_call_gets_the_gpus_of_its_caller_first(site, kind, needed):
    """With one slot the waiting body runs it itself (P9)."""
    site.worker(kind, 1, "--gpus", NAMES).wait_for_start()
    before, inner, after = site.tasks.gpus_seen_within(needed).get(timeout=60)
    assert before == after
    assert before[1] == ("7",)
    assert inner[1] == ("7", "GPU-b")[:needed]
    assert inner[0] == as_shown(kind, inner[1])
    assert inner[2] == before[2], "in its place"


def test_a_killed_slot_gives_its_gpu_back(site):
    marks = site.folder("marks")
    site.worker("process", 2, "--gpus", "7").wait_for_start()
    variable, devices, _ = site.tasks.die_on_first_gpu(marks.folder).get(timeout=60)
    assert (variable, devices) == ("7", ("7",))
    assert seen(site, ONE).get(timeout=60)[1] == ("7",)


@pytest.mark.parametrize("variable", ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"])
def test_auto_takes_the_names_from_the_job(site, kind, variable):
    worker = site.worker(kind, 1, "--gpus", "auto", **{variable: "3,5"}).wait_for_start()
    _, devices, _ = seen(site, {"gpu": 2}).get(timeout=60)
    assert devices == ("3", "5")
    assert "gpu=2" in site.fsqueue("workers").stdout, worker.text()


def test_names_and_amounts_that_contradict_each_other_are_refused(site):
    worker = site.worker("process", 1, "--gpus", NAMES, "--resource", "gpu=4")
    assert worker.wait() == 2
    assert "gpu=4, but --gpus has 2 names: leave one of them out" in worker.text()
