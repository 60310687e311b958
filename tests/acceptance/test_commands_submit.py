"""`fsqueue submit` takes arguments as a shell user writes them; flags come from the environment."""

import json

import pytest

from fsqueue.cli import exits
from fsqueue.cli.json_values import free_arguments
from fsqueue.errors import ConfigError

SHOP = """from fsqueue import FSQueue

app = FSQueue("shop")


@app.task
def echo(*values, timeout=None, **named):
    return [values, timeout, named]


@app.task
def render(name, pages=1):
    return f"{name}: {pages}"
"""


@pytest.fixture
def shop(site, tmp_path):
    """A folder with an application, and an idle worker."""
    site.project = tmp_path / "here"
    site.project.mkdir()
    (site.project / "shop.py").write_text(SHOP, "utf-8")
    return site


def answer(shop, *words, **env):
    """What the body got, from a worker that leaves after the call."""
    made = shop.fsqueue("submit", *words, **env)
    assert made.returncode == exits.OK, made.stderr
    worker = shop.fsqueue("worker", "--until-empty")
    assert worker.returncode == exits.OK, worker.stderr
    done = shop.fsqueue("result", "--json", made.stdout.strip())
    assert done.returncode == exits.OK, done.stderr
    return json.loads(done.stdout)["value"]


def test_words_become_arguments(shop):
    assert answer(shop, "shop.render", "sales", "--pages", "3") == "sales: 3"
    words = ("7", "007", "[1, 2]", "null", '"3"', "--page-size=x=y", "--low", "-1.5")
    got = [[7, "007", [1, 2], None, "3"], None, {"page_size": "x=y", "low": -1.5}]
    assert answer(shop, "echo", *words) == got


def test_options_of_the_command_may_stand_anywhere(shop):
    made = shop.fsqueue("submit", "echo", "a", "--json", "--n", "1", "--kwarg", "m=2")
    assert made.returncode == exits.OK, made.stderr
    assert json.loads(made.stdout)["id"]
    assert answer(shop, "echo", "--", "a", "--timeout", "3", "--version", "2") == [
        ["a"],
        3,
        {"version": 2},
    ]


def test_an_option_that_the_task_has_too_is_refused(shop):
    done = shop.fsqueue("submit", "echo", "--timeout", "3")
    assert done.returncode == exits.USAGE
    assert "--timeout is an option of submit, and timeout a parameter of shop.echo" in done.stderr
    assert "fsqueue submit echo -- --timeout VALUE" in done.stderr
    assert "set FSQUEUE__TIMEOUT" in done.stderr
    assert answer(shop, "echo", "--", "--timeout", "3", FSQUEUE__TIMEOUT="9") == [[], 3, {}]


def test_a_wrong_name_is_refused(shop):
    done = shop.fsqueue("submit", "render", "sales", "--page", "3")
    assert done.returncode == exits.USAGE
    assert "render(): got an unexpected keyword argument 'page'. The task is render(" in done.stderr
    assert "pages" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pages"], "--pages has no value"),
        (["--pages", "--copies", "2"], "--pages has no value"),
        (["--pages", "1", "--pages=2"], "--pages is given twice"),
    ],
)
def test_words_that_make_no_arguments(words, message):
    with pytest.raises(ConfigError, match=message):
        free_arguments(words)


@pytest.mark.parametrize(
    "word", ["NaN", "-Infinity", "[" * 100_000, "9" * 5000, "--", "-x", "--1=2", "{", ""]
)
def test_what_is_no_json_is_a_text(word):
    assert free_arguments([word]) == ([word], {})


# -- flags in the environment -----------------------------------------------------------------


def test_former_names_of_variables_work_with_a_notice(shop):
    assert shop.fsqueue("submit", "render", "sales").returncode == exits.OK
    env = {"FSQUEUE_CLI_ROOT": str(shop.root), "FSQUEUE_CLI_LIST_STATE": "failed"}
    done = shop.fsqueue("list", FSQUEUE__JSON="1", **env)
    assert json.loads(done.stdout) == {"calls": [], "more": False}
    assert done.stderr.splitlines() == [
        "fsqueue: FSQUEUE_CLI_ROOT is now called FSQUEUE__ROOT; please rename it",
        "fsqueue: FSQUEUE_CLI_LIST_STATE is now called FSQUEUE__LIST__STATE; please rename it",
    ]


def test_variables_of_no_flag_get_a_notice(shop):
    done = shop.fsqueue("config", FSQUEUE__CONFIG__COLOUR="1", FSQUEUE__LSIT__STATE="failed")
    assert done.returncode == exits.OK
    assert done.stderr.splitlines() == [
        "fsqueue: FSQUEUE__LSIT__STATE is ignored: there is no command 'lsit'",
        "fsqueue: FSQUEUE__CONFIG__COLOUR is ignored: `fsqueue config` has no such option",
    ]


@pytest.mark.parametrize("words", [("--app", "shop"), ()])
def test_the_setting_root_and_an_application_go_together(shop, words):
    env = {"FSQUEUE__ROOT": str(shop.base / "other"), "FSQUEUE__APP": "shop:app"}
    done = shop.fsqueue("config", "--json", *words, **env)
    assert done.returncode == exits.OK, done.stderr
    found = json.loads(done.stdout)
    assert found["settings"]["root"]["value"] == str(shop.base / "other")
    assert "shop.echo" in found["tasks"]
    done = shop.fsqueue("config", "--json", "--root", str(shop.root), **env)
    assert json.loads(done.stdout)["tasks"] == {}


def test_every_command_has_a_version_and_short_help(shop):
    for command in (("worker",), ("list",), ("fleet",), ("fleet", "show"), ("submit",)):
        version = shop.fsqueue(*command, "--version")
        assert (version.returncode, version.stdout) == (exits.OK, shop.fsqueue("version").stdout)
        assert shop.fsqueue(*command, "-h").stdout == shop.fsqueue(*command, "--help").stdout
