"""The configuration object, and the description of its fields."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from config_support import load

from fsqueue.config import Config, Options, Settings, fields


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def test_import_is_lean():
    code = (
        "import sys; before = set(sys.modules); import fsqueue.config; "
        "print(*set(sys.modules) - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30
    )
    assert not {"tomllib", "difflib", "tempfile", "dataclasses"} & set(done.stdout.split())
