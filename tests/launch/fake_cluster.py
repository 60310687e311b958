"""Installs the commands of a batch system that `fakebatch` plays, and says what its jobs do."""

from __future__ import annotations

import os
import sys

from fakebatch import COMMANDS, Jobs, cancel
from support import wait_until

_PROGRAM = """#!{python} -IS
import sys
sys.path.insert(0, {here!r})
import fakebatch
sys.exit(fakebatch.main(sys.argv))
"""


class FakeBatch:
    """Installs the commands of one batch system in a folder, and plays the cluster."""

    def __init__(self, folder: str, system: str, *, running: bool = False) -> None:
        self.folder, self.system = folder, system
        os.makedirs(folder, exist_ok=True)
        with open(f"{folder}/system", "w", encoding="ascii") as file:
            file.write(system)
        if running:
            open(f"{folder}/run", "w", encoding="ascii").close()
        program = f"{folder}/fakebatch"
        with open(program, "w", encoding="utf-8") as file:
            file.write(_PROGRAM.format(python=sys.executable, here=os.path.dirname(__file__)))
        os.chmod(program, 0o755)
        for name in COMMANDS[system]:
            if not os.path.lexists(f"{folder}/{name}"):
                os.symlink("fakebatch", f"{folder}/{name}")

    def fault(self, kind: str, *faults: str) -> None:
        """The next submissions or listings fail in these ways."""
        with Jobs(self.folder) as state:
            state["faults"].setdefault(kind, []).extend(faults)

    def live(self) -> dict[str, dict]:
        """Jobs that have not ended."""
        with Jobs(self.folder) as state:
            return {key: job for key, job in state["jobs"].items() if job["state"] != "ended"}

    def every(self) -> dict[str, dict]:
        """All jobs that there ever were."""
        with Jobs(self.folder) as state:
            return dict(state["jobs"])

    def end(self) -> None:
        """Cancel all jobs, and wait until those that run have ended."""
        cancel(self.folder, list(self.live()), waiting_only=False)
        wait_until(lambda: not self.live())

    def set_state(self, job_id: str, state: str) -> None:
        """A job starts, ends, or waits again."""
        with Jobs(self.folder) as jobs:
            jobs["jobs"][job_id]["state"] = state
