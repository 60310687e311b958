"""Two mounts of one folder, each with a kernel cache of its own that believes itself for long.

FUSE caches names, their absence and attributes for as long as the mount says: a caller, a worker or
an observer that relied on any of them would wait for minutes here. It has no locks between the
mounts, so they exclude nobody.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support import PATIENCE, files_under, strays, wait_until

from fsqueue.spool.liveness import Observer
from fsqueue.spool.mounts import is_remote
from fsqueue.spool.opening import open_store

PROJECT = Path(__file__).parent / "stale_mounts"
LONG = 300
pytestmark = [
    pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="no /dev/fuse"),
    pytest.mark.skipif(shutil.which("bindfs") is None, reason="bindfs is not installed"),
]


@pytest.fixture
def mounts(request, tmp_path):
    """Two mounts; their attributes stay cached for the parameter's number of seconds."""
    (tmp_path / "disk").mkdir()
    options = f"attr_timeout={request.param},entry_timeout={LONG},negative_timeout={LONG}"
    mounted = []
    try:
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            command = ["bindfs", "-o", options, str(tmp_path / "disk"), str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                pytest.skip(f"bindfs cannot mount here: {done.stderr.strip()}")
            mounted.append(folder)
        yield mounted
    finally:
        for folder in mounted:
            subprocess.run(["fusermount", "-u", "-z", str(folder)], check=True)


class Started:
    def __init__(self, mount, *arguments, before=(), **settings):
        clean = {key: value for key, value in os.environ.items() if not key.startswith("FSQUEUE")}
        env = clean | {"FSQUEUE__ROOT": f"{mount}/spool", "FSQUEUE__HEARTBEAT": "0.2"} | settings
        self.popen = subprocess.Popen(
            [*before, sys.executable, *arguments],
            cwd=PROJECT,
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def answer(self):
        printed, log = self.popen.communicate(timeout=PATIENCE)
        assert self.popen.returncode == 0, log
        return json.loads(printed)


@pytest.fixture
def start(mounts):
    started = []

    def start(*args, **options):
        started.append(Started(*args, **options))
        return started[-1]

    yield start
    for process in started:
        process.popen.kill()
        process.popen.communicate()
