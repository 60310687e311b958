import copy
import getpass
import math
import os
import pickle
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from fsqueue.config import Config, Options, Settings, default_root, fields, load_config
from fsqueue.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def load(environ=None, start=None, **options):
    return load_config(options, environ=environ or {}, start=start)


def refused(environ=None, start=None, **options):
    with pytest.raises(ConfigError) as caught:
        load(environ, start, **options)
    return str(caught.value)


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
            "serializer": "cloudpickle",
            "durability": "crash",
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


class TestBooleans:
    @pytest.mark.parametrize("word", ["False", "false", "FALSE", "0", "no", "No", "off", "OFF"])
    def test_false(self, word):
        environ = {"FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS": word}
        assert load(environ).dev_mode_force_sync_tasks is False

    @pytest.mark.parametrize("word", ["True", "true", "TRUE", "1", "yes", "Yes", "on", "ON"])
    def test_true(self, word):
        environ = {"FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS": word}
        assert load(environ).dev_mode_force_sync_tasks is True

    @pytest.mark.parametrize("word", ["maybe", "2", "null", "None", " ", "t", "truee"])
    def test_another_word_is_refused(self, word):
        assert refused({"FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS": word}) == (
            "environment variable FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS: "
            f"dev_mode_force_sync_tasks = {word!r}, expected true or false"
        )

    @pytest.mark.parametrize("value", [0, 1, 0.0, [], {}])
    def test_a_number_is_no_boolean(self, value):
        assert "expected true or false" in refused(dev_mode_force_sync_tasks=value)


class TestValues:
    @pytest.mark.parametrize(
        ("field", "text", "value"),
        [
            ("runner", "process", "process"),
            ("watch", "events", "events"),
            ("concurrency", "1", 1),
            ("max_attempts", "12", 12),
            ("poll_interval", "0.01", 0.01),
            ("poll_interval", "60", 60.0),
            ("heartbeat", "0.1", 0.1),
            ("lease", "1e3", 1000.0),
            ("result_ttl", "0.5", 0.5),
        ],
    )
    def test_environment_text_is_converted(self, field, text, value):
        result = getattr(load({f"FSQUEUE__{field.upper()}": text}), field)
        assert result == value
        assert type(result) is type(value)

    def test_a_whole_number_serves_as_seconds(self):
        assert type(load(lease=90).lease) is float

    @pytest.mark.parametrize(
        ("field", "bad"),
        [
            ("runner", "fork"),
            ("runner", 3),
            ("watch", True),
            ("concurrency", 0),
            ("concurrency", True),
            ("concurrency", 2.0),
            ("concurrency", "2"),
            ("max_attempts", False),
            ("max_attempts", -(10**30)),
            ("poll_interval", 0.009),
            ("poll_interval", 60.1),
            ("poll_interval", True),
            ("poll_interval", "1"),
            ("heartbeat", math.nan),
            ("heartbeat", 0),
            ("lease", math.inf),
            ("lease", -1),
            ("lease", 10**400),
            ("result_ttl", 0),
            ("result_ttl", math.nan),
            ("result_ttl", math.inf),
            ("journal_ttl", -1),
            ("result_ttl", "7 days"),
        ],
    )
    def test_bad_argument(self, field, bad):
        message = refused(**{field: bad})
        assert message.startswith(f"argument: {field} = {bad!r}, expected {fields()[field].type}")
        assert message.endswith(fields()[field].unit)

    @pytest.mark.parametrize(
        ("field", "text"),
        [
            ("concurrency", "null"),
            ("concurrency", "True"),
            ("concurrency", "many"),
            ("concurrency", "1.5"),
            ("max_attempts", "none"),
            ("lease", "nan"),
            ("lease", "inf"),
            ("lease", "1_000"),
            ("lease", ".5"),
            ("lease", "true"),
            ("runner", "Thread"),
            ("watch", " poll"),
        ],
    )
    def test_bad_variable(self, field, text):
        name = f"FSQUEUE__{field.upper()}"
        assert refused({name: text}).startswith(f"environment variable {name}: {field} = {text!r}")

    @pytest.mark.parametrize(
        "line", ["lease = nan", "lease = '60'", "lease = true", "concurrency = 1.0", "runner = 1"]
    )
    def test_bad_value_in_a_file(self, folder, line):
        (folder / "fsqueue.toml").write_text(line)
        message = refused()
        assert message.startswith(f"{folder / 'fsqueue.toml'}: {line.split()[0]} = ")

    def test_messages_in_full(self):
        assert refused(runner="fork") == (
            "argument: runner = 'fork', expected 'process' or 'thread'"
        )
        assert refused({"FSQUEUE__HEARTBEAT": "0"}) == (
            "environment variable FSQUEUE__HEARTBEAT: heartbeat = '0', "
            "expected a number >= 0.1 and <= 60 seconds"
        )
        assert refused(concurrency=0) == (
            "argument: concurrency = 0, expected a whole number >= 1 and <= 99999"
        )


