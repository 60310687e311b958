"""TAB in real shells completes names from the sources and from the spool."""

import contextlib
import os
import pty
import re
import shutil
import subprocess
import sys

import pytest
from acceptance_harness import FSQUEUE
from support import wait_until

from fsqueue.cli import exits

TASKS = """raise SystemExit("completion must not import this")
from fsqueue import FSQueue

app = FSQueue("shop", root={root!r})
"""
RENDER = """

@app.task
def render(name, pages=1):
    return [name, pages]


@app.direct_task(max_retries=2)
def area(x):
    return x
"""
BASH = 'PS1="rea""dy> "; bind "set enable-bracketed-paste off"; source $SCRIPT\n'
ZSH = 'PS1="rea""dy> "; autoload -U compinit; compinit -u -D; source $SCRIPT\n'


@pytest.fixture
def shop(site, tmp_path):
    """A folder with an application that cannot be imported, and a spool with a call in it."""
    del site.env["FSQUEUE__ROOT"]
    site.project = tmp_path / "here"
    site.project.mkdir()
    source = TASKS.format(root=str(site.root))
    (site.project / "work.py").write_text(source.partition("\n")[2] + RENDER, "utf-8")
    done = site.fsqueue("submit", "render", "sales", "--pages", "3")
    assert done.returncode == exits.OK, done.stderr
    site.call_id = done.stdout.strip()
    (site.project / "work.py").write_text(source + RENDER, "utf-8")
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    (bin_folder / "fsqueue").write_text(f'#!/bin/sh\nexec {sys.executable} -m fsqueue "$@"\n')
    (bin_folder / "fsqueue").chmod(0o755)
    site.env |= {"PATH": f"{bin_folder}:{site.env['PATH']}", "HOME": str(tmp_path), "TERM": "xterm"}
    return site


def script_of(shop, shell):
    done = shop.fsqueue("completion", shell)
    assert done.returncode == exits.OK, done.stderr
    path = shop.base / f"completion.{shell}"
    path.write_text(done.stdout, "utf-8")
    return str(path)


def need(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"there is no {shell}")


class Terminal:
    """An interactive shell, to which a test types."""

    def __init__(self, shop, command, prepare, script):
        self._ours, theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self.process = subprocess.Popen(
            command,
            cwd=shop.project,
            env=shop.env | {"SCRIPT": script},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        self._text = ""
        self.type(prepare)
        self.wait_for("ready> ")

    def type(self, text):
        os.write(self._ours, text.encode())

    def wait_for(self, text):
        """Wait for a text on the screen; returns all that was there up to now, and forgets it."""

        def there():
            with contextlib.suppress(BlockingIOError):
                self._text += os.read(self._ours, 4096).decode("utf-8", "replace")
            return text in self._text

        wait_until(there, lambda: f"{text!r} on the screen: {self._text!r}")
        seen, self._text = self._text, ""
        return seen

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.mark.parametrize(
    ("command", "prepare"),
    [(["bash", "--norc", "--noprofile", "-i"], BASH), (["zsh", "-f", "-i"], ZSH)],
    ids=["bash", "zsh"],
)
def test_tab_in_a_terminal(shop, command, prepare):
    need(command[0])
    terminal = Terminal(shop, command, prepare, script_of(shop, command[0]))
    try:
        for typed, rest in (
            ("submit ren", "der"),
            ("submit work.a", "rea"),
            ("pause def", "ault"),
            (f"cancel {shop.call_id[:3]}", shop.call_id[3:]),
            ("worker w", "ork"),
            ("autos", "cale"),
            ("list --sta", "te"),
        ):
            terminal.type(f"fsqueue {typed}\t")
            terminal.wait_for(f"fsqueue {typed}{rest}")
            terminal.type("\x15\n")  # empties the line
            terminal.wait_for("ready> ")
    finally:
        terminal.close()


def test_completion_by_fish(shop):
    need("fish")
    script = script_of(shop, "fish")

    def offered(line):
        done = subprocess.run(
            ["fish", "--no-config", "-c", f"source {script}; complete -C '{line}'"],
            cwd=shop.project,
            env=shop.env,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return {each.partition("\t")[0] for each in done.stdout.splitlines()}

    assert offered("fsqueue submit ") >= {"render", "area", "work.render", "work.area"}
    assert offered("fsqueue pause ") >= {"default", "shop.default"}
    assert offered("fsqueue cancel ") >= {shop.call_id}
    assert shop.call_id not in offered("fsqueue retry ")


def test_words_as_a_shell_asks_for_them(shop):
    def offered(*words, **env):
        asked = {"_FSQUEUE_COMPLETE": "fish_complete", "COMP_CWORD": words[-1]}
        done = shop.run(*FSQUEUE, **asked, COMP_WORDS=" ".join(["fsqueue", *words]), **env)
        assert (done.returncode, done.stderr) == (exits.OK, "")
        return re.findall(r"^plain,(\S*)", done.stdout, re.MULTILINE)

    assert offered("list", "--task", "") == ["work.render", "work.area"]
    assert offered("show", "") == [shop.call_id]
    assert offered("show", "--root", str(shop.base / "none"), "") == []
    assert offered("show", "--root", str(shop.root), "") == [shop.call_id]
    assert offered("cancel", shop.call_id, "") == []  # it is there already
    assert offered("show", "", FSQUEUE__LEASE="no number") == []
    (shop.project / "other.py").write_text("from fsqueue import FSQueue\na = FSQueue('a')\n")
    assert offered("worker", "") == ["other", "work"]
    assert offered("submit", "--app", "work", "") == ["render", "area", "work.render", "work.area"]
    assert offered("pause", "") == []  # which application?
