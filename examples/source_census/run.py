"""Count the tokens of Python's standard library, in a plain loop and on worker processes.

Both counts must be equal. The workers and this process share only a directory.

    python run.py                   every file, two workers
    python run.py --limit 300       300 files, spread over the library
    python run.py --workers 8
"""

import argparse
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:
    from tasks import Census

HERE = Path(__file__).resolve().parent
BATCH = 20  # files to a call: some tens of milliseconds of work for one file in the queue
START_TIMEOUT = 60.0
Worker = subprocess.Popen[bytes]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count the tokens of the standard library twice.")
    parser.add_argument("--limit", type=int, help="number of files (default: all)")
    parser.add_argument("--workers", type=int, default=2, help="worker processes (default: 2)")
    options = parser.parse_args()
    if options.workers < 1 or (options.limit is not None and options.limit < 1):
        parser.error("--limit and --workers must be at least 1")
    return options


def source_files(library: Path, limit: int | None) -> list[str]:
    """List the library's files, without installed packages. With a limit, only every n-th one."""
    names = sorted(
        str(name)
        for path in library.rglob("*.py")
        if not {"site-packages", "dist-packages"} & set((name := path.relative_to(library)).parts)
    )
    count = min(limit or len(names), len(names))
    return [names[index * len(names) // count] for index in range(count)]


def in_batches(names: list[str]) -> list[list[str]]:
    return [names[start : start + BATCH] for start in range(0, len(names), BATCH)]


@contextmanager
def worker_processes(count: int, folder: Path) -> Iterator[list[Worker]]:
    """Run workers with one slot each: counting is Python code, so threads would not help."""
    command = [sys.executable, "-m", "fsqueue", "worker", "tasks:app", "--concurrency", "1"]
    workers: list[Worker] = []
    try:
        for number in range(count):
            with (folder / f"worker-{number}.log").open("wb") as log:
                worker = subprocess.Popen(  # noqa: S603  # our own interpreter and arguments
                    command, cwd=HERE, stdout=log, stderr=subprocess.STDOUT
                )
            workers.append(worker)
        yield workers
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        codes = [worker.wait(timeout=20) for worker in workers]
        assert codes == [0] * count, f"the workers ended with {codes}"
    except BaseException:
        for path in sorted(folder.glob("*.log")):
            print(f"{path.name}:\n{path.read_text(errors='replace')}", file=sys.stderr)
        raise
    finally:
        for worker in workers:
            worker.kill()  # has no effect on a worker that has ended
            worker.wait()


def wait_for_workers(workers: list[Worker]) -> float:
    """Wait until every worker has answered, so that the time of their start does not count."""
    import tasks

    start = time.perf_counter()
    missing = {worker.pid for worker in workers}
    while missing:
        if ended := [worker.returncode for worker in workers if worker.poll() is not None]:
            raise RuntimeError(f"a worker ended with code {ended[0]} before its first answer")
        if time.perf_counter() - start > START_TIMEOUT:
            raise TimeoutError(f"no answer from the workers {sorted(missing)}")
        for invocation in tasks.process_id.parallelize([()] * len(workers) * 2):
            try:
                missing.discard(invocation.get(timeout=1))
            except TimeoutError:
                break
    return time.perf_counter() - start


def count_plainly(library: Path, names: list[str], progress: Progress) -> "Census":
    import tasks

    bar = progress.add_task("plain loop", total=len(names))
    total = tasks.Census()
    for batch in in_batches(names):
        total.add(tasks.count_batch(str(library), batch))
        progress.advance(bar, len(batch))
    return total


def count_on_workers(library: Path, names: list[str], progress: Progress) -> "Census":
    import tasks

    bar = progress.add_task("workers", total=len(names))
    total = tasks.Census()
    group = tasks.census_of.parallelize(
        [{"names": batch} for batch in in_batches(names)], common_args={"library": str(library)}
    )
    for invocation in group:  # group.results would wait for all, and the bar would not move
        part = invocation.result
        total.add(part)
        progress.advance(bar, part.files + len(part.skipped))
    return total


def show(console: Console, rows: dict[str, tuple["Census", float]]) -> None:
    table = Table(title=f"the standard library of Python {sys.version.split()[0]}")
    for column in ("", "files", "skipped", "lines", "tokens", "wall time", "speed-up"):
        table.add_column(column, justify="right" if column else "left")
    first = next(iter(rows.values()))[1]
    for name, (census, seconds) in rows.items():
        counts = (census.files, len(census.skipped), census.lines, census.tokens.total())
        cells = [f"{count:,}" for count in counts]
        table.add_row(name, *cells, f"{seconds:.2f} s", f"{first / seconds:.2f}x")
    console.print(table)

    kinds = ", ".join(f"{name} {count:,}" for name, count in census.tokens.most_common(6))
    console.print(f"most frequent: {kinds}", highlight=False)
    for name, reason in sorted(census.skipped.items()):
        console.print(f"skipped {name}: {reason}", markup=False, highlight=False)


def run(console: Console, options: argparse.Namespace, folder: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    names = source_files(library, options.limit)
    size = sum(
        len((library / name).read_bytes()) for name in names
    )  # also fills the cache for both counts
    console.print(f"{len(names)} files, {size / 1e6:.1f} MB, in {library}", highlight=False)

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with (
        worker_processes(options.workers, folder) as workers,
        Progress(*columns, console=console) as progress,
    ):
        started = wait_for_workers(workers)
        progress.print(f"{len(workers)} workers ready after {started:.2f} s")
        start = time.perf_counter()
        distributed = count_on_workers(library, names, progress)
        middle = time.perf_counter()
        plain = count_plainly(library, names, progress)
        end = time.perf_counter()
    assert distributed == plain, "the workers' count differs from that of the plain loop"
    show(
        console,
        {
            "plain loop": (plain, end - middle),
            f"{options.workers} workers": (distributed, middle - start),
        },
    )


def main() -> None:
    options = parse_arguments()
    with tempfile.TemporaryDirectory(prefix="fsqueue-census-") as folder:
        os.environ["FSQUEUE__ROOT"] = str(Path(folder, "spool"))  # before tasks is imported
        run(Console(), options, Path(folder))


if __name__ == "__main__":
    main()
