"""Mistakes of the first hour: what the user reads, at the terminal where the user looks."""

import sys

import pytest
from acceptance_harness import FSQUEUE, wait_until

from fsqueue.cli import exits

TASKS = """from fsqueue import FSQueue

app = FSQueue("first")


@app.direct_task
def render(name, pages=1):
    return f"{name}: {pages} pages"


@app.direct_task
def paint(colour):
    import colours

    return colours.NAMES[colour]


@app.direct_task
def paint_by_call(colour):
    return paint(colour)


@app.direct_task
def numbers():
    return (number for number in range(3))
"""
SCRIPT = """from fsqueue import FSQueue

app = FSQueue("first")


@app.direct_task
def double(number):
    return 2 * number


print(double(21))
"""
RENDER = "import tasks; print(tasks.render('sales'))"


@pytest.fixture
def here(site, tmp_path):
    """The folder of a new user's tasks, in which all commands and callers run."""
    site.project = tmp_path / "here"
    site.project.mkdir()
    (site.project / "tasks.py").write_text(TASKS, "utf-8")
    return site.project


@pytest.fixture
def python(site):
    """Run some lines of a caller to their end."""
    return lambda lines, **env: site.run(sys.executable, "-c", lines, **env)


def edit(here, old, new):
    (here / "tasks.py").write_text(TASKS.replace(old, new), "utf-8")


# -- the worker runs old code -----------------------------------------------------------------


@pytest.fixture
def started(site, here, python):
    """Start a worker whose only slot has loaded the code: it has run a call."""

    def start(kind):
        site.worker(kind, 1).wait_for_start()
        assert python(RENDER).stdout == "sales: 1 pages\n"

    return start


def test_a_caller_hears_that_the_worker_runs_old_code(site, here, started, python, kind):
    started(kind)
    edit(here, "{pages} pages", "{pages} whole pages")

    done = python(f"{RENDER}; tasks.render('again')")

    assert done.stdout == "sales: 1 pages\n", "it is the old code"
    (line,) = [each for each in done.stderr.splitlines() if "other code than" in each]
    assert line.startswith("tasks.render ran on the worker ")
    assert f"its caller has loaded another version of {here / 'tasks.py'}" in line
    assert "Restart the worker" in line

    shell = site.fsqueue("submit", "render", "sales", "--wait")
    assert (shell.returncode, shell.stdout) == (exits.OK, "'sales: 1 pages'\n")
    assert "with other code than its caller has" in shell.stderr


def test_an_exception_of_old_code_says_so(here, started, python, kind):
    started(kind)
    edit(here, "pages=1", "pages=1, colour='red'")

    done = python("import tasks; tasks.render('sales', colour='blue')")

    error, note = done.stderr.splitlines()[-2:]
    assert error.startswith("TypeError: render() got an unexpected keyword argument 'colour'")
    assert note.startswith("tasks.render ran on the worker ")
    assert "Restart the worker" in note


def test_show_says_that_old_code_ran(site, here, started):
    started("thread")
    edit(here, "{pages} pages", "{pages} whole pages")
    made = site.fsqueue("submit", "render", "sales").stdout.strip()
    assert site.fsqueue("wait", made).returncode == exits.OK

    shown = site.fsqueue("show", made).stdout

    assert "stale" in shown
    assert "Restart the worker" in shown


# -- no worker, or one in another place -------------------------------------------------------


def test_a_command_that_waits_says_why(site, here):
    waiting = site.start(*FSQUEUE, "submit", "render", "sales", "--wait")
    waiting.wait_for_log("no live worker serves the queue first.default")
    waiting.wait_for_log("ends with a worker: fsqueue worker")

    made = site.fsqueue("submit", "render", "sales").stdout.strip()
    done = site.fsqueue("wait", made, "--timeout", "0.1")
    assert (done.returncode, done.stdout) == (exits.TIMEOUT, f"{made} pending\n")
    assert "no live worker serves the queue first.default" in done.stderr


def test_a_caller_without_a_root_hears_that_others_cannot_see_it(site, here):
    del site.env["FSQUEUE__ROOT"]
    waiting = site.start(sys.executable, "-c", RENDER, TMPDIR=str(site.base))
    waiting.wait_for_log("Start one with: ")
    assert "No root is set here, so other hosts cannot see this folder." in waiting.text()
    assert "If one runs already, its log names the folder that it uses." in waiting.text()


def test_a_root_with_one_underscore_is_said_to_be_unread(site, here):
    del site.env["FSQUEUE__ROOT"]
    meant = {"TMPDIR": str(site.base), "FSQUEUE_ROOT": str(site.root)}
    waiting = site.start(sys.executable, "-c", RENDER, **meant)
    waiting.wait_for_log("No root is set here (FSQUEUE_ROOT is not read: FSQUEUE__ROOT is), so ")
    worker = site.worker("thread", 1, **meant)
    worker.wait_for_log("no root is set (FSQUEUE_ROOT is not read: FSQUEUE__ROOT is): ")


def test_a_caller_with_another_root_hears_what_to_compare(site, here):
    site.worker("thread", 1).wait_for_start()
    waiting = site.start(sys.executable, "-c", RENDER, FSQUEUE__ROOT=str(site.base / "other"))
    waiting.wait_for_log("Start one with: ")
    assert "If one runs already, its log names the folder that it uses." in waiting.text()
    assert "No root is set here" not in waiting.text()


