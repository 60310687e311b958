"""Batch jobs, triggers, the graph of a call, and the charts of a task and of a worker."""

from __future__ import annotations

import re

import pytest
from monitor_harness import TRIGGERS, Shop, client_of
from support import open_store
from test_pages import seen, text_of

from fsqueue.monitor.pages.families import family_chart
from fsqueue.spool.admin.family import MOST, Family, Relative, family_of
from fsqueue.spool.admin.glance import Looks
from fsqueue.spool.admin.listing import call_details


def test_fleets_and_how_their_jobs_ended(shop):
    text = seen(shop, "/jobs")
    assert "0 batch jobs with living workers; no more jobs for night" in text
    assert "night paused two jobs in a row did not work: a dozen" in text
    assert "slurm, 4 slots in each job, at most 1h00m" in text
    assert "submitted 2 jobs: calls wait: a dozen" in text
    assert re.search(r"abcdef.1 refused [\d:]+ - - the partition is closed: a dozen", text)
    (fleet,) = client_of(shop.root).get("/api/v1/jobs").json()["fleets"]
    assert (fleet["name"], fleet["state"], fleet["jobs"]) == ("night", "paused", 0)


def test_batch_jobs_are_in_the_navigation_only_if_there_are_any(shop, empty_shop):
    assert "Batch jobs" in seen(shop, "/")
    assert "Batch jobs" not in seen(empty_shop, "/")
    assert "fsqueue launch PROFILE" in seen(empty_shop, "/jobs")


def test_triggers_of_the_application(shop):
    text = seen(shop, "/triggers")
    assert "2 triggers: these calls are made by workers, without a caller" in text
    assert "shop_tasks.render cron(0 3 * * *)" in text
    assert re.search(r"\d\d \w\w\w \d\d:\d\d ?, in \d+d", text)
    assert "when it happens" in text
    rows = client_of(shop.root).get("/api/v1/triggers").json()
    assert [each["task"] for each in rows] == [each.task for each in TRIGGERS]


@pytest.mark.parametrize(
    ("triggers", "said"),
    [
        (list, "no task of the application has a trigger"),
        (None, "this monitor was started without an application"),
    ],
)
def test_without_triggers_the_page_says_how_to_have_some(shop, triggers, said):
    assert said in seen(shop, "/triggers", triggers=triggers)


def test_runs_offer_a_report_to_show_to_others(shop):
    run = shop.done[0].id.rpartition("-")[0]
    assert "$ fsqueue report --since 24h" in seen(shop, "/runs?window=24h")
    assert f"$ fsqueue report --run {run}" in seen(shop, f"/runs/{run}")


def test_runs_show_what_runs_and_waits_and_when_it_ends(shop):
    run = shop.done[0].id.rpartition("-")[0]
    (row,) = client_of(shop.root).get("/api/v1/runs").json()["runs"]
    waiting = len(shop.pending) + len(shop.waiting) + 4  # and those of the archive
    assert (row["running"], row["waiting"], row["exact"]) == (0, waiting, True)
    words = f"4 succeeded, 4 failed, 0 running, {waiting} waiting"
    page = client_of(shop.root).get("/runs").text
    assert f'aria-label="{words}"' in page
    assert all(f'class="f-{kind}"' in page for kind in ("ok", "bad", "wait"))
    # At the rate of the last minutes, in which calls have ended if the tests are quick.
    assert re.search(r"\d\d:\d\d, in \d+|not at this rate", seen(shop, "/runs"))
    assert words in seen(shop, f"/runs/{run}")
    assert re.search(r"End at (\d\d:\d\d, in \d+|not at this rate)", seen(shop, f"/runs/{run}"))


# -- the graph ------------------------------------------------------------------------------


def test_a_call_shows_what_waits_for_it_and_what_it_waits_for(shop):
    parent, child = shop.pending[0].id, shop.waiting[0].id
    text = seen(shop, f"/calls/{parent}")
    assert "What it waits for, and what waits for it" in text
    assert re.search(rf"waits for this call pending shop_tasks.render {child}", text)
    text = seen(shop, f"/calls/{child}")
    assert re.search(rf"its result goes into this call pending shop_tasks.train {parent}", text)
    page = client_of(shop.root).get(f"/calls/{parent}").text
    assert 'class="graph"' in page
    assert "render \N{MULTIPLICATION SIGN} 4" in page
    assert "What it waits for" not in seen(shop, f"/calls/{shop.done[0].id}")
    document = client_of(shop.root).get(f"/api/v1/calls/{parent}").json()
    assert {each["id"] for each in document["family"]["relatives"]} == {
        each.id for each in shop.waiting
    }


@pytest.mark.leaves_strays
def test_a_family_of_any_size_is_read_within_bounds(tmp_path, shop):
    store = open_store(shop.root)
    store.files.sync_clock()
    glance = Looks(store, heartbeat=1.0, result_ttl=1e6).look()
    carrier = "abcd-1"
    own = open_store(tmp_path / "spool")
    own.files.sync_clock()
    own.fs.make_folders(own.layout.after(carrier))
    for number in range(300):
        own.fs.create(f"{own.layout.after(carrier)}/efgh-{number}.1", [])
    found = family_of(own, carrier, None, glance)
    assert len(found.relatives) == MOST - 1
    assert found.more == 300 - (MOST - 1)
    details = call_details(store, shop.waiting[0].id, glance=glance)
    known = family_of(store, shop.waiting[0].id, details.call, glance)
    assert [each.id for each in known.relatives] == [shop.pending[0].id]


def test_calls_of_one_task_with_the_same_parent_are_one_node():
    def relative(number, level, task, of):
        return Relative(id=f"abcd-{number}", level=level, state="pending", task=task, of=of)

    relatives = [relative(n, 1, "m.regrid", "abcd-1") for n in range(10, 18)]
    relatives += [relative(2, -1, "m.fetch", "abcd-1"), relative(3, -2, "m.list", "abcd-2")]
    drawn = family_chart(Family(relatives=tuple(relatives)), "abcd-1", "m.fit", "pending")
    assert drawn.count('class="box"') == 4
    assert drawn.count('class="s-ink"') == 3
    assert "regrid \N{MULTIPLICATION SIGN} 8" in drawn
    assert "It takes the results of 2 calls, and 8 calls wait for it" in drawn


# -- charts of a task and of a worker -------------------------------------------------------


def test_a_task_has_its_run_times_over_time_and_by_worker(shop):
    page = client_of(shop.root).get("/tasks/shop_tasks.render").text
    assert re.search(
        r'<svg class="chart"[^>]*aria-label="Run times of shop_tasks.render over', page
    )
    text = text_of(page)
    assert re.search(rf"By worker .* {re.escape(shop.worker)} 4 \S+", text)


def test_a_worker_has_a_timeline_of_its_attempts(shop):
    page = client_of(shop.root).get(f"/workers/{shop.worker}").text
    chart = re.search(r'<svg class="chart wide"[^>]*aria-label="8 attempts since .*?</svg></main>|'
                      r'<svg class="chart wide".*', page, re.DOTALL)[0]  # fmt: skip
    assert chart.count('class="f-ok"') >= 4
    assert chart.count('class="f-bad"') >= 4
    for each in (*shop.done, *shop.failed):
        assert each.id in chart


def test_the_pages_of_an_empty_spool_have_no_such_charts(tmp_path):
    shop = Shop(str(tmp_path / "spool"), 0)
    for path in ("/tasks/x", "/workers/x"):
        assert client_of(shop.root).get(path).status_code == 404
