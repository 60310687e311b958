"""Runs every example in a separate process and reports which passed; exit code 1 if one did not.

Each example gets an empty spool and a time limit. Run `python examples/run_all.py` in any folder.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TIME_LIMIT = 240.0  # seconds for one example, beside all the other parts of CI
EXAMPLES = (
    "direct_task_demo/tasks_original.py",
    "direct_task_demo/migration.py",
    "direct_task_demo/sync_mode.py",
    "direct_task_demo/distributed.py",
    "direct_task_demo/fan_out.py",
    "direct_task_demo/async_demo.py",
    "direct_task_demo/main_job.py",
    "source_census/run.py --limit 100",
    "cluster_sweep/run.py",
)


def run(example: str) -> tuple[str, str]:
    """Run one example; return the reason if it failed, or "", and its output."""
    script, *arguments = example.split()
    with tempfile.TemporaryDirectory(prefix="fsqueue-example-") as folder:
        try:
            done = subprocess.run(  # noqa: S603  # our own interpreter, the scripts above
                [sys.executable, str(HERE / script), *arguments],
                cwd=folder,
                env=os.environ | {"FSQUEUE__ROOT": str(Path(folder, "spool"))},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TIME_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired as late:
            return f"not done after {TIME_LIMIT:.0f} s", (late.output or b"").decode()
    return f"exit code {done.returncode}" if done.returncode else "", done.stdout.decode()


def main() -> int:
    failures = 0
    for example in EXAMPLES:
        start = time.perf_counter()
        why, output = run(example)
        seconds = time.perf_counter() - start
        print(
            f"{'FAIL' if why else 'pass'}  {seconds:5.1f} s  {example}  {why}".rstrip(), flush=True
        )
        if why:
            failures += 1
            print(output, flush=True)
    print(f"{len(EXAMPLES) - failures} of {len(EXAMPLES)} examples passed")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