@pytest.mark.parametrize("below", ["", "/spool"])
def test_a_root_that_is_a_file_is_no_empty_spool(site, here, below):
    for command in (("status",), ("gc",)):
        done = site.fsqueue(*command, FSQUEUE__ROOT=f"{here}/tasks.py{below}")
        assert done.returncode == exits.USAGE
        assert f"{here}/tasks.py is not a folder" in done.stderr


def test_show_names_the_command_for_calls_of_executors(site, here):
    lines = "import fsqueue; print(fsqueue.Executor().submit(len, 'abc').result())"
    site.start(sys.executable, "-c", lines)
    names = wait_until(
        lambda: [each for each in site.files("pending") if "-1." in each], "the call is there"
    )
    call = names[0].partition(".")[0]

    shown = site.fsqueue("show", call, "--root", str(site.root)).stdout

    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"a worker with Python {version}: fsqueue worker --root {site.root}" in shown


# -- the wrong folder, a path in place of a module, a call at import ----------------------------


@pytest.mark.parametrize("name", ["here/tasks.py", "here/tasks", "here/tasks:app"])
def test_a_path_is_answered_with_the_folder_and_the_module(site, here, name):
    site.project = here.parent
    done = site.fsqueue("worker", name)
    assert done.returncode == exits.USAGE
    assert "run this in the folder here, and give the name of the module, 'tasks'" in done.stderr


def test_a_worker_in_the_folder_above_names_its_folder_to_the_caller(site, here, python):
    site.project = here.parent
    site.worker("thread", 1, app="here.tasks:app").wait_for_start()
    site.project = here

    done = python(RENDER)

    last = done.stderr.splitlines()[-1]
    assert "this worker cannot import tasks for the task tasks.render" in last
    assert f"It runs in {here.parent} on " in last


def test_a_module_that_calls_while_a_worker_imports_it_is_told(site, here):
    (here / "script.py").write_text(SCRIPT, "utf-8")
    worker = site.worker("thread", 1, app="script")
    worker.wait_for_log("the import of script has made this call")
    assert "Start one with" not in worker.text()


# -- a package is missing at the worker -------------------------------------------------------


@pytest.fixture
def colours(tmp_path):
    """The folder of a package that only callers find."""
    folder = tmp_path / "packages"
    folder.mkdir()
    (folder / "colours.py").write_text("NAMES = ['red']\n", "utf-8")
    return str(folder)


def test_a_missing_package_is_said_to_be_missing_at_the_worker(site, here, python, colours, kind):
    site.worker(kind, 1).wait_for_start()

    done = python("import colours, tasks; tasks.paint(0)", PYTHONPATH=colours)

    error, note = done.stderr.splitlines()[-2:]
    assert error == "ModuleNotFoundError: No module named 'colours'"
    assert note.startswith("(it was raised on ")
    assert f"in {sys.executable}: install what is missing there" in note


def test_a_missing_package_is_said_to_be_missing_once(site, here, python):
    site.worker("thread", 1).wait_for_start()
    done = python("import tasks; tasks.paint_by_call(0)")
    assert done.stderr.count("(it was raised on ") == 1


def test_a_package_that_a_module_of_tasks_imports_is_to_be_installed(site, here, python, colours):
    (here / "more.py").write_text(f"import colours\n{TASKS}", "utf-8")
    site.worker("thread", 1, app="tasks").wait_for_start()

    done = python("import more; more.render('sales')", PYTHONPATH=colours)

    last = done.stderr.splitlines()[-1]
    assert "No module named 'colours'. Install it on " in last
    assert last.endswith(f"for {sys.executable}.")


# -- arguments and results --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--nam", "sales"], "render(): got an unexpected keyword argument 'nam'. The task is "),
        (["sales", "-p", "3"], "-p: for a parameter write --NAME VALUE, and for the text"),
        (["sales", "pages=3"], "pages=3: for the parameter pages write --pages 3"),
    ],
)
def test_submit_tells_how_arguments_are_named(site, here, words, told):
    done = site.fsqueue("submit", "render", *words)
    assert (done.returncode, done.stdout) == (exits.USAGE, "")
    assert told in done.stderr


def test_what_submit_suggests_for_a_text_is_taken(site, here):
    for text in ('"-p"', '"pages=3"'):
        done = site.fsqueue("submit", "render", "--arg", text)
        assert done.returncode == exits.OK, done.stderr


def test_a_misspelled_argument_is_not_called_missing(here, python):
    done = python("import tasks; tasks.render(nam='sales')")
    last = done.stderr.splitlines()[-1]
    assert last == "TypeError: render(): got an unexpected keyword argument 'nam'"


def test_a_result_that_cannot_be_sent(site, here, python):
    site.worker("thread", 1).wait_for_start()
    last = python("import tasks; tasks.numbers()").stderr.splitlines()[-1]
    assert "the result of tasks.numbers cannot be serialized" in last
    assert last.endswith("a list instead of a generator.")


def test_a_result_of_an_executor_is_named_by_its_function(here, python):
    lines = (
        "import fsqueue\n"
        "def numbers(): return (number for number in range(3))\n"
        "with fsqueue.Executor(workers=1) as executor: executor.submit(numbers).result()"
    )
    last = python(lines).stderr.splitlines()[-1]
    assert "(numbers) cannot be serialized" in last
