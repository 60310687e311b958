"""Listings that come from an NFS client's cache: what they cost, and that they are current."""

from nfs_harness import STEP

OPEN = """
import re, time
from fsqueue.spool.disk.filesystem import Filesystem
fs = Filesystem(remote=True, asks_at_open=True)
def requests():
    with open("/proc/self/mountstats") as file:
        text = file.read()
    return sum(int(count) for count in re.findall(r"^\\s+[A-Z_]+: (\\d+) ", text, re.MULTILINE))
"""
COUNT = """
before = requests()
seen = [fs.names({0!r}, fresh=True) for _ in range({1})]
requests() - before
"""
CHASE = """
seen, until = set(), time.monotonic() + {1}
while len(seen) < {2} and time.monotonic() < until:
    seen.update(fs.names({0!r}, fresh=True))
    time.sleep(0.002)
len(seen)
"""
MAKE = """
import time
for number in range({1}):
    open({0!r} + f"/{{number}}", "w").close()
    time.sleep(0.003 * (number % 7))
"""


def test_a_listing_that_shows_nothing_new_is_one_request(site):
    with site.steps("a") as reader:
        reader(OPEN)
        reader(f"fs.names({site.folder!r}, fresh=True); time.sleep(0.3)")
        reader(f"fs.names({site.folder!r}, fresh=True)")
        count = reader(COUNT.format(site.folder, 20))
        assert 20 <= count <= 23, "one each, and what the cache of other names takes"


def test_every_change_is_seen_also_in_one_tick_of_the_server(site):
    changes = 150
    with site.steps("b") as reader, site.steps("a") as writer:
        reader(OPEN)
        reader.start(CHASE.format(site.folder, STEP, changes))
        writer(MAKE.format(site.folder, changes))
        assert reader.result(STEP + 10) == changes
