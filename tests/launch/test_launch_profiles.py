from __future__ import annotations

import re
import textwrap

import numpy as np
import pytest

from fsqueue.config import load_config
from fsqueue.errors import ConfigError
from fsqueue.launch.profiles import Profile, find_sources, load_profile, profile_fields


@pytest.fixture
def files(tmp_path):
    """Writes the three files, and loads a profile from them."""

    class Files:
        project, home = tmp_path / "project", tmp_path / "home"
        site = tmp_path / "site.toml"

        def __init__(self):
            self.environ = {"HOME": str(self.home), "FSQUEUE_SITE_CONFIG": ""}

        def write(self, project="", user="", site=""):
            config = self.home / ".config/fsqueue"
            for path, text in (
                (self.project / "fsqueue.toml", project),
                (config / "launch.toml", user),
                (self.site, site),
            ):
                path.parent.mkdir(parents=True, exist_ok=True)
                if text:
                    path.write_text(textwrap.dedent(text))
            if site:
                self.environ = {**self.environ, "FSQUEUE_SITE_CONFIG": str(self.site)}

        def load(self, name, which=lambda program: None, **overrides):
            sources = find_sources(start=self.project, environ=self.environ)
            return load_profile(name, sources, overrides=overrides, which=which)

    return Files()


CPU = """
    [launch.cpu]
    system = "slurm"
    walltime = "4h"
    cores = 16
    memory = "64G"
"""


def test_a_profile_has_the_keys_of_its_table_and_defaults_for_the_others(files):
    files.write(project=CPU)
    assert files.load("cpu") == Profile(
        system="slurm", walltime=14_400.0, cores=16, memory=64 << 30
    )


def test_a_profile_is_frozen(files):
    files.write(project=CPU)
    with pytest.raises(AttributeError):
        files.load("cpu").cores = 2


def test_a_profile_extends_another_one(files):
    files.write(
        project=CPU
        + """
    [launch.gpu]
    extends = "cpu"
    gpus = 4
    [launch.big-gpu]
    extends = "gpu"
    walltime = "1-00:00:00"
    """
    )
    profile = files.load("big-gpu")
    assert (profile.cores, profile.gpus, profile.walltime) == (16, 4, 86_400)


def test_the_projects_file_counts_before_the_users_and_that_before_the_sites(files):
    def table(name, system):
        return f'[launch.{name}]\nsystem = "{system}"\nwalltime = "1h"\n'

    files.write(
        project=table("a", "pbs"),
        user=table("a", "lsf") + table("b", "lsf"),
        site=table("b", "sge") + table("c", "oar"),
    )
    assert [files.load(name).system for name in "abc"] == ["pbs", "lsf", "oar"]


def test_a_profile_may_extend_the_one_of_its_name_that_the_site_ships(files):
    files.write(project='[launch.cpu]\nextends = "cpu"\ncores = 2\n', site=textwrap.dedent(CPU))
    profile = files.load("cpu")
    assert (profile.system, profile.cores) == ("slurm", 2)


def test_overrides_replace_what_the_files_say(files):
    files.write(project=CPU)
    assert files.load("cpu", walltime="30m", cores=2).walltime == 1800


@pytest.mark.parametrize("key", ["cores", "nodes", "max", "memory", "gpus", "min", "backlog"])
def test_counts_may_be_numbers_of_numpy(files, key):
    values = {"walltime": 3600, key: np.int64(2)}
    assert getattr(files.load("slurm", **values), key) == 2


@pytest.mark.parametrize("key", ["env", "requeue", "queues"])
@pytest.mark.parametrize("value", [np.float64(2), np.int64(2)])
def test_a_number_in_place_of_another_value_is_refused(files, key, value):
    with pytest.raises(ConfigError, match=key):
        files.load("slurm", walltime=3600, **{key: value})


def test_more_memory_than_any_host_has_is_refused(files):
    with pytest.raises(ConfigError, match="memory = 1000"):
        files.load("slurm", walltime=3600, memory=10**400)


def test_a_batch_systems_name_is_a_profile_too(files):
    files.write()
    profile = files.load("flux", walltime="1h")
    assert (profile.system, profile.cores) == ("flux", 1)


def test_the_batch_system_is_the_one_whose_command_is_on_path(files):
    files.write(project='[launch.cpu]\nwalltime = "1h"\n')
    assert files.load("cpu", which={"sbatch": "/bin/sbatch"}.get).system == "slurm"
    assert files.load("cpu", which={"qsub": "/bin/qsub"}.get).system == "pbs"
    assert files.load("cpu", which={"qsub": "x", "qconf": "y"}.get).system == "sge"


def test_without_a_batch_system_it_says_what_was_looked_for(files):
    files.write(project='[launch.cpu]\nwalltime = "1h"\n')
    with pytest.raises(ConfigError, match=r"launch\.cpu: no batch system found: none of sbatch"):
        files.load("cpu")


