"""Errors and names with control characters, in the log of a worker and in what commands print."""

import json
import signal
import sys

import pytest
from acceptance_harness import wait_until

FORGED = "2026-01-01 00:00:00,000 ERROR forged"
BREAKS = "\n\r\v\f\x85\u2028\x1b[2J\x9b2J\u202e"
TASKS = f"""
import logging
from fsqueue import FSQueue

app = FSQueue("hostile")

class Hostile(Exception):
    pass

Hostile.__qualname__ = "Hostile" + {BREAKS!r} + {FORGED!r}

@app.task
def fail(text):
    raise ValueError(text)

@app.task
def fail_as_hostile():
    raise Hostile("no text")

@app.task(retry_for=ValueError, retry_delay=0.0, max_retries=1)
def retried(text):
    raise ValueError(text)

@app.task
def say(text):
    logging.getLogger("users").warning(text)
    logging.getLogger("fsqueue.of.the.user").warning(text)
"""
CALLER = f"""
import hostile
text = "a" + {BREAKS!r} + {FORGED!r}
calls = [hostile.fail(text), hostile.fail_as_hostile(), hostile.retried(text), hostile.say(text)]
for call in calls:
    while not call.done():
        pass
    print(call.id)
"""


def start(site, kind, log_format="text"):
    (site.project / "hostile.py").write_text(TASKS, "utf-8")
    options = ("--log-calls", "--log-format", log_format, "--concurrency", "1")
    command = (sys.executable, "-m", "fsqueue", "worker", "hostile:app", "--runner", kind)
    return site.start(*command, *options).wait_for_start()


def call(site):
    done = site.run(sys.executable, "-c", CALLER)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def test_no_text_forges_a_line_of_the_log(site, kind):
    worker = start(site, kind)
    call(site)
    wait_until(lambda: worker.text().count("forged") >= 6, worker.text)
    worker.signal(signal.SIGTERM)
    worker.wait()
    lines = worker.text().split("\n")
    assert not [line for line in lines if line.startswith("2026-01-01")]
    assert not [line for line in lines if not line.isprintable()]


def test_a_json_log_has_a_document_in_each_line(site, kind):
    worker = start(site, kind, "json")
    call(site)
    wait_until(lambda: worker.text().count("forged") >= 6, worker.text)
    worker.signal(signal.SIGTERM)
    worker.wait()
    lines = worker.text().strip().split("\n")
    assert all(line.isprintable() and json.loads(line) for line in lines)


@pytest.mark.parametrize("as_json", [(), ("--json",)], ids=["text", "json"])
def test_no_command_prints_a_control_character(site, as_json):
    start(site, "thread")
    ids = call(site)
    commands = [("list",), ("status",), ("workers",), ("stats",)]
    commands += [(name, each) for name in ("show", "result", "wait") for each in ids]
    for command in commands:
        done = site.fsqueue(*command, *as_json, "--root", str(site.root))
        for line in (done.stdout + done.stderr).split("\n"):
            assert line.isprintable(), (command, line)
            assert not line.startswith("2026-01-01"), (command, line)
