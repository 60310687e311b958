"""Runs `fsqueue doctor`, and lists the files that it leaves."""

import json
import os
import subprocess
import sys

from support import files_under

EXIT_CODES = {"ok": 0, "weak": 1, "bad": 2}
# Findings that depend on how busy the machine is, which these tests do not check.
OF_THE_MACHINE = {"latency", "space", "filesystem"}


def command(root, *arguments):
    return [sys.executable, "-m", "fsqueue", "doctor", str(root), *arguments]


def diagnose(root, *arguments):
    """Run the command, check its exit code, and return the report."""
    done = subprocess.run(
        command(root, "--json", *arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
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
    """Names of the findings that are not ok, except those that depend on the machine."""
    return {name for name, verdict in verdicts(findings).items() if verdict != "ok"} - (
        OF_THE_MACHINE
    )


def snapshot(root):
    """All files, with the data that changes if a file is touched, linked or replaced."""
    found = {}
    for path in files_under(root):
        status = os.lstat(os.path.join(root, path))
        found[path] = (status.st_ino, status.st_mtime_ns, status.st_size, status.st_nlink)
    return found
