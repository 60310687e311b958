"""Runs `fsqueue doctor`, and looks at what it leaves."""

import json
import os
import subprocess
import sys

from support import files_under

EXIT_CODES = {"ok": 0, "weak": 1, "bad": 2}
# A busy machine may be slow, which is not what these tests are about.
OF_THE_MACHINE = {"latency", "space", "filesystem"}


def command(root, *arguments):
    return [sys.executable, "-m", "fsqueue", "doctor", str(root), *arguments]


def diagnose(root, *arguments):
    """Run it to its end; returns the report, the exit code having been checked."""
    done = subprocess.run(
        command(root, "--json", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert done.returncode == EXIT_CODES[report["verdict"]]
    return report


def verdicts(findings):
    return {finding["name"]: finding["verdict"] for finding in findings}


def one(findings, name):
    (finding,) = (finding for finding in findings if finding["name"] == name)
    return finding


def weaknesses(findings):
    """Names of findings that are not ok, whatever the machine is busy with."""
    return {name for name, verdict in verdicts(findings).items() if verdict != "ok"} - (
        OF_THE_MACHINE
    )


def snapshot(root):
    """All files, with what would tell that one was touched, read or replaced by another."""
    found = {}
    for path in files_under(root):
        status = os.lstat(os.path.join(root, path))
        found[path] = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_nlink)
    return found
