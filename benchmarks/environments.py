"""Virtual environments of the peers. Each is made when it is first needed, and kept."""

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
REPOSITORY = HERE.parent
PATIENCE = 600


class NotInstalledError(Exception):
    """The peer cannot be installed here."""


def interpreter(requirements, cache, python):
    """The Python interpreter of the environment for a file in ``requirements/``.

    Args:
        requirements: name of the file, without its extension; None: `python` itself.
        cache: folder of the environments.
        python: the interpreter to make environments with.

    Raises:
        NotInstalledError: the installation failed; contains the installer's last line of output.
    """
    if requirements is None:
        return str(python)
    wanted = HERE / "requirements" / f"{requirements}.txt"
    stamp = hashlib.sha256(wanted.read_bytes() + str(python).encode()).hexdigest()
    folder = cache / requirements
    made = folder / "made-of"
    if not (made.is_file() and made.read_text("ascii") == stamp):
        _run(python, "-m", "venv", "--clear", folder)
        _run(folder / "bin/python", "-m", "pip", "install", "-q", "-r", wanted)
        made.write_text(stamp, "ascii")
    return str(folder / "bin/python")


def _run(*command):
    try:
        done = subprocess.run(
            [str(part) for part in command],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NotInstalledError(str(error)) from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise NotInstalledError(lines[-1] if lines else f"exit code {done.returncode}")


def newest_python():
    """The newest installed Python, because some peers need a recent one."""
    for minor in (14, 13, 12):
        on_path = shutil.which(f"python3.{minor}")
        candidates = sorted(Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python"))
        for candidate in [*([Path(on_path)] if on_path else []), *candidates]:
            if version(candidate):
                return candidate
    return Path(sys.executable)


def version(python):
    """The version of an interpreter; empty if it does not run."""
    command = [str(python), "-c", "import venv, platform; print(platform.python_version())"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