class TestLease:
    def test_it_is_at_least_three_heartbeats(self):
        assert refused({"FSQUEUE__HEARTBEAT": "4"}, lease=10) == (
            "argument: lease = 10, expected at least 12 "
            "(3 * heartbeat, which is 4, from environment variable FSQUEUE__HEARTBEAT)"
        )
        assert refused(heartbeat=30).startswith("default: lease = 60, expected at least 90")

    @pytest.mark.parametrize(("heartbeat", "lease"), [(2, 6), (0.1, 0.3), (60, 180)])
    def test_three_heartbeats_are_enough(self, heartbeat, lease):
        assert load(heartbeat=heartbeat, lease=lease).lease == lease


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


class TestDevMode:
    @pytest.mark.parametrize(("value", "result"), [(True, True), ("on", True), ("False", False)])
    def test_it_can_be_set(self, value, result):
        config = load(dev_mode_force_sync_tasks=not result)
        config.dev_mode_force_sync_tasks = value
        assert config.dev_mode_force_sync_tasks is result
        assert config.source("dev_mode_force_sync_tasks") == "assignment"

    @pytest.mark.parametrize("value", ["maybe", "", None, 1, 0])
    def test_a_bad_value_changes_nothing(self, value):
        config = load(dev_mode_force_sync_tasks=True)
        with pytest.raises(ConfigError, match=r"dev_mode_force_sync_tasks = .*true or false"):
            config.dev_mode_force_sync_tasks = value
        assert config.dev_mode_force_sync_tasks is True
        assert config.source("dev_mode_force_sync_tasks") == "argument"

    def test_the_environment_is_read_at_load_only(self, monkeypatch):
        config = load_config({})
        monkeypatch.setenv("FSQUEUE__DEV_MODE_FORCE_SYNC_TASKS", "1")
        assert config.dev_mode_force_sync_tasks is False
        assert load_config({}).dev_mode_force_sync_tasks is True


class TestImmutable:
    @pytest.mark.parametrize("name", sorted(set(fields()) - {"dev_mode_force_sync_tasks"}))
    def test_a_field_cannot_be_set(self, name):
        config = load()
        before = getattr(config, name)
        with pytest.raises(AttributeError) as caught:
            setattr(config, name, before)
        assert f"FSQueue({name}=...)" in str(caught.value)
        assert f"FSQUEUE__{name.upper()}" in str(caught.value)

    @pytest.mark.parametrize("name", ["dev_mode_force_sync_task", "leese", "sources"])
    def test_an_unknown_attribute_cannot_be_set(self, name):
        with pytest.raises(AttributeError, match=f"unknown setting {name}; .*valid: root"):
            setattr(load(), name, True)

    def test_a_near_name_is_suggested(self):
        config = load()
        with pytest.raises(AttributeError, match=r"did you mean lease\?"):
            config.leese = 3
        with pytest.raises(AttributeError, match=r"did you mean lease\?"):
            _ = config.leese

    def test_copies(self):
        config = load(root="x", lease=30)
        assert pickle.loads(pickle.dumps(config)) == config
        assert copy.deepcopy(config) == config


class TestSlots:
    def test_given(self):
        config = load(concurrency=5)
        assert config.slots() == config.slots("process") == config.slots("thread") == 5

    @pytest.mark.parametrize(("cpus", "threads"), [(1, 8), (4, 8), (5, 9), (28, 32), (128, 32)])
    def test_from_the_cpus(self, monkeypatch, cpus, threads):
        monkeypatch.setattr(os, "process_cpu_count", lambda: cpus, raising=False)
        config = load()
        assert config.slots("process") == cpus
        assert config.slots() == config.slots("thread") == threads
        assert load(runner="process").slots() == cpus

    def test_only_the_cpus_it_may_use_count(self, monkeypatch):
        monkeypatch.delattr(os, "process_cpu_count", raising=False)
        assert load().slots("process") == len(os.sched_getaffinity(0))
        monkeypatch.delattr(os, "sched_getaffinity")
        assert load().slots("process") == os.cpu_count()


class TestReference:
    def test_every_field_is_described_in_one_line(self):
        assert tuple(fields()) == Settings.__struct_fields__
        assert Config.__struct_fields__ == (
            *Settings.__struct_fields__,
            "sources",
            "task_offers",
        )
        for field in fields().values():
            assert field.type
            assert len(field.description.splitlines()) == 1
            assert field.unit == ("seconds" if isinstance(field.default, float) else "")

    def test_defaults_pass_their_own_check(self):
        given = {name: field.default for name, field in fields().items()}
        assert all(getattr(load(**given), name) == value for name, value in given.items())

    def test_options_are_the_fields_without_root(self):
        assert list(get_type_hints(Options)) == [name for name in fields() if name != "root"]

    def test_options_have_the_types_of_the_fields(self):
        declared = get_type_hints(Settings)
        for name, option in get_type_hints(Options).items():
            (wanted,) = get_args(declared[name]) or (declared[name],)
            given = str | os.PathLike[str] | None if wanted == Path | None else wanted | None
            assert option == given, name


class TestGroup:
    def test_it_needs_a_root(self):
        message = refused(group="staff")
        assert message.startswith("argument: group = 'staff', and no root is set")

    def test_it_is_a_name_or_a_number(self):
        assert load({"FSQUEUE__GROUP": "1001"}, root="/spool").group == "1001"
        assert "expected a text" in refused(group="", root="/spool")


def test_import_is_lean():
    code = (
        "import sys; before = set(sys.modules); import fsqueue.config; "
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert not {"tomllib", "difflib", "tempfile", "dataclasses"} & set(done.stdout.split())
