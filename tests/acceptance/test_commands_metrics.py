"""Metrics as a monitoring system gets them: from real processes, on one spool."""

import contextlib
import json
import signal
import subprocess
import sys
import urllib.request

import pytest
from acceptance_harness import Site, wait_until
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from fsqueue.cli import exits

WANTED = "application/openmetrics-text; version=1.0.0"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A site where one call has failed and one has not, and whose worker goes on."""
    site = Site(tmp_path_factory.mktemp("metrics"))
    try:
        site.open()
        site.env["FSQUEUE__HEARTBEAT"] = "0.2"  # the journal is written every five beats
        site.worker("thread", 3).wait_for_start()
        site.fsqueue("submit", "square", "--app", "tasks", "--arg", "7", "--wait")
        site.fsqueue("submit", "reject", "--app", "tasks", "--arg", '"no"', "--wait")
        yield site
    finally:
        site.close()


def samples(text):
    """Values by name and labels."""
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_text_is_open_metrics(served):
    def read():
        done = served.fsqueue("metrics")
        assert (done.returncode, done.stderr) == (exits.OK, "")
        return samples(done.stdout)

    found = wait_until(
        lambda: (
            (seen := read()).get(("fsqueue_recent_calls", "failed", "tasks.reject"))
            and seen["fsqueue_workers", "alive"] == 1  # not late with its beat
            and seen
        ),
        "the failed call and the worker",
    )
    assert found["fsqueue_up",] == 1
    assert found["fsqueue_slots",] == 3
    assert found["fsqueue_recent_calls", "other", "tasks.square"] >= 1
    assert found["fsqueue_pending_calls", "acceptance.default", "due"] == 0
    assert found["fsqueue_recent_run_seconds", "0.5", "tasks.square"] > 0
    # A number that shrinks when journals expire is not a counter.
    assert not [name for name, *_ in found if name.endswith("_total")]


def test_the_same_as_json(served):
    document = json.loads(served.fsqueue("metrics", "--json").stdout)
    by_name = {family["name"]: family for family in document["metrics"]}
    assert by_name["fsqueue_up"]["samples"] == [{"name": "fsqueue_up", "labels": {}, "value": 1}]
    assert by_name["fsqueue_workers"]["type"] == "gauge"


@contextlib.contextmanager
def listening(site):
    command = [sys.executable, "-m", "fsqueue", "metrics", "--listen", "0"]
    with subprocess.Popen(
        command, cwd=site.project, env=site.env, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


def scrape(url):
    request = urllib.request.Request(url, headers={"Accept": WANTED})
    with urllib.request.urlopen(request, timeout=60) as reply:
        assert reply.headers["Content-Type"].startswith("application/openmetrics-text")
        return samples(reply.read().decode())


def test_counters_of_a_process_that_listens(served):
    with listening(served) as (process, url):
        assert url.startswith("http://127.0.0.1:")
        calls = ("fsqueue_ended_calls_total", "other", "tasks.square")
        first = wait_until(lambda: scrape(url).get(calls), "the call of before")
        served.fsqueue("submit", "square", "--app", "tasks", "--arg", "8", "--wait")
        found = wait_until(
            lambda: (seen := scrape(url))[calls] == first + 1 and seen, "the next call"
        )
        assert found["fsqueue_run_seconds_count", "tasks.square"] == first + 1
        assert found["fsqueue_run_seconds_bucket", "+Inf", "tasks.square"] == first + 1
        assert found["fsqueue_ended_calls_total", "failed", "tasks.reject"] == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == exits.OK


def test_a_port_that_is_taken(served):
    with listening(served) as (_, url):
        port = url.rpartition(":")[2].split("/")[0]
        done = served.fsqueue("metrics", "--listen", port)
    assert (done.returncode, done.stdout) == (exits.USAGE, "")
    assert f"cannot use port {port} of 127.0.0.1" in done.stderr


def test_without_the_extra(served):
    program = (
        "import sys; sys.modules['prometheus_client'] = None; sys.argv = ['fsqueue', 'metrics']; "
        "from fsqueue.__main__ import main; main()"
    )
    done = served.run(sys.executable, "-c", program)
    assert (done.returncode, done.stdout) == (exits.USAGE, "")
    assert "pip install 'fsqueue-tasks[metrics]'" in done.stderr
