"""``fsqueue monitor``."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
from typing import TYPE_CHECKING

import click

from fsqueue.cli.command import flag, option, subcommand
from fsqueue.cli.options import needs, on_target
from fsqueue.errors import ConfigError

if TYPE_CHECKING:
    from fsqueue.cli.finding.target import Target
    from fsqueue.monitor.access import Tokens
    from fsqueue.monitor.looks import Watch
    from fsqueue.monitor.pages.page import TriggerInfo
    from fsqueue.monitor.server import Settings

_PORT = 8787


@subcommand("monitor", "monitor", "monitor --socket", "monitor --port 8787 --actions")
@needs("fsqueue.monitor.server", "monitor", "the monitor needs")
@on_target
@option(
    "--port",
    type=click.IntRange(min=0, max=65_535),
    metavar="PORT",
    help="Port of 127.0.0.1 to listen on (default: a free one).",
)
@option(
    "--socket",
    "socket_path",
    is_flag=False,
    flag_value="",
    metavar="[PATH]",
    help="Listen on a Unix socket that only you can reach, here or in a folder of your own.",
)
@flag("--actions", help="Allow actions, with a second link: pause, cancel, retry, drain, purge.")
@option(
    "--token-file",
    type=click.Path(dir_okay=False),
    metavar="FILE",
    help="Keep the token in this file, so that the link stays the same. It is made with mode 0600.",
)
@option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="Also answer under this host name, as a proxy in front may use.",
)
@option(
    "--base-path",
    metavar="PATH",
    help="Path in front of all pages behind a proxy, such as /proxy/8787.",
)
def command(
    target: Target,
    port: int | None,
    socket_path: str | None,
    actions: bool,
    token_file: str | None,
    hosts: tuple[str, ...],
    base_path: str | None,
) -> None:
    """Show the spool as a web page, until Ctrl-C.

    Only this host can connect. On a laptop, use the printed `ssh -L` line. Each link has a token,
    since other users of this host can connect to its ports; a Unix socket is out of their reach.
    The page writes nothing to the spool unless --actions is given.

    Needs the extra fsqueue-tasks[monitor].
    """
    from fsqueue.monitor import server, sockets

    if socket_path is not None and port is not None:
        raise ConfigError("--socket and --port: give one of them")
    settings = _settings(target, actions=actions, token_file=token_file, hosts=hosts)
    settings = settings._replace(base_path=base_path or "")
    if socket_path is None:
        listener = sockets.listen_on_port(port or 0)
    else:
        socket_path = socket_path or sockets.default_socket(_name_of(target.root))
        listener = sockets.listen_on_socket(socket_path)
    at = listener.getsockname()
    try:
        _tell(listener, settings.tokens, settings.base_path)
        server.serve(settings, listener)
    finally:
        listener.close()
        if isinstance(at, str):
            with contextlib.suppress(FileNotFoundError):  # somebody has already removed it
                os.unlink(at)


def _settings(
    target: Target, *, actions: bool, token_file: str | None, hosts: tuple[str, ...]
) -> Settings:
    from fsqueue.codec import traceback_text
    from fsqueue.monitor.access import Tokens, kept_token
    from fsqueue.monitor.looks import Watch
    from fsqueue.monitor.server import Settings

    conf = target.app.conf
    watch = Watch(target.look(), heartbeat=conf.heartbeat, result_ttl=conf.result_ttl)
    see = kept_token(token_file) if token_file else ""
    return Settings(
        watch=watch,
        traceback_text=traceback_text,
        tokens=Tokens.fresh(actions=actions, see=see),
        hosts=hosts,
        writable=(lambda: target.store) if actions else None,
        triggers=(lambda: _triggers(target, watch)) if target.named else None,
    )


def _triggers(target: Target, watch: Watch) -> list[TriggerInfo]:
    from fsqueue.monitor.pages.page import TriggerInfo

    now = watch.store.clock.now()
    return [
        TriggerInfo(task=each.task, trigger=each.trigger, next=each.upcoming, handled=each.handled)
        for each in target.app.triggers.overview(now, watch.store)
    ]


def _name_of(root: str) -> str:
    """A name for the socket of a spool, from the name of its folder."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", os.path.basename(root.rstrip("/")))[:40] or "spool"


def _tell(listener: socket.socket, tokens: Tokens, base_path: str) -> None:
    """Print the links, and what to type on a laptop."""
    at = listener.getsockname()
    port = _PORT if isinstance(at, str) else at[1]
    there = at if isinstance(at, str) else f"127.0.0.1:{port}"
    forward = shlex.quote(f"{port}:{there}")
    jump = "-J LOGIN " if any(name in os.environ for name in _JOBS) else ""
    if isinstance(at, str):
        print(f"listening on {at}; only you can connect")
    elif "SSH_CONNECTION" in os.environ:
        print("other users of this host can connect to this port, but need the token; --socket is")
        print("out of their reach")
    print(f"on your laptop:  ssh -N {jump}-L {forward} {_name_of_host()}")
    base = f"http://127.0.0.1:{port}{base_path.rstrip('/')}/"
    print(f"then open:       {base}?token={tokens.see}")
    if tokens.act:
        print(f"with actions:    {base}?token={tokens.act}")
    print(end="", flush=True)


def _name_of_host() -> str:
    """The name by which a laptop finds this host, which is not that of its loopback device."""
    name = socket.getfqdn()
    return socket.gethostname() if name.partition(".")[0] == "localhost" else name


# Set by batch systems in a job, whose node a laptop reaches through a login node.
_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "JOB_ID", "LSB_JOBID", "FLUX_JOB_ID", "OAR_JOB_ID")
