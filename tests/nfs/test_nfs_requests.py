"""How many requests the file server answers for a call, as the server counts them.

How often both sides poll depends on how long the guests take, so no count is bounded. The same
calls are made with both kinds of records.
"""

import pytest

FAN_OUT, BLOCKING = 300, 50


def count(site, records, calls, *arguments):
    """The requests per call while a caller on one client waits for a worker on the other."""
    kind = {"FSQUEUE__RECORDS": records}
    worker = site.worker("b", **kind)
    before = site.requests()
    answer = site.caller("a", *arguments, **kind).answer()
    made = (site.requests() - before) / calls
    assert answer["wrong"] == []
    worker.stop()
    return made, answer


@pytest.mark.parametrize("kind", ["direct", "kept"])
def test_links_cost_a_fan_out_fewer_requests(site, record_property, kind):
    made = {
        records: count(site, records, FAN_OUT, "fan_out", kind, FAN_OUT)[0]
        for records in ("links", "files")
    }
    for records, number in made.items():
        record_property(f"requests per {kind} call of a fan-out, {records}", round(number, 1))
    assert made["links"] < 0.9 * made["files"]


def test_requests_of_one_blocking_call_after_another(site, record_property):
    for records in ("links", "files"):
        made, answer = count(site, records, BLOCKING, "blocking", BLOCKING)
        record_property(f"requests per blocking call, {records}", round(made, 1))
        record_property(f"median, ms, {records}", round(1000 * answer["median"], 1))
