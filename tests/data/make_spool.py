"""Makes ``spool_v1.tar.gz``: a spool with a call in every state, as a version of fsqueue left it.

``python tests/data/make_spool.py`` writes the archive with the fsqueue that is installed. The one
in the repository was made by the last version before the packages were restructured (0.1.0), and
is not to be made again: it stands for the files that users have. For a new kind of file, make an
archive of its own.

The archive has ``spool/`` and ``calls.json``, which maps names of calls to ids.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
ARCHIVE = HERE / "spool_v1.tar.gz"
FAR = dt.datetime(2100, 1, 1, tzinfo=dt.UTC)


def wait_until(condition, what):
    deadline = time.monotonic() + 30
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not within 30 s: {what}")
        time.sleep(0.01)
    return found


class Maker:
    """Makes the calls, and runs the workers that bring them into their states."""

    def __init__(self, base):
        self.base, self.root = base, base / "spool"
        self.gate = base / "gate"
        self.gate.mkdir()
        os.environ["FSQUEUE__ROOT"] = str(self.root)
        sys.path.insert(0, str(HERE))
        import spool_app

        self.tasks = spool_app
        self.calls = {}

    def keep(self, name, invocation):
        self.calls[name] = invocation.id
        return invocation

    def files(self, pattern):
        return list(self.root.glob(pattern))

    @contextlib.contextmanager
    def worker(self, how_it_ends, **env):
        command = [sys.executable, "-m", "fsqueue", "worker", "spool_app:app"]
        command += ["--concurrency", "4", "--runner", "thread"]
        process = subprocess.Popen(
            command, env=os.environ | {"PYTHONPATH": _path()} | env, stdin=subprocess.DEVNULL
        )
        yield
        process.send_signal(how_it_ends)
        process.wait()

    def ended(self):
        """What a worker has run to its end, collected or not."""
        tasks = self.tasks
        damaged = self.keep("damaged", tasks.add(1))
        (path,) = self.files(f"pending/*/*/{damaged.id}.1")
        path.write_bytes(path.read_bytes()[:-3])
        done = self.keep("done", tasks.add(1, 2))
        done_batch = [self.keep(f"done_batch_{n}", one) for n, one in enumerate(_batch(tasks, 3))]
        with self.worker(signal.SIGTERM):
            for name, call, value in (
                ("kept", tasks.add(3, 4), 7),
                ("kept_json", tasks.add_in_json(3, 4), 7),
                ("cached", tasks.add_cached(5, 6), 11),
                ("spoken", tasks.speak("a line"), 6),
            ):
                assert self.keep(name, call).get(timeout=60) == value
            failed = self.keep("failed", tasks.reject("on purpose"))
            with contextlib.suppress(LookupError):
                failed.get(timeout=60)
            tasks.app.emit("first")
            tasks.app.emit("arrived", 6)
            for each in (damaged, done, done_batch[0]):
                carrier = each.id.partition(":")[0]
                wait_until(lambda name=carrier: self.files(f"done/*/{name}"), f"{carrier} ends")
            wait_until(lambda: not self.files("events/*/*"), "the events are handled")
            wait_until(lambda: not self.files("pending/*/*/*.1"), "the fired call has ended")

    def running(self):
        """What a worker holds that is killed, and what waits for that."""
        tasks = self.tasks
        with self.worker(signal.SIGKILL, SPOOL_APP_FAILS="1"):
            self.keep("retried", tasks.flaky.options(retry_delay=5.0)(1))
            self.keep("running", tasks.hold(str(self.gate)))
            self.keep("running_alone", tasks.hold_alone(str(self.gate)))
            wait_until(lambda: len(self.files("running/*/*")) == 2, "two calls run")
            self.keep("waiting_for_limit", tasks.hold_alone(str(self.gate)))
            wait_until(lambda: self.files("lanes/*/*~*/*"), "one waits for the limit")
            wait_until(lambda: self.files("pending/*/*/*r1"), "one is retried")

    def pending(self):
        """What nobody has claimed."""
        tasks = self.tasks
        first = self.keep("pending", tasks.add(10))
        self.keep("pending_json", tasks.add_in_json(20))
        self.keep("delayed", tasks.add.options(eta=FAR)(30))
        self.keep("delayed_until_made", tasks.add.options(countdown=5.0)(40))
        self.keep("waiting_for_call", first.then(tasks.add, second=100))
        self.keep("waiting_for_two", tasks.add(first, self_done(tasks, self.calls["kept"])))
        once = self.keep("deduplicated", tasks.add_once(50))
        assert tasks.add_once(50).id == once.id
        self.keep("on_gpu", tasks.on_gpu(60))
        for number, each in enumerate(_batch(tasks, 3)):
            self.keep(f"batch_{number}", each)
        shared = tasks.length.parallelize([()] * 2, common_args={"text": "x" * 40_000})
        for number, each in enumerate(shared):
            self.keep(f"blob_{number}", each)
        assert self.files("blobs/*")
        assert self.keep("cancelled", tasks.add(70)).cancel()
        tasks.app.emit("arrived", 8)
        tasks.app.emit("second")


def self_done(tasks, invocation_id):
    return tasks.app.invocation(invocation_id)


def _batch(tasks, count):
    return tasks.scale.parallelize([(number,) for number in range(count)])


def _path():
    return os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])


def pack(base, calls):
    (base / "calls.json").write_text(json.dumps(calls, indent=1))
    with io.BytesIO() as raw:
        with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name in ("calls.json", "spool"):
                archive.add(base / name, name, filter=_anonymous)
        ARCHIVE.write_bytes(gzip.compress(raw.getvalue(), mtime=0))


def _anonymous(member):
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def main():
    with tempfile.TemporaryDirectory() as folder:
        maker = Maker(Path(folder))
        maker.ended()
        maker.running()
        maker.pending()
        pack(maker.base, maker.calls)
        # The caller, too, ends without saying so: its mailbox stays.
        import shutil

        shutil.rmtree(folder)
        os._exit(0)


if __name__ == "__main__":
    main()
