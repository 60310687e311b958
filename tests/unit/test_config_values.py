"""Values that settings accept and refuse."""

import math

import pytest
from config_support import load, refused

from fsqueue.config import fields, load_config
from fsqueue.errors import ConfigError


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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
            ("watch", "push", "push"),
            ("concurrency", "1", 1),
            ("max_attempts", "12", 12),
            ("poll_interval", "0.01", 0.01),
            ("poll_interval", "60", 60.0),
            ("heartbeat", "0.1", 0.1),
            ("lease", "1e3", 1000.0),
            ("result_ttl", "0.5", 0.5),
            ("result_ttl", "2d", 172_800.0),
            ("stop_grace", "1m30s", 90.0),
        ],
    )
    def test_environment_text_is_converted(self, field, text, value):
        result = getattr(load({f"FSQUEUE__{field.upper()}": text}), field)
        assert result == value
        assert type(result) is type(value)

    def test_a_text_with_a_unit_serves_as_seconds(self):
        assert load(lease="2m").lease == 120

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


class TestGroup:
    def test_it_needs_a_root(self):
        message = refused(group="staff")
        assert message.startswith("argument: group = 'staff', and no root is set")

    def test_it_is_a_name_or_a_number(self):
        assert load({"FSQUEUE__GROUP": "1001"}, root="/spool").group == "1001"
        assert "expected a text" in refused(group="", root="/spool")


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
