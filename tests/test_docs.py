"""Every code block of README.md and docs/ is run, and every table that the code can check is.

A page is run in a process and a folder of its own, its blocks from top to bottom:

=========  =============================================================================
python     run in the page's one namespace; with a first line ``# name.py`` it is written
           to that file instead
pycon      a session in the same namespace, whose output must be as shown (``...``: anything)
console    the lines after ``$`` are run by bash, and must print what is shown; a command
           ``fsqueue worker`` is a terminal of its own, which stays open to the page's end. A
           setting before it, such as ``FSQUEUE__ROOT=...``, holds for the rest of the page;
           a root of the reader's is replaced by one in the page's temporary folder
diff       written to the file that it names, as it is after the change
toml       written to the file that its first line names
bash       the set-up commands of the README and the quick start, which have tests of their own
text       a drawing, which is not run; nor is a block with "not-run" after its language, which
           shows a library that is not installed here
=========  =============================================================================

Run one page alone with ``python tests/test_docs.py docs/quickstart.md`` in an empty folder.
"""

from __future__ import annotations

import contextlib
import doctest
import faulthandler
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from configuration_reference import table, table_of_options, table_of_profiles

from fsqueue.launch.profiles import SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE / "tests" / "launch"))
from fake_cluster import FakeBatch  # noqa: E402 - its folder is not on the path of a page's process

PAGES = [HERE / "README.md", *sorted((HERE / "docs").rglob("*.md"))]
COMMAND_LIMIT = 60
PAGE_LIMIT = 150
# No worker is left behind when this process is killed, by a test's time limit, say.
ENDS_WITH_PARENT = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE

_BLOCK = re.compile(r"^```(\w*)( not-run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WORKER = re.compile(r"((?:FSQUEUE__\w+=\S+ )*)(fsqueue worker(?:$| (?!--help).*))?.*")
# Printed here, as the page's folders are on a local disk, and not on a cluster.
_HERE_ONLY = re.compile(r"^fsqueue: .* is on a disk of this machine: .*\n", re.MULTILINE)
_EXPORT = re.compile(r"export (\w+)=(\S+)")
_FILE = re.compile(r"# ([\w./-]+\.(?:py|toml))\n")


class Block(NamedTuple):
    page: Path
    line: int
    """Number of its first line of code."""
    language: str
    code: str

    @property
    def place(self) -> str:
        return f"{self.page.relative_to(HERE)}, line {self.line}"


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text("utf-8")
    return [
        Block(
            page, text.count("\n", 0, match.start()) + 2, "text" if match[2] else match[1], match[3]
        )
        for match in _BLOCK.finditer(text)
    ]


# -- running a page, in a process of its own ------------------------------------------------


class Page:
    def __init__(self) -> None:
        self.namespace: dict[str, object] = {"__name__": "page"}
        self.workers: list[tuple[subprocess.Popen[str], Block, str]] = []

    def run(self, blocks: list[Block]) -> None:
        for block in blocks:
            print(f"-- {block.place} ({block.language})", flush=True)
            getattr(self, block.language)(block)
        while self.workers:
            self._end(*self.workers.pop())

    def text(self, block: Block) -> None:
        """Nothing to run."""

    def bash(self, block: Block) -> None:
        assert block.page.name in {"README.md", "quickstart.md"}, (
            f"{block.place}: nothing runs this"
        )

    def python(self, block: Block) -> None:
        if not write_file(block):
            # Moved down to its place in the page, so that tracebacks show it.
            source = "\n" * (block.line - 1) + block.code
            exec(compile(source, str(block.page), "exec"), self.namespace)

    def pycon(self, block: Block) -> None:
        name = block.page.name
        test = doctest.DocTestParser().get_doctest(
            block.code, {}, name, str(block.page), block.line - 1
        )
        test.globs = self.namespace
        assert test.examples, f"{block.place}: no example"
        # It clears what it leaves, so that a later block would find nothing.
        runner = doctest.DocTestRunner(optionflags=OPTIONS | doctest.REPORT_NDIFF)
        failed = runner.run(test, clear_globs=False).failed
        assert not failed, f"{block.place}: {failed} examples failed"

    def toml(self, block: Block) -> None:
        tomllib.loads(block.code)
        assert write_file(block), f"{block.place}: name the file in the first line"

    def diff(self, block: Block) -> None:
        old, new = two_sides(block)
        assert old != new
        name = re.search(r"^\+\+\+ after/(\S+)$", block.code, re.MULTILINE)
        assert name, f"{block.place}: name the file"
        compile(old, block.place, "exec")
        Path(name[1]).write_text(new, "utf-8")

    def console(self, block: Block) -> None:
        commands = re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block.code, re.MULTILINE)
        assert commands, f"{block.place}: no command"
        for command, expected in commands:
            if export := _EXPORT.fullmatch(command):
                set_variable(*export.groups())
                continue
            settings, worker = _WORKER.fullmatch(command).groups()  # type: ignore[union-attr]
            if worker:
                self._start(settings, worker, block, expected)
                continue
            done = subprocess.run(
                ["bash", "-c", command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=COMMAND_LIMIT,
                check=False,
            )
            check_output(block, command, expected, _HERE_ONLY.sub("", done.stdout))

    def _start(self, settings: str, command: str, block: Block, expected: str) -> None:
        for setting in settings.split():
            name, _, value = setting.partition("=")
            set_variable(name, value)
        worker = subprocess.Popen(
            [*ENDS_WITH_PARENT, *shlex.split(command)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.workers.append((worker, block, expected))

    def _end(self, worker: subprocess.Popen[str], block: Block, expected: str) -> None:
        worker.send_signal(signal.SIGTERM)
        output, _ = worker.communicate(timeout=COMMAND_LIMIT)
        # One that the page has drained may be about to end, and no longer listen to signals.
        drained = "was asked to drain" in output and worker.returncode == -signal.SIGTERM
        assert worker.returncode == 0 or drained, f"{block.place}: {worker.returncode}\n{output}"
        if expected:
            check_output(block, "fsqueue worker", expected, output)

    def close(self) -> None:
        for worker, *_ in self.workers:
            worker.kill()
            print(worker.communicate()[0])


def set_variable(name: str, value: str) -> None:
    inside = f"{os.environ['TMPDIR']}/{value.lstrip('/')}"
    os.environ[name] = inside if name == "FSQUEUE__ROOT" else value


def write_file(block: Block) -> bool:
    match = _FILE.match(block.code)
    if match is None:
        return False
    path = Path(match[1])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(block.code.partition("\n")[2], "utf-8")
    return True


def two_sides(block: Block) -> tuple[str, str]:
    """What a diff that shows the whole file was made of."""
    lines = [
        line
        for line in block.code.splitlines(keepends=True)
        if not line.startswith(("---", "+++", "@@"))
    ]
    assert all(line[0] in " +-" for line in lines), f"{block.place}: not a diff"
    return tuple("".join(line[1:] for line in lines if line[0] != other) for other in "+-")  # type: ignore[return-value]


def check_output(block: Block, command: str, expected: str, got: str) -> None:
    if not doctest.OutputChecker().check_output(expected, got, OPTIONS):
        raise AssertionError(f"{block.place}: $ {command}\nexpected\n{expected}\ngot\n{got}")


def run_page(name: str) -> None:
    sys.path.insert(0, os.getcwd())
    os.environ.setdefault("TMPDIR", os.getcwd())
    faulthandler.dump_traceback_later(PAGE_LIMIT - 10, exit=True)  # where did it hang?
    page = Page()
    with batch_system_of(name):
        try:
            page.run(blocks_of(HERE / name))
        finally:
            page.close()


@contextlib.contextmanager
def batch_system_of(name: str) -> Iterator[None]:
    """On a page about a batch system, a program plays that system, and really runs its jobs."""
    system = {"grid-engine": "sge"}.get(Path(name).stem, Path(name).stem)
    if Path(name).parent.name != "batch" or system not in SYSTEMS:
        yield
        return
    cluster = FakeBatch(f"{os.environ['TMPDIR']}/bin", system, running=True)
    os.environ["PATH"] = f"{cluster.folder}{os.pathsep}{os.environ['PATH']}"
    try:
        yield
    finally:
        cluster.end()


# -- tests ----------------------------------------------------------------------------------


def pytest_generate_tests(metafunc) -> None:
    if "page" in metafunc.fixturenames:
        metafunc.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(HERE)))


def clean_environment(folder: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("FSQUEUE__")}
    return kept | {
        "TMPDIR": folder,  # the default root lies in there
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONDONTWRITEBYTECODE": "1",
    }


def run_for_real(command: list[str], folder: Path) -> None:
    # A short name: multiprocessing puts a socket there, whose path has 107 bytes at most.
    with tempfile.TemporaryDirectory(prefix="fsq-", dir="/tmp") as temporary:
        done = subprocess.run(
            [*ENDS_WITH_PARENT, *command],
            cwd=folder,
            env=clean_environment(temporary),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PAGE_LIMIT,
            check=False,
        )
    assert done.returncode == 0, done.stdout


def test_the_blocks_of_a_page_run(page, tmp_path) -> None:
    run_for_real([sys.executable, __file__, str(page.relative_to(HERE))], tmp_path)


def test_every_block_is_found_and_has_a_language(page) -> None:
    fences = re.findall(r"^\s*```.*$", page.read_text("utf-8"), re.MULTILINE)
    blocks = blocks_of(page)
    assert len(fences) == 2 * len(blocks)
    for block in blocks:
        assert hasattr(Page, block.language), f"{block.place}: nothing runs {block.language!r}"


def set_up_commands() -> list[str]:
    return [block.code for block in blocks_of(HERE / "README.md") if block.language == "bash"]


def test_the_readme_has_two_set_up_commands_of_one_line() -> None:
    commands = set_up_commands()
    assert len(commands) == 2
    for command in commands:
        assert command.count("\n") == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install -q ")


def test_the_main_job_of_the_readme_runs(tmp_path) -> None:
    python, script = set_up_commands()[0].rpartition("&& ")[2].split()
    assert python == ".venv/bin/python"
    run_for_real([sys.executable, str(HERE / script)], tmp_path)


def test_the_test_command_of_the_readme_installs_what_it_uses() -> None:
    *_, install, run = set_up_commands()[1].strip().split(" && ")
    assert install.endswith(" -e . --group test")
    assert run == ".venv/bin/python -m pytest -n auto"
    groups = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))["dependency-groups"]
    assert any(requirement.startswith("pytest-xdist") for requirement in groups["test"])


