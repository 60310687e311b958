"""The part of `nfs.py` that runs in a guest of the NFS lab; prints its figures as JSON."""

import json
import os
import statistics
import sys
import time

FILES = 100


def probe(folder):
    """Median time of each step of the protocol by itself, in milliseconds."""
    from fsqueue.spool.disk.filesystem import Filesystem
    from fsqueue.spool.disk.link_records import link_text, read_link

    fs = Filesystem(remote=True, asks_at_open=True)
    text = link_text([b"x" * 400], 1023)
    fs.mkdir(folder)
    fs.mkdir(f"{folder}/other")
    names = [f"{folder}/{number}" for number in range(FILES)]
    moved = [f"{folder}/other/{number}" for number in range(FILES)]
    return {
        "symlink": median(lambda n: fs.create_link(names[n], text)),
        "rename": median(lambda n: fs.rename(names[n], moved[n])),
        "readlink": median(lambda n: read_link(moved[n])),
        "unlink": median(lambda n: fs.unlink(moved[n])),
        "list": median(lambda _: fs.names(folder, fresh=True)),
    }


def median(step):
    times = []
    for number in range(FILES):
        began = time.perf_counter()
        step(number)
        times.append(1e3 * (time.perf_counter() - began))
    return round(statistics.median(times), 3)


def calls(count):
    """Publish calls and, once workers run, measure how fast the results come."""
    import bench_tasks

    bench_tasks.later(-1)
    began = time.perf_counter()
    group = bench_tasks.later.parallelize([(number,) for number in range(int(count))])
    published = time.perf_counter() - began
    print("published", flush=True)
    began, ended = stamps(bench_tasks.app.store, group)
    bench_tasks.app.close()
    return {
        "publish": 1e3 * published / len(group),
        "run": 1e3 * (ended - began) / (len(group) - 1),
    }


def stamps(store, group):
    """End times of the first and the last call of a group, by the file server's clock."""
    if group.results != list(range(len(group))):
        raise SystemExit("the results are wrong")
    ended = [
        store.outcomes.read(each.id, store.outcomes.peek(each.id))[0].ended
        for each in (group[i] for i in range(len(group)))
    ]
    return min(ended), max(ended)


def trips(count):
    """Measure successive blocking calls."""
    import bench_tasks

    bench_tasks.echo(-1)
    times = []
    for number in range(int(count)):
        began = time.perf_counter()
        bench_tasks.echo(number)
        times.append(1e3 * (time.perf_counter() - began))
    bench_tasks.app.close()
    return {"p50": statistics.median(times)}


if __name__ == "__main__":
    answer = {"probe": probe, "calls": calls, "trips": trips}[sys.argv[1]](*sys.argv[2:])
    print(json.dumps(answer), flush=True)
    os._exit(0)
