"""How soon the calls of a host that dies run again on another one, over NFS.

    python nfs_deaths.py [--runs 10] [3 | 4.2]

The host dies right after it has claimed two calls. FSQUEUE_NFS_LAB is the folder of nfslab.py, as
for ``tests/nfs``, whose harness this uses. The exit code is 1 if a run takes longer than fsqueue's
lease and two heartbeats.
"""

import argparse
import os
import signal
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests" / "nfs"), str(HERE.parent / "tests")]

from conftest import compile_ahead, disk_in_memory  # noqa: E402
from nfs import load_lab  # noqa: E402
from nfs_harness import Site  # noqa: E402

LEASE, HEARTBEAT, SERVER_LEASE = 6, 2, 15
BOUND = LEASE + 2 * HEARTBEAT
AGAIN = {"direct": ["again", "a"], "kept": ["again", "a"]}


def lose_host(lab, number):
    """Seconds from the death of a host to the answers of its two calls, from the other host."""
    site = Site(lab, f"death-{number}", sys.executable)
    env = {"FSQUEUE__LEASE": str(LEASE), "FSQUEUE__HEARTBEAT": str(HEARTBEAT)}
    site.worker("b", slots=2, **env)
    other = site.worker("a", **env)
    other.signal(signal.SIGSTOP)  # so that it claims neither call
    caller = site.caller("a", "held", site.folder, **env)
    caller.published()
    site.wait_for_runs(2)
    killed = site.on("a", "time.time()")
    lab.kill("b")
    other.signal(signal.SIGCONT)
    answer = caller.answer(timeout=120)
    assert answer["answers"] == AGAIN, answer
    lab.boot("b")
    site.close()
    return answer["ended"] - killed


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("version", nargs="?", default="4.2", choices=("3", "4.2"))
    options = parser.parse_args()
    seen = [str(HERE.parent / "tests" / "nfs" / "project"), str(HERE.parent / "fsqueue")]
    compile_ahead()
    with disk_in_memory() as folder:
        lab = load_lab().Lab(
            opts=f"vers={options.version}",
            lease=SERVER_LEASE,
            grace=SERVER_LEASE,
            mem="512M",
            ro=seen,
            dir=folder,
        )
        with lab:
            took = []
            for number in range(options.runs):
                took.append(lose_host(lab, number))
                print(f"NFS v{options.version}, run {number + 1}: {took[-1]:.1f} s", flush=True)
    within = sum(each <= BOUND for each in took)
    print(f"within {BOUND} s: {within} of {len(took)}; slowest {max(took):.1f} s")
    return 0 if within == len(took) else 1


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
