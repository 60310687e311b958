"""Where settings come from: arguments, environment, files and defaults."""

import getpass
import tempfile
from pathlib import Path

import pytest
from config_support import load, refused

from fsqueue.config import fields, load_config
from fsqueue.environment.machine import default_root


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestDefaults:
    def test_values(self):
        config = load()
        assert {name: getattr(config, name) for name in fields()} == {
            "root": None,
            "dev_mode_force_sync_tasks": False,
            "runner": "thread",
            "concurrency": None,
            "watch": "auto",
            "poll_interval": 1.0,
            "heartbeat": 2.0,
            "lease": 60.0,
            "max_attempts": 3,
            "stop_grace": 25.0,
            "result_ttl": 604800.0,
            "journal_ttl": 86400.0,
            "record_commands": True,
            "serializer": "cloudpickle",
            "stale_code": "warn",
            "durability": "crash",
            "records": "auto",
            "group": None,
            "signing_key_file": None,
        }
        assert {config.source(name) for name in fields()} == {"default"}

    def test_default_root_is_below_the_temp_directory_and_not_created(self, folder, monkeypatch):
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.delenv("LOGNAME", raising=False)
        for name in ("USER", "LNAME", "USERNAME"):
            monkeypatch.delenv(name, raising=False)
        assert default_root("shop") == folder / f"fsqueue-{getpass.getuser()}" / "shop"
        assert list(folder.iterdir()) == []

    def test_default_root_does_not_trust_the_environment_for_the_user(self, monkeypatch):
        before = default_root("shop")
        monkeypatch.setenv("LOGNAME", "somebody-else")
        assert default_root("shop") == before


class TestPrecedence:
    def test_argument_beats_environment_beats_file_beats_default(self, folder):
        (folder / "fsqueue.toml").write_text("max_attempts = 5\nlease = 50\nheartbeat = 5\n")
        environ = {"FSQUEUE__MAX_ATTEMPTS": "6", "FSQUEUE__LEASE": "61.5"}
        config = load(environ, max_attempts=7)
        assert (config.max_attempts, config.source("max_attempts")) == (7, "argument")
        assert config.lease == 61.5
        assert config.source("lease") == "environment variable FSQUEUE__LEASE"
        assert config.heartbeat == 5.0
        assert config.source("heartbeat") == str(folder / "fsqueue.toml")
        assert (config.runner, config.source("runner")) == ("thread", "default")

    def test_none_as_argument_is_not_given(self):
        config = load({"FSQUEUE__RUNNER": "process"}, runner=None, root=None)
        assert config.runner == "process"
        assert config.source("root") == "default"

    def test_empty_variable_is_unset_whatever_its_name(self, folder):
        (folder / "fsqueue.toml").write_text("watch = 'poll'")
        config = load({"FSQUEUE__WATCH": "", "FSQUEUE__ROOT": "", "FSQUEUE__TYPO": ""})
        assert (config.watch, config.root) == ("poll", None)

    def test_false_and_zero_arguments_are_given(self):
        environ = {"FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS": "True"}
        assert load(environ, dev_mode_force_sync_tasks=False).dev_mode_force_sync_tasks is False
        assert "concurrency = 0" in refused(concurrency=0)

    def test_the_process_environment_is_the_default(self, monkeypatch):
        monkeypatch.setenv("FSQUEUE__MAX_ATTEMPTS", "9")
        assert load_config({}).max_attempts == 9

    def test_an_overridden_value_is_checked_too(self, folder):
        (folder / "fsqueue.toml").write_text("max_attempts = 0")
        assert str(folder / "fsqueue.toml") in refused(max_attempts=2)

    def test_other_variables_are_not_ours(self):
        assert load({"FSQUEUE_ROOT": "x", "XFSQUEUE__ROOT": "x", "ROOT": "x"}).root is None

    def test_source_of_an_unknown_field(self):
        with pytest.raises(KeyError):
            load().source("leese")


