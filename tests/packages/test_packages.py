"""The sdist and the wheel, and what a new user does, in environments that have nothing else.

`.ci/run` runs it. It needs the dependency group "packages", and PyPI for what fsqueue depends on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytest.importorskip("build", reason="the dependency group packages is not installed")

ROOT = Path(__file__).resolve().parent.parent.parent
TOOLS = Path(sys.executable).parent
_LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", ".*_cache", "__pycache__", "node_modules", "site", "dist", ".hypothesis"
)
# A day, and any text: what was built must not depend on them.
_EPOCH = "1700000000"


def run(command, cwd, **env):
    """What a command prints; it has to succeed."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FSQUEUE")}
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore", **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def copy_of_the_clone(folder):
    return shutil.copytree(ROOT, folder, ignore=_LEFT_OUT, copy_function=shutil.copyfile)


def built(folder, umask):
    """Build a copy of the tree, whose files have times and modes of their own."""
    copy = copy_of_the_clone(folder / "fsqueue")
    command = f'umask {umask}; exec "$0" -m build --no-isolation --outdir ../dist .'
    run(["sh", "-c", command, sys.executable], copy, SOURCE_DATE_EPOCH=_EPOCH)
    return folder / "dist"


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    return built(tmp_path_factory.mktemp("first"), "022")


def test_a_second_build_makes_the_same_bytes(dist, tmp_path):
    again = built(tmp_path, "077")
    names = sorted(path.name for path in dist.iterdir())
    assert len(names) == 2
    assert names == sorted(path.name for path in again.iterdir())
    assert [
        name for name in names if (dist / name).read_bytes() != (again / name).read_bytes()
    ] == []


def test_the_index_would_accept_both(dist):
    run([TOOLS / "twine", "check", "--strict", *dist.iterdir()], dist)


def test_the_wheel_contains_what_it_should(dist):
    run([TOOLS / "check-wheel-contents", *dist.glob("*.whl")], dist)


def test_the_wheel_runs_the_main_job_of_the_readme(dist, tmp_path):
    venv.create(tmp_path / "venv", with_pip=True)
    scripts = tmp_path / "venv" / "bin"
    run([scripts / "pip", "install", "-q", *dist.glob("*.whl")], tmp_path)
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    run([scripts / "python", "examples/direct_task_demo/main_job.py"], tmp_path)
    version = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert run([scripts / "fsqueue", "--version"], tmp_path).strip() == version[1]


def bash_blocks(page):
    return re.findall(
        r"^```bash\n(.*?)^```$", (ROOT / page).read_text("utf-8"), re.MULTILINE | re.DOTALL
    )


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """A clone in which the command of the quick start has made an environment."""
    folder = copy_of_the_clone(tmp_path_factory.mktemp("clone") / "fsqueue")
    (set_up,) = bash_blocks("docs/quickstart.md")
    run(["bash", "-euo", "pipefail", "-c", set_up], folder)
    return folder


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md"])
def test_a_page_runs_in_the_environment_of_the_quick_start(clone, tmp_path, page):
    scripts = clone / ".venv" / "bin"
    # A short name: sockets are made there.
    temporary = tmp_path / "t"
    temporary.mkdir()
    run(
        [scripts / "python", clone / "tests" / "test_docs.py", page],
        tmp_path,
        PATH=f"{scripts}{os.pathsep}{os.defpath}",
        TMPDIR=str(temporary),
    )
    assert not run([scripts / "pip", "list", "--editable"], tmp_path)


def test_the_environment_of_the_quick_start_has_no_tools_of_tests(clone):
    python = clone / ".venv" / "bin" / "python"
    code = "import importlib.util as u; print([n for n in ('pytest', 'numpy') if u.find_spec(n)])"
    assert run([python, "-c", code], clone).strip() == "[]"