def test_the_table_of_settings_is_that_of_the_code() -> None:
    page = HERE / "docs" / "configuration.md"
    assert table() in page.read_text("utf-8"), f"{page} lacks this table:\n{table()}"


def test_the_table_of_options_is_that_of_the_code() -> None:
    page = HERE / "docs" / "tasks.md"
    wanted = table_of_options()
    assert wanted in page.read_text("utf-8"), f"{page} lacks this table:\n{wanted}"


def test_the_table_of_profiles_is_that_of_the_code() -> None:
    page = HERE / "docs" / "batch" / "README.md"
    wanted = table_of_profiles()
    assert wanted in page.read_text("utf-8"), f"{page} lacks this table:\n{wanted}"


def test_the_drawings_of_the_layers_are_those_of_the_linter() -> None:
    page = HERE / "docs" / "design" / "README.md"
    drawn = [
        [line.partition("  ")[0] for line in block.code.splitlines()]
        for block in blocks_of(page)
        if block.language == "text"
    ]
    settings = tomllib.loads((HERE / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    assert drawn == [each["layers"] for each in contracts if each["type"] == "layers"]


def test_links_lead_somewhere() -> None:
    for page in [*PAGES, HERE / "CONTRIBUTING.md", HERE / "CHANGELOG.md"]:
        text = re.sub(_BLOCK, "", page.read_text("utf-8"))
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), f"{page.name}: {target}"
            if anchor:
                assert anchor in anchors_of(file), f"{page.name}: {target}"


def anchors_of(page: Path) -> set[str]:
    """The anchors that GitHub gives to headings."""
    text = re.sub(_BLOCK, "", page.read_text("utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


if __name__ == "__main__":
    run_page(sys.argv[1])
