"""Spans from the caller to the worker. In processes of their own, which have one tracer each."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

COMMON = """
import json, sys
sys.path[:0] = sys.argv[2:]
from fsqueue import FSQueue
from integration import sample_tasks
from integration.conftest import working
app = FSQueue("t", root=sys.argv[1])
"""
TRACED = f"""
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
exporter = InMemorySpanExporter()
provider = TracerProvider(shutdown_on_exit=False)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
{COMMON}
def outer(number):
    return app.task(sample_tasks.add)(number).get(timeout=60)
outer.__module__ = "shop"
with trace.get_tracer("test").start_as_current_span("request"), working(app):
    assert app.task(outer)(1).get(timeout=60) == 2
    try:
        app.task(sample_tasks.fail_before)(sys.argv[1] + "/tmp/ran", 9).get(timeout=60)
    except ConnectionError:
        pass
app.close()
print(json.dumps([
    [span.name, span.kind.name, span.status.status_code.name, span.context.span_id,
     span.parent and span.parent.span_id, span.context.trace_id, dict(span.attributes)]
    for span in exporter.get_finished_spans()
]))
"""
UNTRACED = f"""
{COMMON}
with working(app):
    assert app.task(sample_tasks.add)(1).get(timeout=60) == 2
app.close()
print(json.dumps([name for name in sys.modules if name.startswith("opentelemetry")]))
"""


@pytest.fixture
def run(spool):
    def run(program):
        done = subprocess.run(
            [sys.executable, "-c", program, spool, *[each for each in sys.path if each]],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return run


@pytest.mark.leaves_strays
def test_spans_lead_from_the_caller_to_the_worker_and_on(run):
    spans = run(TRACED)
    by_name = {name: (kind, status, me, parent) for name, kind, status, me, parent, *_ in spans}
    assert len({trace for *_, trace, _ in spans}) == 1
    request = by_name["request"][2]
    published, processed = by_name["publish shop.outer"], by_name["process shop.outer"]
    assert (published[0], published[3]) == ("PRODUCER", request)
    assert (processed[0], processed[3]) == ("CONSUMER", published[2])
    # A body's calls follow its own span.
    add = "integration.sample_tasks.add"
    assert by_name[f"publish {add}"][3] == processed[2]
    assert by_name[f"process {add}"][3] == by_name[f"publish {add}"][2]
    assert by_name["process integration.sample_tasks.fail_before"][1] == "ERROR"
    attributes = {name: each for name, *_, each in spans}["process shop.outer"]
    assert attributes["messaging.destination.name"] == "t.default"
    assert attributes["fsqueue.attempt"] == 1


def test_who_does_not_use_it_does_not_load_it(run):
    assert run(UNTRACED) == []
