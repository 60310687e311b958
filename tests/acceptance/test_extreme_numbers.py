"""The largest and smallest numbers that options take, in real workers."""

import sys

from fsqueue.common.values import LONGEST

TASKS = """
from pathlib import Path
from fsqueue import FSQueue, RetryError

app = FSQueue("extreme")

@app.task
def number(value=1):
    return value

@app.direct_task(result_timeout=LONGEST, timeout=LONGEST, expires=LONGEST)
def direct(value):
    return value

@app.task(max_retries=99_999, retry_delay=0.0, retry_backoff=1000.0, retry_max_delay=LONGEST)
def third(path):
    with open(path, "a") as file:
        file.write("x")
    if len(Path(path).read_text()) < 3:
        raise RetryError("again", delay=5e-324)
    return "third"
"""
OPTIONS = [
    {"timeout": LONGEST},
    {"timeout": LONGEST, "parallel_batch_size": 99_999},
    {"expires": LONGEST},
    {"countdown": 5e-324},
    {"priority": 9, "max_attempts": 99_999, "retry_jitter": 10.0},
    {"running_concurrency": "task", "running_limit": 99_999},
    {"call_result_cache": True, "call_result_cache_ttl": LONGEST},
]


def test_calls_with_extreme_options_run(site, kind):
    source = TASKS.replace("LONGEST", str(LONGEST))
    (site.project / "extreme.py").write_text(source, "utf-8")
    settings = {f"FSQUEUE__{name}": str(LONGEST) for name in ("LEASE", "RESULT_TTL", "JOURNAL_TTL")}
    command = (sys.executable, "-m", "fsqueue", "worker", "extreme:app", "--runner", kind)
    worker = site.start(*command, "--concurrency", "2", **settings).wait_for_start()
    code = f"""
import extreme, math
for options in {OPTIONS!r}:
    task = extreme.number.options(**options)
    assert task(5).get(1e300) == 5, options
    assert task.parallelize([(1,), (2,), (3,)]).get(math.inf) == [1, 2, 3], options
assert extreme.direct(7) == 7
assert extreme.third({str(site.base / "third")!r}).get({LONGEST}) == "third"
extreme.number.options(countdown={LONGEST})()
"""
    done = site.run(sys.executable, "-c", code, **settings)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in worker.text()
    for command in ("status", "list", "stats", "workers"):
        shown = site.fsqueue(command, "--root", str(site.root))
        assert shown.returncode == 0, shown.stderr
