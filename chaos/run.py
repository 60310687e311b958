"""Attack the queue, then account for every call; see README.md in this folder.

    python chaos/run.py --seconds 120

The exit code is 0 if all calls are accounted for, and 1 otherwise.
"""

from __future__ import annotations

import argparse
import secrets
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from chaos.attacks import schedule
from chaos.conductor import Conductor
from chaos.disk import Disk, available
from chaos.fleet import LEASE, Fleet
from chaos.reconcile import Report, describe, reconcile
from fsqueue import FSQueue

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_DESCRIPTIONS = 20


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the attacks and account for the calls; returns the exit code."""
    options = _options(arguments)
    seed = options.seed if options.replay is None else options.replay
    seed = secrets.randbelow(10**9) if seed is None else seed
    print(f"chaos: {options.seconds:g} s, seed {seed}", flush=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the processes end too
    base = Path(options.root or tempfile.mkdtemp(prefix="fsqueue-chaos-")).absolute()
    passed = _run(base, seed, options.seconds, loud=options.replay is not None)
    if passed and options.root is None:
        shutil.rmtree(base)
    elif not passed:
        print(f"seed {seed}: failed; ledgers, logs and a copy of the spool: {base}")
    return 0 if passed else 1


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Attack the queue and account for every call.")
    parser.add_argument("--seconds", type=float, default=120.0, help="duration of the attacks")
    parser.add_argument(
        "--seed", type=int, help="seed of the schedule of attacks (default: random)"
    )
    parser.add_argument(
        "--replay", type=int, metavar="SEED", help="like --seed, and print every attack"
    )
    parser.add_argument(
        "--root",
        help="folder to work in, empty or missing; it is kept, but not a spool that has a disk of "
        "its own, as root's has",
    )
    return parser.parse_args(arguments)


def _run(base: Path, seed: int, seconds: float, *, loud: bool) -> bool:
    for name in ("spool", "ledgers", "logs", "crashes"):
        (base / name).mkdir(parents=True)
    able = available()
    if not able:
        print("not root, or no unshare(1): no full disks, and all processes on one host")
    disk = Disk(str(base / "spool")) if able else None
    try:
        return _attack(base, seed, seconds, disk, loud=loud)
    finally:
        if disk is not None:
            disk.close()


def _attack(base: Path, seed: int, seconds: float, disk: Disk | None, *, loud: bool) -> bool:
    began = time.monotonic()
    fleet = Fleet(base, seed, far=disk is not None)
    conductor = Conductor(base, fleet, disk, report=_report if loud else None)
    try:
        conductor.attack(schedule(seed, seconds, LEASE), seconds)
        conductor.finish()
    finally:
        fleet.close()
    app = FSQueue("chaos", root=base / "spool")
    report = reconcile(app, base, conductor.disturbances)
    report.violations[:0] = conductor.violations
    app.close()
    _summarize(report, conductor, fleet, time.monotonic() - began)
    for violation in report.violations[:_MOST_DESCRIPTIONS]:
        print("\n".join(describe(base, app.store.layout.root, violation)))
    if report.violations:
        print(f"{len(report.violations)} violations; seed {seed}")
        shutil.copytree(base / "spool", base / "spool-left")
    else:
        print(f"all calls are accounted for; seed {seed}", flush=True)
    return not report.violations


def _report(line: str) -> None:
    print(line, flush=True)


def _summarize(report: Report, conductor: Conductor, fleet: Fleet, seconds: float) -> None:
    counts = report.counts
    lost, second, dead = counts["lost"], counts["second outcomes"], counts["WorkerLostError"]
    rows = [
        ("calls made", counts["made"]),
        *((f"  {kind}", count) for kind, count in sorted(report.kinds.items())),
        ("accepted", counts["accepted"]),
        ("refused, on a full disk", counts["refused"]),
        ("in doubt, because their caller was killed", counts["in doubt"]),
        ("looked at twice", counts["looked at twice"]),
        ("executions of bodies", counts["executions"]),
        ("  of which once more", counts["extra executions"]),
        ("lost", lost),
        ("second outcomes", second),
        ("WorkerLostError", dead),
        ("late outcomes, never seen", counts["late outcomes, never seen"]),
        ("outcomes without a known call", counts["outcomes without a known call"]),
        ("left in tmp/ by the killed", counts["left in tmp/"]),
        ("attacks", conductor.done.total()),
        *((f"  {kind}", count) for kind, count in sorted(conductor.done.items())),
        ("processes replaced", sum(fleet.exits.values())),
        *((f"  {how}", count) for how, count in sorted(fleet.exits.items())),
        ("seconds", round(seconds)),
    ]
    for name, value in rows:
        print(f"{name:<44}{value:>10,}")


if __name__ == "__main__":
    sys.exit(main())
