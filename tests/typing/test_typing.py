"""What type checkers make of the public interface. pyright is run by .ci/run."""

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", ["api.py", "misuse.py"])
def test_mypy_agrees(name, tmp_path):
    pytest.importorskip("mypy", reason="mypy comes with the group 'lint'")
    run = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--warn-unused-ignores", str(HERE / name)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
