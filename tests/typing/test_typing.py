"""What type checkers make of the public interface. pyright is run by .ci/run."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
# The settings of the whole package, whose cache is that of these files too.
MYPY = ("mypy", "--config-file", ROOT / "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache")


@pytest.mark.parametrize("name", ["api.py", "misuse.py"])
def test_mypy_agrees(name, tmp_path):
    pytest.importorskip("mypy", reason="mypy comes with the group 'lint'")
    run = subprocess.run(
        [sys.executable, "-m", *MYPY, "--strict", "--warn-unused-ignores", HERE / name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