BAD = {
    "coers = 4": r"fsqueue\.toml: launch\.cpu: unknown key coers; did you mean cores\?",
    "walltim = 4": "did you mean walltime",
    'walltime = "10:00"': 'walltime = .*can be minutes or hours: write "10m"',
    'walltime = "soon"': r"fsqueue\.toml: launch\.cpu: walltime = 'soon', expected seconds or",
    "walltime = 60": "is not longer than signal_before, which is 2m",
    "walltime = -1": "expected seconds",
    "cores = 0": "cores = 0, expected a whole number >= 1",
    'cores = "many"': "cores = 'many', expected a whole number",
    'memory = "64GB"': "memory = '64GB', expected a number of bytes or a text like 64G",
    "nodes = 1.5": "nodes = 1.5, expected a whole number",
    'system = "slrum"': "system = 'slrum', expected 'flux' or 'local'",
    'batch_queue = "a\\n#SBATCH --uid=0"': "batch_queue = .*expected one word",
    'account = "a b"': "account = 'a b': expected one word",
    'queues = ["a/b"]': "queues = .*expected names of letters",
    "queues = []": "queues = .*expected names of letters",
    'queues = "default"': "queues = 'default', expected a list of texts",
    'options = ["--a\\n--b"]': "options = .*single lines",
    'setup = [""]': "setup = .*single lines",
    'wrap = "a \'b"': "wrap = .*quote that is not closed",
    'python = "a\\nb"': "python = .*single line",
    'env = {"A B" = "1"}': "env = .*'A B' is not the name of a variable",
    "env = {A = 1}": "env = ",
    "min = 30": "min = 30: is more than max, which is 10",
    "max = 0": "max = 0, expected a whole number >= 1",
    "idle_timeout = 0": "idle_timeout = 0",
    'runner = "fork"': "runner = 'fork', expected 'process' or 'thread'",
    'extends = "nobody"': "extends = 'nobody': no launch profile 'nobody'; there are: cpu",
    "extends = 3": "extends = 3",
    'extends = "cpu"': "extends = 'cpu'",
}


@pytest.mark.parametrize("line", BAD)
def test_a_bad_key_or_value_says_what_is_wrong_and_where(files, line):
    key = line.partition(" ")[0]
    good = [each for each in textwrap.dedent(CPU).splitlines() if not each.startswith(f"{key} ")]
    files.write(project="\n".join([*good, line]))
    with pytest.raises(ConfigError, match=BAD[line]):
        files.load("cpu")


def test_a_missing_walltime_is_told(files):
    files.write(project='[launch.cpu]\nsystem = "slurm"\n')
    with pytest.raises(ConfigError, match=r'cpu: walltime = 0.*needs a time limit, like "4h"'):
        files.load("cpu")


def test_local_needs_no_walltime(files):
    files.write(project='[launch.here]\nsystem = "local"\n')
    assert files.load("here").walltime == 0


def test_an_unknown_profile_suggests_the_nearest_and_says_where_was_looked(files):
    files.write(project=CPU)
    with pytest.raises(ConfigError, match=r"'cup'; did you mean cpu\? there are: cpu \(.*toml\)"):
        files.load("cup")


def test_a_circle_is_an_error(files):
    files.write(
        project="""
        [launch.a]
        extends = "b"
        [launch.b]
        extends = "a"
        """
    )
    with pytest.raises(ConfigError, match=r"extends itself: .*launch\.a -> .*launch\.b -> "):
        files.load("a")


def test_other_tables_in_a_file_of_profiles_are_errors(files):
    files.write(user="[cpu]\ncores = 2\n")
    with pytest.raises(ConfigError, match=r"launch\.toml: unknown key 'cpu'; expected tables like"):
        files.load("cpu")


def test_a_value_where_a_table_belongs_is_an_error(files):
    files.write(project="[launch]\ncores = 3\n")
    with pytest.raises(ConfigError, match=r"launch\.cores = 3, expected a table"):
        files.load("cpu")


def test_a_site_file_that_is_named_and_missing_is_an_error(files):
    files.write()
    files.environ = {**files.environ, "FSQUEUE_SITE_CONFIG": "/no/such/file"}
    with pytest.raises(ConfigError, match="FSQUEUE_SITE_CONFIG: /no/such/file is not a file"):
        files.load("cpu")


@pytest.mark.parametrize("name", ["a b", "a/b", "x" * 40])
def test_a_name_that_cannot_be_a_folder_is_refused(files, name):
    files.write(project=f'[launch."{name}"]\nsystem = "slurm"\nwalltime = "1h"\n')
    with pytest.raises(ConfigError, match="expected a name of at most 32 letters"):
        files.load(name)


def test_an_application_passes_over_the_launch_tables_of_its_file(files, monkeypatch):
    files.write(project=f"heartbeat = 1.5\n{textwrap.dedent(CPU)}")
    monkeypatch.chdir(files.project)
    assert load_config({}).heartbeat == 1.5


def test_every_key_is_described():
    for name, field in profile_fields().items():
        assert re.fullmatch(r"[a-zA-Z].{10,}[^.]", field.description), name
