"""`.ci/run`: what it refuses, and that a shell understands it. Itself it runs elsewhere."""

import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent.parent / ".ci" / "run"


@pytest.mark.parametrize("arguments", [["--ful"], ["full"], ["--full", "more"], [""], ["-h"]])
def test_what_it_does_not_know_is_refused_before_anything_is_done(arguments, tmp_path):
    copy = tmp_path / ".ci" / "run"
    copy.parent.mkdir()
    shutil.copy(SCRIPT, copy)
    done = subprocess.run(
        [copy, *arguments], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "usage: .ci/run [--full]\n"
    assert [path.name for path in tmp_path.rglob("*")] == [".ci", "run"]


def test_a_shell_can_read_it():
    done = subprocess.run(["bash", "-n", SCRIPT], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck")
def test_shellcheck_finds_nothing():
    done = subprocess.run(
        ["shellcheck", SCRIPT], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout == ""


# -- the parts, with stand-ins for the tools -----------------------------------------------------

README = "```bash\necho the main job\n```\n\n```bash\necho all tests in $(basename $PWD)\n```\n"
TOOLS = ("pip", "python", "ruff", "lint-imports", "mypy", "pyright", "mkdocs")


class Checkout:
    """A folder in which the script finds only tools that note how they were called."""

    def __init__(self, folder):
        self.folder = folder
        self.notes = folder / "notes"
        (folder / ".ci").mkdir()
        shutil.copy(SCRIPT, folder / ".ci")
        (folder / "README.md").write_text(README)
        for tool in TOOLS:
            self.tool(f".venv/bin/{tool}")
        self.tool("bin/id", text="echo 1000")

    def tool(self, name, text="true"):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        settings = "${FSQUEUE_TESTS_EXAMPLES-}${FSQUEUE_TESTS_REPEAT-}${FSQUEUE_HARNESS-}"
        noted = f'echo "$(basename $0) $* {settings}"'
        path.write_text(f"#!/bin/sh\n{noted} >>{self.notes}\n{text}\n")
        path.chmod(0o755)

    def run(self, *arguments, **env):
        env = {"PATH": f"{self.folder}/bin:/usr/bin:/bin", "HOME": str(self.folder), **env}
        return subprocess.run(
            [self.folder / ".ci" / "run", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env=env,
        )

    def called(self, *parts):
        """Calls of tools that have all of these parts."""
        lines = self.notes.read_text("utf-8").splitlines()
        return [line for line in lines if all(part in line for part in parts)]


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "checkout").mkdir()
    return Checkout(tmp_path / "checkout")


def parts_of(done):
    """The names in the report at the end, of which each line begins with a time."""
    report = done.stdout.partition("== done in ")[2].splitlines()[1:]
    assert all(line.split()[0].isdigit() and line.split()[1] == "s" for line in report)
    return {line.split(" s  ", 1)[1] for line in report}


def test_a_change_has_to_pass_the_quick_parts(checkout):
    done = checkout.run()
    assert done.returncode == 0, done.stdout + done.stderr
    quick = {"README: main job", "README: tests", "set-up", "chaos", "lint", "types"}
    quick |= {"examples", "site", "packages"}
    assert quick <= parts_of(done)
    assert "the main job" in done.stdout
    assert "all tests in tmp." in done.stdout
    assert checkout.called("chaos/run.py --seconds 120")
    assert not checkout.called("-m hypothesis")


def test_the_full_run_adds_what_takes_long(checkout):
    done = checkout.run("--full", FSQUEUE_NFS_LAB="/lab", FSQUEUE_CI_REPEAT="7")
    assert done.returncode == 0, done.stdout + done.stderr
    added = {"properties, 2000 examples each", "concurrent tests, 7 times", "NFS"}
    added.add("five times as many interruptions")
    assert added <= parts_of(done)
    assert checkout.called("chaos/run.py --seconds 400")
    assert checkout.called("-m hypothesis", " 2000")
    assert checkout.called("-m concurrent", " 7")
    # The doctor is left out only where the tests run again with other records.
    assert [line for line in checkout.called("tests/nfs") if "--ignore" not in line]


@pytest.mark.parametrize(("options", "versions"), [((), ["3.14"]), (("--full",), ["3.14", "3.12"])])
def test_only_the_full_run_tests_every_other_python(checkout, options, versions):
    for version in ("3.11", "3.12", "3.13", "3.14"):
        missing = version == "3.13"
        says = f"[ $1 != --version ] || echo Python {version}.0\n" + "exit 1\n" * missing
        checkout.tool(f"bin/python{version}", text=says)
        checkout.tool(f".venv-{version}.0/bin/pip")
        checkout.tool(f".venv-{version}.0/bin/python")
    checkout.tool("bin/python3", text="echo Python 3.11.2")
    done = checkout.run(*options)
    assert done.returncode == 0, done.stdout + done.stderr
    tested = {f"unit and integration tests on Python {version}.0" for version in versions}
    assert {part for part in parts_of(done) if " on Python " in part} == tested


def test_jobs_may_write_into_the_checkout_while_it_is_copied(checkout):
    written = checkout.folder / "written"
    readme = README.replace("$PWD)", f"$PWD) && touch {written}.enough")
    (checkout.folder / "README.md").write_text(readme)
    checkout.tool(
        ".venv/bin/mkdocs", f"while [ ! -e {written}.enough ]; do echo more >>{written}; done"
    )
    done = checkout.run()
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_quick_run_leaves_out_the_doctor_on_nfs(checkout):
    done = checkout.run(FSQUEUE_NFS_LAB="/lab")
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkout.called("tests/nfs --ignore tests/nfs/test_nfs_doctor.py")


@pytest.mark.parametrize("named", [True, False])
def test_borrowed_tests_run_where_their_harness_is(checkout, tmp_path, named):
    """Named in the environment, or in ``../shared`` beside the checkout."""
    harness = checkout.folder.parent / "shared" / "harness"
    (harness / "cpython").mkdir(parents=True)
    (harness / "cpython" / "run.py").touch()
    environment = {"FSQUEUE_HARNESS": "/elsewhere"} if named else {}
    where = "/elsewhere" if named else str(harness)
    executor = ("tests/acceptance/test_borrowed_executor_tests.py", where)
    long = ("tests/acceptance/test_joblib_harness.py", where)
    assert "borrowed tests" in parts_of(checkout.run(**environment))
    assert checkout.called(*executor, "-k not crash")
    assert not checkout.called(*long)
    assert "borrowed tests" in parts_of(checkout.run("--full", **environment))
    assert [line for line in checkout.called(*executor) if "not crash" not in line]
    assert checkout.called(*long)


def test_borrowed_tests_are_skipped_without_a_harness(checkout):
    done = checkout.run()
    assert "borrowed tests skipped" in done.stdout
    assert not checkout.called("test_joblib_harness.py")


@pytest.mark.parametrize(
    ("tool", "part"), [("mypy", "types"), ("lint-imports", "lint"), ("pip", "set-up")]
)
def test_a_part_that_fails_ends_all_and_shows_what_it_said(checkout, tool, part):
    checkout.tool(f".venv/bin/{tool}", text="echo what is wrong\nexit 3")
    done = checkout.run()
    assert done.returncode == 3
    assert f"== {part}" in done.stdout
    assert "what is wrong" in done.stdout
    assert "== done" not in done.stdout
