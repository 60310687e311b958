"""How many requests the file server answers for a call, as the server counts them.

How often both sides poll and beat depends on how long the guests take, so only the requests of
the steps themselves are bounded. The same calls are made with both kinds of records.
"""

import pytest

from fsqueue.config import Settings

FAN_OUT, BLOCKING = 300, 50
USUAL = str(Settings().heartbeat)
OPERATIONS = """
import re
with open("/proc/self/mountstats") as file:
    text = file.read()
{name: int(count) for name, count in re.findall(r"^\\s+([A-Z_0-9]+): (\\d+) ", text, re.MULTILINE)}
"""
# Each is made once by the caller and once by the worker.
STEPS = ("SYMLINK", "RENAME", "READLINK", "REMOVE")
# What the clients ask as others change the folders, and for upkeep.
OTHERS = ("LOOKUP", "ACCESS", "GETATTR", "READDIR", "READDIRPLUS", "OPEN", "CREATE", "SETATTR")


def operations(site):
    """Requests by their names, of both clients together."""
    clients = [site.on(client, OPERATIONS) for client in "ab"]
    return {name: sum(client.get(name, 0) for client in clients) for name in (*STEPS, *OTHERS)}


def around(site, look, records, *arguments):
    """What `look` finds before the first call and after the collection of the last result.

    A caller on one client waits for a worker on the other. Both processes have opened the spool
    before, and beat as usual.
    """
    kind = {"FSQUEUE__RECORDS": records, "FSQUEUE__HEARTBEAT": USUAL}
    worker = site.worker("b", **kind)
    caller = site.caller("a", "counted", site.local, *arguments, **kind)
    caller.published()
    with site.steps("a") as client:
        before = look()
        client(f"open('{site.local}/go', 'w').close()")
        caller.wait_for("collected")
        after = look()
        client(f"open('{site.local}/over', 'w').close()")
        answer = caller.answer()
        client(f"os.unlink('{site.local}/go'); os.unlink('{site.local}/over')")
    assert answer["wrong"] == []
    worker.stop()
    return before, after, answer


def count(site, records, calls, *arguments):
    """The requests per call."""
    before, after, answer = around(site, site.requests, records, *arguments)
    return (after - before) / calls, answer


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


def test_each_step_of_a_call_is_one_request(site, record_property):
    before, after, _ = around(site, lambda: operations(site), "links", "fan_out", "direct", FAN_OUT)
    per_call = {name: (after[name] - before[name]) / FAN_OUT for name in after}
    for name, number in per_call.items():
        record_property(f"{name} per call", round(number, 2))
    # Upkeep writes, replaces and removes some files of its own.
    assert all(1.99 < per_call[name] < 2.4 for name in STEPS), per_call
    # At most one for the claim and one for the collection, as others change these folders.
    assert per_call["LOOKUP"] < 2.4