class TestFile:
    def test_the_nearest_folder_wins(self, folder):
        (folder / "fsqueue.toml").write_text("max_attempts = 1")
        below = folder / "a" / "b"
        below.mkdir(parents=True)
        assert load(start=below).max_attempts == 1
        (folder / "a" / "pyproject.toml").write_text("[tool.fsqueue]\nmax_attempts = 2")
        config = load(start=below)
        assert config.max_attempts == 2
        assert config.source("max_attempts") == str(folder / "a" / "pyproject.toml")

    def test_the_search_starts_at_the_current_directory(self, folder, monkeypatch):
        (folder / "fsqueue.toml").write_text("max_attempts = 4")
        (folder / "sub").mkdir()
        monkeypatch.chdir(folder / "sub")
        assert load().max_attempts == 4
        assert load(start=Path()).max_attempts == 4

    def test_fsqueue_toml_wins_at_one_level_and_files_are_not_merged(self, folder):
        (folder / "fsqueue.toml").write_text("max_attempts = 1")
        (folder / "pyproject.toml").write_text("[tool.fsqueue]\nmax_attempts = 2\nwatch = 'poll'")
        config = load()
        assert (config.max_attempts, config.watch) == (1, "auto")

    @pytest.mark.parametrize(
        "text", ["", "[project]\nname='x'", "[tool.ruff]\n", "tool = 3", "tool = 'fsqueue'"]
    )
    def test_a_pyproject_without_our_table_is_passed_over(self, folder, text):
        (folder / "fsqueue.toml").write_text("max_attempts = 1")
        (folder / "sub").mkdir()
        (folder / "sub" / "pyproject.toml").write_text(text)
        assert load(start=folder / "sub").max_attempts == 1

    @pytest.mark.parametrize(
        ("name", "text"), [("fsqueue.toml", ""), ("pyproject.toml", "[tool.fsqueue]")]
    )
    def test_an_empty_one_ends_the_search(self, folder, name, text):
        (folder / "fsqueue.toml").write_text("max_attempts = 1")
        (folder / "sub").mkdir()
        (folder / "sub" / name).write_text(text)
        assert load(start=folder / "sub").max_attempts == 3

    def test_a_directory_of_that_name_is_no_file(self, folder):
        (folder / "fsqueue.toml").mkdir()
        assert load().max_attempts == 3

    @pytest.mark.parametrize("name", ["fsqueue.toml", "pyproject.toml"])
    @pytest.mark.parametrize("content", [b"lease =", b"lease = '\xff'", b"[a]\n[a]\n"])
    def test_a_damaged_file_is_named(self, folder, name, content):
        (folder / name).write_bytes(content)
        assert refused().startswith(f"{folder / name}: cannot be read: ")

    @pytest.mark.parametrize("text", ["[tool]\nfsqueue = 3", "[[tool.fsqueue]]\nlease = 3"])
    def test_our_table_must_be_one(self, folder, text):
        (folder / "pyproject.toml").write_text(text)
        message = refused()
        assert str(folder / "pyproject.toml") in message
        assert "expected a table" in message

    def test_the_table_of_tasks_is_none_of_settings(self, folder):
        (folder / "pyproject.toml").write_text("[tool.fsqueue]\ntask = 3")
        assert "task = 3, expected a table" in refused()
        (folder / "pyproject.toml").write_text("[tool.fsqueue.tasks]\nretries = 3")
        assert "unknown setting tasks" in refused()

    def test_braces_in_a_path_stay_as_they_are(self, folder):
        odd = folder / "{key} %s"
        odd.mkdir()
        (odd / "fsqueue.toml").write_text("lease = 'x'")
        assert refused(start=odd).startswith(f"{odd}/fsqueue.toml: lease = 'x'")


class TestRoot:
    def test_in_a_file_it_is_relative_to_the_file(self, folder, monkeypatch):
        (folder / "fsqueue.toml").write_text("root = 'spool'")
        (folder / "sub").mkdir()
        monkeypatch.chdir(folder / "sub")
        assert load().root == folder / "spool"

    def test_elsewhere_it_is_relative_to_the_current_directory(self, folder):
        (folder / "sub").mkdir()
        environ = {"FSQUEUE__ROOT": "from-env"}
        assert load(environ, start=folder / "sub").root == folder / "from-env"
        assert load(environ, root=Path("from-arg")).root == folder / "from-arg"
        assert load(root="./x").root == folder / "x"

    def test_it_stays_when_the_current_directory_changes(self, folder, monkeypatch):
        config = load(root="spool")
        monkeypatch.chdir("/")
        assert config.root == folder / "spool"

    def test_symbolic_links_are_kept(self, folder):
        (folder / "real").mkdir()
        (folder / "link").symlink_to("real")
        assert load(root="link").root == folder / "link"

    @pytest.mark.parametrize("offered", ["~/spool", Path("~/spool")])
    def test_home_is_expanded(self, folder, monkeypatch, offered):
        monkeypatch.setenv("HOME", "/home/ada")
        (folder / "fsqueue.toml").write_text("root = '~/spool'")
        assert load().root == Path("/home/ada/spool")
        assert load(root=offered).root == Path("/home/ada/spool")

    @pytest.mark.parametrize("bad", ["", 3, True, b"x", ["x"], "~no-such-user-here/x"])
    def test_no_path(self, bad):
        message = refused(root=bad)
        assert message.startswith(f"argument: root = {bad!r}, expected a path")


class TestUnknownKeys:
    def test_argument(self):
        message = refused(concurency=3)
        assert message.startswith(
            "argument: unknown setting concurency; did you mean concurrency? valid: root, dev_mode"
        )
        assert all(name in message for name in fields())

    def test_argument_without_a_value(self):
        assert "unknown setting colour" in refused(colour=None)

    def test_file(self, folder):
        (folder / "fsqueue.toml").write_text("poll-interval = 3")
        assert refused().startswith(
            f"{folder / 'fsqueue.toml'}: unknown setting poll-interval; "
            "did you mean poll_interval? valid: root, "
        )

    @pytest.mark.parametrize("name", ["FSQUEUE__LEESE", "FSQUEUE__lease", "FSQUEUE__Lease"])
    def test_variable(self, name):
        message = refused({name: "3"})
        assert message.startswith(
            f"environment variable {name}: unknown setting {name}; "
            "did you mean FSQUEUE__LEASE? valid: FSQUEUE__ROOT, "
        )

    @pytest.mark.parametrize("name", ["FSQUEUE__XYZZY", "FSQUEUE__"])
    def test_no_suggestion_when_nothing_is_near(self, name):
        message = refused({name: "3"})
        assert "did you mean" not in message
        assert "valid: FSQUEUE__ROOT, " in message
