"""The page through an ssh tunnel, as the monitor prints it; needs OpenSSH's server and client."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import httpx2
import pytest
from support import PATIENCE
from test_process import ended, started

SBIN = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin"
TOOLS = {name: shutil.which(name, path=SBIN) for name in ("sshd", "ssh", "ssh-keygen")}
MISSING = [name for name, found in TOOLS.items() if not found]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"needs {', '.join(MISSING)}")
HOST = f"{getpass.getuser()}@login"


def options_for_login(folder: Path) -> list[str]:
    """The options with which ssh starts a server of its own as the login host, and gets in."""
    for name in ("host", "mine"):
        made = [TOOLS["ssh-keygen"], "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
        subprocess.run(made, check=True, stdin=subprocess.DEVNULL, timeout=PATIENCE)
    server = {
        "HostKey": folder / "host",
        "AuthorizedKeysFile": folder / "mine.pub",
        "PasswordAuthentication": "no",
        "PermitRootLogin": "prohibit-password",
        "StrictModes": "no",
        "UsePAM": "no",
    }
    config = folder / "sshd_config"
    config.write_text("".join(f"{name} {value}\n" for name, value in server.items()))
    if os.getuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)  # where Debian's sshd shuts itself in
    client = {
        "ProxyCommand": f"{TOOLS['sshd']} -i -f {config}",
        "IdentityFile": folder / "mine",
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": folder / "known",
        "StrictHostKeyChecking": "accept-new",
        "ExitOnForwardFailure": "yes",
        "BatchMode": "yes",
        "ControlPath": folder / "control",
    }
    return ["-F", "none", *(f"-o{name}={value}" for name, value in client.items())]


@contextlib.contextmanager
def tunnel(options: list[str], path: str):
    """Ssh with the arguments that the monitor prints; the port that it forwards."""
    for _ in range(5):  # another process may take the port first
        with socket.socket() as found:
            found.bind(("127.0.0.1", 0))
            port = found.getsockname()[1]
        # Goes to the background once the port is forwarded.
        begun = [TOOLS["ssh"], *options, "-M", "-f", "-N", "-L", f"{port}:{path}", HOST]
        done = subprocess.run(begun, stdin=subprocess.DEVNULL, timeout=PATIENCE, check=False)
        if done.returncode == 0:
            break
    assert done.returncode == 0
    try:
        yield port
    finally:
        end = [TOOLS["ssh"], *options, "-O", "exit", HOST]
        subprocess.run(end, timeout=PATIENCE, check=True, capture_output=True)


@pytest.fixture
def folder():
    """A folder of ours alone, with a short path, as that of a socket must be."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_the_printed_tunnel_leads_to_the_page(shop, folder):
    """Ssh forwards a port of the laptop to the socket; only the link has the token."""
    path = str(folder / "shop.sock")
    monitor, printed = started("--root", shop.root, "--socket", path, lines=3)
    try:
        assert f"  ssh -N -L 8787:{path} " in printed[1]
        link = re.search(r"http://\S+", printed[2])[0]
        with tunnel(options_for_login(folder), path) as port:
            follow_the_link(link.replace(":8787", f":{port}"))
    finally:
        assert ended(monitor) == 0


def follow_the_link(link: str) -> None:
    """As a browser would, and then wait for updates."""
    page = link.partition("?")[0]
    with httpx2.Client(timeout=PATIENCE, follow_redirects=True) as client:
        assert client.get(page).status_code == 403
        answer = client.get(link)
        assert answer.status_code == 200
        assert str(answer.url) == page  # without the token
        assert "calls wait" in answer.text
        assert client.get(f"{page}static/monitor.css").status_code == 200
        with client.stream("GET", f"{page}events?page=/&window=1h") as events:
            first = next(line for line in events.iter_lines() if line.startswith("event:"))
            assert first in {"event: page", "event: patch"}
