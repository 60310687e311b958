"""The real command: what it prints, who can connect, how it ends, and what it costs the others."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2
import pytest
from support import PATIENCE

# Without http.client, which imports modules that another user may not read.
ASK = """
import os, socket, sys
os.setgroups([]), os.setgid(65534), os.setuid(65534)
for name in sys.argv[3:]:
    try:
        open(name).read()
    except PermissionError:
        print("no file")
for path in sys.argv[2].split():
    connection = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    connection.connect(("127.0.0.1", int(sys.argv[1])))
    request = f"GET {path} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n"
    connection.sendall(request.encode())
    answer = connection.makefile("rb").read()
    print(answer.split()[1].decode(), b"token=" in answer)
"""
CONNECT = """
import os, socket, sys
os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    socket.socket(socket.AF_UNIX).connect(sys.argv[1])
except PermissionError:
    print("refused")
"""


def others_can_connect(path) -> bool:
    """Whether a process of another user can connect to a socket."""
    asked = [sys.executable, "-W", "ignore", "-c", CONNECT, path]
    done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=True)
    return done.stdout != "refused\n"


def started(*arguments, lines, **env):
    """The process of a monitor that has printed this many lines, and these lines."""
    process = subprocess.Popen(
        [sys.executable, "-m", "fsqueue", "monitor", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **env},
    )
    return process, [process.stdout.readline().rstrip() for _ in range(lines)]


def ended(process, how=signal.SIGTERM):
    process.send_signal(how)
    process.stdout.close()
    return process.wait(PATIENCE)


@pytest.fixture
def open_folder():
    """A folder that every user can enter, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_on_a_socket_nobody_else_can_connect(shop, open_folder):
    folder = open_folder / "private"
    path = str(folder / "shop.sock")
    process, printed = started("--root", shop.root, "--socket", path, lines=3)
    try:
        assert printed[0] == f"listening on {path}; only you can connect"
        assert re.fullmatch(rf"on your laptop:  ssh -N -L 8787:{path} \S+", printed[1])
        # On a laptop that is the laptop.
        assert not printed[1].endswith(" localhost") or socket.gethostname() == "localhost"
        (link,) = re.findall(r"http://127.0.0.1:8787/\S+", printed[2])
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=path), timeout=PATIENCE) as client:
            assert client.get("http://localhost/").status_code == 403
            assert client.get("http://evil.example/").status_code == 400
            answer = client.get(link, follow_redirects=True)
            assert answer.status_code == 200
            assert "calls wait" in answer.text
        if os.getuid() == 0:
            for mode in (0o700, 0o755):  # the socket itself is private too
                folder.chmod(mode)
                assert not others_can_connect(path)
            os.chmod(path, 0o666)
            assert others_can_connect(path)
    finally:
        assert ended(process) == 0
    assert not os.path.exists(path)


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
def test_on_a_port_another_user_sees_no_page_and_finds_no_token(shop, open_folder):
    """It needs the token, which neither a file nor a command line shows to it."""
    secret = open_folder / "token"
    process, printed = started("--root", shop.root, "--token-file", str(secret), lines=2)
    try:
        port, token = re.search(r":(\d+)/\?token=(\S+)", printed[1]).groups()
        assert token == secret.read_text()
        paths = "/ /calls /api/v1/overview /events?page=/ /static/monitor.js"
        files = [str(secret), f"/proc/{process.pid}/environ"]
        asked = [sys.executable, "-W", "ignore", "-c", ASK, port, paths, *files]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=True)
        assert done.stdout.splitlines() == ["no file"] * 2 + ["403 False"] * 5
        assert token not in Path(f"/proc/{process.pid}/cmdline").read_text()
    finally:
        assert ended(process) == 0


def test_a_relative_socket_that_somebody_removed_does_no_harm_at_the_end(shop, tmp_path):
    tmp_path.chmod(0o700)
    path = os.path.relpath(tmp_path / "a b.sock")
    process, printed = started("--root", shop.root, "--socket", path, lines=3)
    try:
        assert printed[0] == f"listening on {tmp_path}/a b.sock; only you can connect"
        assert f"-L '8787:{tmp_path}/a b.sock' " in printed[1]
        with httpx2.Client(transport=httpx2.HTTPTransport(uds=path), timeout=PATIENCE) as client:
            assert client.get("http://localhost/healthz").text == "ok\n"
        os.unlink(path)
    finally:
        assert ended(process) == 0


def test_on_a_port_it_prints_what_to_type_from_a_batch_job(shop):
    process, printed = started(
        "--root", shop.root, "--actions", "--base-path", "/proxy/1", lines=3, SLURM_JOB_ID="7"
    )
    try:
        port = re.search(r"ssh -N -J LOGIN -L (\d+):127\.0\.0\.1:\1 \S+$", printed[0])[1]
        see, act = (line.partition("token=")[2] for line in printed[1:])
        assert len(see) == len(act) == 43
        assert see != act
        base = f"http://127.0.0.1:{port}/proxy/1/"
        assert f"{base}?token={see}" in printed[1]
        answer = httpx2.get(f"{base}?token={see}", follow_redirects=True, timeout=PATIENCE)
        assert answer.status_code == 200
    finally:
        assert ended(process, signal.SIGINT) == 0


def test_a_stream_sends_what_has_changed(shop):
    process, printed = started("--root", shop.root, lines=2)
    try:
        link = re.search(r"http://\S+", printed[1])[0]
        base, _, token = link.partition("?token=")
        headers = {"Authorization": f"Bearer {token}"}
        asked = {"headers": headers, "timeout": PATIENCE}
        with httpx2.stream("GET", f"{base}events?page=/", **asked) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            seen = []
            for line in answer.iter_lines():
                seen.append(line)
                if line.startswith("event: patch"):
                    break
        # The page that it has is an unknown one, so it is told to fetch the page; then texts come.
        assert "event: page" in seen
        assert seen.index("event: page") < seen.index("event: patch")
    finally:
        assert ended(process) == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--port", "1", "--socket"), "give one of them"),
        (("--socket", "{open}/x.sock"), "that nobody else can enter"),
        (("--port", "70000"), "70000 is not in the range"),
        (("--token-file", "{open}"), "is a directory"),
    ],
)
def test_wrong_options_are_refused_with_a_reason(shop, tmp_path, arguments, reason):
    tmp_path.chmod(0o755)
    arguments = [each.format(open=tmp_path) for each in arguments]
    done = subprocess.run(
        [sys.executable, "-m", "fsqueue", "monitor", "--root", shop.root, *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert reason in done.stderr


def test_a_missing_extra_is_named():
    code = "import sys; sys.modules['starlette'] = None; from fsqueue.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "monitor"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert "pip install 'fsqueue-tasks[monitor]'" in done.stderr


def test_the_other_commands_do_not_pay_for_it():
    code = (
        "import sys, fsqueue; from fsqueue.cli.main import command_line\n"
        "for name in command_line.list_commands(None):\n"
        "    command_line.get_command(None, name)\n"
        "print([name for name in sys.modules if name.partition('.')[0] in "
        "{'starlette', 'uvicorn', 'jinja2', 'anyio'} or name.startswith('fsqueue.monitor')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    assert done.stdout.strip() == "[]"
