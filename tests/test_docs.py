"""Every code block of README and docs is run, page by page, as a reader would.

A block whose first line names a file becomes that file; the other Python blocks of a page are one
script. Workers of console blocks run beside it. The set-up commands of README and CONTRIBUTING
(bash) are what .ci/run takes from there and runs.
"""

import os
import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from configuration_reference import table
from support import wait_until

from fsqueue.spool.states import TRANSITIONS

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
KINDS = {"python", "console", "toml", "bash", "diff", "text"}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"# ([\w.]+)\n")


def blocks(page):
    return BLOCK.findall(page.read_text("utf-8"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_blocks_of_a_page_run(page, tmp_path):
    found = blocks(page)
    assert {kind for kind, _ in found} <= KINDS
    script = []
    for kind, text in found:
        name = FILE_NAME.match(text)
        if kind in {"python", "toml"} and name:
            (tmp_path / name[1]).write_text(text, "utf-8")
        elif kind == "python":
            script.append(text)
        if kind == "toml":
            tomllib.loads(text)
    environ = {**os.environ, "FSQUEUE__ROOT": str(tmp_path / "spool")}
    if (tmp_path / "fsqueue.toml").exists():
        del environ["FSQUEUE__ROOT"]
    workers = [
        start_worker(line.removeprefix("$ "), tmp_path, environ)
        for kind, text in found
        if kind == "console"
        for line in text.splitlines()
    ]
    try:
        run = subprocess.run(
            [sys.executable, "-c", "\n".join(script)],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert run.returncode == 0, run.stderr
    finally:
        for worker in workers:
            worker.send_signal(signal.SIGTERM)
        codes = [worker.wait(timeout=20) for worker in workers]
    assert codes == [0] * len(workers)


def start_worker(command, folder, environ):
    """Start what a console block shows, in `folder`; its shared directory is the page's own."""
    setting, program, *words = command.split()
    assert (setting, program) == ("FSQUEUE__ROOT=/shared/queue", "fsqueue")
    log = folder / "worker.log"
    with log.open("w") as file:
        worker = subprocess.Popen(
            [sys.executable, "-m", "fsqueue", *words],
            cwd=folder,
            env=environ,
            stdout=file,
            stderr=file,
        )
    wait_until(lambda: "serves" in log.read_text() or worker.poll() is not None)
    assert worker.poll() is None, log.read_text()
    return worker


def test_setup_commands_are_two():
    commands = [text.strip() for kind, text in blocks(ROOT / "README.md") if kind == "bash"]
    assert len(commands) == 2
    assert all("\n" not in command for command in commands)


def test_configuration_reference_is_complete():
    assert table() in (ROOT / "docs/configuration.md").read_text("utf-8")


def test_states_are_as_documented():
    page = (ROOT / "docs/concepts.md").read_text("utf-8")
    for move, (start, end) in TRANSITIONS.items():
        states = [", ".join(sorted(side, reverse=True)) for side in (start, end)]
        row = " | ".join(cell for cell in (move, *states))
        assert f"| {row} |".replace("|  |", "| |") in page


def test_links_lead_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
