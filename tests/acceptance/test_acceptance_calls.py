"""Calls from this process, and from others, that workers started by the command line run."""

import asyncio
import os
import secrets
import sys

import pytest
from acceptance_harness import wait_until


def test_a_body_runs_in_the_worker(shared, request):
    pid = shared.tasks.pid()

    assert pid != os.getpid()
    where = [shared.first.pid] if pid == shared.first.pid else shared.first.children()
    assert pid in where


def test_arguments_arrive_as_in_a_plain_call(shared):
    *values, pid = shared.tasks.describe(1, 2, 3, flag=False, more="x")

    assert values == [1, (2, 3), False, {"more": "x"}]
    assert pid != os.getpid()


def test_large_arguments_arrive(shared):
    data = os.urandom(3 << 20)
    *values, _ = shared.tasks.describe(data, data[:-1], more=data)

    assert values == [data, (data[:-1],), True, {"more": data}]


def test_an_exception_of_the_body_is_raised_here(shared):
    with pytest.raises(LookupError) as caught:
        shared.tasks.fail("no such station")

    assert caught.value.args == ("no such station",)
    names = [entry.name for entry in caught.traceback]
    assert "fail" in names, "the worker's part of the traceback"


def test_five_calls_run_at_once(shared):
    marks = shared.folder(f"five-{secrets.token_hex(4)}")
    calls = [shared.call(shared.tasks.hold, marks.folder) for _ in range(5)]
    marks.wait_for_starts(5)
    assert marks.pids("ends") == []
    marks.release()

    assert os.getpid() not in {call.result(60) for call in calls}


def test_many_awaits_are_in_flight_on_one_loop(shared):
    marks = shared.folder(f"awaits-{secrets.token_hex(4)}")

    async def main():
        holding = asyncio.gather(*(shared.tasks.async_hold(marks.folder) for _ in range(5)))
        await asyncio.to_thread(marks.wait_for_starts, 5)
        assert marks.pids("ends") == []
        marks.release()
        return await holding

    assert os.getpid() not in asyncio.run(main())


def test_an_await_leaves_the_loop_free_and_can_be_cancelled(site, kind):
    site.worker(kind, 2).wait_for_start()

    async def main():
        sleeping = asyncio.ensure_future(site.tasks.async_nap(3600.0))
        await asyncio.to_thread(wait_until, lambda: site.files("running"), "the call is running")
        assert not sleeping.done()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(sleeping, 0.01)
        return await site.tasks.async_nap(0.0)

    assert asyncio.run(main()) != os.getpid()
    # Giving up the await has cancelled the body, and its outcome is removed when it comes.
    wait_until(lambda: not site.files("running"), "the cancelled call has ended")
    wait_until(lambda: not site.files("done"), lambda: f"done/ empty: {site.files('done')}")


def test_fire_and_forget(shared):
    submitted = shared.run(sys.executable, "submit.py")
    assert submitted.returncode == 0, submitted.stderr
    good, bad, pid = submitted.stdout.split()

    texts = []
    for _ in range(2):
        read = shared.run(sys.executable, "read.py", good, bad)
        assert read.returncode == 0, read.stderr
        texts.append(read.stdout.strip())
    invocation = shared.tasks.app.invocation(good)
    (number, worker_pid), again = invocation.result, invocation.get(timeout=1)

    assert texts[0] == texts[1]
    assert texts[0] == (f"{[(49, worker_pid)] * 3}|{['not this'] * 2}|succeeded|failed")
    assert (number, worker_pid) == again
    assert number == 49
    assert len({worker_pid, int(pid), os.getpid()}) == 3


def test_calls_made_before_there_is_a_worker(site, kind):
    submitted = site.run(sys.executable, "submit.py")
    good, bad, _ = submitted.stdout.split()
    assert site.tasks.app.invocation(good).status == "pending"
    assert not site.tasks.app.invocation(bad).done()

    site.worker(kind, 1)

    assert site.tasks.app.invocation(good).get(timeout=60)[0] == 49
    with pytest.raises(LookupError, match="not this"):
        site.tasks.app.invocation(bad).get(timeout=60)


def test_fan_out_across_two_workers(site, kind):
    # One slot each, and the members come back only together: so each has run one of them.
    workers = [site.worker(kind, 1), site.worker(kind, 1)]
    for worker in workers:
        worker.wait_for_start()

    (first, one), (second, two) = site.tasks.meet(site.folder("meeting").folder, ["a", "b"])

    assert [first, second] == ["a", "b"]
    assert one != two
    homes = [{worker.pid, *worker.children()} for worker in workers]
    assert {one in homes[0], two in homes[0]} == {True, False}
    assert {one in homes[1], two in homes[1]} == {True, False}


def test_two_applications_in_one_spool_do_not_run_each_others_calls(site):
    other = site.start(sys.executable, "-m", "fsqueue", "worker", "several:red").wait_for_start()

    call = site.call(site.tasks.pid)
    wait_until(lambda: site.files("pending"), "the call is pending")
    mine = site.worker("thread").wait_for_start()

    assert call.result(60) == mine.pid != other.pid
