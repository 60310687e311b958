"""A project whose users launch workers from the command line, in a real batch system."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
from support import wait_until

if TYPE_CHECKING:
    from pathlib import Path


class BatchSite:
    """A project on a folder that the jobs see, and its spool.

    Args:
        folder: an empty folder.
        tasks: the text of ``tasks.py``.
        profiles: the text of ``fsqueue.toml``.
        queue: lists the ids of the jobs that have not ended, one in each line.
        environ: variables of the batch system.
    """

    def __init__(
        self, folder: Path, tasks: str, profiles: str, queue: str, environ: dict[str, str]
    ) -> None:
        self.folder, self.queue = folder, queue
        self.started: list[subprocess.Popen] = []
        (folder / "tasks.py").write_text(tasks)
        (folder / "fsqueue.toml").write_text(profiles)
        self.environ = {
            **os.environ,
            "FSQUEUE__ROOT": str(folder / "spool"),
            "FSQUEUE__STOP_GRACE": "2",
            **environ,
        }

    def run(self, *words: str, code: int = 0) -> str:
        done = subprocess.run(
            words, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr + self.logs()
        return done.stdout + done.stderr

    def start(self, *words: str) -> subprocess.Popen:
        """Start a program; `logs` shows what it prints, and `end` ends it."""
        with (self.folder / f"started-{len(self.started)}.log").open("w") as log:
            process = subprocess.Popen(
                words, cwd=self.folder, env=self.environ, stdout=log, stderr=log
            )
        self.started.append(process)
        return process

    def end(self) -> None:
        """End what was started, and let bodies return."""
        self.release()
        for process in self.started:
            process.terminate()
            process.wait()

    def fsqueue(self, line: str, code: int = 0) -> str:
        return self.run(sys.executable, "-m", "fsqueue", *shlex.split(line), code=code)

    def python(self, program: str) -> object:
        """What it prints in JSON; below it is what it says about how long it waits, for example."""
        printed = self.run(sys.executable, "-c", f"import json, tasks; {program}")
        return json.JSONDecoder().raw_decode(printed)[0]

    def ids(self) -> list[str]:
        """Jobs that have not ended."""
        return self.run("sh", "-c", self.queue).split()

    def starts(self) -> int:
        return len(list(self.folder.glob("start-*")))

    def release(self) -> None:
        """Let the bodies of `hold` return."""
        (self.folder / "release").touch()

    def pending(self) -> int:
        """Calls that wait as their first attempt."""
        return len(list((self.folder / "spool" / "pending").rglob("*.1")))

    def wait_for_end(self) -> None:
        wait_until(lambda: not self.ids(), self.logs, timeout=100, pause=0.3)
        wait_until(lambda: not self.processes(), lambda: f"they end: {self.processes()}")

    def processes(self) -> list[int]:
        """Processes of jobs: all of the folder that this one has not started."""
        own = {each.pid for each in psutil.Process().children(recursive=True)}
        found = psutil.process_iter(["cwd"])
        return [
            each.pid
            for each in found
            if each.info["cwd"] == str(self.folder) and each.pid not in own
        ]

    def logs(self) -> str:
        paths = [*self.folder.glob("spool/fleet/*/logs/*"), *self.folder.glob("*.log")]
        return "".join(path.read_text() for path in paths)
